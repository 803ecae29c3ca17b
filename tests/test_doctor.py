"""The doctor: each check on made-up facts, what is gathered from this machine, and the command alone."""

import fcntl
import json
import mmap
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import REPOSITORY, Job

from qtrl_hpc.distributed import World
from qtrl_hpc.doctor import checks, folder, gather, report
from qtrl_hpc.doctor.checks import MIB, examine
from qtrl_hpc.doctor.facts import Facts

HEALTHY = Facts(
    rank=0,
    host="h0",
    processor="a processor",
    versions={"qtrl_hpc": "0.1.0", "numpy": "2.0.0", "torch": "not installed"},
    settings={"OMP_NUM_THREADS": "1"},
    cpus=[0, 1],
    library="Open MPI v5.0.11",
    library_file="/lib/libmpi.so.40",
    launcher="Open MPI's mpirun",
    launcher_version="5.0.11",
    pmix="5.0.9",
    yields=False,
    ulfm_built=True,
    ulfm_on=False,
    folder="/scratch",
    file_system="nfs4",
    room=1 << 40,
    sync_seconds=0.01,
    locks=True,
    shm_room=1 << 34,
    shm_left=0,
    gpus=[],
    aer_devices=["CPU"],
    reduction_us=30.0,
    circuit_ms=0.2,
    aer_ms=3.0,
    load_seconds=0.3,
    kernels="/home/kernels",
)


def ranks(count=1, **changes):
    """Ranks of one host, healthy but for the changes."""
    return [replace(HEALTHY, rank=rank, **changes) for rank in range(count)]


def two_hosts(first=None, second=None):
    """A rank on each of two hosts."""
    return [
        replace(HEALTHY, **(first or {})),
        replace(HEALTHY, **{"rank": 1, "host": "h1", "sees_folder": True, **(second or {})}),
    ]


def test_healthy_machines_have_nothing_that_hurts():
    for job in (ranks(1), ranks(2), two_hosts()):
        assert {finding.level for finding in examine(job)} == {"ok"}


def test_every_finding_that_is_not_fine_tells_what_to_do_in_one_line():
    """All cases below, and no topic twice."""
    for _, job, _, _ in CASES:
        findings = examine(job)
        assert len({finding.topic for finding in findings}) == len(findings)
        for finding in findings:
            assert (finding.level == "ok") == (finding.advice is None)
            assert "\n" not in finding.text + (finding.advice or "")


UNLAUNCHED = {"launcher": None, "launcher_version": None, "pmix": None}
HURTS = [
    (checks.check_versions, ranks(1, versions={"numpy": "not installed"}), "pip install numpy"),
    (
        checks.check_alike,
        two_hosts({}, {"versions": {"numpy": "1.0"}}),
        "numpy: 2.0.0 on rank 0 (h0), 1.0 on rank 1 (h1)",
    ),
    (
        checks.check_alike,
        two_hosts({}, {"library": "MPICH"}),
        "MPI: Open MPI v5.0.11 on rank 0 (h0), MPICH on rank 1 (h1)",
    ),
    (checks.check_mpi, ranks(1, mpi_trouble="MPI: no library (why; because); load one"), "load one"),
    (checks.check_mpi, ranks(1, mpirun="HYDRA build details:", **UNLAUNCHED), "MPICH"),
    (checks.check_mpi, ranks(1, library="MPICH 4", mpirun="mpirun (Open MPI) 5.0.11", **UNLAUNCHED), "Open MPI"),
    (checks.check_ulfm, two_hosts({"ulfm_on": True}), "^han"),
    (checks.check_cores, ranks(3), "3 ranks on 2 cores"),
    (checks.check_cores, ranks(2, quota=1.5), "2 cores, of which the cgroup allows 1.5"),
    (checks.check_cores, ranks(3, yields=None), "yield_when_idle=1"),
    (checks.check_bindings, [*ranks(2, cpus=[0]), replace(HEALTHY, rank=2, cpus=[1])], "2 ranks on core 0, of 2"),
    (checks.check_folder, ranks(1, folder_trouble="Read-only file system"), "Read-only file system"),
    (checks.check_folder, ranks(1, room=MIB), "1 MiB free"),
    (checks.check_shared, two_hosts({}, {"sees_folder": False}), "h1"),
    (checks.check_shm, ranks(1, shm_room=MIB), "16 MiB a rank"),
    (checks.check_aer, ranks(1, aer_trouble="no such library"), "no such library"),
    (checks.check_reduction, ranks(2, reduction_us=2e5), "200 ms (median"),
    (checks.check_circuit, ranks(2, circuit_trouble="NUMBA_CACHE_DIR: got '/x', expected a folder"), "NUMBA_CACHE_DIR"),
]
MIND = [
    (checks.check_alike, two_hosts({}, {"settings": {}}), "OMP_NUM_THREADS: 1 on rank 0 (h0), unset on rank 1 (h1)"),
    (checks.check_alike, two_hosts({}, {"processor": "another"}), "processor: a processor on rank 0"),
    (checks.check_mpi, ranks(1, launcher_version="5.0.8"), "one MPI module"),
    (checks.check_mpi, ranks(1, mpirun=None, **UNLAUNCHED), "no mpirun that works"),
    (checks.check_pmix, ranks(1, launcher="srun", own_library=True), "a wheel brings another PMIx"),
    (checks.check_cores, ranks(3, yields=True), "3 ranks on 2 cores"),
    (checks.check_threads, ranks(2, settings={"OMP_NUM_THREADS": "2"}), "OMP_NUM_THREADS=1"),
    (checks.check_folder, ranks(1, file_system="tmpfs"), "in memory"),
    (checks.check_folder, ranks(1, room=500 * MIB), "500 MiB free"),
    (checks.check_locks, ranks(1, locks=False), "would go unnoticed"),
    (checks.check_locks, two_hosts({}, {"locks": False}), "h1: rank 0's lock is not seen there"),
    (checks.check_sync, ranks(1, sync_seconds=2.0), "--checkpoint-every"),
    (checks.check_shm, ranks(1, shm_left=7), "7 on h0"),
    (checks.check_shm, ranks(4, shm_room=40 * MIB), "--shm-size"),
    (checks.check_gpu, ranks(1, gpus=["H100"], torch_cuda=False), "CUDA build"),
    (checks.check_gpu, ranks(2, gpus=["H100"], torch_cuda=True), "--agents-per-rank"),
    (checks.check_circuit, two_hosts({}, {"circuit_ms": 1.0}), "rank 1 on h1"),
    (checks.check_kernels, ranks(2, kernels=None), "rank 0-1 (h0)"),
]
OK = [
    (checks.check_versions, ranks(1), "numpy 2.0.0"),
    (checks.check_mpi, ranks(1, mpirun="mpirun (Open MPI) 5.0.11", **UNLAUNCHED), "started alone"),
    (checks.check_pmix, ranks(1, **UNLAUNCHED), "started alone"),
    (checks.check_pmix, ranks(1, launcher="srun"), "version 5.0.9, spoken by srun"),
    (checks.check_ulfm, ranks(1, ulfm_built=False), "none"),
    (checks.check_ulfm, ranks(1), "built in, not asked for"),
    (checks.check_ulfm, ranks(2, ulfm_on=True), "on (mpirun --with-ft ulfm)"),
    (checks.check_ulfm, two_hosts({"ulfm_on": True, "without_han": True}), "on (mpirun --with-ft ulfm)"),
    (checks.check_cores, ranks(2), "h0: 2 ranks on 2 cores"),
    (checks.check_cores, ranks(2, quota=2.0), "h0: 2 ranks on 2 cores"),
    (checks.check_cores, two_hosts(), "h0, h1: 1 rank on 2 cores"),
    (
        checks.check_cores,
        [replace(HEALTHY, rank=rank, host=f"h{rank}") for rank in range(64)],
        "h0, h1, h2, h3, h4, h5, … (64 in all): 1 rank on 2 cores",
    ),
    (checks.check_bindings, [replace(HEALTHY, cpus=[0]), replace(HEALTHY, rank=1, cpus=[1])], "may use 1 core"),
    (checks.check_bindings, ranks(3, cpus=[0]), "may use 1 core"),  # check_cores speaks of it
    (checks.check_threads, ranks(1, settings={"OMP_NUM_THREADS": "2"}), "OMP_NUM_THREADS 2"),
    (checks.check_shared, two_hosts(), "all 2 ranks"),
    (checks.check_gpu, ranks(1, gpus=["H100"], torch_cuda=True), "H100"),
    (checks.check_reduction, ranks(1, reduction_us=None), "one rank"),
    (checks.check_circuit, two_hosts({}, {"circuit_ms": 0.3}), "0.2 to 0.3 ms, Aer 3 ms"),
]
CASES = [
    (check, job, level, words)
    for level, cases in (("hurts", HURTS), ("mind", MIND), ("ok", OK))
    for check, job, words in cases
]


@pytest.mark.parametrize(("check", "job", "level", "words"), CASES)
def test_check(check, job, level, words):
    finding = check(job)
    assert finding.level == level, finding
    assert words in finding.text + " → " + (finding.advice or "")


def test_every_check_is_seen_to_object():
    assert {check for check, *_ in HURTS + MIND} == set(checks.CHECKS)


def test_trouble_with_mpi_alone_is_reported_beside_the_rest():
    findings = examine(
        [Facts(rank=0, host="h0", processor="p", versions={}, settings={}, cpus=[0], mpi_trouble="a; b")]
    )
    assert [finding.topic for finding in findings if finding.level == "hurts"] == ["MPI"]


def test_facts_travel_as_text():
    assert Facts.from_json(HEALTHY.to_json()) == HEALTHY


def test_json_report_holds_findings_and_facts():
    job = ranks(3)
    read = json.loads(report.to_json(job, examine(job)))
    assert (read["format"], read["hurts"], len(read["ranks"])) == ("qtrl_hpc-doctor", 1, 3)
    assert [finding["topic"] for finding in read["findings"] if finding["level"] == "hurts"] == ["cores"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "max 100000\n"}, None),
        # The group's own limit is wider than that of the group above.
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/job/step/cpu.max": "400000 100000\n",
            },
            2.0,
        ),
        # Version 1, as seen inside a container: the path is the host's.
        (
            {
                "proc/self/cgroup": "5:memory:/x\n1:cpu,cpuacct:/elsewhere\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_cores_that_the_cgroup_allows(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert gather.cpu_quota(tmp_path) == expected


def test_segments_that_a_process_uses_are_not_left_behind(tmp_path):
    for name in ("sm_segment.vm.0.1.0", "sm_segment.vm.0.2.0", "another"):
        (tmp_path / name).write_bytes(b"x" * 4096)
    with (tmp_path / "sm_segment.vm.0.1.0").open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert [path.name for path in gather.left_segments(tmp_path)] == ["sm_segment.vm.0.2.0"]
    assert len(gather.left_segments(tmp_path)) == 2


@pytest.mark.parametrize(
    ("script", "expected"),
    [("echo 'mpirun (Open  MPI) 5'; echo more", "mpirun (Open MPI) 5"), ("echo HYDRA >&2", "HYDRA"), ("exit 1", None)],
)
def test_version_of_the_mpirun_on_the_path(tmp_path, monkeypatch, script, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gather.mpirun_version() is None
    (tmp_path / "mpirun").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "mpirun").chmod(0o755)
    assert gather.mpirun_version() == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mpirun (Open MPI) 5.0.11", "Open MPI"),
        ("mpirun (prte) 4", "Open MPI"),
        ("HYDRA build details:", "MPICH"),
        ("Intel(R) MPI Library for Linux* OS", "MPICH"),
        ("something else", None),
    ],
)
def test_family_of_an_mpi(line, expected):
    assert checks.mpi_family(line) == expected


def test_what_the_launcher_says_of_itself():
    mpirun = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_VERSION": "5.0.11", "PMIX_RANK": "0", "PMIX_VERSION": "5.0.9"}
    found = gather.launcher({**mpirun, "OMPI_MCA_coll": "^han"})
    assert found == {
        "launcher": "Open MPI's mpirun",
        "launcher_version": "5.0.11",
        "pmix": "5.0.9",
        "without_han": True,
    }
    assert gather.launcher({"OMPI_MCA_coll": "han,basic,libnbc"})["without_han"] is False
    assert gather.launcher({})["launcher"] is None


def test_folder_is_tried_and_left_as_it_was(tmp_path):
    found = folder.look(tmp_path)
    assert found["locks"] is True
    assert found["room"] > 0
    assert found["sync_seconds"] > 0
    assert "folder_trouble" not in found
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_to():
    """Not even by root: sysfs has no new files."""
    found = folder.look(folder.nearest(Path("/sys/kernel/run")))
    assert found["folder"] == "/sys/kernel"
    assert found["file_system"] == "sysfs"
    assert found["folder_trouble"] in ("Operation not permitted", "Permission denied", "Read-only file system")


def test_run_directory_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    assert folder.look(folder.nearest(tmp_path / "run" / "first"))["folder_trouble"] == "Not a directory"


def test_lock_of_another_process_is_seen(tmp_path):
    path = tmp_path / "lock"
    path.write_text("")
    assert folder._kept_out(path) is False
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert folder._kept_out(path) is True


def doctor(tmp_path, *flags, environ=None):
    job = Job([sys.executable, "-m", "qtrl_hpc.doctor", *flags], tmp_path, None, environ or {})
    return job.wait(), job


def broken(tmp_path, package):
    """A path on which a package cannot be imported."""
    place = tmp_path / "broken"
    (place / package).mkdir(parents=True)
    (place / package / "__init__.py").write_text("raise ImportError('it is broken')\n")
    return {"PYTHONPATH": os.pathsep.join([str(place), str(REPOSITORY)])}


def findings(job):
    return {finding["topic"]: finding for finding in json.loads(job.out)["findings"]}


def test_command_alone(tmp_path):
    code, job = doctor(tmp_path, "--json", "--run-dir=runs/first")
    found = json.loads(job.out)
    [facts] = found["ranks"]
    assert facts["host"] == socket.gethostname()
    assert facts["folder"] == str(tmp_path)
    assert facts["circuit_ms"] > 0
    assert facts["aer_ms"] > 0
    assert facts["ulfm_built"] is True  # as the extra mpi's Open MPI has it
    assert facts["ulfm_on"] is False
    assert facts["yields"] is False
    assert facts["kernels"]
    assert code == (1 if found["hurts"] else 0)
    assert not (tmp_path / "runs").exists()


def test_table_is_plain_where_there_is_no_terminal(tmp_path):
    code, job = doctor(tmp_path)
    lines = job.out.splitlines()
    assert lines[0] == f"qtrl_hpc.doctor: 1 rank on {socket.gethostname()}"
    assert lines[-1].endswith("worth knowing")
    assert lines[-1].startswith("0 ") == (code == 0)
    assert "\x1b" not in job.out
    assert max(map(len, lines)) <= 120


def test_without_mpi(tmp_path):
    code, job = doctor(tmp_path, "--json", environ=broken(tmp_path, "mpi4py"))
    found = findings(job)
    assert code == 1
    assert found["MPI"]["level"] == "hurts"
    assert "it is broken" in found["MPI"]["text"]
    assert "pip install 'qtrl_hpc[mpi]'" in found["MPI"]["advice"]
    assert "our kernels" in found["circuit"]["text"]  # the rest is told all the same


def test_without_a_library_of_mpi(tmp_path):
    code, job = doctor(tmp_path, "--json", environ={"MPI4PY_LIBMPI": "/nonexistent"})
    assert code == 1
    assert "/nonexistent" in findings(job)["MPI"]["text"]


def test_without_aer(tmp_path):
    code, job = doctor(tmp_path, "--json", environ=broken(tmp_path, "qiskit_aer"))
    found = findings(job)
    assert code == 1
    assert found["Aer"]["level"] == "hurts"
    assert "it is broken" in found["Aer"]["text"]


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    environ = {"NUMBA_CACHE_DIR": str(tmp_path / "file")}
    code, job = doctor(tmp_path, "--json", "--run-dir=/sys/kernel", environ=environ)
    found = findings(job)
    assert code == 1
    assert {topic for topic, finding in found.items() if finding["level"] == "hurts"} >= {"run directory", "circuit"}
    assert "NUMBA_CACHE_DIR" in found["circuit"]["text"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run-dir="], "error: argument --run-dir: got '', expected the name of a directory"),
        (["--nope"], "error: unrecognized arguments: --nope"),
    ],
)
def test_bad_flags(tmp_path, flags, message):
    code, job = doctor(tmp_path, *flags)
    assert (code, job.out, job.err) == (2, "", message + "\n")


def test_help(tmp_path):
    code, job = doctor(tmp_path, "--help")
    assert code == 0
    assert "--run-dir" in job.out


def test_step_that_takes_too_long_ends_with_what_to_do(tmp_path):
    program = "import time; from qtrl_hpc.doctor.__main__ import bounded\n"
    program += "with bounded('waiting', 'wait less', 0.2): time.sleep(60)"
    job = Job([sys.executable, "-c", program], tmp_path)
    assert job.wait() == 1
    assert job.err == f"error: rank 0 on {socket.gethostname()}: waiting takes longer than 0.2 s: wait less\n"


def test_one_rank_tries_its_folder_with_nobody(tmp_path):
    assert folder.look_together(World.alone(), str(tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []
