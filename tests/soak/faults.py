"""Faults of real runs under mpirun, and what must be so after each.

After each: no process of the job is left, the whole job has ended within ``LIMIT`` seconds of the fault, its exit code
is not 0, what it printed names the rank and the cause where a rank lives to tell, and ``--resume`` carries on to the
same bits as a run without the fault. But where ranks may die (``deaths``), those left go on within ``NOTICE`` seconds
and end well, to those bits if they have taken over the agents of the dead; if they are too few, they stop with a
checkpoint, and before training has begun nobody outlives anybody.
"""

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import support
from support import QUICK, TRAIN, Job, metrics, result, updates_done

from qtrl_hpc.checkpoint import checkpoints, load_newest
from qtrl_hpc.run_directory import METRICS
from qtrl_hpc.status import STATUS

LIMIT = 10.0
PATIENCE = 10.0  # --progress-timeout of runs that are to hang
START_UP = 30.0  # of Python and its libraries, on a busy machine
UPDATES, MANY_UPDATES = 60, 100_000
KILLS = 16  # of one run
NOTICE = 5.0
MPI_PATIENCE = 15.0  # for the start of MPI, in runs of which a rank is to die before it
TOLERANT = ["--with-ft", "ulfm"]
DEATHS_UPDATES = 1000  # a run is to last while its ranks die
support.TIME_LIMIT = 600.0  # a machine may be busy; how long a fault takes is measured
FLAGS = [*QUICK, "--policy-hidden-sizes=[3]", "--env-id=faulty:Faulty-v0", "--reduction=ordered"]
FLAGS += ["--checkpoint-every=5"]


QUIETLY = {"OMPI_MCA_mpi_yield_when_idle": "1"}  # a rank that waits leaves its core to one that has work


def start(run_dir, *flags, ranks=None, environ=None, launcher=()):
    """Start the training command."""
    return support.start(run_dir, *flags, ranks=ranks, environ={**QUIETLY, **(environ or {})}, launcher=launcher)


@dataclass
class Outcome:
    """What became of one fault."""

    fault: str
    seconds: float | None = None
    """From the fault to the end of the whole job, or until those left go on."""
    code: int | None = None
    equal: bool | None = None
    """Whether the bits in the end are those of a run without the fault; None where there is nothing to compare."""
    problems: list[str] = field(default_factory=list)
    late: str = ""
    """How long it took, if that was too long: for the table, not for the tests, whose machine may be busy."""
    skipped: str = ""

    @property
    def broken(self):
        """Return all that was not as promised."""
        return [*self.problems, self.late] if self.late else self.problems


def bits(run_dir):
    """What must not depend on faults nor on who outlived whom."""
    *numbers, rows = result(run_dir)
    return *numbers, [{name: row[name] for name in row if name not in ("ranks", "left")} for row in rows]


class Ground:
    """A folder to make runs in, and the runs without a fault to compare with."""

    def __init__(self, folder):
        self.folder = folder
        self._whole = {}

    def clear(self):
        """Remove all that was written."""
        shutil.rmtree(self.folder)

    def whole(self, agents, updates):
        """What a run without a fault makes, on one rank."""
        if (agents, updates) not in self._whole:
            run_dir = self.folder / f"whole-{agents}-{updates}"
            job = start(run_dir, *FLAGS, f"--updates={updates}", f"--agents-per-rank={agents}", "--checkpoint-every=50")
            assert job.wait() == 0, job.err
            self._whole[agents, updates] = bits(run_dir)
        return self._whole[agents, updates]


def over(job, struck, outcome, limit=LIMIT, codes=None):
    """Wait for the end of all of a job's processes, and note when it was and how.

    ``struck`` is the fault's time, ``codes`` are the exit codes that are right: any but 0 and 75 if not given.
    """
    deadline = time.time() + limit + 60.0
    while (left := job.processes()) and time.time() < deadline:
        time.sleep(0.02)
    outcome.seconds = time.time() - struck
    if left:
        outcome.problems.append(f"left: {left}")
        job.kill()
    outcome.code = job.wait()
    if outcome.seconds > limit:
        outcome.late = f"took {outcome.seconds:.1f} s"
    if outcome.code in (0, 75) if codes is None else outcome.code not in codes:
        outcome.problems.append(f"exit code {outcome.code}")


def expect(outcome, job, *patterns):
    """Note which patterns what was printed to stderr does not have."""
    for pattern in patterns:
        if not re.search(pattern, job.err):
            outcome.problems.append(f"nothing like {pattern!r} in: {job.err[-1500:]}")


def expect_one_line(outcome, job, run_dir=None):
    """Note where a run did not end in one line of ours, or does not say in its directory that it failed of that."""
    if len(job.errors) != 1 or "Traceback" in job.err:
        outcome.problems.append(f"not one line: {job.err[-1500:]}")
    if run_dir is not None:
        status = json.loads((run_dir / STATUS).read_text())
        if status["state"] != "failed" or not job.errors or status["why"].partition(": ")[2] not in job.errors[0]:
            outcome.problems.append(f"status.json: {status}, and printed: {job.errors}")


def finish(ground, run_dir, ranks, updates, outcomes, before=0, *, afresh=(), launcher=()):
    """Resume a run to its end, or start it again with ``afresh`` too, and compare it with one without a fault."""
    try:
        found, flags = [], [*FLAGS, *afresh]
        if checkpoints(run_dir):
            path, checkpoint, damaged = load_newest(run_dir)
            found, flags = [str(reason) for reason in damaged.values()], ["--resume"]
            if checkpoint.state.update < before:
                found.append(f"{path} is of update {checkpoint.state.update}, there was one of {before}")
        job = start(run_dir, *flags, f"--updates={updates}", "--progress-timeout=3600", ranks=ranks, launcher=launcher)
        code = job.wait()
        equal = code == 0 and bits(run_dir) == ground.whole(ranks, updates)
        found += [] if code == 0 else [f"resume: exit code {code}: {job.err[-1500:]}"]
        found += [] if equal or code else ["resume: other bits"]
    except Exception as error:
        found, equal = [f"resume: {error!r}"], False
    for outcome in outcomes:
        outcome.equal = equal
        outcome.problems += found


def following(run_dir):
    """A round number of updates that a run has not made yet: few of them need a run to compare with."""
    return 50 * (load_newest(run_dir)[1].state.update // 50 + 1) if checkpoints(run_dir) else 50


# --- SIGKILL


def kills(rng, ground, folder, number):
    """Kill one run again and again, resuming it each time, until it is done."""
    run_dir, ranks = folder / "run", rng.choice([2, 2, 2, 3, 4])
    outcomes, newest = [], 0
    for _ in range(KILLS):
        target, where = rng.choice(["rank 0", "another rank", "launcher"]), rng.choices(PLACES, [2, 1, 1])[0]
        outcome = Outcome(f"SIGKILL of {target} {where}")
        resume = ["--resume"] if checkpoints(run_dir) else FLAGS
        before = _inode(run_dir)
        job = start(run_dir, *resume, f"--updates={MANY_UPDATES}", ranks=ranks)
        rank = {"rank 0": 0, "another rank": rng.randrange(1, ranks), "launcher": None}[target]
        if not _reach(job, run_dir, where, before, rng):
            job.wait()
            break
        struck = _kill(job, rank)
        if struck is None:
            job.wait()
            break
        # A rank that has not come to MPI yet notices there that its launcher is gone.
        early = rank is None and where == "in start-up"
        over(job, struck, outcome, START_UP + LIMIT if early else LIMIT)
        if rank is not None:
            expect(outcome, job, rf"rank {rank}\b", r"signal 9|[Kk]illed")
        if checkpoints(run_dir):
            path, checkpoint, damaged = load_newest(run_dir)
            outcome.problems += list(damaged.values())
            if checkpoint.state.update < newest:
                outcome.problems.append(f"{path} is of update {checkpoint.state.update}, there was one of {newest}")
            newest = checkpoint.state.update
        outcomes.append(outcome)
    finish(ground, run_dir, ranks, following(run_dir), outcomes, newest)
    return outcomes


PLACES = ("in start-up", "in training", "in a checkpoint")


def _inode(run_dir):
    try:
        return (run_dir / METRICS).stat().st_ino
    except OSError:
        return None


def _reach(job, run_dir, where, before, rng):
    """Wait for a random instant; return whether the job still runs."""
    if where == "in start-up":
        until = time.time() + rng.uniform(0.0, 3.0)
        while time.time() < until and job.running:
            time.sleep(0.005)
        return job.running
    while job.running and _inode(run_dir) == before:
        time.sleep(0.005)
    until = time.time() + rng.uniform(0.0, 0.5)
    while job.running and time.time() < until:
        time.sleep(0.002)
    if where == "in a checkpoint":
        until = time.time() + 5.0
        while job.running and time.time() < until:
            if any(name.startswith(".checkpoint") for name in os.listdir(run_dir)):
                time.sleep(rng.uniform(0.0, 0.002))
                break
    return job.running


def _kill(job, rank, number=signal.SIGKILL):
    """Send a signal to a rank or the launcher; return when, None where the job has ended before."""
    while job.running:
        if rank is None:
            found = [pid for pid, r in job.processes() if r is None]
            targets = found[:1] if len(found) == 1 else [job._process.pid]
        else:
            targets = [pid for pid, r in job.processes() if r == str(rank)]
        if targets:
            struck = time.time()
            try:
                os.kill(targets[0], number)
            except ProcessLookupError:
                return None
            return struck
        time.sleep(0.005)
    return None


# --- SIGKILL of ranks that the others outlive


def deaths(rng, ground, folder, number):
    """Kill up to half of the ranks of a run that goes on without them, or with their agents."""
    run_dir, ranks = folder / "run", rng.choice([3, 4, 5])
    adopt, together = rng.random() < 0.6, rng.random() < 0.3
    flags = [*FLAGS, f"--updates={DEATHS_UPDATES}", "--on-agent-failure=continue", *(["--adopt"] if adopt else [])]
    job = start(run_dir, *flags, ranks=ranks, launcher=TOLERANT)
    killed = {}
    for victim in rng.sample(range(ranks), rng.randint(1, ranks // 2)):
        where = rng.choice(PLACES[1:])
        if killed and together:
            time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.1)]))  # the others may be about to go on without the first
        else:
            _reach(job, run_dir, where, None, rng)
        if updates_done(run_dir) > DEATHS_UPDATES - 50:  # it may be over before anybody is missed
            break
        who = "rank 0" if victim == 0 else "another rank"
        outcome = killed[victim] = Outcome(f"death of {who} {where}{', adopted' if adopt else ', not adopted'}")
        struck = _kill(job, victim)
        if not together:
            _wait_for_notice(job, victim, struck, outcome)
    if together:
        for victim, outcome in killed.items():
            _wait_for_notice(job, victim, struck, outcome)
    code = job.wait()
    problems = _of_those_left(job, run_dir, ranks, killed, ground.whole(ranks, DEATHS_UPDATES) if adopt else None)
    for outcome in killed.values():
        outcome.code, outcome.equal = code, not problems if adopt else None
        outcome.problems += problems
    return list(killed.values())


def _wait_for_notice(job, victim, struck, outcome):
    notice = re.compile(rf"^warning: rank (\d+, )*{victim}(, \d+)* died", re.MULTILINE)
    job.wait_until(lambda: notice.search(job.err), "the others' notice")
    outcome.seconds = time.time() - struck
    if outcome.seconds > NOTICE:
        outcome.late = f"took {outcome.seconds:.1f} s"


def _of_those_left(job, run_dir, ranks, killed, whole):
    """Return what is not as promised of a run that outlived ranks; ``whole``: the run that it is to equal, or none."""
    status, rows = json.loads((run_dir / "status.json").read_text()), metrics(run_dir)
    left = [each["rank"] for each in status["left"]]
    found = {
        "exit code": (job.wait(), 0),
        "state": (status["state"], "done"),
        "left": (sorted(left), sorted(killed)),
        "updates": ([row["update"] for row in rows], list(range(1, DEATHS_UPDATES + 1))),
        "ranks": (rows[-1]["ranks"], ranks - len(killed)),
        "processes": (job.processes(), []),
    }
    if whole:
        *numbers, rows = bits(run_dir)
        *expected, expected_rows = whole
        found["bits"] = (numbers, expected)
        found["metrics"] = (rows, expected_rows)
    return _differences(found)


def _differences(found):
    """Return what is not as it is to be; ``found``: by its name (what was got, what was wanted)."""
    return [f"{name}: {got!r:.300}, not {wanted!r:.300}" for name, (got, wanted) in found.items() if got != wanted]


def deaths_below_quorum(rng, ground, folder, number):
    """Kill more ranks than may be missing: those left stop with a checkpoint, and all are back when it is resumed."""
    run_dir, ranks, together = folder / "run", rng.choice([3, 4]), rng.random() < 0.5
    outcome = Outcome("deaths of more than half of the ranks, not adopted")
    flags = [*FLAGS, f"--updates={MANY_UPDATES}", "--on-agent-failure=continue"]
    job = start(run_dir, *flags, ranks=ranks, launcher=TOLERANT)
    victims = rng.sample(range(ranks), ranks // 2 + 1)
    for place, victim in enumerate(victims):
        if place and together:
            time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.1)]))
        else:
            _reach(job, run_dir, rng.choice(PLACES[1:]), None, rng)
        struck = _kill(job, victim)
    over(job, struck, outcome, codes=(75,))
    status, rows = json.loads((run_dir / STATUS).read_text()), metrics(run_dir)
    stopped = status["update"]
    outcome.problems += _differences(
        {
            "state": (status["state"], "stopped"),
            "why": ("expected at least --quorum" in str(status["why"]), True),
            "left": (sorted(each["rank"] for each in status["left"]), sorted(victims)),
            "checkpoint": (load_newest(run_dir)[1].state.update, stopped),
            "updates": ([row["update"] for row in rows], list(range(1, stopped + 1))),
        }
    )
    job = start(run_dir, "--resume", f"--updates={stopped + 20}", ranks=ranks, launcher=TOLERANT)
    code, after = job.wait(), metrics(run_dir)
    outcome.problems += _differences(
        {
            "resume": (code, 0),
            "metrics before": (after[:stopped], rows),
            "updates after": ([row["update"] for row in after[stopped:]], [stopped + 1 + i for i in range(20)]),
            "ranks after": ({row["ranks"] for row in after[stopped:]}, {ranks}),
        }
    )
    return [outcome]


EARLY = ("before MPI", "before training", "at the first checkpoint")


def deaths_in_start_up(rng, ground, folder, number):
    """Kill a rank while nobody can go on without it, or only just: all end, or it is outlived; then start it again."""
    run_dir, ranks, where = folder / "run", rng.choice([3, 4]), rng.choice(EARLY)
    victim = rng.randrange(ranks)
    outcome = Outcome(f"death of {'rank 0' if victim == 0 else 'another rank'} {where}, adopted")
    afresh = ["--on-agent-failure=continue", "--adopt"]
    flags = [*FLAGS, *afresh, f"--updates={UPDATES}", f"--run-dir={run_dir}"]
    job = Job([sys.executable, "-m", "impatient", str(MPI_PATIENCE), *flags], folder, ranks, QUIETLY, TOLERANT)
    _reach_early(job, run_dir, where, rng)
    struck = _kill(job, victim)
    # Who waits in MPI's start for the dead is not told.
    over(job, struck or time.time(), outcome, START_UP + MPI_PATIENCE + LIMIT, codes=(0, 1))
    done = (run_dir / STATUS).exists() and json.loads((run_dir / STATUS).read_text())["state"] == "done"
    if not done:
        expect(outcome, job, rf"error: rank {victim} died, and the others end|Timeout \(0:00:{MPI_PATIENCE:.0f}\)!")
    if done != (outcome.code == 0):
        outcome.problems.append(f"exit code {outcome.code}, done: {done}")
    finish(ground, run_dir, ranks, UPDATES, [outcome], afresh=afresh, launcher=TOLERANT)
    return [outcome]


def _reach_early(job, run_dir, where, rng):
    """Wait for a random instant of a start."""
    if where == "before MPI":
        wait_for, longest = job.processes, 2.0
    elif where == "before training":
        wait_for, longest = run_dir.exists, 1.0
    else:
        wait_for, longest = lambda: checkpoints(run_dir), 0.01
    while job.running and not wait_for():
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, longest))


# --- others, one a run


def stop_signal(rng, ground, folder, number):
    """SIGSTOP: a rank that hangs, not one that dies."""
    run_dir, ranks = folder / "run", rng.choice([2, 3])
    rank = rng.randrange(ranks)
    outcome = Outcome(f"SIGSTOP of {'rank 0' if rank == 0 else 'another rank'}")
    job = start(run_dir, *FLAGS, f"--updates={MANY_UPDATES}", f"--progress-timeout={PATIENCE}", ranks=ranks)
    _reach(job, run_dir, "in training", None, rng)
    struck = _kill(job, rank, signal.SIGSTOP)
    over(job, struck, outcome, PATIENCE + LIMIT)
    expect(outcome, job, rf"rank {rank} does not answer")
    finish(ground, run_dir, ranks, following(run_dir), [outcome])
    return [outcome]


ENVIRONMENT_FAULTS = {
    "environment raises": ([("raise", "the pole broke")], r"rank {rank} of"),
    "environment returns nonsense": (
        [("shape", ""), ("nothing", ""), ("nanobs", "finite"), ("text", "")],
        r"rank {rank}\b",
    ),
    "reward NaN or Inf": ([("nan", "finite"), ("inf", "finite")], r"rank {rank}\b"),
    "gradient NaN or Inf": ([("nangrad", "finite"), ("infgrad", "finite")], r"rank {rank}\b"),
    "environment never ends": ([("sleep", "no progress"), ("spin", "no progress")], r"rank {rank} is in "),
}


def environment(kind):
    """Return the fault of an environment, or of what is computed from it, on one rank."""

    def fault(rng, ground, folder, number):
        run_dir, ranks = folder / "run", rng.choice([2, 3])
        rank, episode = rng.randrange(ranks), rng.randrange(2, UPDATES)  # 1 is when it is tried out
        ways, named = ENVIRONMENT_FAULTS[kind]
        way, words = rng.choice(ways)
        outcome, struck = Outcome(kind), folder / "struck"
        environ = {"QTRL_TEST_FAULT": f"{way} {rank} {episode}", "QTRL_TEST_STRUCK": str(struck)}
        flags = [*FLAGS, f"--updates={UPDATES}", f"--progress-timeout={PATIENCE}"]
        job = start(run_dir, *flags, ranks=ranks, environ=environ)
        job.wait_until(lambda: struck.exists() and struck.read_text(), "the fault")
        over(job, float(struck.read_text()), outcome, LIMIT + (PATIENCE if way in ("sleep", "spin") else 0.0))
        expect(outcome, job, named.format(rank=rank), words)
        finish(ground, run_dir, ranks, UPDATES, [outcome])
        return [outcome]

    return fault


def full_disk(rng, ground, folder, number):
    """A small file system that becomes full while metrics or a checkpoint are written."""
    what = rng.choice(["metrics", "a checkpoint"])
    outcome, ranks = Outcome(f"disk full while writing {what}"), 2
    with small_disk(folder / "disk") as disk:
        if disk is None:
            outcome.skipped = "no right to mount"
            return [outcome]
        run_dir = disk / "run"
        every = 5 if what == "a checkpoint" else 10**6
        flags = [*FLAGS, "--updates=100000", f"--checkpoint-every={every}", f"--run-dir={run_dir}"]
        job = Job([*TRAIN, *flags], folder, ranks, QUIETLY)  # what it prints is not written to the full disk
        job.wait_until(lambda: updates_done(run_dir) > rng.randrange(5, 40), "some updates")
        struck = time.time()
        fill(disk / "ballast")
        over(job, struck, outcome)
        expect(outcome, job, r"rank 0\b", "No space left on device")
        expect_one_line(outcome, job, run_dir)
        (disk / "ballast").unlink(missing_ok=True)
        finish(ground, run_dir, ranks, following(run_dir), [outcome])
    return [outcome]


@contextmanager
def small_disk(folder):
    """A tmpfs of 4 MiB, or None where it may not be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "soak", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path, leave=0):
    """Write a disk full, but for so many bytes; without any even where others write at the same time."""
    free = os.statvfs(path.parent)
    with path.open("wb", buffering=0) as file:
        if leave:
            file.write(bytes(free.f_bavail * free.f_frsize - leave))
            return
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def directory(kind):
    """Return the fault of a run directory that is gone, elsewhere or may no longer be written."""

    def fault(rng, ground, folder, number):
        run_dir, ranks = folder / "run", 2
        outcome = Outcome(f"run directory {kind}")
        job = start(run_dir, *FLAGS, "--updates=100000", ranks=ranks)
        job.wait_until(lambda: updates_done(run_dir) > rng.randrange(5, 40), "some updates")
        struck = time.time()
        if kind == "removed":
            aside = folder / "aside"
            run_dir.rename(aside)
            shutil.rmtree(aside)
        elif kind == "renamed":
            run_dir.rename(folder / "aside")
        elif not _immutable(run_dir, True):
            job.kill()
            outcome.skipped = "no right to chattr +i, or not on this file system"
            return [outcome]
        over(job, struck, outcome)
        expect(outcome, job, r"rank 0\b", "No such file|not permitted|Read-only")
        expect_one_line(outcome, job, run_dir if kind == "read-only" else None)
        if kind == "removed":
            job = start(run_dir, "--resume", ranks=ranks)
            if job.wait() != 2 or not job.errors:
                outcome.problems.append(f"resume of nothing: {job.err[-1000:]}")
            return [outcome]
        _immutable(run_dir, False) if kind == "read-only" else (folder / "aside").rename(run_dir)
        finish(ground, run_dir, ranks, following(run_dir), [outcome])
        return [outcome]

    return fault


def _immutable(folder, yes):
    command = ["chattr", "+i" if yes else "-i", str(folder)]
    return bool(shutil.which("chattr")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def two_runs(rng, ground, folder, number):
    """Two runs started in one directory at the same moment, from the start or with --resume."""
    run_dir, ranks, resumed = folder / "run", 2, rng.random() < 0.5
    outcome = Outcome(f"two runs in one directory at once{', both with --resume' if resumed else ''}")
    flags = [*FLAGS, f"--updates={UPDATES}"]
    if resumed:
        first = start(run_dir, *FLAGS, "--updates=10", ranks=ranks)
        assert first.wait() == 0, first.err
        flags = ["--resume", f"--updates={UPDATES}"]
    struck = time.time()
    jobs = [start(run_dir, *flags, ranks=ranks)]
    time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.5)]))
    jobs.append(start(run_dir, *flags, ranks=ranks))
    codes = [job.wait() for job in jobs]
    outcome.seconds = time.time() - struck
    refused = [job for job, code in zip(jobs, codes, strict=True) if code == 2]
    # On a machine that is slow enough the one may be done before the other looks: with --resume it then finds nothing
    # left to do, which is no fault.
    if sorted(codes) != [0, 2] and not (resumed and codes == [0, 0]):
        outcome.problems.append(f"exit codes {codes}: {[job.err[-800:] for job in jobs]}")
    for job in refused:
        outcome.code = 2
        if len(job.errors) != 1 or "--run-dir: got" not in job.errors[0]:
            outcome.problems.append(job.err[-800:])
    outcome.problems += [f"left: {left}" for job in jobs if (left := job.processes())]
    finish(ground, run_dir, ranks, UPDATES, [outcome])
    return [outcome]


FAULTS = {
    "kills": kills,
    "sigstop": stop_signal,
    **{kind.replace(" ", "-"): environment(kind) for kind in ENVIRONMENT_FAULTS},
    "disk-full": full_disk,
    **{f"directory-{kind}": directory(kind) for kind in ("removed", "renamed", "read-only")},
    "two-runs": two_runs,
    "deaths": deaths,
    "deaths-below-quorum": deaths_below_quorum,
    "deaths-in-start-up": deaths_in_start_up,
}


def try_fault(name, seed, number, ground):
    """Try one fault, drawn by its number, and return its outcomes; what was written stays where one has a problem."""
    folder = ground.folder / f"case-{number}"
    folder.mkdir()
    outcomes = FAULTS[name](random.Random(f"{seed}/{number}"), ground, folder, number)
    if not any(outcome.problems for outcome in outcomes):
        shutil.rmtree(folder)
    return outcomes


def table(outcomes):
    """Return the rows of the table: fault, times tried, outcome, seconds to the end, exit codes, bits."""
    lines = [
        "| fault | times | as promised | seconds: median, max | exit codes | same bits in the end |",
        "|---|---|---|---|---|---|",
    ]
    for fault in sorted({outcome.fault for outcome in outcomes}):
        tried = [outcome for outcome in outcomes if outcome.fault == fault]
        done = [outcome for outcome in tried if not outcome.skipped]
        if not done:
            lines.append(f"| {fault} | 0 | skipped: {tried[0].skipped} | | | |")
            continue
        seconds = [outcome.seconds for outcome in done if outcome.seconds is not None]
        spent = f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "-"
        good = sum(not outcome.broken for outcome in done)
        codes = ", ".join(map(str, sorted({outcome.code for outcome in done if outcome.code is not None})))
        compared = [outcome.equal for outcome in done if outcome.equal is not None]
        bits = f"{sum(compared)} of {len(compared)}" if compared else "nothing to compare"
        lines.append(f"| {fault} | {len(done)} | {good} | {spent} | {codes} | {bits} |")
    return lines
