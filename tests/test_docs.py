"""The documentation: its commands run, its programs run, its links lead somewhere, and its flags are the commands'."""

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from docs_pages import PAGES, anchors, blocks, inline, is_command, lines_of, links, name, tokens
from docs_table import PREMISES, RANKS, TABLE, Bounded, Instead, Replaced, Shortened
from support import REPOSITORY

SECONDS_A_PAGE = 500  # the longest takes 40 on two idle cores, and 130 where others use them
COMMANDS = [line for page in PAGES for block in blocks(page) if block.kind == "sh" for line in lines_of(block)]
NOT_COPIED = {"qtrl_hpc", "tests", "runs", "results", "results-quick", "build", "dist"}

# Flags of other programs than ours.
OTHERS_FLAGS = {
    "mpirun": "--host --map-by --mca --prtemca --version --with-ft",
    "sbatch, srun, scancel": "--array --batch --cpus-per-task --mpi --nodes --ntasks-per-node --signal --time",
    "pip": "--no-binary",
    "tensorboard": "--logdir",
    "mypy": "--strict",
    "mlflow": "--backend-store-uri",
    "docker": "--build-arg --env --gpus --isolation --rm --user --variant",
    "rl_zoo3": "--gym-packages --track",
    "apptainer": "--bind --fakeroot --nv",
}


def rule_of(line):
    """The first row of the table that a command matches, or None."""
    return next((rule for rule in TABLE if re.search(rule.pattern, line)), None)


def as_run_here(line):
    """A command as it is run here; None where something else is checked instead."""
    rule = rule_of(line)
    if isinstance(rule, Instead):
        return None
    line = re.sub(r"(?<=mpirun )(.*?)-n \d+", rf"\1-n {RANKS}", line)
    if isinstance(rule, Replaced):
        return rule.line
    if isinstance(rule, Bounded):
        return f"code=0; timeout -s INT -k 10 {rule.seconds} {line} || code=$?; [ $code = 124 ]"
    if isinstance(rule, Shortened):
        command, separator, rest = re.fullmatch(r"(.*?)(\s+(?:\||>|&|;)\s*|$)(.*)", line).groups()
        also = "".join(f" || [ $? = {code} ]" for code in rule.codes if code)
        return f"{command} {rule.flags}{separator}{rest}{also}"
    return line


def steps(page):
    """What is run of a page, in order."""
    found = []
    if premise := PREMISES.get(name(page)):
        found.append({"page": name(page), "line": 0, "kind": "sh", "text": premise})
    for block in blocks(page):
        text = block.text
        if block.kind == "sh":
            text = "\n".join(line for line in map(as_run_here, lines_of(block)) if line is not None)
        elif block.kind != "python":
            continue
        if text.strip():
            found.append({"page": block.page, "line": block.line, "kind": block.kind, "text": text})
    return found


@pytest.fixture
def clone(tmp_path):
    """The repository but for its package, which is found by its path, and with an environment that is this one."""
    (tmp_path / "clone").mkdir()
    for path in REPOSITORY.iterdir():
        if path.name in NOT_COPIED or path.name.startswith(".") or path.suffix == ".egg-info":
            continue
        copy = tmp_path / "clone" / path.name
        if path.is_dir():
            shutil.copytree(path, copy, ignore=shutil.ignore_patterns("_build", "__pycache__"))
        else:
            shutil.copy(path, copy)
    activate = tmp_path / "clone/.venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    return tmp_path / "clone"


def environ(home):
    launchers = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "SLURM_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    return own | {
        "HOME": str(home),
        "MPLBACKEND": "Agg",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        # As jobs/env.sh sets them; most pages take it as read.
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
    }


@pytest.mark.mpi
@pytest.mark.timeout(SECONDS_A_PAGE + 60)
@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)], ids=name)
def test_what_a_page_says_runs(page, clone, tmp_path):
    for block in blocks(page):
        if block.kind not in ("sh", "python"):
            (clone / block.kind).parent.mkdir(parents=True, exist_ok=True)
            (clone / block.kind).write_text(block.text)
    log = tmp_path / "log"
    with log.open("w") as output:
        driver = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests/docs_driver.py")],
            cwd=clone,
            env=environ(tmp_path),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            driver.communicate(json.dumps(steps(page)), timeout=SECONDS_A_PAGE)
        except subprocess.TimeoutExpired:
            print(f"{name(page)}: not done after {SECONDS_A_PAGE} s")
        finally:
            # Also what a page that failed has left in the background.
            with suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
    assert driver.returncode == 0, log.read_text()[-5000:]
    assert log.read_text().endswith("== done\n")


@pytest.mark.parametrize("line", sorted({line for line in COMMANDS if isinstance(rule_of(line), Instead)}))
def test_what_cannot_run_here_is_sound(line):
    rule_of(line).check(line)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_text_holds_no_command(page):
    for token in tokens(page):
        if token.type == "fence" and token.info.strip() in ("", "text"):
            assert not is_command(token.content.lstrip().split("\n", 1)[0]), token.content


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.pattern)
def test_every_row_of_the_table_is_needed(rule):
    assert any(rule_of(line) is rule for line in COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in links(page):
        if ":" in link:
            assert re.fullmatch(r"https://[\w-]+(\.[\w-]+)+(/\S*)?", link), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@cache
def flags_of_commands():
    """Every flag that one of our commands, or a script of docs/ or tests/, says it has."""
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    scripts = parser["options.entry_points"]["console_scripts"].strip().splitlines()
    modules = [script.split(" = ")[1].split(":")[0].removesuffix(".__main__") for script in scripts]

    def said_by(module):
        command = [sys.executable, "-m", module, "--help"]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout

    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(said_by, modules))
    for script in (*REPOSITORY.glob("docs/**/*.py"), *REPOSITORY.glob("tests/soak/*.py")):
        texts += re.findall(r'"(--[\w-]+)"', script.read_text())
    return set(re.findall(r"--[a-z][\w-]*", "\n".join(texts)))


def test_every_flag_that_is_named_exists():
    known = flags_of_commands() | {flag for flags in OTHERS_FLAGS.values() for flag in flags.split()}
    for page in PAGES:
        named = {flag for code in inline(page) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
        assert named <= known, f"{name(page)}: {sorted(named - known)}"


def exists(dotted):
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    found = import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part) if hasattr(found, part) else import_module(".".join(parts[:i]))
        except ImportError:
            return False
    return True


def test_every_module_that_is_named_exists():
    for page in PAGES:
        for dotted in set(re.findall(r"\bqtrl_hpc(?:\.[a-zA-Z_]+)+\b(?!/)", page.read_text())):
            if dotted == "qtrl_hpc.def":  # a file of jobs/containers
                continue
            assert exists(dotted), f"{name(page)}: {dotted}"


def test_every_file_of_ours_that_is_named_exists():
    files = r"\b(?:docs|jobs|tests|qtrl_hpc|quantum)/[\w./-]+\.(?:py|sh|sbatch|yaml|md|png|def)\b"
    for page in PAGES:
        for path in re.findall(files, "\n".join(inline(page))):
            places = (REPOSITORY / path, REPOSITORY / "qtrl_hpc" / path)
            assert any(place.exists() for place in places), f"{name(page)}: {path}"


def test_every_target_of_make_that_is_named_exists():
    targets = re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        named = set(re.findall(r"^make ([a-z-]+)", "\n".join(inline(page)), re.MULTILINE))
        assert named <= set(targets), f"{name(page)}: {sorted(named - set(targets))}"


def test_the_reference_has_every_module_once():
    pages = (REPOSITORY / "docs/reference").glob("*.md")
    written = [
        name for page in pages for names in re.findall(r"{modules} (.*)", page.read_text()) for name in names.split()
    ]
    package = REPOSITORY / "qtrl_hpc"
    present = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert sorted(written) == sorted(present - {"__init__", "presets"})


def test_the_house_has_a_room_for_every_module():
    rooms = (REPOSITORY / "docs/architecture.md").read_text().split("\n## ")[0]
    cells = [line.split("|")[1] for line in rooms.splitlines() if line.startswith("| `")]
    named = {word.split("/")[-1] for cell in cells for word in re.findall(r"`([a-z0-9_/]+?)/?`", cell)}
    package = REPOSITORY / "qtrl_hpc"
    modules = {path.stem for path in (*package.glob("*.py"), *package.glob("quantum/*.py"))}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert named == modules - {"__init__", "presets"}


def test_words_are_in_order():
    page = (REPOSITORY / "docs/glossary.md").read_text().split("```")[1]
    words = [line for line in page.splitlines()[1:] if line and not line.startswith(" ")]
    assert words == sorted(words, key=str.lower)
