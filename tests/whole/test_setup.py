"""scripts/setup.sh among stubs for all that it looks for, so that nothing is ever installed."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "scripts/setup.sh"
BASH = shutil.which("bash") or "bash"
REAL = ["cat", "chmod", "cmp", "dirname", "env", "find", "ln", "mkdir", "readlink", "rm", "touch"]
NEEDED = ["make", "wrk", "ip", "ss", "tc", "rsvg-convert", "flock", "setpriv", "taskset", "perf"]
NEEDED += ["nix-instantiate", "cppcheck", "shellcheck", "clang", "chromium"]
NEEDED += ["munged", "slurmctld", "slurmd", "nginx", "h2o", "lighttpd", "ssh", "ssh-keygen", "sshd"]
STUBS = {
    **dict.fromkeys(NEEDED, ""),
    "gcc": "echo /usr/lib/liburing.a",  # it has every header too
    "id": "echo 1000",
    "uname": "echo 6.1.0",
    # The real python answers questions; a venv's records what it is asked to install.
    "python3": f"""
        case "$*" in
        -c*) exec {shlex.quote(sys.executable)} "$@" ;;
        "-m venv --clear .venv") rm -rf .venv/* && mkdir -p .venv/bin ;;
        *) exit 1 ;;
        esac
        ln -s "$HOME/bin/python" .venv/bin/python
        """,
    "python3.98": 'echo "$*" >>"$CALLS"; exit "${PIP_STATUS-0}"',
}
RECORD = 'echo "${0##*/} $*" >>"$CALLS"\n'


class Machine:
    """A checkout in a folder whose name has a space, a quote and more than ASCII, and a PATH of stubs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "it's a chéckout"
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(SETUP, self.checkout / "scripts")
        for kind in ("", "-dev", "-slurm"):
            (self.checkout / f"requirements{kind}.txt").write_text(f"packages{kind}\n")
        fonts = folder / ".local/share/fonts"
        fonts.mkdir(parents=True)
        (fonts / "DejaVuSans.ttf").touch()
        (folder / "bin").mkdir()
        for name in REAL:
            (folder / "bin" / name).symlink_to(shutil.which(name) or name)
        for name, body in STUBS.items():
            self.stub(name, body)
        (folder / "bin/python").symlink_to("python3.98")

    def stub(self, name: str, body: str = "") -> None:
        command = self.folder / "bin" / name
        command.write_text(f"#!{BASH}\n{body}")
        command.chmod(0o755)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.folder / "bin" / name).unlink()

    def setup(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        calls = self.folder / "calls"
        calls.write_text("")
        its = {"PATH": f"{self.folder}/bin", "HOME": str(self.folder), "CALLS": str(calls)}
        done = subprocess.run(
            [BASH, str(self.checkout / "scripts/setup.sh"), *arguments],
            env={**its, **variables},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        self.calls = calls.read_text().splitlines()
        return done


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def ready(machine):
    """A machine that is set up already."""
    assert machine.setup().returncode == 0
    return machine


def is_silent(done):
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def fails_with_one_line(done, *parts):
    (line,) = done.stderr.splitlines()
    return done.returncode == 1 and all(part in line for part in parts)


def test_the_first_run_installs_the_locked_packages_into_a_venv(machine):
    done = machine.setup()
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    (pip,) = machine.calls
    assert pip.startswith("-m pip install ")
    assert pip.endswith("--require-hashes -r requirements.txt")


def test_snakemake_of_the_venv_ignores_variables_of_python(ready):
    """Also one that was set up by an older version."""
    wrapper = ready.checkout / ".venv/bin/snakemake"
    wrapper.write_text("#!/usr/bin/python\n")
    assert is_silent(ready.setup())
    ready.stub("python3.98", 'printf "%s\\n" "$@"')
    moved = shutil.move(ready.checkout, f"{ready.checkout} moved")  # it runs what is beside it
    wrapper = Path(moved, ".venv/bin/snakemake")
    ran = subprocess.run([wrapper, "a b"], capture_output=True, text=True, check=True)
    script = f"{moved}/scripts/start_snakemake.py"
    assert ran.stdout.splitlines() == ["-I", "-X", "utf8", script, "a b"]


def test_variables_of_python_and_pip_do_not_reach_them(machine):
    machine.stub("python3.98", 'env >"$CALLS"')
    theirs = {"PYTHONPATH": "/x", "PIP_USER": "1", "PIP_TARGET": "/y", "PIP_INDEX_URL": "/z"}
    machine.setup(**theirs)
    seen = {f"{name}={value}" for name, value in theirs.items()} & set(machine.calls)
    assert seen == {"PIP_INDEX_URL=/z"}


@pytest.mark.parametrize(
    ("mode", "missing", "kinds"),
    [("dev", [], ["slurm", "dev"]), ("slurm", ["ssh", "cppcheck"], ["slurm"])],
)
def test_dev_adds_what_the_tests_need_and_slurm_its_executor_alone(ready, mode, missing, kinds):
    ready.remove(*missing)
    assert ready.setup(mode).returncode == 0
    for pip, kind in zip(ready.calls, kinds, strict=True):
        assert pip.endswith(f"--require-hashes -r requirements-{kind}.txt")
    assert is_silent(ready.setup(mode)) and not ready.calls


def move_the_checkout(machine):
    machine.checkout = machine.checkout.rename(machine.folder / "moved")


def upgrade_python(machine):
    machine.remove("python")
    machine.stub("python3.99", STUBS["python3.98"])
    (machine.folder / "bin/python").symlink_to("python3.99")


HARMS = {
    "another lock": lambda it: (it.checkout / "requirements.txt").write_text("and more\n"),
    "another Python": upgrade_python,
    "no Python": lambda it: (it.checkout / ".venv/bin/python").unlink(),
    "no stamp": lambda it: (it.checkout / ".venv/requirements.txt").unlink(),
    "moved": move_the_checkout,
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_venv_that_no_longer_fits_is_remade_once(ready, harm):
    HARMS[harm](ready)
    ready.setup()
    assert len(ready.calls) == 1
    assert is_silent(ready.setup()) and not ready.calls


def test_a_venv_that_is_a_link_to_anothers_leaves_that_alone(machine):
    others = machine.folder / "another checkout's venv"
    others.mkdir()
    (others / "kept").touch()
    (machine.checkout / ".venv").symlink_to(others)
    assert machine.setup().returncode == 0
    assert [path.name for path in others.iterdir()] == ["kept"]
    assert not (machine.checkout / ".venv").is_symlink()


def test_a_failed_install_is_told_and_redone(machine):
    assert fails_with_one_line(machine.setup(PIP_STATUS="1"), "requirements.txt")
    assert machine.setup().returncode == 0 and len(machine.calls) == 1


def test_without_the_right_to_install_one_line_names_package_and_command(machine):
    machine.remove("wrk")
    command = "sudo apt-get install --no-install-recommends wrk"
    assert fails_with_one_line(machine.setup(), "missing wrk:", command)
    machine.stub("apt-get", RECORD)
    machine.stub("sudo", "exit 1")
    done = machine.setup()
    assert fails_with_one_line(done, "missing wrk:", command)
    assert not done.stdout and not machine.calls


@pytest.mark.parametrize(
    "command", ["nix-instantiate", "cppcheck", "shellcheck", "clang", "chromium"]
)
def test_what_only_the_tests_need_is_asked_for_by_dev_alone(ready, command):
    ready.remove(command)
    assert is_silent(ready.setup())
    assert fails_with_one_line(ready.setup("dev"), "missing")


CLANG = '[[ "$*" == -dumpversion ]] && echo 14.0.6'
NO_LIBURING = 'case "$*" in *print-file-name*) echo liburing.a ;; esac'


# A compiler of C without headers or the static liburing is not enough, nor clang without the fuzzer of its version.
@pytest.mark.parametrize(
    ("mode", "command", "does", "manager", "missing"),
    [
        ([], "gcc", NO_LIBURING, "apt-get", "liburing-dev"),
        ([], "gcc", "exit 1", "apt-get", "libc6-dev liburing-dev"),
        ([], "gcc", "exit 1", "dnf", "glibc-devel liburing-devel"),
        ([], "gcc", "exit 1", "pacman", "glibc liburing"),
        (["dev"], "clang", CLANG, "apt-get", "libclang-rt-14-dev"),
        (["dev"], "clang", CLANG, "dnf", "compiler-rt"),
        (["dev"], "clang", CLANG, "pacman", "compiler-rt"),
    ],
)
def test_compiler_that_lacks_something_is_not_enough(ready, mode, command, does, manager, missing):
    ready.stub(command, does)
    ready.stub(manager, RECORD)
    assert fails_with_one_line(ready.setup(*mode), f"missing {missing}:")


@pytest.mark.parametrize(
    ("mode", "package", "name", "place"),
    [
        ("dev", "nginx-light", "nginx", "yardsticks"),
        ("dev", "openssh-server", "sshd", "sshd"),
        ("lab", "openssh-server", "sshd", "sshd"),
    ],
)
def test_servers_are_unpacked_not_installed(ready, mode, package, name, place):
    """Neither root nor sudo: an archive is downloaded, and unpacked where it changes nothing."""
    assert ready.setup("dev").returncode == 0
    ready.stub(
        "apt-get", RECORD + 'touch "$(echo "$*" | sed "s/.*archives=//;s/ install.*//")/x.deb"'
    )
    lays = f'cd "$3"; ln -s "$HOME/bin/served" usr/sbin/{name}; touch usr/lib/openssh/sshd-session'
    ready.stub("dpkg", f'{RECORD}mkdir -p "$3/usr/sbin" "$3/usr/lib/openssh"; {lays}')
    ready.stub("served", 'echo "$*"; echo "$LD_LIBRARY_PATH"')
    (ready.folder / "bin/sed").symlink_to(shutil.which("sed") or "sed")
    setup = ready.checkout / "scripts/setup.sh"
    of_this_machine = ":/usr/local/sbin:/usr/sbin:/sbin"
    assert setup.read_text().count(of_this_machine) == 1
    setup.write_text(setup.read_text().replace(of_this_machine, ""))
    ready.remove(name)
    assert is_silent(ready.setup())
    done = ready.setup(mode)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"setup: unpacking {package} into .venv\n"
    download, unpack = ready.calls
    assert download.startswith("apt-get ") and download.endswith(f" install {package}")
    assert " --download-only " in download
    assert unpack.startswith("dpkg -x ")
    assert is_silent(ready.setup(mode))
    wrapper = ready.checkout / ".venv/bin" / name
    ran = subprocess.run([wrapper, "a b"], capture_output=True, text=True, check=True)
    called, libraries = ran.stdout.splitlines()
    usr_lib = f"{ready.checkout}/.venv/{place}/usr/lib"
    option = f"-o SshdSessionPath={usr_lib}/openssh/sshd-session " if name == "sshd" else ""
    assert called == f"{option}a b"
    assert usr_lib in libraries


def test_the_lab_asks_for_a_client_of_ssh_and_for_no_more(ready):
    ready.remove("ssh", "cppcheck")
    assert is_silent(ready.setup())
    assert fails_with_one_line(ready.setup("lab"), "missing openssh-client:")


def test_root_installs_exactly_what_is_missing(ready):
    ready.remove("wrk", "flock")
    ready.stub("id", "echo 0")
    ready.stub("apt-get", RECORD + '[[ "$*" != *update ]]')  # a broken source must not matter
    done = ready.setup()
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["setup: installing with apt-get: wrk util-linux"]
    update, install = ready.calls
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends wrk util-linux")


INSTALL = {
    "apt-get": "apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends",
    "dnf": "dnf install --quiet --assumeyes --setopt=install_weak_deps=False",
    "pacman": "pacman -S --needed --noconfirm",
}
BY_HAND = {
    "apt-get": "sudo apt-get install --no-install-recommends",
    "dnf": "sudo dnf install",
    "pacman": "sudo pacman -S",
}
# The packages that each of the managers has a command in.
PACKAGES = {
    "ss": ["iproute2", "iproute iproute-tc", "iproute2"],
    "ssh": ["openssh-client", "openssh-clients", "openssh"],
    "rsvg-convert": ["librsvg2-bin", "librsvg2-tools", "librsvg"],
    "flock": ["util-linux", "util-linux", "util-linux"],
    "shellcheck": ["shellcheck", "ShellCheck", "shellcheck"],
    "nix-instantiate": ["nix-bin", "nix", "nix"],
}
FOREIGN = ["dnf", "pacman"]


@pytest.mark.parametrize("manager", INSTALL)
@pytest.mark.parametrize("command", PACKAGES)
def test_each_distribution_installs_by_its_own_names(ready, manager, command):
    package = dict(zip(INSTALL, PACKAGES[command], strict=True))[manager]
    ready.remove(command)
    ready.stub(manager, RECORD)
    assert fails_with_one_line(
        ready.setup("dev"), f"missing {package}:", f"{BY_HAND[manager]} {package}"
    )
    assert not ready.calls
    ready.stub("id", "echo 0")
    done = ready.setup("dev")
    assert done.stdout.splitlines()[0] == f"setup: installing with {manager}: {package}"
    assert f"{INSTALL[manager]} {package}" in ready.calls


@pytest.mark.parametrize(("manager", "names"), [("dnf", "python3"), ("pacman", "python")])
def test_python_of_fedora_and_arch_has_venv(machine, manager, names):
    machine.remove("python3")
    machine.stub(manager, RECORD)
    assert fails_with_one_line(machine.setup(), f"missing {names}:")


@pytest.mark.parametrize("manager", FOREIGN)
def test_what_fedora_and_arch_do_not_package_is_told_and_where_to_get_it(ready, manager):
    ready.stub("id", "echo 0")
    ready.stub(manager, RECORD)
    ready.stub("gcc", NO_LIBURING)
    done = ready.setup()
    assert fails_with_one_line(done, "missing liburing.a", "https://github.com/axboe/liburing")
    assert not ready.calls
    ready.remove("wrk")
    done = ready.setup()
    assert fails_with_one_line(done, "missing wrk", "https://github.com/wg/wrk")
    assert not ready.calls


@pytest.mark.parametrize("manager", FOREIGN)
def test_perf_of_fedora_and_arch_is_tried_once(ready, manager):
    ready.stub("perf", "exit 2")
    ready.stub("id", "echo 0")
    ready.stub(manager, RECORD)
    assert ready.setup().returncode == 0
    assert ready.calls == [f"{INSTALL[manager]} perf"]
    assert is_silent(ready.setup())


def test_a_failed_install_names_the_manager(ready):
    ready.remove("flock")
    ready.stub("id", "echo 0")
    ready.stub("dnf", "exit 1")
    assert fails_with_one_line(ready.setup(), "dnf could not install util-linux")


def test_debian_with_a_foreign_manager_beside_its_own_uses_its_own(ready):
    ready.remove("flock")
    ready.stub("id", "echo 0")
    for manager in INSTALL:
        ready.stub(manager, RECORD)
    assert ready.setup().returncode == 0
    assert {call.split()[0] for call in ready.calls} == {"apt-get"}


def test_sudo_without_a_terminal_never_asks_for_a_password(ready):
    ready.remove("wrk")
    ready.stub("sudo", RECORD)
    ready.stub("apt-get")
    assert ready.setup().returncode == 0
    assert ready.calls and all(call.startswith("sudo -n ") for call in ready.calls)


def test_perf_that_cannot_be_installed_is_a_warning_given_once(ready):
    ready.stub("perf", "exit 2")  # as Ubuntu's does on a kernel that it has no perf for
    ready.stub("id", "echo 0")
    ready.stub("apt-get", RECORD + 'case "$*" in *install*) exit 100 ;; esac')
    done = ready.setup()
    assert done.returncode == 0
    (warning,) = done.stderr.splitlines()
    assert "perf is missing" in warning
    tried = [call.split()[-1] for call in ready.calls if " install " in call]
    assert tried == ["linux-perf", "linux-tools-6.1.0", "linux-tools-generic"]
    assert is_silent(ready.setup())


def test_python_that_is_too_old_or_lacks_venv_is_one_line(machine):
    machine.stub("python3", 'case "$*" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac')
    assert fails_with_one_line(machine.setup(), "3.11", "Python 3.9.2")
    machine.stub("python3", 'case "$*" in *ensurepip*) exit 1 ;; esac')
    assert fails_with_one_line(machine.setup(), "missing python3-venv:")


def test_a_newer_python_beside_an_old_one_is_taken(machine):
    (machine.folder / "bin/python3").rename(machine.folder / "bin/python3.12")
    machine.stub("python3", "exit 1")
    assert machine.setup().returncode == 0 and len(machine.calls) == 1
