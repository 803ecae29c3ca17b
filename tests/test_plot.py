"""Runs -> curves with bands, and figures of them; by numbers worked out by hand."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from support_runs import written_run

from qtrl_hpc import plot
from qtrl_hpc.errors import UserError
from qtrl_hpc.report.curves import curve, default_window, grouped
from qtrl_hpc.report.data import load
from qtrl_hpc.report.time import time_of


def test_a_curve_is_the_running_mean_of_the_updates_that_have_a_value(tmp_path):
    [group] = grouped([load(written_run(tmp_path / "a", [0.0, 1.0, None, 0.5, 0.1]))])
    found = curve(group, "reward_mean", "updates", 2)
    # Means of (0, 1), (1, 0.5), (0.5, 0.1), at updates 2, 4 and 5; at 3 a straight line between.
    assert found.x.tolist() == [2, 3, 4, 5]
    assert found.middle == pytest.approx([0.5, 0.625, 0.75, 0.3])


@pytest.mark.parametrize(("x", "expected"), [("steps", [10, 20, 30]), ("seconds", [0.5, 1.0, 1.5])])
def test_a_curve_goes_along_steps_or_seconds(tmp_path, x, expected):
    run = load(written_run(tmp_path / "a", [0.1, 0.2, 0.3]))
    assert run.position(x).tolist() == expected
    found = curve(grouped([run])[0], "reward_mean", x, 1)
    assert (found.x[0], found.x[-1], found.middle[-1]) == (expected[0], expected[-1], pytest.approx(0.3))


def test_runs_that_differ_in_their_seed_alone_are_one_curve_with_a_band(tmp_path):
    runs = [load(written_run(tmp_path / f"{seed}", [level] * 4, seed=seed)) for seed, level in enumerate((0.2, 0.4))]
    [group] = grouped(runs)
    assert group.label == ""
    found = curve(group, "reward_mean", "updates", 1)
    assert found.num_runs == 2
    assert found.middle == pytest.approx([0.3] * 4)  # of two runs the interquartile mean is the mean
    assert found.low == pytest.approx([0.2] * 4)  # both drawn the same: a quarter of all draws each way
    assert found.high == pytest.approx([0.4] * 4)


def test_runs_of_different_lengths_go_as_far_as_they_go(tmp_path):
    runs = [written_run(tmp_path / "a", [0.2] * 2), written_run(tmp_path / "b", [0.4] * 4, seed=1, torn=True)]
    found = curve(grouped(list(map(load, runs)))[0], "reward_mean", "updates", 1)
    assert found.x.tolist() == [1, 2, 3, 4]
    assert found.middle == pytest.approx([0.3, 0.3, 0.4, 0.4])


def test_groups_are_called_by_what_differs(tmp_path):
    runs = [
        written_run(tmp_path / "a", [0.1], layers=3),
        written_run(tmp_path / "b", [0.1], layers=7),
        written_run(tmp_path / "c", [0.1], layers=7, seed=5, updates=9, threads=2),
        written_run(tmp_path / "d", [0.1], layers=7, agents=4),
    ]
    groups = grouped(list(map(load, runs)))
    assert [(group.label, len(group.runs)) for group in groups] == [
        ("agents 2, layers 3", 1),
        ("agents 2, layers 7", 2),
        ("agents 4, layers 7", 1),
    ]


def test_a_window_is_a_twentieth_of_the_longest_run(tmp_path):
    assert (
        default_window([load(written_run(tmp_path / "a", [0.1] * 60)), load(written_run(tmp_path / "b", [0.1]))]) == 3
    )


def test_time_is_shared_out_by_phase(tmp_path):
    time = time_of(load(written_run(tmp_path / "a", [0.1] * 4)))
    shares = {share.name: (share.seconds, share.percent, share.median) for share in time.shares}
    assert shares["circuit"] == pytest.approx((0.8, 40.0, 200.0))
    assert shares["other"] == pytest.approx((1.2, 60.0, 300.0))
    assert (time.seconds, time.rate) == (2.0, 2.0)
    assert time.milliseconds.sum(axis=1) == pytest.approx([500.0] * 4)


def test_the_reward_of_late_counts_episodes(tmp_path):
    run = load(written_run(tmp_path / "a", [0.0] * 100 + [1.0] * 100))
    assert run.recent_reward == 1.0
    run.rows[-1]["episodes"] = 101  # the other 99 have two each
    run.rows[-1]["reward_mean"] = 0.0
    assert run.values("episodes")[-1] == 101
    del run.__dict__["recent_reward"]
    assert run.recent_reward == pytest.approx(198 / 299)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_written_and_the_same_run_makes_the_same_file(tmp_path, capsys, suffix):
    runs = [str(written_run(tmp_path / f"{seed}", np.linspace(0, 1, 30).tolist(), seed=seed)) for seed in range(3)]
    output = tmp_path / f"x.{suffix}"
    assert plot.main([*runs, f"--output={output}", "--smooth=5"]) == 0
    assert "reward, 3 runs in 1 curve, running mean of 5 updates" in capsys.readouterr().out
    if suffix == "png":
        with Image.open(output) as image:
            assert image.size == (1050, 630)
            assert len(set(image.convert("L").tobytes())) > 50
    before = output.read_bytes()
    assert plot.main([*runs, f"--output={output}", "--smooth=5"]) == 0
    assert output.read_bytes() == before


def test_a_label_is_no_formula(tmp_path):
    runs = [written_run(tmp_path / name, [0.1, 0.2], env_id=f"$\\frac{name}") for name in "ab"]
    assert plot.main([*map(str, runs), f"--output={tmp_path / 'x.svg'}"]) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere", "--output=x.png"], "RUN_DIR: got nowhere, expected the directory of a run"),
        (["n" * 300, "--output=x.png"], f"RUN_DIR: got {'n' * 300}, which cannot be read (File name too long)"),
        (["empty", "--output=x.png"], "RUN_DIR: got empty, which has no metrics yet"),
        (["run", "--output=x.gif"], "--output: got x.gif, expected a name that ends in .png or .pdf or .svg"),
        (["run", "--output=mine.png"], "--output: got mine.png, which exists"),
        (
            ["run", "--output=x.png", "--quantity=rewrad"],
            "--quantity: got 'rewrad', which no run has, expected one of rew",
        ),
        (["broken", "--output=x.png"], "metrics.jsonl: line 1 is no JSON object"),
        (["odd", "--output=x.png"], "odd/config.yaml: --layers: got 0"),
    ],
)
def test_what_cannot_be_plotted_is_refused_in_a_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    written_run(tmp_path / "run", [0.1, 0.2])
    written_run(tmp_path / "empty", [])
    (written_run(tmp_path / "broken", [0.1]) / "metrics.jsonl").write_text("[1]\n{}\n")
    odd = written_run(tmp_path / "odd", [0.1]) / "config.yaml"
    odd.write_text(odd.read_text().replace("layers: 3", "layers: 0"))
    (tmp_path / "mine.png").write_text("letters")
    assert plot.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert (tmp_path / "mine.png").read_text() == "letters"
    assert not (tmp_path / "x.png").exists()


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plot.main([str(tmp_path), f"--output={tmp_path / 'x.png'}"]) == 2
    assert "pip install 'qtrl_hpc[report]'" in capsys.readouterr().err


def test_metrics_of_a_stranger_hold_what_they_like(tmp_path):
    path = written_run(tmp_path / "a", [0.5])
    row = {"update": 2, "reward_mean": "<b>", "seconds": 10**400, "episodes": None, "steps": True}
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.write('{"update": 3, "reward_mean": Infinity}\n')
    run = load(path)
    assert np.isnan(run.values("reward_mean")).tolist() == [False, True, True]
    assert run.recent_reward == 0.5
    (path / "config.yaml").write_text("a: &a [1]\nb: *a\n")
    with pytest.raises(UserError, match="alias"):
        load(path)
