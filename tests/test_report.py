"""The report: looked at by a browser, its numbers held against the run's files."""

import base64
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import support_own
from PIL import Image
from support import QUICK, train_here
from support_runs import written_run

from qtrl_hpc import evaluate, export
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.cli import nearest_preset, parse_train
from qtrl_hpc.config import Config
from qtrl_hpc.evaluate import Evaluation
from qtrl_hpc.output_file import REPORT_SIGNATURE
from qtrl_hpc.quantum.ansatz import Ansatz
from qtrl_hpc.quantum.gates import Fixed, cz, h, rx, ry
from qtrl_hpc.quantum.qpu import StatevectorQPU
from qtrl_hpc.report.__main__ import main
from qtrl_hpc.report.circuit import Circuit, circuit_of, drawn_circuit, gate_words
from qtrl_hpc.report.commands import commands
from qtrl_hpc.report.curves import grouped
from qtrl_hpc.report.data import load
from qtrl_hpc.report.figures import circuit_picture
from qtrl_hpc.report.page import Report, cards, number

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
WIDTHS = (390, 1280)
QUBITS_IN_A_RING = Ansatz(num_qubits=3, num_layers=1, gates=(ry(0, 0), cz(0, 1), cz(1, 2), cz(2, 0), h(0), h(1)))
VOID = {"meta", "link", "br", "img", "source"}


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, installed first where root may do that."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if not any(map(shutil.which, BROWSERS)) and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            try:
                subprocess.run(["apt-get", "-qq", *words], env=environ, timeout=130, capture_output=True)
            except subprocess.TimeoutExpired:
                break
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium, and only root with apt-get could install it")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    train_here(path, *QUICK, "--updates=30", "--agents-per-rank=2", "--seed=3")
    return path


@pytest.fixture(scope="module")
def page_path(run_dir):
    assert main([str(run_dir), "--episodes=10"]) == 0
    return run_dir / "report.html"


def opened(browser, path, width=1280):
    """The page at a width, and everything that the browser complained about."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
    page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
    page.goto(path.as_uri())
    return page, complaints


class Balance(HTMLParser):
    """Every element is closed where it should be, and no identifier comes twice."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_every_figure_and_complains_of_nothing(browser, page_path, width):
    page, complaints = opened(browser, page_path, width)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(e => [e.closest('figure').id, "
        "e.getBoundingClientRect().width, e.getBoundingClientRect().height, e.querySelectorAll('path').length])"
    )
    names = {"reward", "length", "entropy", "gradients", "time", "circuit", "probabilities", "spread", "weights"}
    assert {name.removeprefix("figure-") for name, *_ in boxes} >= names
    assert all(wide > 200 and high > 60 and paths > 5 for _, wide, high, paths in boxes)
    assert page.evaluate("[...document.images].map(e => e.complete && e.naturalWidth)") == [320]
    assert page.evaluate("document.scripts.length") == 0
    # What is written in figures can be read where they are not to be scrolled.
    sizes = page.evaluate(
        "[...document.querySelectorAll('.grid figure svg text')].map(e => e.getBoundingClientRect())"
        ".filter(b => b.width > 0).map(b => Math.min(b.width, b.height))"
    )
    assert np.median(sizes) > 8


def test_the_page_is_well_formed_and_says_what_is_in_its_pictures(page_path):
    text = page_path.read_text()
    assert text.startswith(REPORT_SIGNATURE)
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert len(balance.ids) == len(set(balance.ids)) > 20
    assert text.count("<svg") == text.count('role="img" aria-label="')
    assert len(re.findall(r'<img [^>]*alt="[^"]{10,}', text)) == text.count("<img")
    assert re.findall(r'(?:src|href|srcset)="(?!#|data:)', text) == []
    assert len(text) < 2_000_000


def test_the_animation_moves_and_loops(page_path):
    content = re.search(r"data:image/gif;base64,([\w+/=]+)", page_path.read_text())[1]
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.n_frames > 10
        assert image.info["loop"] == 0


def test_the_numbers_are_those_of_the_run(browser, page_path, run_dir, capsys):
    page, _ = opened(browser, page_path)
    text = page.inner_text("body")
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rewards = [(row["reward_mean"], row["episodes"]) for row in rows]
    reward = sum(mean * count for mean, count in rewards) / sum(count for _, count in rewards)
    cards = dict(
        page.evaluate(
            "[...document.querySelectorAll('.cards div')].map(e => [...e.children].slice(0, 2).map(c => c.textContent))"
        )
    )
    assert cards["Training reward"] == f"{reward:.4g}"
    assert cards["Updates"] == "30"
    # 4-8-2: 58 weights, 6 qubits, one layer of 36 angles; mapping 7-10-64-10-1: 80 + 704 + 650 + 11.
    assert cards["Trained numbers"] == "1\u202f481"
    assert "6 qubits with 36 angles in all" in text
    assert "weights of the policy 4-8-2" in text
    seconds = [sum(row["seconds_episode"] for row in rows), sum(row["seconds"] for row in rows)]
    shares = dict(
        page.evaluate(
            "[...document.querySelectorAll('section[aria-labelledby=time] tbody tr')]"
            ".map(e => [e.cells[0].textContent, e.cells[1].textContent])"
        )
    )
    assert float(shares["episode"].split()[0]) == pytest.approx(100 * seconds[0] / seconds[1], abs=1.0)
    assert "python -m qtrl_hpc.train --preset" in text
    assert "--seed 3" in text


def test_the_evaluation_is_that_of_the_command(run_dir, page_path, tmp_path, capsys):
    assert export.main([str(run_dir), f"--output={tmp_path / 'policy.h5'}", "--episodes=0"]) == 0
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "policy.h5"), "--episodes=10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cell = f'<th scope="row">mean reward</th><td class="n">{found["reward_mean"]:.4g}</td>'
    assert cell in page_path.read_text()


def test_text_of_a_stranger_is_text(browser, run_dir, tmp_path):
    evil = "<script>document.title='x'</script><img src=x onerror=alert(1)>"
    path = tmp_path / "evil"
    shutil.copytree(run_dir, path)
    config = (path / "config.yaml").read_text().replace("env_id: CartPole-v1", f'env_id: "{evil}"')
    (path / "config.yaml").write_text(config.replace("# numpy: ", f"# {evil}: "))
    status = json.loads((path / "status.json").read_text())
    status |= {"state": "failed", "why": evil, "left": [{"rank": evil, "update": 1, "why": evil}], "host": evil}
    (path / "status.json").write_text(json.dumps(status))
    (path / "metrics.jsonl").open("a").write(json.dumps({"update": 31, "qpu_failures": {evil: evil}}) + "\n")
    output = tmp_path / "report.html"
    assert main([str(path), str(run_dir), f"--output={output}", "--episodes=2"]) == 0
    page, complaints = opened(browser, output, 390)
    assert complaints == []
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.images.length") == 1
    assert page.title() != "x"
    assert page.inner_text("body").count("<script>") >= 5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_several_runs_are_a_table_and_the_best_is_told(browser, run_dir, tmp_path):
    low = written_run(tmp_path / "low", [0.0] * 30, layers=7)
    others = [str(written_run(tmp_path / f"shots{n}", [0.0, 0.1], qpu="aer", shots=n)) for n in (64, 128, 256)]
    assert main([str(low), str(run_dir), *others, f"--output={tmp_path / 'x.html'}", "--episodes=2"]) == 0
    for width in WIDTHS:
        page, complaints = opened(browser, tmp_path / "x.html", width)
        assert complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cells = "[...document.querySelectorAll('section[aria-labelledby=runs] tbody tr:first-child td')]"
        assert page.evaluate(f"{cells}.map(e => e.getClientRects()[0].height)")[0] < 200  # words are not cut to letters
        # No words of an axis reach beyond the figure, whose legend is below.
        cut = (
            "[...document.querySelectorAll('.grid figure svg')].map(s => [s, s.getBoundingClientRect()])"
            ".flatMap(([s, b]) => [...s.querySelectorAll('text')].filter(t => (r => r.top < b.top - 1 || "
            "r.bottom > b.bottom + 1)(t.getBoundingClientRect())).map(t => t.textContent))"
        )
        assert page.evaluate(cut) == []
    assert page.inner_text("section[aria-labelledby=runs] strong") == "first"
    assert page.evaluate("document.querySelectorAll('section[aria-labelledby=runs] tbody tr').length") == 5
    assert page.evaluate("document.querySelectorAll('#figure-reward svg text').length") > 5


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--policy=classical"], "the weights themselves were trained"),
        (["--ansatz=real-amplitudes", "--layers=2"], "real-amplitudes, 2 layers on 6 qubits with 18 angles"),
        (["--shots=100", "--gradient=surrogate", "--qpu=aer"], "without the shots and noise"),
    ],
)
def test_other_runs_have_their_report_too(browser, tmp_path, flags, words):
    train_here(tmp_path / "run", *QUICK, "--updates=3", *flags)
    (tmp_path / "run" / "status.json").unlink()  # as older versions left it
    assert main([str(tmp_path / "run"), "--episodes=2", "--gif-episodes=1"]) == 0
    page, complaints = opened(browser, tmp_path / "run" / "report.html", 390)
    assert complaints == []
    assert words in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_run_whose_checkpoint_or_environment_is_missing_still_has_a_report(run_dir, tmp_path, capsys):
    bare = written_run(tmp_path / "bare", [0.1, 0.2])
    assert main([str(bare)]) == 0
    assert "holds no checkpoint" in (bare / "report.html").read_text()
    assert main([str(run_dir), "--env-id=Nowhere-v0", f"--output={tmp_path / 'x.html'}"]) == 0
    text = (tmp_path / "x.html").read_text()
    assert "Not shown: --env-id: got &#39;Nowhere-v0&#39;" in text
    assert 'id="figure-weights"' in text


def test_no_module_is_imported_on_a_run_s_word(run_dir, tmp_path, monkeypatch):
    path = tmp_path / "run"
    shutil.copytree(run_dir, path)
    checkpoint = Checkpoint.load(path / "checkpoint.h5")
    config = replace(checkpoint.config, env_id="evil:Env-v0", ansatz="evil:ansatz")
    for old in path.glob("checkpoint*"):
        old.unlink()
    replace(checkpoint, config=config).save(path / "checkpoint.h5")
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([str(path)]) == 0
    text = (path / "report.html").read_text()
    assert "expected --env-id evil:Env-v0 from you, if you trust it" in text
    assert "expected --ansatz evil:ansatz from you, if you trust it" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere"], "RUN_DIR: got nowhere, expected the directory of a run"),
        (["run", "run"], "--output: got none with 2 runs"),
        (["run", "--output=mine.html"], "--output: got mine.html, which exists"),
        (["run", "--output=x.pdf"], "expected a name that ends in .html"),
        (["run", "--episodes=0"], "--episodes: got '0'"),
    ],
)
def test_what_cannot_be_reported_is_refused_in_a_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    written_run(tmp_path / "run", [0.1])
    (tmp_path / "mine.html").write_text("<!DOCTYPE html>\n<p>mine")
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert (tmp_path / "mine.html").read_text() == "<!DOCTYPE html>\n<p>mine"


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "error: qtrl_hpc.report: needs jinja2, which is missing: pip install 'qtrl_hpc[report]'\n"
    )


def test_the_circuit_s_numbers_are_those_of_its_probabilities(run_dir):
    checkpoint = Checkpoint.load(run_dir / "checkpoint.h5")
    circuit = circuit_of(checkpoint)
    p = StatevectorQPU(Ansatz(num_qubits=6, num_layers=1)).probabilities(checkpoint.state.Theta.phi)
    assert circuit.concentration.entropy == pytest.approx(-sum(x * np.log(x) for x in p))
    assert circuit.concentration.participation_ratio == pytest.approx(1 / sum(x * x for x in p))
    assert circuit.used == pytest.approx(sum(p[:58]))


def test_gates_are_called_by_what_they_are():
    from qiskit.circuit import ParameterVector

    phi = ParameterVector("φ", 9)
    assert gate_words([phi[3], phi[4], phi[5]]) == ("U3", "φ3–5")
    assert gate_words([phi[7], 0, 0]) == ("RY", "φ7")
    assert gate_words([0, 0, phi[7]]) == ("P", "φ7")
    assert gate_words([np.pi, 0, np.pi]) == ("X", "")
    assert gate_words([0, 0, np.pi]) == ("Z", "")
    assert gate_words([np.pi / 2, 0, np.pi]) == ("H", "")
    assert gate_words([0.5, 0, np.pi]) == ("U3", "0.50, 0.00, 3.14")
    assert gate_words([phi[2], 0.5, phi[1]]) == ("U3", "φ2, 0.5, φ1")


def test_gates_with_the_same_angles_are_drawn_in_one_circuit():
    gates = [h(0), h(1), cz(0, 1), ry(0, 0), ry(1, 0), rx(0, Fixed(0.3)), rx(1, Fixed(0.3))]
    figure = drawn_circuit(Ansatz(num_qubits=2, num_layers=1, gates=tuple(gates)), {})
    written = [text.get_text() for text in figure.axes[0].texts]
    assert (written.count("H"), written.count("RY"), written.count("U3")) == (2, 2, 2)


@pytest.mark.parametrize("ansatz", [support_own.everything(3, 1), QUBITS_IN_A_RING])
def test_gates_that_share_an_angle_or_have_it_fixed_are_drawn(ansatz):
    circuit = Circuit(ansatz=ansatz, layer=ansatz, num_weights=8, probabilities=None, at_start=None)
    picture = circuit_picture(circuit)
    assert f"{len(ansatz.targets)} gates on 3 qubits" in picture.alt
    assert picture.svg.count("<path") > len(ansatz.targets)


def test_commands_make_the_same_run(tmp_path):
    run = load(written_run(tmp_path / "a b", [0.1], layers=7, mapping_hidden_sizes=[8], max_grad_norm=1.5, seed=4))
    name, differing = nearest_preset(run.config.to_dict())
    assert (name, differing["layers"], differing["seed"]) == ("tuned", (3, 7), (0, 4))
    for _, command in commands(run.config, run.path, 2)[:2]:
        words = shlex.split(command)
        assert words[:6] == ["mpirun", "-n", "2", "python", "-m", "qtrl_hpc.train"]
        options = parse_train(words[6:])
        assert options.config == run.config
        assert options.run_dir == tmp_path / "a b-again"


def test_commands_name_what_they_are_to_import():
    config = Config(env_id="mine:Corridor", ansatz="mine:ry_cz", policy_network="mine:Residual")
    found = [command.split(" -m ")[1] for _, command in commands(config, Path("runs/own"), 1)[-3:]]
    assert found == [
        "qtrl_hpc.export runs/own --output runs/own/policy.h5 --env-id mine:Corridor --policy-network mine:Residual",
        "qtrl_hpc.evaluate runs/own/policy.h5 --episodes 100 --env-id mine:Corridor --policy-network mine:Residual",
        "qtrl_hpc.report runs/own --env-id mine:Corridor --policy-network mine:Residual --ansatz mine:ry_cz",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1749, "1\u202f749"), (0.95312, "0.9531"), (12345.6, "12\u202f346"), (None, "–"), (600.0, "600"), (3, "3")],
)
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


def test_an_interval_that_begins_at_nothing_is_shown(tmp_path):
    run = load(written_run(tmp_path / "a", [0.1]))
    found = Evaluation(
        **{"policy": "x", "env_id": "x", "episodes": 20, "seed": 0, "greedy": False, "success_rate": 0.1},
        **{"success_means": "x", "episode_length_mean": 9.0, "reward_mean": 0.1, "reward_low": 0.0, "reward_high": 0.2},
    )
    report = Report(run=run, groups=grouped([run]), checkpoint=None, time=None, evaluation=found)
    assert cards(report)[0] == ("Evaluated reward", "0.1", "95 % interval 0 to 0.2; 20 episodes")
