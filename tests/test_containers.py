"""The recipes of images: they name what there is, and say the same of it."""

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_packaging import CUDA_BUILD, PINNED_FOR, constraints, extras, install_requires, requirements, setup_cfg

__all__ = ["constraints", "extras", "install_requires", "setup_cfg"]  # fixtures

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "jobs/containers"
INSTRUCTIONS = {
    *("ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
}
# What Makefile's install brings in but for the bench, whose simulators are an extra that only "make bench" installs.
INSTALLED = ("mpi", "test", "lint", "reproduce", "report", "onnx", "sweep", "wandb", "mlflow", "docs", "ibm")


@pytest.fixture(scope="module")
def dockerfile():
    """Return its instructions, in order: name and arguments."""
    text = re.sub(r"\\\n\s*", " ", (FOLDER / "Dockerfile").read_text())
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {name for name, _ in pairs} <= INSTRUCTIONS
    return pairs


def of(dockerfile, instruction):
    return [arguments for name, arguments in dockerfile if name == instruction]


@pytest.fixture(scope="module")
def definition():
    """Return header and sections of the definition, each a list of lines."""
    sections, section = {"header": []}, "header"
    for line in (FOLDER / "qtrl_hpc.def").read_text().splitlines():
        if line.startswith("%"):
            section = line[1:]
            assert section not in sections
            sections[section] = []
        elif line.strip() and not line.startswith("#"):
            sections[section].append(line.strip())
    return sections


def arguments(lines):
    return dict(line.split("=", 1) for line in lines)


def docker_files(dockerfile):
    """Return the files and folders that are copied into the image."""
    return {source for copied in of(dockerfile, "COPY") for source in copied.split()[:-1]}


def test_definition_has_the_sections_that_an_image_needs(definition):
    assert list(definition) == ["header", "arguments", "files", "post", "environment", "test", "runscript"]
    assert definition["header"] == ["Bootstrap: {{ BOOTSTRAP }}", "From: {{ BASE }}"]


def test_definition_uses_just_the_arguments_that_it_declares(definition):
    used = set(re.findall(r"\{\{ (\w+) \}\}", (FOLDER / "qtrl_hpc.def").read_text()))
    assert used == set(arguments(definition["arguments"]))


def test_both_start_from_the_same_image_with_the_same_choices(dockerfile, definition):
    there = arguments(definition["arguments"])
    assert there.pop("BOOTSTRAP") == "docker"
    assert arguments(of(dockerfile, "ARG")) == there
    assert of(dockerfile, "FROM") == ["${BASE}"]
    assert there["BASE"].startswith("debian:bookworm")  # whose Python is 3.11, which constraints.txt is made for
    assert PINNED_FOR["python_version"] == "3.11"


def test_both_copy_the_same_files_which_exist(dockerfile, definition):
    copied = {line.split()[0] for line in definition["files"]}
    assert docker_files(dockerfile) == copied
    for name in copied:
        assert (ROOT / name).exists(), name


def test_each_file_keeps_its_place(dockerfile, definition):
    for line in definition["files"]:
        source, target = line.split()
        parent = Path(source).parent
        assert Path(target) == Path("/opt/qtrl_hpc") / parent
    for copied in of(dockerfile, "COPY"):
        *sources, target = copied.split()
        for source in sources:
            place = Path(target) / Path(source).name if target.endswith("/") else Path(target)
            assert place == Path(source)


def test_builder_is_sent_what_is_copied_and_nothing_else(dockerfile):
    lines = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert lines[-1] == "**/__pycache__"
    assert {line.removeprefix("!") for line in lines[1:-1]} == docker_files(dockerfile)


def test_dependencies_come_before_the_sources(dockerfile):
    texts = [" ".join(pair) for pair in dockerfile]
    dependencies = texts.index("RUN sh jobs/containers/install.sh dependencies")
    package = texts.index("RUN sh jobs/containers/install.sh package")
    assert dependencies < texts.index("COPY qtrl_hpc qtrl_hpc") < package


def test_both_take_the_steps_in_order_and_check(dockerfile, definition):
    step = re.compile(r"sh jobs/containers/install\.sh (\w+)")
    steps = ["system", "dependencies", "package", "check"]
    assert [found[1] for text in of(dockerfile, "RUN") if (found := step.fullmatch(text))] == steps
    assert [found[1] for line in definition["post"] + definition["test"] if (found := step.fullmatch(line))] == steps


def test_docker_image_is_run_by_a_user_who_is_not_root(dockerfile):
    texts = [" ".join(pair) for pair in dockerfile]
    assert of(dockerfile, "USER") == ["qtrl"]
    assert texts.index("USER qtrl") < texts.index("RUN sh jobs/containers/install.sh check")
    assert "useradd --create-home --uid 1000 qtrl" in (FOLDER / "install.sh").read_text()


def test_extras_exist_and_bring_an_mpi(definition, extras):
    chosen = arguments(definition["arguments"])["EXTRAS"].split(",")
    assert set(chosen) <= set(extras)
    assert "mpi" in chosen


def test_everything_installed_is_pinned(extras, install_requires):
    text = (FOLDER / "install.sh").read_text()
    installs = re.findall(r"\$pip install (.*)", text)
    assert len(installs) == 5
    for flags in installs:
        assert "-c constraints.txt" in flags or flags.startswith("--no-build-isolation --no-deps .")
    named = {canonicalize_name(r.name) for r in install_requires}
    assert {"torch", "qiskit-aer"} <= named


def test_aer_for_gpus_has_the_version_that_aer_is_pinned_to(constraints):
    script = (FOLDER / "install.sh").read_text()
    function = re.search(r"^pinned\(\) \{\n.*?\n\}\n", script, re.DOTALL | re.MULTILINE)[0]
    shell = subprocess.run(
        ["sh", "-euc", f"{function} pinned qiskit-aer"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shell.stdout.strip() == constraints["qiskit-aer"]
    assert '"qiskit-aer-gpu==$(pinned qiskit-aer)"' in script


@pytest.mark.parametrize(
    ("step", "variables", "message"),
    [
        ("sytem", {}, "error: step: got sytem, expected system, dependencies, package or check"),
        ("dependencies", {"DEVICE": "tpu"}, "error: DEVICE: got tpu, expected cpu or gpu"),
        ("dependencies", {"AER": "no"}, "error: AER: got no, expected cpu or gpu"),
    ],
)
def test_a_mistyped_choice_is_refused_before_anything_is_installed(step, variables, message):
    shell = subprocess.run(
        ["sh", FOLDER / "install.sh", step],
        env={"PATH": "/usr/bin:/bin", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (shell.returncode, shell.stdout, shell.stderr.strip()) == (2, "", message)


def test_recipes_name_no_host_but_those_of_packages_and_no_secret():
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert set(re.findall(r"https?://([^/\s]+)", text)) <= {"download.pytorch.org"}
        assert not re.search(r"token|password|secret|api.?key", text, re.IGNORECASE)


def closure(waiting):
    """Return the names of all that requirements require here, their extras included."""
    seen = set()
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *sorted(requirement.extras)):
            name = canonicalize_name(requirement.name)
            if (name, extra) in seen or name.startswith(CUDA_BUILD):
                continue
            seen.add((name, extra))
            for further in map(Requirement, importlib.metadata.requires(name) or []):
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting.append(further)
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def required(install_requires, extras):
    return closure(install_requires + [r for name in INSTALLED for r in extras[name]])


def markers_hold():
    lines = (ROOT / "constraints.txt").read_text()
    return {canonicalize_name(r.name): r.marker is None or r.marker.evaluate() for r in requirements(lines)}


def test_what_is_installed_is_exactly_what_constraints_pin(required, constraints):
    hold = markers_hold()
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in required if hold.get(name, True)}
    assert installed == {name: constraints.get(name) for name in installed}


def test_make_install_brings_these_extras():
    assert f".[{','.join(INSTALLED)}]" in (ROOT / "Makefile").read_text()


def test_nothing_is_pinned_that_nothing_requires(required, constraints, extras):
    """But for the simulators of the benchmark, which this environment need not hold."""
    build = {"setuptools"}
    try:
        assert set(constraints) - closure([r for r in extras["bench"]]) - required - build == set()
    except importlib.metadata.PackageNotFoundError:
        bench = {"pennylane", "pennylane-lightning", "scipy-openblas32", "autograd", "autoray", "appdirs"}
        bench |= {"diastatic-malt", "gast", "termcolor", "tomlkit"}
        assert set(constraints) - required - build - bench == set()
