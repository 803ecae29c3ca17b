"""The paper's tables over many seeds: what is run, what is kept, and what is made of it."""

import csv
import json
import signal
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from support import REPOSITORY, Job, metrics, train

from qtrl_hpc import files, hdf5
from qtrl_hpc.cli import preset
from qtrl_hpc.errors import UserError
from qtrl_hpc.reproduce import __main__ as command
from qtrl_hpc.reproduce import figures, runner, tables, variants
from qtrl_hpc.reproduce.rewards import FILE, FORMAT, FORMAT_VERSION, RUNS, Rewards, Run, clear_leftovers, save_run
from qtrl_hpc.reproduce.statistics import Estimate, band, estimate, iqm, rounds_until, running_mean, speed_up
from qtrl_hpc.reproduce.variants import Ablation, Claim, Setting, Variant

SEEDS = range(3)
SETTING = Setting(qpu="statevector", quick=False)
QUICK = Setting(qpu="statevector", quick=True)


def tiny(label="tiny", updates=4, **changes):
    """A variant whose run takes milliseconds."""
    values = {"env_id": "CartPole-v1", "num_actions": 2, "policy_hidden_sizes": (4,), "layers": 1, "updates": updates}
    values |= {"max_episode_steps": 10, "qpu": "statevector", "checkpoint_every": updates}
    return Variant(label=label, config=preset("tuned", **(values | changes)))


def run_of(rewards, steps=None, seconds=(1.0,)):
    rewards = np.array(rewards, np.float64)
    return Run(rewards=rewards, steps=np.full(len(rewards), 5.0) if steps is None else steps, seconds=np.array(seconds))


def steady(level, rounds=4000, after=0):
    """Nothing for some rounds, then always the same reward."""
    return run_of(np.where(np.arange(rounds) < after, 0.0, level), seconds=np.arange(1, rounds // 50 + 1) * 0.5)


# ---- statistics


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx(3.5)
    assert iqm(np.arange(10.0)[::-1]) == pytest.approx(4.5)
    assert iqm(np.array([[0.0, 4, 8, 1000]])) == pytest.approx([6.0])


def test_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = estimate(values, statistic=np.mean)
    half = 1.96 * values.std() / 20.0
    assert found.value == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx([found.value - half, found.value + half], abs=0.1 * half)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_what_does_not_vary_has_no_width(values):
    assert estimate(np.array(values)) == Estimate(0.5, 0.5, 0.5)


def test_interval_of_a_median_may_end_in_never():
    found = estimate(np.array([100.0, 200.0, 300.0, np.inf, np.inf]), statistic=np.median)
    assert (found.value, found.high) == (300.0, np.inf)
    assert found.low < 300.0


def test_running_mean_and_the_round_that_reaches_a_target():
    rewards = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    assert running_mean(rewards, 2) == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.5])
    assert rounds_until(rewards, 0.5, 2) == 3
    assert rounds_until(rewards, 1.0, 2) == 4
    assert rounds_until(rewards, 1.01, 2) == np.inf


def test_speed_up_is_median_over_median_and_never_counts_against_it():
    one, many = np.array([800.0, 1000.0, 1200.0]), np.array([100.0, 200.0, 400.0])
    assert speed_up(one, many, 4000).value == pytest.approx(5.0)
    assert speed_up(np.full(3, np.inf), many, 4000).value == pytest.approx(20.0)  # as if in the last round
    assert speed_up(one, np.full(3, np.inf), 4000).value == 0.0
    found = speed_up(one, many, 4000)  # the same seeds in both: 8, 5 and 3 times
    assert [found.low, found.high] == pytest.approx([3.0, 8.0])


def test_band_is_the_interval_at_each_point():
    curves = np.random.default_rng(1).normal([0.0, 10.0, 20.0], size=(8, 3))
    middle, low, high = band(curves)
    for point in range(3):
        expected = estimate(curves[:, point])
        assert middle[point] == pytest.approx(expected.value)
        assert [low[point], high[point]] == pytest.approx([expected.low, expected.high], abs=0.15)


# ---- variants


def test_rows_of_the_papers_tables_have_its_numbers_of_parameters():
    for name in ("qtrl", "tuned"):
        rows = variants.table1(SETTING, name)
        assert [tables.num_trained(row) for row in rows] == [4835, 1749, 2061, 2529, 1749]
        assert {row.config.updates for row in rows} == {4000}
        assert [row.num_agents for row in rows] == [1, 1, 1, 1, 4]
        assert [row.num_agents for row in variants.table2(SETTING, name)] == [1, 2, 4, 8]


def test_small_policy_of_the_claims_has_at_most_363_parameters():
    found = {row.variant.label: tables.num_trained(row.variant) for row in variants.claims(SETTING)}
    assert found["L = 3"] == 1749
    assert found["363 parameters"] == 363


def test_other_environments_differ_from_the_recipe_in_nothing_else():
    recipe = preset("tuned").to_dict()
    free = {"env_id", "num_actions", "policy_hidden_sizes", "agents_per_rank", "updates", "checkpoint_every", "qpu"}
    for row in variants.claims(SETTING)[2:]:
        different = {name for name, value in row.variant.config.to_dict().items() if value != recipe[name]}
        assert different <= free


def test_ablations_change_what_their_name_says():
    rows = variants.ablations(SETTING)
    as_it_is = rows[0].variant.config.to_dict()
    assert len({(row.part, row.variant.label) for row in rows}) == len(rows)
    circuits = [row.variant.config.circuit for row in rows if row.part.startswith("circuit")]
    assert circuits == ["trained", "frozen", "absent", "random"] * 2
    for row in rows:
        changed = {name for name, value in row.variant.config.to_dict().items() if value != as_it_is[name]}
        assert len(changed) <= 2, row


def test_same_configuration_is_the_same_key_and_any_other_is_not():
    assert tiny().key == tiny("another label", updates=9, seed=3, threads=2).key
    others = [tiny(layers=2), tiny(gamma=0.5), tiny(agents_per_rank=2), tiny(qpu="aer"), tiny(circuit="frozen")]
    assert len({variant.key for variant in [tiny(), *others]}) == 6


# ---- what is kept


def test_runs_come_back_bit_for_bit_whether_gathered_or_not(tmp_path):
    first = run_of(np.random.default_rng(0).random(120), np.arange(120.0), [0.1, 0.25, 0.3])
    second = run_of([0.5, 1.0 / 3.0], seconds=[0.2])
    save_run(tmp_path, tiny(updates=120), 7, first)
    save_run(tmp_path, tiny(updates=2), 3, second)
    for _ in range(2):
        rewards = Rewards(tmp_path)
        found = rewards.find(tiny(updates=120), 7)
        for name in ("rewards", "steps", "seconds"):
            assert getattr(found, name).tobytes() == getattr(first, name).tobytes()
        assert rewards.find(tiny(updates=2), 3).rewards.tolist() == second.rewards.tolist()
        rewards.join()
        assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_longer_run_serves_a_shorter_one_and_a_shorter_run_is_run_again(tmp_path):
    save_run(tmp_path, tiny(updates=120), 0, run_of(np.arange(120.0), seconds=[1.0, 2.0, 3.0]))
    rewards = Rewards(tmp_path)
    found = rewards.find(tiny(updates=60), 0)
    assert found.rewards.tolist() == list(range(60))
    assert found.seconds.tolist() == [1.0, 2.0]
    assert rewards.find(tiny(updates=121), 0) is None
    with pytest.raises(KeyError, match="tiny"):
        rewards.all(tiny(updates=60), range(2))


def test_a_file_from_before_a_field_existed_counts_as_its_default(tmp_path):
    variant = tiny()
    identity = {name: value for name, value in json.loads(variant.identity).items() if name != "circuit"}
    datasets = {f"/old/{name}": np.ones((1, 4)) for name in ("rewards", "steps", "seconds")}
    datasets |= {"/old/seeds": np.array([5.0]), "/old/made_by": np.zeros(1)}
    kind = {"format": FORMAT, "format_version": FORMAT_VERSION, "compressed": True}
    attributes = {"identities": json.dumps({"old": json.dumps(identity)}), "made_by": '[""]'}
    hdf5.write(tmp_path / FILE, **kind, attributes=attributes, datasets=datasets)
    assert Rewards(tmp_path).find(variant, 5) is not None
    assert Rewards(tmp_path).find(tiny(circuit="frozen"), 5) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    save_run(tmp_path, tiny(), 0, run_of([0.25] * 4))
    [path] = (tmp_path / RUNS).iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[content.index(b"digest")] ^= 1  # the middle of a small file is not used
    else:
        hdf5.write(path, format="qtrl_hpc-checkpoint", format_version=1, attributes={}, datasets={}, compressed=True)
        content = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(UserError, match=path.name):
        Rewards(tmp_path)


def test_seconds_until_a_round_lie_between_readings_of_the_clock():
    run = run_of(np.zeros(120), seconds=[10.0, 30.0, 34.0])
    assert [run.seconds_until(rounds) for rounds in (25, 50, 75, 110, 120)] == [5.0, 10.0, 20.0, 32.0, 34.0]
    assert run.seconds_until(np.inf) == np.inf


# ---- what is run


def test_each_missing_run_is_done_once_the_longest_that_is_asked_for(tmp_path):
    save_run(tmp_path, tiny(), 1, run_of([0.0] * 4))
    wanted = [tiny(), tiny(updates=2), tiny(layers=2), tiny(layers=2, updates=9)]
    found = runner.missing(wanted, range(3), Rewards(tmp_path))
    assert [(task.variant.config.layers, task.variant.config.updates, task.seed) for task in found] == [
        (2, 9, 0),
        (1, 4, 0),
        (2, 9, 1),
        (2, 9, 2),
        (1, 4, 2),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_ranks_share_all_tasks_and_none_has_much_more_to_do(size):
    tasks = runner.missing(variants.table2(SETTING, "qtrl"), range(10), Rewards(REPOSITORY / "nowhere"))
    shares = runner.share(tasks, size)
    assert sorted(map(id, chain.from_iterable(shares))) == sorted(map(id, tasks))
    loads = [sum(runner.cost(task.variant) for task in each) for each in shares]
    assert max(loads) - min(loads) <= max(runner.cost(task.variant) for task in tasks)


# ---- tables


def results(tmp_path, runs):
    """Results of ``runs``: variant -> function of a seed."""
    for variant, make in runs:
        for seed in SEEDS:
            save_run(tmp_path, variant, seed, make(seed))
    return Rewards(tmp_path)


def test_table1_by_hand(tmp_path):
    rows = variants.table1(SETTING, "qtrl")
    levels = (0.9, 0.6, 0.8, 0.85, 0.0)
    rewards = results(
        tmp_path,
        [(row, lambda seed, level=level: steady(level + 0.01 * seed)) for row, level in zip(rows, levels, strict=True)],
    )
    table = tables.table1(rewards, rows, SEEDS, "qtrl")
    cells = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
    assert [row["model"] for row in cells] == ["classical", "QTRL-3", "QTRL-7", "QTRL-13", "Dist-QTRL-3"]
    assert [row["paper"] for row in cells] == [0.9244, 0.6453, 0.8164, 0.8632, 0.901]
    assert [row["last 500"].value for row in cells] == pytest.approx([level + 0.01 for level in levels])
    assert [row["worst seed"] for row in cells] == pytest.approx(levels)
    assert [row["dead seeds"] for row in cells] == [0, 0, 0, 0, 3]
    assert cells[0]["CPU seconds"] == pytest.approx(40.0)
    [head, *lines] = csv.reader(table.to_csv().splitlines())
    assert len(lines) == 5
    assert {len(line) for line in lines} == {len(head)}
    assert float(lines[1][head.index("last 500, low")]) == pytest.approx(0.6)
    assert "| QTRL-3 | 1 | 1749 | 0.6453 | 0.6100 [0.6000, 0.6200] |" in table.to_markdown()


def test_table2_by_hand(tmp_path):
    """One agent ends at 0.5 on all seeds but one, which never learns; more agents get there sooner."""
    rows = variants.table2(SETTING, "qtrl")
    after = {1: 1900, 2: 900, 4: 400, 8: 150}

    def made_up(seed, count):
        return steady(0.0 if (seed, count) == (2, 1) else 0.5, after=after[count])

    rewards = results(tmp_path, [(row, lambda seed, count=row.num_agents: made_up(seed, count)) for row in rows])
    at_end, goal = tables.table2(rewards, rows, SEEDS, "qtrl")
    cells = [dict(zip(at_end.headings, row, strict=True)) for row in at_end.rows]
    # The interquartile mean of three seeds is their mean: the target is 1/3, two thirds of 100 rounds at 0.5.
    assert [row["rounds"].value for row in cells] == [after[count] + 67 for count in (1, 2, 4, 8)]
    assert [row["never"] for row in cells] == [1, 0, 0, 0]
    assert cells[0]["rounds"].high == np.inf
    assert cells[0]["speed-up in rounds"] is None
    assert cells[2]["speed-up in rounds"].value == pytest.approx(1967 / 467)
    assert [row["paper"] for row in cells] == [1.0, 2.06, 3.33, 5.33]
    assert cells[3]["environment steps"] == 5 * 217
    assert [row[goal.headings.index("never")] for row in goal.rows] == [3, 3, 3, 3]
    assert "never" in goal.to_markdown()


def test_ablations_and_claims_by_hand(tmp_path):
    good, dead = tiny("good", updates=150), tiny("dead", updates=150, gamma=0.5)
    rewards = results(
        tmp_path, [(good, lambda seed: steady(0.93 + 0.01 * seed, 150, 20)), (dead, lambda seed: steady(0.0, 150))]
    )
    table = tables.ablations(rewards, [Ablation(part="a", variant=good), Ablation(part="b", variant=dead)], SEEDS)
    first, second = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert first["last 100"].value == pytest.approx(0.94)
    assert (first["rounds to 0.9"], first["never"], second["never"], second["dead seeds"]) == (116, 0, 3, 3)
    table = tables.claims(rewards, [Claim(variant=good, target=0.94, optimum=0.955)], SEEDS)
    [row] = (dict(zip(table.headings, row, strict=True)) for row in table.rows)
    assert row["seeds that reach it"] == "2 of 3"
    assert row["seed by seed"] == "0.9300 0.9400 0.9500"


# ---- the command


def command_line(folder, *flags):
    return [sys.executable, "-m", "qtrl_hpc.reproduce", *flags, f"--out={folder}"]


def run(folder, *flags, ranks=None, code=0):
    job = Job(command_line(folder, *flags), folder.parent, ranks)
    assert job.wait() == code, job.err
    return job


def curves(folder):
    """Every bit of what was found, but for the time that it took."""
    _, datasets = hdf5.read(folder / FILE, format=FORMAT, format_version=FORMAT_VERSION, compressed=True)
    return {name: values.tobytes() for name, values in datasets.items() if not name.endswith("/seconds")}


SMOKE = ("table2", "--quick", "--preset=tuned")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of a smoke run in one process that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    job = run(folder, *SMOKE)
    assert "8 runs to do on 1 rank(s)" in job.out
    return folder


def test_a_second_command_finds_everything_done(whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    stem = "table2-tuned-quick"
    assert set(before) == {FILE, ".lock", f"{stem}.md", f"{stem}-1.csv", f"{stem}-2.csv"}
    assert "0 runs to do" in run(whole, *SMOKE).out
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_rewards_are_those_of_the_training_command(whole, tmp_path):
    flags = ["--agents-per-rank=4", "--qpu=statevector", "--updates=150", "--seed=1", "--layers=3"]
    train(tmp_path / "run", "--preset=tuned", *flags)
    rows = metrics(tmp_path / "run")
    found = Rewards(whole).find(variants.table2(QUICK, "tuned")[2], 1)
    assert found.rewards.tolist() == [row["reward_mean"] for row in rows]
    assert found.steps.tolist() == [row["steps"] for row in rows]


@pytest.mark.mpi
def test_ranks_share_the_seeds_and_a_stopped_command_goes_on_to_the_same_bits(whole, tmp_path):
    folder = tmp_path / "results"
    job = Job(command_line(folder, *SMOKE), tmp_path, 2)
    job.wait_until(lambda: list((folder / RUNS).glob("*.h5")), "a run was finished")
    for rank in range(2):
        job.send(signal.SIGUSR1, rank)
    assert job.wait() == 75
    done = len(Rewards(folder)._runs)
    assert 0 < done < 8
    assert f"stopped with {8 - done} runs to do; the same command goes on" in job.out
    assert f"{8 - done} runs to do on 2 rank(s)" in run(folder, *SMOKE, ranks=2).out
    assert curves(folder) == curves(whole)


def test_figures_and_all_tables_are_written(tmp_path):
    """From rewards made up, as runs of every study take minutes."""
    for study in command.STUDIES:
        options = command.parse([study, "--quick", f"--out={tmp_path}"])
        for task in runner.missing(command.wanted(options), options.seed_range, Rewards(tmp_path)):
            rewards = np.linspace(0.0, 0.9 + 0.05 * task.seed, 150)
            save_run(tmp_path, task.variant, task.seed, run_of(rewards, seconds=[1.0, 2.0, 3.0]))
        rewards = Rewards(tmp_path)
        rewards.join()
        command.report(options, rewards)
    pictures = {f"{name}-quick" for name in ("figure1-qtrl", "figure1-tuned", "ablations")}
    assert {path.name for path in tmp_path.iterdir()} == {
        FILE,
        *(f"{stem}-quick.md" for stem in (*TABLES, "table2-qtrl", "table2-tuned")),
        *(f"{stem}-quick.csv" for stem in TABLES),
        *(f"table2-{name}-quick-{number}.csv" for name in ("qtrl", "tuned") for number in (1, 2)),
        *(f"{name}{suffix}" for name in pictures for suffix in (".png", ".pdf")),
    }
    for name in pictures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")


TABLES = ("table1-qtrl", "table1-tuned", "ablations", "tuned")


def test_a_smoke_run_or_another_simulator_does_not_replace_the_real_tables():
    suffixes = [command.parse(["table1", *flags]).suffix for flags in ([], ["--quick"], ["--qpu=aer"])]
    assert suffixes == ["", "-quick", "-aer"]


@pytest.mark.mpi
def test_a_rank_whose_run_fails_ends_the_others_and_names_it(tmp_path):
    job = Job([sys.executable, "-m", "failing_reproduction", str(tmp_path / "results")], tmp_path, 2)
    assert job.wait() == 1
    assert "rank 1 of 2 failed" in job.err
    assert "seed 0: no luck" in job.err


def test_what_a_killed_command_left_is_cleared_and_does_not_stop_the_next(tmp_path):
    variant = tiny()
    save_run(tmp_path, variant, 0, run_of([0.0] * 4))
    (tmp_path / RUNS / f".{variant.key}-seed1.h5.abc.tmp").write_bytes(b"half")
    (tmp_path / RUNS / ".nfs0001").write_bytes(b"still shown")
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in (tmp_path / RUNS).iterdir()) == [".nfs0001", f"{variant.key}-seed0.h5"]
    Rewards(tmp_path).join()
    assert Rewards(tmp_path).find(variant, 0) is not None


def test_each_run_keeps_the_versions_of_the_code_that_made_it(tmp_path):
    for seed, maker in enumerate(("old", "new", "old")):
        save_run(tmp_path, tiny(), seed, replace(run_of([0.0] * 4), made_by=maker))
    Rewards(tmp_path).join()
    assert [run.made_by for run in Rewards(tmp_path).all(tiny(), SEEDS)] == ["old", "new", "old"]


def test_a_run_that_cannot_be_kept_is_refused_by_its_file(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(UserError, match=r"^--out: got .*-seed3\.h5 cannot be written \(No space left on device\)$"):
        save_run(tmp_path, tiny(), 3, run_of([0.0] * 4))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["study"]),
        (["table3"], ["table3", "table1"]),
        (["table1", "--seeds=0"], ["--seeds", "'0'", "from 1 to 1000"]),
        (["table1", "--seeds=9999999999"], ["--seeds", "'9999999999'", "from 1 to 1000"]),
        (["table1", "--seeds=x"], ["--seeds", "'x'"]),
        (["table1", "--first-seed=-1"], ["--first-seed", "'-1'", "from 0 to"]),
        (["table1", "--preset=paper"], ["--preset", "paper", "qtrl"]),
        (["table1", "--seeds=\u00b2"], ["--seeds", "from 1 to 1000"]),
        (["table1", "--out="], ["--out", "''"]),
        (["ablations", "--preset=qtrl"], ["--preset", "qtrl", "ablations"]),
        (["table1", "--qpu=torch"], ["--qpu", "torch", "statevector"]),
        (["table1", "--bogus"], ["--bogus"]),
    ],
)
def test_bad_flags_are_named(flags, words):
    with pytest.raises(UserError) as caught:
        command.parse(flags)
    assert all(word in str(caught.value) for word in words)


def test_a_file_in_the_way_is_refused_in_one_line(tmp_path):
    (tmp_path / "results").write_text("")
    job = run(tmp_path / "results", "table1", "--quick", code=2)
    assert len(job.errors) == 1
    assert "--out" in job.errors[0]
    assert (tmp_path / "results").read_text() == ""


def test_two_commands_do_not_write_to_one_folder(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    assert files.hold(folder / ".lock") is not None
    job = run(folder, "table1", "--quick", code=2)
    assert "still going on" in job.errors[0]


def test_figures_without_matplotlib_are_refused_before_anything_is_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="qtrl_hpc\\[reproduce\\]"):
        figures.check_matplotlib()
