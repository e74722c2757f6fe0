"""A Slurm of two nodes on this machine, of Debian's slurm-wlm and munge: own ports, folder, key and configuration."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

NODES = ("node1", "node2")
PARTITION = "bench"
START_TIMEOUT_S = 60

# No cgroups, accounts or MPI: a container has none of them. Each node is a slurmd on a port of its own.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SwitchType=switch/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
SlurmdTimeout=10
KillWait=1
ReturnToService=0
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} RealMemory=8000
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} RealMemory=8000
PartitionName=bench Nodes=ALL Default=YES
"""


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """Its daemons, by name; SLURM_CONF in `environment` leads clients to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.config)}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def configure(self) -> None:
        (self.folder / "state").mkdir()
        for node in NODES:
            (self.folder / node).mkdir()
        self.config.write_text(
            CONFIG.format(
                host=socket.gethostname(),
                folder=self.folder,
                ports=free_ports(3),
                cpus=os.cpu_count(),
            )
        )
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))

    def start(self, name: str, *command: str) -> None:
        """A daemon in the foreground, which dies with this process."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | self.environment,
                start_new_session=True,
            )

    def start_munged(self) -> None:
        paths = {"key": "key-file", "socket": "socket", "pid": "pid-file", "seed": "seed-file"}
        paths["log"] = "log-file"
        options = [f"--{option}={self.folder}/munge.{name}" for name, option in paths.items()]
        # --force: the folder of a test is not for all users.
        self.start("munged", "munged", "--foreground", "--force", *options)

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def run(self, *command: str) -> str:
        return subprocess.run(
            command,
            check=True,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout

    def states(self) -> dict[str, str]:
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    def wait_until_idle(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        states: dict[str, str] = {}
        while time.monotonic() < deadline_s:
            with contextlib.suppress(subprocess.SubprocessError):
                states = self.states()
            if set(states.values()) == {"idle"}:
                return
            time.sleep(0.1)
        said = "".join(path.read_text() for path in sorted(self.folder.glob("*.out")))
        raise AssertionError(f"Slurm does not start: {states}\n{said}")

    def processes(self, job: str | None = None) -> list[int]:
        """What runs of it, or of one job: their environment names its configuration; a step's daemon, its job."""
        wanted, found = f"SLURM_CONF={self.config}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = path.read_bytes().split(b"\0")
                is_job = (
                    f"SLURM_JOB_ID={job}".encode() in variables
                    or f"[{job}." in path.with_name("cmdline").read_text(errors="replace")
                )
                if wanted in variables and (job is None or is_job):
                    found.append(int(path.parent.name))
        return found

    def stop(self) -> None:
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    cluster.configure()
    try:
        cluster.start_munged()
        cluster.start("slurmctld", "slurmctld", "-D")
        for node in NODES:
            cluster.start_node(node)
        cluster.wait_until_idle()
        yield cluster
    finally:
        cluster.stop()
