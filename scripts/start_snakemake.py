"""Start Snakemake as .venv/bin/snakemake: without settings that the user made for other workflows.

Only preparations that Snakemake needs before it reads its command line are here; others are in environment.py.
"""

import argparse
import atexit
import getpass
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

PROFILE = "SNAKEMAKE_PROFILE"
CACHE = "XDG_CACHE_HOME"


def open_streams() -> None:
    """Reopen streams that the user has closed (`>&-`): otherwise files get their numbers, and Python has None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            os.dup2(file, number)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def ignore_profile(arguments: list[str]) -> None:
    """Ignore a user's profile for all workflows: it does not fit here, and may name an executor that .venv lacks."""
    profile = os.environ.pop(PROFILE, None)
    if profile and not any(word.startswith("--profile") for word in arguments):
        note = f"{PROFILE}={profile} is ignored: use --profile if it is for this workflow"
        print(note, file=sys.stderr)


def find_cache() -> None:
    """Find a folder for Snakemake's cache, since a user in a container may have no home."""
    own = os.environ.get(CACHE) or os.path.expanduser("~/.cache")
    folder = os.path.join(own, "snakemake/snakemake/source-cache/snakemake-runtime-cache")
    try:
        if not os.path.isabs(own):  # a user without a name keeps the "~"
            raise FileNotFoundError(own)
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="io_models_cache_")
        atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)


def find_name() -> None:
    """Give the user a name, which Snakemake needs: a user number in a container may have none."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def config_files(arguments: list[str]) -> list[str]:
    """The config files, as Snakemake will find them on its command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[])
    return list(parser.parse_known_args(arguments)[0].configfile)


def main() -> None:
    open_streams()
    arguments = sys.argv[1:]
    ignore_profile(arguments)
    find_cache()
    find_name()
    from snakemake.cli import main as snakemake  # noqa: PLC0415

    from workflow.config_check import file_faults  # noqa: PLC0415  after the environment is in order

    ours = os.path.relpath(os.path.join(os.path.dirname(sys.path[0]), "config.yaml"))
    if faults := file_faults({path: path for path in [ours, *config_files(arguments)]}):
        sys.exit("\n".join(faults))
    sys.argv[0] = "snakemake"
    snakemake()


if __name__ == "__main__":
    main()
