"""Reach the lab's second host by ssh: start an sshd with its own keys that can be reached only over the link."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common.processes import leash
from lab.link import LOAD, POLL_S, SERVER, LabError, run_tool

# Always the same path, since it is in the config of a sweep: another path would make another sweep.
FOLDER = Path("/run/io_models_lab")
CONFIG = FOLDER / "ssh_config"
HOST = "lab"
PORT = 2222
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0


@contextlib.contextmanager
def ssh_server() -> Iterator[None]:
    """Start an sshd on the address of the load's host; `ssh -F CONFIG lab` on the server's host reaches it."""
    write_keys_and_configs()
    log = FOLDER / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                *(*leash(LOAD.inside), "unshare", "--mount"),
                *(str(Path(__file__).with_name("sshd.sh")), find_sshd(), str(FOLDER)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as sshd,
    ):
        try:
            wait_until_it_answers(sshd, log)
            yield
        finally:
            sshd.terminate()
            try:
                sshd.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                sshd.kill()


def find_sshd() -> str:
    """The absolute path of sshd, which is not in every user's PATH, and which starts itself again by that path."""
    of_venv = Path(sys.executable).parent
    path = f"{os.environ.get('PATH', '')}:{of_venv}:/usr/local/sbin:/usr/sbin:/sbin"
    sshd = shutil.which("sshd", path=path)
    if sshd is None:
        raise LabError("sshd is not installed: scripts/setup.sh lab")
    return os.path.abspath(sshd)


def write_keys_and_configs() -> None:
    remove_folder()
    FOLDER.mkdir(mode=0o700)
    for key in ("host_key", "client_key"):
        run_tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(FOLDER / key))
    (FOLDER / "known_hosts").write_text(f"{HOST} {(FOLDER / 'host_key.pub').read_text()}")
    CONFIG.write_text(
        f"""\
Host {HOST}
    HostName {LOAD.address}%%{SERVER.interface}
    HostKeyAlias {HOST}
    Port {PORT}
    User root
    IdentityFile {FOLDER}/client_key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {FOLDER}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""
    )
    (FOLDER / "sshd_config").write_text(
        f"""\
ListenAddress {LOAD.address}%{LOAD.interface}
Port {PORT}
HostKey {FOLDER}/host_key
AuthorizedKeysFile {FOLDER}/client_key.pub
AuthenticationMethods publickey
AllowUsers root
PermitRootLogin prohibit-password
UsePAM no
PermitUserRC no
DisableForwarding yes
PidFile none
# The load finds the tools that this shell finds, as in nix-shell.
SetEnv "PATH={os.environ.get("PATH", os.defpath)}"
"""
    )
    # Files for sshd and its sessions: they add a user that sshd needs, and a root account that is not locked.
    passwd = Path("/etc/passwd").read_bytes()
    (FOLDER / "passwd").write_bytes(passwd + b"sshd:x:65534:65534::/nonexistent:/bin/false\n")
    (FOLDER / "shadow").write_text("root:*:::::::\n")


def wait_until_it_answers(sshd: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            ssh = ["ssh", "-F", str(CONFIG), "-o", "BatchMode=yes", "-o", "ConnectTimeout=2"]
            run_tool(*SERVER.inside, *ssh, HOST, "true")
            return
        except LabError as error:
            if sshd.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip().splitlines()
                reason = said[-1] if said else error
                raise LabError(f"the lab's sshd does not answer: {reason}") from None
        time.sleep(POLL_S)


def remove_folder() -> None:
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
