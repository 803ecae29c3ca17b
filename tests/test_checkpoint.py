"""Checkpoints: bit for bit what was saved, the last three kept, damage named and stepped over."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
from support import contents, damage

from qtrl_hpc import checkpoint as module
from qtrl_hpc import hdf5
from qtrl_hpc.checkpoint import Checkpoint, TrainingState, load_newest, save_newest
from qtrl_hpc.config import Config
from qtrl_hpc.episode import RunningEpisodes
from qtrl_hpc.errors import UserError
from qtrl_hpc.generator import Theta
from qtrl_hpc.optimizer import OptimizerState
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.reinforce import Baseline

SPEC = PolicySpec(
    obs_shape=(4,),
    hidden_sizes=(3,),
    num_actions=2,
    activation="tanh",
    observation_key=None,
    observation_scale=0.1,
)


def state(update=7):
    rng = np.random.default_rng(update)
    return TrainingState(
        update=update,
        Theta=Theta(rng.normal(size=11), 6),
        optimizer=OptimizerState(first=rng.normal(size=11), second=rng.random(11), steps=update),
        baseline=Baseline(weight=0.1, mean=1 / 3, mean_square=0.2),
    )


def checkpoint(update=7, **values):
    config = Config(
        env_id="CartPole-v1", policy_hidden_sizes=(3,), learning_rate=0.1 + 0.2, max_grad_norm=1e-300, **values
    )
    theta = np.random.default_rng(100 + update).normal(size=SPEC.num_parameters)
    return Checkpoint(
        state=state(update),
        theta=theta,
        config=config,
        policy_spec=SPEC,
        num_agents=8,
        world_size=4,
        running=None if config.steps_per_update is None else running(),
    )


def running():
    """Eight agents, two of them between episodes."""
    length = np.array([3.0, 0, 1, 2, 0, 5, 1, 1])
    checksum = np.where(length > 0, 2.0**32 - 1 - np.arange(8), 0)
    return RunningEpisodes(10.0 * np.arange(8), length, checksum, np.arange(13.0) % 2)


def test_round_trip_bit_for_bit(tmp_path):
    saved = checkpoint()
    saved.save(tmp_path / "c.h5")
    loaded = Checkpoint.load(tmp_path / "c.h5")
    assert loaded.state.to_vector().tobytes() == saved.state.to_vector().tobytes()
    assert loaded.state.Theta.phi.tobytes() == saved.state.Theta.phi.tobytes()
    assert (loaded.state.update, loaded.state.optimizer.steps, loaded.state.baseline) == (7, 7, saved.state.baseline)
    assert loaded.theta.tobytes() == saved.theta.tobytes()
    for name in ("config", "policy_spec", "num_agents", "world_size"):
        assert getattr(loaded, name) == getattr(saved, name)


def test_running_episodes_come_back_bit_for_bit(tmp_path):
    checkpoint(steps_per_update=5).save(tmp_path / "c.h5")
    loaded = Checkpoint.load(tmp_path / "c.h5")
    assert [values.tobytes() for values in loaded.running] == [values.tobytes() for values in running()]
    with h5py.File(tmp_path / "c.h5") as file:
        assert {name: file["running"][name].shape for name in file["running"]} == {
            "episode": (8,),
            "length": (8,),
            "checksum": (8,),
            "actions": (13,),
        }
    none = RunningEpisodes.none(8)
    dataclasses.replace(checkpoint(steps_per_update=5), running=none).save(tmp_path / "c.h5")
    assert [values.tolist() for values in Checkpoint.load(tmp_path / "c.h5").running] == [[0.0] * 8] * 3 + [[]]


def test_file_from_before_there_were_steps_per_update_is_read(tmp_path):
    """Its configuration does not name them, and it holds no running episodes."""
    old = parts(lambda a, d: a.update(config=without(a["config"], "steps_per_update")))
    hdf5.write(tmp_path / "c.h5", **old)
    loaded = Checkpoint.load(tmp_path / "c.h5")
    assert (loaded.config.steps_per_update, loaded.running) == (None, None)
    assert not any(name.startswith("/running") for name in old["datasets"])


def without(text, name):
    values = json.loads(text)
    del values[name]
    return json.dumps(values)


def test_file_is_as_documented(tmp_path):
    checkpoint().save(tmp_path / "c.h5")
    with h5py.File(tmp_path / "c.h5") as file:
        text = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
        assert text["format"] == "qtrl_hpc-checkpoint"
        assert (text["format_version"], text["update"], text["world_size"], text["num_agents"]) == (1, 7, 4, 8)
        assert json.loads(text["config"])["learning_rate"] == 0.1 + 0.2
        assert {"qtrl_hpc", "numpy", "qiskit-aer"} <= set(json.loads(text["versions"]))
        assert len(text["digest"]) == 64
        assert text["creator"]
        np.testing.assert_array_equal(file["/Theta/phi"], state().Theta.phi)
        np.testing.assert_array_equal(file["/Theta/beta"], state().Theta.beta)
        assert file["/theta"].shape == (SPEC.num_parameters,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_nobody_could_read_is_not_written(tmp_path, bad):
    good = checkpoint()
    good.save(tmp_path / "c.h5")
    before = contents(tmp_path)
    theta = good.theta.copy()
    theta[3] = bad
    with pytest.raises(ValueError, match=r"c\.h5: /theta would hold numbers that are not finite"):
        dataclasses.replace(good, theta=theta).save(tmp_path / "c.h5")
    assert contents(tmp_path) == before


def test_state_survives_its_vector():
    rebuilt = TrainingState.from_vector(state().to_vector(), 6)
    assert rebuilt.to_vector().tobytes() == state().to_vector().tobytes()
    assert (rebuilt.update, rebuilt.optimizer.steps, rebuilt.Theta.num_angles) == (7, 7, 6)
    assert rebuilt.optimizer.second.tobytes() == state().optimizer.second.tobytes()


@pytest.mark.parametrize("index", range(5 + 3 * 11))
def test_digest_sees_every_number_of_the_state(index):
    vector = state().to_vector()
    vector[index] = np.nextafter(vector[index], np.inf) if index > 1 else vector[index] + 1
    assert TrainingState.from_vector(vector, 6).digest() != state().digest()


def test_last_three_are_kept_and_the_newest_has_the_plain_name(tmp_path):
    for update in (2, 9, 10, 100, 101):
        save_newest(checkpoint(update), tmp_path)
        assert Checkpoint.load(tmp_path / "checkpoint.h5").state.update == update
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "checkpoint-0000000010.h5",
        "checkpoint-0000000100.h5",
        "checkpoint-0000000101.h5",
        "checkpoint.h5",
    ]
    assert [Checkpoint.load(tmp_path / name).state.update for name in names] == [10, 100, 101, 101]


def test_last_three_are_kept_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def no_link(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", no_link)
    test_last_three_are_kept_and_the_newest_has_the_plain_name(tmp_path)


def test_files_of_other_names_are_neither_counted_nor_removed_nor_loaded(tmp_path):
    for update in range(1, 5):
        save_newest(checkpoint(update), tmp_path)
        shutil.copy(tmp_path / "checkpoint.h5", tmp_path / "checkpoint-0-first.h5")
        shutil.copy(tmp_path / "checkpoint-0000000001.h5", tmp_path / "checkpoint-best.h5") if update == 1 else None
    assert len(list(tmp_path.glob("checkpoint-00*.h5"))) == 3
    assert (tmp_path / "checkpoint-0-first.h5").exists()
    for name in ("checkpoint.h5", "checkpoint-0000000004.h5"):
        (tmp_path / name).write_bytes(b"")
    assert load_newest(tmp_path)[1].state.update == 3


def test_undamaged_newest_is_loaded(tmp_path):
    for update in (1, 2, 3):
        save_newest(checkpoint(update), tmp_path)
    path, loaded, damaged = load_newest(tmp_path)
    assert (path, loaded.state.update, damaged) == (tmp_path / "checkpoint.h5", 3, {})


def test_damaged_newest_is_named_and_the_one_before_is_loaded(tmp_path):
    for update in (1, 2, 3):
        save_newest(checkpoint(update), tmp_path)
    names = ["checkpoint.h5", "checkpoint-0000000003.h5"]
    for name in names:
        damage(tmp_path / name)
    before = contents(tmp_path)
    path, loaded, damaged = load_newest(tmp_path)
    assert (path, loaded.state.update) == (tmp_path / "checkpoint-0000000002.h5", 2)
    assert list(damaged) == [tmp_path / name for name in names]
    assert all(reason.startswith(f"{each}: is damaged") for each, reason in damaged.items())
    assert contents(tmp_path) == before


def test_numbered_copy_serves_where_the_plain_name_alone_is_damaged_or_missing(tmp_path):
    for update in (1, 2):
        save_newest(checkpoint(update), tmp_path)
    damage(tmp_path / "checkpoint.h5")
    assert load_newest(tmp_path)[1].state.update == 2
    (tmp_path / "checkpoint.h5").unlink()
    assert load_newest(tmp_path)[1].state.update == 2


def test_none_that_can_be_read_is_refused_and_all_stay_where_they_are(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_newest(tmp_path)
    for update in (1, 2):
        save_newest(checkpoint(update), tmp_path)
    for path in tmp_path.glob("checkpoint*"):
        damage(path)
    before = contents(tmp_path)
    with pytest.raises(UserError) as caught:
        load_newest(tmp_path)
    assert all(str(path) in str(caught.value) for path in tmp_path.iterdir())
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_newer_format_is_refused_not_taken_for_damage(tmp_path, monkeypatch):
    """Going back to an older checkpoint there would throw away what a newer version did."""
    save_newest(checkpoint(1), tmp_path)
    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    save_newest(checkpoint(2), tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match="got format version 2, expected at most 1"):
        load_newest(tmp_path)


def parts(change, **values):
    """Return what a checkpoint is written from, changed."""
    kept = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "write", lambda path, **values: kept.update(values))
        checkpoint(**values).save(None)
    change(kept["attributes"], kept["datasets"])
    return kept


MISSING = [
    *[("attribute", name) for name in ("config", "policy_spec", "update", "num_agents", "world_size")],
    *[("dataset", name) for name in ("/Theta/phi", "/Theta/beta", "/theta", "/baseline")],
    *[("dataset", f"/optimizer/{name}") for name in ("first", "second", "steps")],
]


@pytest.mark.parametrize(("kind", "name"), MISSING)
def test_missing_part_is_refused_by_name(tmp_path, kind, name):
    path = tmp_path / "c.h5"
    hdf5.write(path, **parts(lambda attributes, data: (attributes if kind == "attribute" else data).pop(name)))
    with pytest.raises(UserError) as caught:
        Checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert name in str(caught.value)


def altered(text, **values):
    return json.dumps({**json.loads(text), **values})


NONSENSE = {
    "config with an unknown key": lambda a, d: a.update(config=altered(a["config"], bogus=1)),
    "config with a bad value": lambda a, d: a.update(config=altered(a["config"], learning_rate=-1)),
    "config that is a list": lambda a, d: a.update(config="[]"),
    "config that is no JSON": lambda a, d: a.update(config="{"),
    "config nested too deep": lambda a, d: a.update(config="[" * 60_000),
    "policy of other sizes": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], hidden_sizes=[4])),
    "policy of no sizes": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], hidden_sizes=None)),
    "policy nested too deep": lambda a, d: a.update(policy_spec="[" * 60_000),
    "update that is no number": lambda a, d: a.update(update="x"),
    "negative update": lambda a, d: a.update(update=-5),
    "no agents": lambda a, d: a.update(num_agents=0),
    "Theta not finite": lambda a, d: d.update({"/Theta/phi": np.full(6, np.nan)}),
    "theta not finite": lambda a, d: d.update({"/theta": np.full(SPEC.num_parameters, np.inf)}),
    "Theta of other length than the moments": lambda a, d: d.update({"/Theta/beta": np.zeros(4)}),
    "Theta of two axes": lambda a, d: d.update(
        {n: np.zeros((len(d[n]), 1)) for n in ("/Theta/phi", "/Theta/beta", "/optimizer/first", "/optimizer/second")}
    ),
    "endless steps": lambda a, d: d.update({"/optimizer/steps": np.array([np.inf])}),
    "negative steps": lambda a, d: d.update({"/optimizer/steps": np.array([-1.0])}),
    "baseline not finite": lambda a, d: d.update({"/baseline": np.full(3, np.nan)}),
    "baseline of two axes": lambda a, d: d.update({"/baseline": np.zeros((3, 1))}),
    "steps of two axes": lambda a, d: d.update({"/optimizer/steps": np.zeros((1, 1))}),
    "baseline of two numbers": lambda a, d: d.update({"/baseline": np.zeros(2)}),
}


@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE)
def test_whole_file_that_makes_no_sense_is_refused(tmp_path, change):
    path = tmp_path / "c.h5"
    hdf5.write(path, **parts(change))
    with pytest.raises(UserError) as caught:
        Checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def changed(name, index, value):
    return lambda d: d[f"/running/{name}"].__setitem__(index, value)


BAD_RUNNING = {
    **{f"no {name}": lambda d, name=name: d.pop(f"/running/{name}") for name in RunningEpisodes._fields},
    **{
        f"{name} of seven agents": lambda d, name=name: d.update({f"/running/{name}": d[f"/running/{name}"][:7]})
        for name in ("episode", "length", "checksum")
    },
    "all of seven agents": lambda d: d.update(
        {f"/running/{name}": values[:7] for name, values in running()._asdict().items() if name != "actions"}
        | {"/running/actions": np.zeros(12)}
    ),
    "two axes": lambda d: d.update({"/running/episode": np.zeros((8, 1))}),
    "an action too few": lambda d: d.update({"/running/actions": np.zeros(12)}),
    "an action too many": lambda d: d.update({"/running/actions": np.zeros(14)}),
    "action that does not exist": changed("actions", 3, 2.0),
    "action below 0": changed("actions", 3, -1.0),
    "half an action": changed("actions", 3, 0.5),
    "lengths that cancel": lambda d: d.update({"/running/length": np.array([14.0, -1, 0, 0, 0, 0, 0, 0])}),
    "half a step": lambda d: d.update({"/running/length": np.array([0.5, 12.5, 0, 0, 0, 0, 0, 0])}),
    "longer than an episode may be": lambda d: d.update(
        {"/running/length": np.array([10_000.0, 0, 0, 0, 0, 0, 0, 0]), "/running/actions": np.zeros(10_000)}
    ),
    "episode below 0": changed("episode", 0, -1.0),
    "episode not finite": changed("episode", 0, np.inf),
    "half a checksum": changed("checksum", 0, 0.5),
}


@pytest.mark.parametrize("change", BAD_RUNNING.values(), ids=BAD_RUNNING)
def test_running_episodes_that_make_no_sense_are_refused(tmp_path, change):
    path = tmp_path / "c.h5"
    hdf5.write(path, **parts(lambda a, d: change(d), steps_per_update=5))
    with pytest.raises(UserError) as caught:
        Checkpoint.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "running" in str(caught.value) or "finite" in str(caught.value)
    assert "\n" not in str(caught.value)
