"""Servers of other revisions: server_epoll@v1.2 is built from servers/ of that commit of the checkout."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile

from common import environment
from hosts import reading, source

FOLDER = (
    "results/source"  # results/source/TREE/servers, once for all commits with the same servers/
)


class NoRevision(Exception):
    """A server's revision is not available; the text is one line for the user."""


def _git(checkout: str, *arguments: str) -> bytes | None:
    """git's output; None if git fails. Raises NoRevision if git cannot be run."""
    # Git must ignore a repository above the checkout.
    above = {"GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(checkout))}
    try:
        run = subprocess.run(
            ["git", "-C", checkout, *arguments],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**environment.clean_copy(os.environ), **above},
        )
    except OSError as error:
        raise NoRevision(f"git cannot be run ({error.strerror})") from None
    return run.stdout if run.returncode == 0 else None


def _object(checkout: str, name: str) -> str:
    return (_git(checkout, "rev-parse", "--verify", "--quiet", name) or b"").decode().strip()


def find(server: str, checkout: str) -> tuple[str, str]:
    """Extract servers/ of a server's revision; return the commit and the folder in the working directory.

    Raises NoRevision. The checkout's own files are neither read nor changed.
    """
    name, _, revision = server.partition("@")
    commit = _object(checkout, f"{revision}^{{commit}}")
    if not commit:
        command = source.build_tools(checkout, "")["git"]
        said = reading.finish(reading.start(command, os.path.realpath(checkout)))
        if reason := source.parse_git_status(said)["reason"]:
            raise NoRevision(f"{server}: {checkout} has no revisions: {reason}")
        raise NoRevision(f"{server}: this checkout has no revision {revision!r}")
    if not _object(checkout, f"{commit}:servers/{name}.c"):
        raise NoRevision(f"{server}: there is no servers/{name}.c in revision {revision!r}")
    tree = _object(checkout, f"{commit}:servers")
    folder = os.path.join(FOLDER, tree, "servers")
    if not os.path.isdir(folder):
        archive = _git(checkout, "archive", "--format=tar", commit, "servers")
        if archive is None:
            raise NoRevision(f"{server}: git archive {commit[:12]} servers fails")
        try:
            _extract(archive, tree)
        except OSError as error:
            why = f"cannot be written to {FOLDER} ({error.strerror})"
            raise NoRevision(f"{server}: its sources {why}") from None
    return commit, folder


def _extract(archive: bytes, tree: str) -> None:
    os.makedirs(FOLDER, exist_ok=True)
    temporary = tempfile.mkdtemp(dir=FOLDER)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                if content := tar.extractfile(member):  # a file
                    path = os.path.join(temporary, member.name)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "wb") as file:
                        shutil.copyfileobj(content, file)
        os.chmod(temporary, 0o755)
        os.rename(temporary, os.path.join(FOLDER, tree))
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not os.path.isdir(os.path.join(FOLDER, tree)):  # otherwise another run was faster
            raise


def is_dirty(checkout: str) -> bool:
    """Whether servers/ differs from the last commit."""
    return bool(_git(checkout, "--no-optional-locks", "status", "--porcelain", "--", "servers"))
