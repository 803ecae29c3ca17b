"""Judge what the ranks see. Each check is a pure function of all ranks' facts, and tells what to do."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from qtrl_hpc.doctor.facts import Facts

Level = Literal["ok", "mind", "hurts"]

MIB, GIB = 1 << 20, 1 << 30
LITTLE_ROOM, SOME_ROOM = 50 * MIB, GIB
SLOW_SYNC = 0.5
SLOW_REDUCTION_US = 20_000.0
SEGMENT = 16 * MIB  # of a rank in /dev/shm: btl_sm_segment_size of Open MPI 5
SLOW_RANK = 3.0  # times the quickest
NAMES_AT_MOST = 6
GONE_AT_REBOOT = ("tmpfs", "ramfs")
# What the package cannot do without: the command line of any run imports them.
NEEDED = ("numpy", "qiskit", "qiskit-aer", "numba", "gymnasium", "minigrid", "h5py", "mpi4py")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report.

    Args:
        topic: what it is about.
        level: fine; worth knowing; would make a run fail, crawl or lose work.
        text: what was found.
        advice: what to do, where it is not fine.
    """

    topic: str
    level: Level
    text: str
    advice: str | None = None


def examine(ranks: list[Facts]) -> list[Finding]:
    """Return what every check says.

    Args:
        ranks: what each sees, in rank order; where MPI does not work, rank 0's alone.
    """
    return [check(ranks) for check in CHECKS]


def check_versions(ranks: list[Facts]) -> Finding:
    """All that a run needs is installed."""
    found = ranks[0].versions
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    missing = [name for name in NEEDED if found.get(name) == "not installed"]
    if missing:
        return _hurts("versions", text, f"pip install {' '.join(missing)}, into the environment that starts runs")
    return _ok("versions", text)


def check_alike(ranks: list[Facts]) -> Finding:
    """Ranks have the same versions, MPI library, processor and settings."""
    first, different = ranks[0], []
    hurting = False
    for name in sorted({name for facts in ranks for name in facts.versions}):
        different += (found := _differ(ranks, name, lambda facts, name=name: facts.versions.get(name)))  # type: ignore[misc]
        hurting = hurting or bool(found)
    different += (found := _differ(ranks, "MPI", lambda facts: facts.library))
    hurting = hurting or bool(found)
    for name in sorted({name for facts in ranks for name in facts.settings}):
        different += _differ(ranks, name, lambda facts, name=name: facts.settings.get(name, "unset"))  # type: ignore[misc]
    different += _differ(ranks, "processor", lambda facts: facts.processor)
    if hurting:
        advice = "start all ranks from one environment: the same path of Python, modules and variables on every host"
        return _hurts("ranks alike", "; ".join(different), advice)
    if different:
        advice = "export the variables in the job script (mpirun -x NAME); other processors may give other last bits"
        return _mind("ranks alike", "; ".join(different), advice)
    return _ok("ranks alike", f"{first.processor}; the same versions and settings on every rank")


def check_mpi(ranks: list[Facts]) -> Finding:
    """MPI can be used, and its launcher belongs to it."""
    first = ranks[0]
    if first.mpi_trouble:
        text, _, advice = first.mpi_trouble.removeprefix("MPI: ").rpartition("; ")
        return _hurts("MPI", text, advice)
    text = f"{first.library} ({first.library_file or 'library not found among the files in use'})"
    if first.launcher is None:
        return _launcher_at_hand(first, text)
    text += f", started by {first.launcher} {first.launcher_version or ''}".rstrip()
    if first.launcher_version and first.launcher_version not in str(first.library):
        advice = "use the mpirun that came with the library (which -a mpirun), or load one MPI module alone"
        return _mind("MPI", text, advice)
    return _ok("MPI", text)


def _launcher_at_hand(first: Facts, text: str) -> Finding:
    """Judge the mpirun on the path, where nothing started this process."""
    if first.mpirun is None:
        advice = "runs of several ranks need the library's own mpirun on the PATH, or srun --mpi=pmix"
        return _mind("MPI", f"{text}, started alone; no mpirun that works", advice)
    theirs, ours = mpi_family(first.mpirun), mpi_family(str(first.library))
    text += f", started alone; mpirun is {first.mpirun}"
    if theirs and ours and theirs != ours:
        advice = f"use the library's own mpirun: with one of {theirs} every process would be rank 0 of 1"
        return _hurts("MPI", text, advice)
    return _ok("MPI", text)


def mpi_family(text: str) -> str | None:
    """Return which MPI a version line is of: launchers and libraries of one family work together."""
    lower = text.lower()
    if any(word in lower for word in ("open mpi", "openrte", "prte", "prrte")):
        return "Open MPI"
    return "MPICH" if any(word in lower for word in ("mpich", "hydra", "intel", "mvapich")) else None


def check_pmix(ranks: list[Facts]) -> Finding:
    """The launcher tells ranks of each other by PMIx where it should."""
    first = ranks[0]
    if first.launcher is None:
        return _ok("PMIx", "not needed: started alone")
    if first.pmix is None:
        return _ok("PMIx", f"{first.launcher} does without")
    text = f"version {first.pmix}, spoken by {first.launcher}"
    if first.launcher == "srun" and first.own_library:
        advice = "a wheel brings another PMIx, and starts may crash: mpirun in the allocation, or the site's MPI"
        return _mind("PMIx", text, advice)
    return _ok("PMIx", text)


def check_ulfm(ranks: list[Facts]) -> Finding:
    """Fault tolerance is there, and on where it was asked for, without the component that sums wrongly."""
    first = ranks[0]
    if first.ulfm_built is None:
        return _ok("ULFM", "unknown without MPI")
    if not first.ulfm_on:
        text = "built in, not asked for (mpirun --with-ft ulfm)" if first.ulfm_built else "this MPI has none"
        return _ok("ULFM", text)
    if len(_hosts(ranks)) > 1 and not first.without_han:
        advice = "mpirun --mca coll ^han: with it, a sum after a failure has been wrong without an error"
        return _hurts("ULFM", "on, over several hosts, with Open MPI's component han", advice)
    return _ok("ULFM", "on (mpirun --with-ft ulfm); mpirun then exits with 0 even after a rank has died")


def check_cores(ranks: list[Facts]) -> Finding:
    """Each host has a core for each rank, or ranks that wait give theirs away."""
    hosts = _hosts(ranks)
    text = _compressed({host: f"{_count(len(own), 'rank')} on {_cores_in_words(own)}" for host, own in hosts.items()})
    full = {host: own for host, own in hosts.items() if len(own) > _cores(own)}
    if not full:
        return _ok("cores", text)
    if all(facts.yields for own in full.values() for facts in own):
        advice = "fine for a trial; for speed as many ranks as cores, and more agents by --agents-per-rank"
        return _mind("cores", text, advice)
    advice = (
        "fewer ranks and more --agents-per-rank; or export OMPI_MCA_mpi_yield_when_idle=1, as jobs/env.sh does: "
        "else ranks that wait keep their cores busy"
    )
    return _hurts("cores", text, advice)


def check_bindings(ranks: list[Facts]) -> Finding:
    """No more ranks are tied to the same cores than these are, while others of the host are idle."""
    crowded = []
    for host, own in _hosts(ranks).items():
        everything = {cpu for facts in own for cpu in facts.cpus}
        for cpus, count in Counter(tuple(facts.cpus) for facts in own).items():
            if count > len(cpus) and len(cpus) < len(everything):
                crowded.append(f"{host}: {count} ranks on core {_numbers(cpus)}, of {len(everything)} that ranks have")
    if crowded:
        return _hurts("bindings", "; ".join(crowded), "mpirun --map-by core --bind-to core, or srun --cpu-bind=cores")
    sizes = {len(facts.cpus) for facts in ranks}
    return _ok("bindings", f"each rank may use {' or '.join(map(str, sorted(sizes)))} core(s)")


def check_threads(ranks: list[Facts]) -> Finding:
    """Ranks times threads fit the cores."""
    asked = ranks[0].settings.get("OMP_NUM_THREADS", "")
    threads = int(asked) if asked.isdigit() else 1
    loaded = ", ".join(f"{name} {count}" for name, count in sorted(ranks[0].pools.items()))
    text = f"OMP_NUM_THREADS {asked or 'unset'}; loaded: {loaded or 'none'}; training sets all to --threads (1)"
    over = [host for host, own in _hosts(ranks).items() if threads > 1 and len(own) * threads > _cores(own)]
    if over:
        advice = f"ranks times threads are more than the cores on {', '.join(over)}: export OMP_NUM_THREADS=1"
        return _mind("threads", text, advice)
    return _ok("threads", text)


def check_folder(ranks: list[Facts]) -> Finding:
    """The run directory can be written to, and has room."""
    first = ranks[0]
    if first.folder_trouble:
        text = f"{first.folder}: cannot be written to ({first.folder_trouble})"
        return _hurts("run directory", text, "name another with --run-dir, in a place that can be written to")
    if first.room is None:
        return _ok("run directory", "not tried")
    room = first.room
    text = f"{first.folder} ({first.file_system or 'unknown file system'}), {_bytes(room)} free"
    if room < LITTLE_ROOM:
        return _hurts("run directory", text, "make room: a run stops where a checkpoint cannot be written")
    if first.file_system in GONE_AT_REBOOT:
        return _mind("run directory", text, "it is in memory, gone when the host restarts: keep runs on a disk")
    if room < SOME_ROOM:
        return _mind("run directory", text, "make room, for metrics and checkpoints of a long run")
    return _ok("run directory", text)


def check_shared(ranks: list[Facts]) -> Finding:
    """All ranks see rank 0's run directory, so that a restart on other hosts finds its checkpoints."""
    blind = [facts for facts in ranks if facts.sees_folder is False]
    if blind:
        hosts = sorted({facts.host for facts in blind})
        advice = "only rank 0 writes there, but a restart on another host would not find it: use a shared file system"
        return _hurts("same directory", f"{some(hosts)}: do not see what rank 0 writes there", advice)
    if any(facts.sees_folder for facts in ranks):
        return _ok("same directory", f"all {len(ranks)} ranks see what rank 0 writes there")
    return _ok("same directory", "not tried" if ranks[0].folder_trouble else "one rank")


def check_locks(ranks: list[Facts]) -> Finding:
    """A lock in the run directory keeps a second run out."""
    advice = "a second run started there would go unnoticed: give each job a --run-dir of its own"
    if ranks[0].locks is False:
        return _mind("locks", "the file system has no file locks that other processes see", advice)
    passing = sorted({facts.host for facts in ranks[1:] if facts.locks is False})
    if passing:
        return _mind("locks", f"{some(passing)}: rank 0's lock is not seen there", advice)
    if ranks[0].locks is None:
        return _ok("locks", "not tried")
    return _ok("locks", "a lock keeps other processes out")


def check_sync(ranks: list[Facts]) -> Finding:
    """Syncing a file, which each checkpoint waits for, does not take long."""
    seconds = ranks[0].sync_seconds
    if seconds is None:
        return _ok("fsync", "not tried")
    text = f"{seconds * 1e3:.3g} ms to write and sync 64 KiB"
    if seconds > SLOW_SYNC:
        return _mind("fsync", text, "each checkpoint waits for several: a larger --checkpoint-every, or another disk")
    return _ok("fsync", text)


def check_shm(ranks: list[Facts]) -> Finding:
    """/dev/shm has room for messages, and no segments of jobs that are gone."""
    hosts = {facts.host: facts for facts in ranks if facts.shm_room is not None}
    if not hosts:
        return _ok("/dev/shm", "not there")
    text = _compressed({host: f"{_bytes(facts.shm_room or 0)} free" for host, facts in hosts.items()})
    left = {host: facts.shm_left for host, facts in hosts.items() if facts.shm_left}
    remove = "rm /dev/shm/sm_segment.* while no job of yours runs there"
    if any((facts.shm_room or 0) < SEGMENT for facts in hosts.values()):
        return _hurts("/dev/shm", text, f"Open MPI wants 16 MiB a rank: make room ({remove}), or --mca btl self,tcp")
    if left:
        counted = ", ".join(f"{count} on {host}" for host, count in left.items())
        return _mind("/dev/shm", f"{text}; segments of jobs that are gone: {counted}", remove)
    if any((facts.shm_room or 0) < SEGMENT * len(_hosts(ranks)[host]) for host, facts in hosts.items()):
        return _mind("/dev/shm", text, "Open MPI wants 16 MiB a rank: in a container, --shm-size")
    return _ok("/dev/shm", text)


def check_gpu(ranks: list[Facts]) -> Finding:
    """Where there are GPUs, torch can use them."""
    hosts = {facts.host: facts for facts in ranks if facts.gpus is not None}
    text = _compressed({host: ", ".join(facts.gpus or []) or "none" for host, facts in hosts.items()})
    unused = sorted(host for host, facts in hosts.items() if facts.gpus and not facts.torch_cuda)
    if unused:
        advice = "--device cuda would be refused: install torch's CUDA build for this driver"
        return _mind("GPU", f"{text}; torch cannot use those of {', '.join(unused)}", advice)
    own = _hosts(ranks)
    shared = [host for host, facts in hosts.items() if facts.gpus and len(own[host]) > len(facts.gpus)]
    if shared:
        advice = "with --device cuda ranks would share them: as many ranks as GPUs, and more --agents-per-rank"
        return _mind("GPU", f"{text}; fewer than ranks on {', '.join(shared)}", advice)
    return _ok("GPU", text or "not looked for")


def check_aer(ranks: list[Facts]) -> Finding:
    """Aer works, since --qpu aer is the presets' choice."""
    broken = [facts for facts in ranks if facts.aer_trouble]
    if broken:
        text = f"{broken[0].host}: {broken[0].aer_trouble}"
        return _hurts("Aer", text, "pip install qiskit-aer, or train with --qpu statevector, which does without")
    devices = next((facts.aer_devices for facts in ranks if facts.aer_devices), None)
    return _ok("Aer", f"devices {', '.join(devices)}" if devices else "not looked for")


def check_reduction(ranks: list[Facts]) -> Finding:
    """Adding up one update's gradients over ranks does not take longer than the update."""
    taken = ranks[0].reduction_us
    if taken is None:
        return _ok("Allreduce", "one rank: nothing to add up")
    time = f"{taken:.3g} µs" if taken < 1000.0 else f"{taken / 1e3:.3g} ms"
    text = f"{time} (median over 1 s, 1749 float64, {len(ranks)} ranks)"
    if taken <= SLOW_REDUCTION_US:
        return _ok("Allreduce", text)
    advice = (
        "free the cores of other jobs and ranks (see above); or name the quick network, --mca btl_tcp_if_include NAME"
    )
    return _hurts("Allreduce", text, advice)


def check_circuit(ranks: list[Facts]) -> Finding:
    """The circuit of the paper's size runs, about as fast on every rank."""
    broken = [facts for facts in ranks if facts.circuit_trouble]
    if broken:
        text = f"rank {broken[0].rank}: {broken[0].circuit_trouble}"
        return _hurts("circuit", text, "mend what it names; training on our own kernels would end there too")
    times = [(facts.circuit_ms, facts.rank, facts.host) for facts in ranks if facts.circuit_ms is not None]
    if not times:
        return _ok("circuit", "not timed")
    quickest, slowest = min(times), max(times)
    with_aer = f", Aer {ranks[0].aer_ms:.3g} ms" if ranks[0].aer_ms is not None else ""
    text = f"n = 13, L = 3: our kernels {quickest[0]:.3g}"
    text += f" to {slowest[0]:.3g} ms{with_aer}" if len(times) > 1 else f" ms{with_aer}"
    if slowest[0] > SLOW_RANK * quickest[0]:
        advice = f"all wait for rank {slowest[1]} on {slowest[2]}: see what else runs there, and bindings above"
        return _mind("circuit", text, advice)
    return _ok("circuit", text)


def check_kernels(ranks: list[Facts]) -> Finding:
    """Compiled kernels are kept on disk, so that not every start compiles them."""
    first = ranks[0]
    if first.load_seconds is None:
        return _ok("kernels", "not loaded")
    text = f"first circuit after {first.load_seconds:.2g} s"
    without = [facts for facts in ranks if facts.load_seconds is not None and facts.kernels is None]
    if without:
        advice = "export NUMBA_CACHE_DIR=FOLDER that can be written to: else every start of every rank compiles them"
        return _mind("kernels", f"{text}, kept nowhere on {_names(without)}", advice)
    return _ok("kernels", f"{text}, machine code kept in {first.kernels}")


CHECKS: tuple[Callable[[list[Facts]], Finding], ...] = (
    check_versions,
    check_alike,
    check_mpi,
    check_pmix,
    check_ulfm,
    check_cores,
    check_bindings,
    check_threads,
    check_folder,
    check_shared,
    check_locks,
    check_sync,
    check_shm,
    check_gpu,
    check_aer,
    check_reduction,
    check_circuit,
    check_kernels,
)


def some(names: list[str]) -> str:
    """Return the first of many names, and how many there are."""
    if len(names) <= NAMES_AT_MOST:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_AT_MOST])}, … ({len(names)} in all)"


def _ok(topic: str, text: str) -> Finding:
    return Finding(topic=topic, level="ok", text=text)


def _mind(topic: str, text: str, advice: str) -> Finding:
    return Finding(topic=topic, level="mind", text=text, advice=advice)


def _hurts(topic: str, text: str, advice: str) -> Finding:
    return Finding(topic=topic, level="hurts", text=text, advice=advice)


def _hosts(ranks: list[Facts]) -> dict[str, list[Facts]]:
    """Return the ranks of each host, hosts in order of their first rank."""
    hosts: dict[str, list[Facts]] = {}
    for facts in ranks:
        hosts.setdefault(facts.host, []).append(facts)
    return hosts


def _cores(own: list[Facts]) -> float:
    """Return how many cores the ranks of one host have together."""
    cores = len({cpu for facts in own for cpu in facts.cpus})
    return min([float(cores), *(facts.quota for facts in own if facts.quota is not None)])


def _cores_in_words(own: list[Facts]) -> str:
    cores = len({cpu for facts in own for cpu in facts.cpus})
    quota = min((facts.quota for facts in own if facts.quota is not None), default=None)
    limited = f", of which the cgroup allows {quota:g}" if quota is not None and quota < cores else ""
    return _count(cores, "core") + limited


def _differ(ranks: list[Facts], name: str, value: Callable[[Facts], object]) -> list[str]:
    """Return, where ranks have different values, which has which; else nothing."""
    groups: dict[object, list[Facts]] = {}
    for facts in ranks:
        groups.setdefault(value(facts), []).append(facts)
    if len(groups) == 1:
        return []
    return [f"{name}: " + ", ".join(f"{each} on {_names(own)}" for each, own in groups.items())]


def _names(own: list[Facts]) -> str:
    """Return which ranks these are, and of which hosts."""
    hosts = sorted({facts.host for facts in own})
    return f"rank {_numbers(facts.rank for facts in own)} ({some(hosts)})"


def _numbers(numbers: Iterable[int]) -> str:
    """Return whole numbers with runs of them shortened: 0-3, 6."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _compressed(texts: dict[str, str]) -> str:
    """Return what is said of each host, once where it is the same."""
    same: dict[str, list[str]] = {}
    for host, text in texts.items():
        same.setdefault(text, []).append(host)
    return "; ".join(f"{some(hosts)}: {text}" for text, hosts in same.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _bytes(number: int) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.0f} MiB"
