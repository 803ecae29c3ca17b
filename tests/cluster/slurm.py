"""A Slurm of several nodes on one machine: munge, slurmctld, and a slurmd for each node, all children of this process.

Nothing of the machine's own Slurm or munge is used or changed: keys, sockets, ports and state are this one's. Daemons
stay in the foreground and end with their parent, also when that is killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "munged", "setpriv")
PACKAGES = ("slurm-wlm", "munge", "libpmix2", "libpmi2-0")
SECONDS_TO_START = 60.0
NODE = "QTRL_TEST_NODE"  # in the environment of all that a slurmd has started

# What jobs notice of these: KillWait, the seconds from SIGTERM to SIGKILL; GraceTime, those from a preempted job's own
# signal to its end; preempt_send_user_signal, without which it gets no such signal.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
TmpFS={folder}/tmp-%n
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=3600
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=30
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=100000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=normal Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL PriorityTier=100 PreemptMode=OFF
"""
# Two GPUs a node, which are none.
GRES_CONF = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
# The plugins above use no cgroups, but slurmd looks for them all the same.
CGROUP_CONF = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"


class NoSlurmError(Exception):
    """Why not, in one line."""


class Slurm:
    """The cluster; ``with Slurm() as slurm`` brings it up and takes it down.

    Raises:
        NoSlurmError: it is not installed and cannot be.
    """

    def __init__(self, num_nodes: int = 4) -> None:
        self.nodes = [f"n{number}" for number in range(1, num_nodes + 1)]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Slurm":
        install()
        # Sockets have names of at most 108 characters.
        with ExitStack() as stack:
            self.folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True))
            )
            self.environ = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
            stack.callback(self._stop)
            self._configure()
            self._start("munged", self._munged())
            self._wait_for("munge", lambda: (self.folder / "munge.socket").exists())
            self._start("slurmctld", ["slurmctld", "-D"])
            for node in self.nodes:
                self.start_node(node)
            self.wait_until_idle()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def command(self, *words: str, environ: dict[str, str] | None = None, cwd: Path | None = None) -> str:
        """Run one of Slurm's commands and return what it prints."""
        done = subprocess.run(
            words, env={**self.environ, **(environ or {})}, cwd=cwd, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def idle(self) -> list[str]:
        """Return the nodes that could take a job."""
        try:
            return self.command("sinfo", "-h", "-N", "-p", "normal", "-t", "idle", "-o", "%N").split()
        except RuntimeError:
            return []

    def show(self, job: str) -> dict[str, str]:
        """Return what Slurm knows of a job, as ``scontrol show job`` names it."""
        text = self.command("scontrol", "show", "job", "--oneliner", job).splitlines()[0]
        return dict(item.split("=", 1) for item in text.split() if "=" in item)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._start(node, ["slurmd", "-D", "-N", node], {NODE: node})

    def kill_node(self, node: str) -> None:
        """Let a node die: its slurmd and all that runs on it, by SIGKILL."""
        self._daemons.pop(node).kill()
        while found := self.processes(node):
            for pid in found:
                _kill(pid)
            time.sleep(0.01)

    def revive(self, node: str) -> None:
        """Start a node that is not up, and wait until it is."""
        if node not in self._daemons:
            self.start_node(node)
        self._wait_for(node, lambda: self._is_up(node))

    def _is_up(self, node: str) -> bool:
        """Say whether a node is not down; have one that is taken up again."""
        if "DOWN" not in self.command("scontrol", "show", "node", "--oneliner", node):
            return True
        with suppress(RuntimeError):  # refused where the node has come up since, by slurmd's report
            self.command("scontrol", "update", f"nodename={node}", "state=resume")
        return False

    def wait_until_idle(self) -> None:
        """Wait until all nodes could take a job."""
        self._wait_for("nodes", lambda: set(self.idle()) == set(self.nodes))

    def kill_rank(self, node: str) -> None:
        """Kill one rank on a node."""
        ranks = [pid for pid, environ in _environs() if self._is_of(environ, node) and _is_rank(pid)]
        _kill(ranks[0])

    def processes(self, node: str | None = None) -> list[int]:
        """Return what still runs on a node, or on any: all but the daemons themselves."""
        daemons = {daemon.pid for daemon in self._daemons.values()}
        return [pid for pid, environ in _environs() if pid not in daemons and self._is_of(environ, node)]

    def log(self, name: str) -> str:
        """Return what a daemon has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _is_of(self, environ: dict[str, str], node: str | None) -> bool:
        own = environ.get("SLURMD_NODENAME") or environ.get(NODE)
        return environ.get("SLURM_CONF") == self.environ["SLURM_CONF"] and own is not None and node in (None, own)

    def _configure(self) -> None:
        *ports, port = _free_ports(len(self.nodes) + 1)
        host = socket.gethostname().split(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        values = {"host": host, "port": port, "folder": self.folder, "user": user}
        values |= {"nodes": ",".join(self.nodes), "ports": ",".join(map(str, ports))}
        self.folder.chmod(0o755)
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (self.folder / "gres.conf").write_text(GRES_CONF)
        (self.folder / "cgroup.conf").write_text(CGROUP_CONF)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        (self.folder / "state").mkdir()
        for node in self.nodes:
            (self.folder / f"spool-{node}").mkdir()
            (self.folder / f"tmp-{node}").mkdir()

    def _munged(self) -> list[str]:
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        names |= {"log-file": "munged.own.log", "seed-file": "munge.seed"}
        return ["munged", "--foreground", "--force", *(f"--{key}={self.folder / name}" for key, name in names.items())]

    def _start(self, name: str, words: list[str], environ: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *words],
                env={**self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is not meant for them
            )

    def _wait_for(self, what, condition) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while not condition():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)[-2000:]}" for name in self._daemons)
                raise RuntimeError(f"Slurm's {what} did not come up; ended: {', '.join(dead) or 'none'}\n{logs}")
            time.sleep(0.1)

    def _stop(self) -> None:
        """End all jobs, then all daemons, by force where need be."""
        for node in self.nodes:
            daemon = self._daemons.pop(node, None)
            if daemon:
                _end(daemon)
        while found := self.processes():
            for pid in found:
                _kill(pid)
            time.sleep(0.01)
        for daemon in reversed(self._daemons.values()):
            _end(daemon)


def install() -> None:
    """Have Debian's packages installed, if the programs are not there.

    Raises:
        NoSlurmError: they are not there and cannot be installed.
    """
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoSlurmError(f"no {missing[0]}, and only root with apt-get could install it")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        try:
            done = subprocess.run(["apt-get", "-qq", *words], env=environ, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise NoSlurmError("apt-get took more than 300 s") from None
    if done.returncode:
        raise NoSlurmError(f"apt-get cannot install {' '.join(PACKAGES)}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word why"])[-1]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _environs():
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "environ").read_text(errors="replace")
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            yield int(path.name), dict(item.split("=", 1) for item in text.split("\0") if "=" in item)


def _is_rank(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return False
    return words[1:3] == ["-m", "qtrl_hpc.train"]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
