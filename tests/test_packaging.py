"""Packaging: the files that name our requirements agree, and the job script keeps its promises."""

import configparser
import importlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import qtrl_hpc

ROOT = Path(__file__).parents[1]

# Names on conda-forge, where they differ from PyPI's.
CONDA_NAMES = {"torch": "pytorch"}
# What an extra of a requirement stands for there: conda has no extras.
CONDA_EXTRAS = {("jsonargparse", "signatures"): {"docstring-parser", "typeshed-client"}}

# The Python that constraints.txt is made with, and what only torch's CUDA build requires.
PINNED_FOR = {"python_version": "3.11", "python_full_version": "3.11.0"}
CUDA_BUILD = ("nvidia-", "cuda-", "triton")


@pytest.fixture(scope="module")
def setup_cfg():
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def requirements(text):
    return [Requirement(line) for line in lines(text)]


@pytest.fixture(scope="module")
def install_requires(setup_cfg):
    return requirements(setup_cfg["options"]["install_requires"])


@pytest.fixture(scope="module")
def extras(setup_cfg):
    return {name: requirements(text) for name, text in setup_cfg["options.extras_require"].items()}


@pytest.fixture(scope="module")
def environment():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    named = [entry for entry in conda if isinstance(entry, str)] + [entry for entry in pip if entry != "-e ."]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, named)}


@pytest.fixture(scope="module")
def constraints():
    pins = {}
    for requirement in requirements((ROOT / "constraints.txt").read_text()):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        pins[canonicalize_name(requirement.name)] = pin.version
    return pins


def test_extras_are_those_that_make_install_and_the_docs_need(extras):
    assert set(extras) == {
        *("mpi", "test", "lint", "docs", "bench"),
        *("reproduce", "report", "onnx", "sweep", "wandb", "mlflow", "ibm"),
    }


def test_conda_environment_names_the_requirements_of_setup_cfg(setup_cfg, install_requires, extras, environment):
    expected = {"python": Requirement("python" + setup_cfg["options"]["python_requires"]).specifier, "pip": ""}
    for requirement in install_requires + extras["mpi"] + extras["report"]:
        name = canonicalize_name(requirement.name)
        expected[CONDA_NAMES.get(name, name)] = requirement.specifier
        for extra in requirement.extras:
            expected.update(dict.fromkeys(CONDA_EXTRAS[name, extra], ""))
    assert {name: str(specifier) for name, specifier in environment.items()} == {
        name: str(specifier) for name, specifier in expected.items()
    }


def test_conda_environment_has_one_mpi(environment):
    assert {"openmpi", "mpich", "impi-rt", "mvapich", "msmpi"} & set(environment) == {"openmpi"}


def test_constraints_pin_every_requirement_within_its_range(install_requires, extras, constraints):
    for requirement in install_requires + [r for extra in extras.values() for r in extra]:
        name = canonicalize_name(requirement.name)
        assert name in constraints
        assert requirement.specifier.contains(constraints[name]), f"{requirement}: pinned to {constraints[name]}"


def test_constraints_pin_what_the_requirements_require(install_requires, extras, constraints):
    def with_extras(requirement):
        return [(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)]

    seen = set()
    waiting = [pair for r in install_requires + extras["test"] for pair in with_extras(r)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name.startswith(CUDA_BUILD):
            continue
        seen.add((name, extra))
        assert name in constraints
        for requirement in map(Requirement, importlib.metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({**PINNED_FOR, "extra": extra}):
                waiting += with_extras(requirement)


def test_console_scripts_import(setup_cfg):
    scripts = lines(setup_cfg["options.entry_points"]["console_scripts"])
    assert [script.split(" = ")[0] for script in scripts] == [
        "qtrl-train",
        "qtrl-evaluate",
        "qtrl-export",
        "qtrl-infer",
        "qtrl-plot",
        "qtrl-report",
        "qtrl-reproduce",
        "qtrl-bench",
        "qtrl-doctor",
        "qtrl-sweep",
    ]
    for script in scripts:
        module, function = script.split(" = ")[1].split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_package_data_is_all_that_is_not_python(setup_cfg):
    package = Path(qtrl_hpc.__file__).parent
    patterns = setup_cfg["options.package_data"]["qtrl_hpc"].split(", ")
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    present = {path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert shipped == {path for path in present if path.suffix != ".py"}
    assert {path.name for path in shipped} == {"py.typed", "paper.yaml", "qtrl.yaml", "tuned.yaml", "template.html"}


def test_version_is_written_once(setup_cfg):
    assert setup_cfg["metadata"]["version"] == "attr: qtrl_hpc.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", qtrl_hpc.__version__)


def test_licence_is_apache_2():
    assert "Apache License\n                           Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize(
    "script", [*sorted(ROOT.glob("jobs/*.*sh")), *sorted(ROOT.glob("jobs/*.sbatch")), ROOT / ".ci/run"]
)
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_ci_script_is_executable():
    assert os.access(ROOT / ".ci/run", os.X_OK)


def sourced(user_id, **variables):
    script = f"id() {{ echo {user_id}; }}; . jobs/env.sh; env"
    environ = {"PATH": os.environ["PATH"], **variables}
    shell = subprocess.run(["sh", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in shell.stdout.splitlines() if "_MCA_" in line or "RUN_AS_ROOT" in line)


def test_env_sh_lets_root_run_mpirun_and_nobody_else():
    root, user = sourced(0), sourced(1000)
    assert set(root) - set(user) == {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}
    assert user["PRTE_MCA_rmaps_default_mapping_policy"] == ":oversubscribe"


def test_env_sh_leaves_what_is_set_already():
    name = "PRTE_MCA_hwloc_default_binding_policy"
    assert sourced(1000)[name] == "none"
    assert sourced(1000, **{name: "core"})[name] == "core"


def test_env_sh_leaves_a_cluster_to_its_scheduler_and_gives_a_rank_its_threads():
    script = ". jobs/env.sh; echo $OMP_NUM_THREADS $SRUN_CPUS_PER_TASK; env | grep PRTE_ || true"
    environ = {"PATH": os.environ["PATH"], "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "3"}
    shell = subprocess.run(["sh", "-euc", script], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    threads, *settings = shell.stdout.splitlines()
    assert threads == "3 3"
    # Nothing of where ranks go; only how soon a lost node is noticed.
    assert sorted(settings) == [
        "PRTE_MCA_oob_tcp_keepalive_intvl=5",
        "PRTE_MCA_oob_tcp_keepalive_probes=3",
        "PRTE_MCA_oob_tcp_keepalive_time=30",
    ]


MPIRUN = """#!/bin/sh
echo "mpirun $*" >> log
trap 'echo SIGUSR1 >> log; exit 75' USR1
trap 'echo SIGTERM >> log; exit 1' TERM
if [ -n "${MPIRUN_WAITS-}" ]; then
    echo started >> log
    for _ in $(seq 200); do sleep 0.05; done
fi
if [ -n "${MPIRUN_SAYS-}" ]; then
    run_dir=${RUN_DIR:-runs/main}
    mkdir -p "$run_dir"
    echo "{\\"state\\": \\"$MPIRUN_SAYS\\"}" > "$run_dir/status.json"
    echo "{env_id: ${MPIRUN_ENV-Empty}, ansatz: ${MPIRUN_ANSATZ-ring}, policy_network: mlp}" > "$run_dir/config.yaml"
fi
exit "${MPIRUN_EXITS-0}"
"""
PYTHON = f"""#!/bin/sh
case $1 in
    -c) exec {sys.executable} "$@" ;;
    *) echo "python $*" >> log ;;
esac
"""


@pytest.fixture
def job(tmp_path):
    """A clone with nothing in it but jobs/, and an mpirun and a python that only write down how they are called."""
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mpirun").write_text(MPIRUN)
    (tmp_path / "bin/python").write_text(PYTHON)
    for stand_in in (tmp_path / "bin").iterdir():
        stand_in.chmod(0o755)
    (tmp_path / "log").touch()

    def start(*arguments, **variables):
        return subprocess.Popen(
            # A test run in the background may ignore HUP and INT, and what is ignored at its start a shell cannot trap.
            ["env", "--default-signal=HUP,INT,TERM", "bash", tmp_path / "jobs/local.sh", *arguments],
            env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **variables},
            start_new_session=True,
        )

    def log():
        return (tmp_path / "log").read_text().splitlines()

    start.log, start.path = log, tmp_path
    return start


def test_local_job_trains_8_agents_then_exports_reports_and_evaluates(job):
    assert job(MPIRUN_SAYS="done").wait(10) == 0
    assert job.log() == [
        "mpirun -n 8 python -m qtrl_hpc.train --run-dir runs/main",
        "python -m qtrl_hpc.export runs/main --output runs/main/policy.h5",
        "python -m qtrl_hpc.report runs/main",
        "python -m qtrl_hpc.evaluate runs/main/policy.h5 --gif runs/main/policy.gif",
    ]


def test_local_job_lets_commands_import_what_training_has_imported(job):
    assert job(MPIRUN_SAYS="done", MPIRUN_ENV="mine:Corridor", MPIRUN_ANSATZ="mine:ry_cz").wait(10) == 0
    assert job.log()[1:] == [
        "python -m qtrl_hpc.export runs/main --output runs/main/policy.h5 --env-id mine:Corridor",
        "python -m qtrl_hpc.report runs/main --env-id mine:Corridor --ansatz mine:ry_cz",
        "python -m qtrl_hpc.evaluate runs/main/policy.h5 --gif runs/main/policy.gif --env-id mine:Corridor",
    ]


def test_local_job_hands_on_flags_and_takes_agents_and_run_dir(job):
    assert job("--seed", "1", AGENTS="2", RUN_DIR="runs/x", MPIRUN_SAYS="done").wait(10) == 0
    assert job.log()[0] == "mpirun -n 2 python -m qtrl_hpc.train --run-dir runs/x --seed 1"


def test_local_job_resumes_a_run(job):
    (job.path / "runs/main").mkdir(parents=True)
    (job.path / "runs/main/checkpoint.h5").touch()
    assert job(MPIRUN_SAYS="done").wait(10) == 0
    assert job.log()[0].endswith("--run-dir runs/main --resume")


@pytest.mark.parametrize("code", [1, 2, 75])
def test_local_job_ends_as_training_does(job, code):
    assert job(MPIRUN_EXITS=str(code)).wait(10) == code
    assert len(job.log()) == 1


@pytest.mark.parametrize(
    ("code", "state", "expected"),
    [
        (0, "failed", 1),
        (0, "running", 1),
        (1, "done", 0),
        (0, "stopped", 75),
        (1, "stopped", 75),
        (2, "done", 2),
        (2, "failed", 2),
        (75, 'cut off"} {', 75),
        (1, 'cut off"} {', 1),
    ],
)
def test_local_job_ends_as_the_status_says_whatever_the_launcher_does(job, code, state, expected):
    (job.path / "runs/main").mkdir(parents=True)
    assert job(MPIRUN_EXITS=str(code), MPIRUN_SAYS=state).wait(10) == expected
    assert len(job.log()) == (4 if expected == 0 else 1)


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        (1, "failed", True),
        (1, "running", True),
        (2, "failed", False),
        (2, None, False),
        (75, "stopped", True),
        (1, 'cut off"} {', True),
    ],
)
def test_batch_job_comes_back_unless_it_was_refused(job, code, state, requeued):
    """A full disk fails in mid-run (1), and refuses the start that follows (2), which leaves status.json alone."""
    run_dir, stand_in = job.path / "runs/main", job.path / "bin/scontrol"
    run_dir.mkdir(parents=True)
    (run_dir / "checkpoint.h5").touch()
    (run_dir / "status.json").write_text('{"state": "failed"}\n\n')
    (job.path / "bin/mpirun").rename(job.path / "bin/srun")
    stand_in.write_text('#!/bin/sh\necho "scontrol $*" >> log\n')
    stand_in.chmod(0o755)
    environ = {"PATH": f"{job.path / 'bin'}:{os.environ['PATH']}", "LAUNCHER": "srun", "MPIRUN_EXITS": str(code)}
    environ |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", **({"MPIRUN_SAYS": state} if state else {})}
    script = "set -euo pipefail; . jobs/slurm.sh; train_under_slurm runs/main"
    ended = subprocess.run(
        ["bash", "-c", script], cwd=job.path, env=environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert job.log()[1:] == (["scontrol requeue 7"] if requeued else [])
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("code", ["0", "1"])
def test_local_job_does_not_believe_the_status_of_an_earlier_run(job, code):
    """Nor a launcher's 0: a fault-tolerant mpirun gives it though all ranks have died."""
    (job.path / "runs/main").mkdir(parents=True)
    (job.path / "runs/main/status.json").write_text('{"state": "done"}\n')
    assert job(MPIRUN_EXITS=code, MPIRUN_SAYS="").wait(10) == 1
    assert len(job.log()) == 1


def started(job):
    process = job(MPIRUN_WAITS="1")
    deadline = time.monotonic() + 10
    while "started" not in job.log():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_local_job_turns_a_signal_into_one_that_mpirun_passes_on(job, number):
    process = started(job)
    os.killpg(process.pid, number)  # as a terminal does: the whole group, which mpirun must not be in
    assert process.wait(10) == 75
    assert job.log()[2:] == ["SIGUSR1"]
