"""Policy files: theta bit for bit, and how to read it."""

import json

import h5py
import numpy as np
import pytest

from qtrl_hpc import hdf5
from qtrl_hpc.errors import UserError
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.policy_file import PolicyFile

SPEC = PolicySpec(
    obs_shape=(2, 2, 3),
    hidden_sizes=(5, 4),
    num_actions=3,
    activation="relu",
    observation_key="image",
    observation_scale=0.1,
)


def policy_file(**values):
    theta = np.random.default_rng(0).normal(size=SPEC.num_parameters)
    provenance = {"update": 3, "config": {"seed": 0}, "text": "η"}
    return PolicyFile(**{"theta": theta, "spec": SPEC, "env_id": "a:B-v0", "provenance": provenance, **values})


def test_round_trip_bit_for_bit(tmp_path):
    saved = policy_file()
    saved.save(tmp_path / "p.h5")
    loaded = PolicyFile.load(tmp_path / "p.h5")
    assert loaded.theta.tobytes() == saved.theta.tobytes()
    assert (loaded.spec, loaded.env_id, loaded.provenance) == (saved.spec, saved.env_id, saved.provenance)


def test_file_is_as_documented(tmp_path):
    policy_file().save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:
        text = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
        assert (text["format"], text["format_version"], text["env_id"]) == ("qtrl_hpc-policy", 1, "a:B-v0")
        assert json.loads(text["policy_spec"])["hidden_sizes"] == [5, 4]
        assert json.loads(text["provenance"])["update"] == 3
        np.testing.assert_array_equal(file["/theta"], policy_file().theta)


def parts(change):
    kept = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "encode", lambda **values: kept.update(values))
        policy_file().to_hdf5()
    change(kept["attributes"], kept["datasets"])
    return kept


def altered(text, **values):
    return json.dumps({**json.loads(text), **values})


NONSENSE = {
    "no theta": lambda a, d: d.pop("/theta"),
    "no spec": lambda a, d: a.pop("policy_spec"),
    "no environment": lambda a, d: a.pop("env_id"),
    "no provenance": lambda a, d: a.pop("provenance"),
    "theta too long": lambda a, d: d.update({"/theta": np.zeros(SPEC.num_parameters + 1)}),
    "theta as a column": lambda a, d: d.update({"/theta": np.zeros((SPEC.num_parameters, 1))}),
    "theta not finite": lambda a, d: d.update({"/theta": np.full(SPEC.num_parameters, np.nan)}),
    "other sizes": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], num_actions=4)),
    "gigantic sizes": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], num_actions=10**30)),
    "negative sizes": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], hidden_sizes=[-5, -4])),
    "sizes that are text": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], obs_shape="223")),
    "unknown activation": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], activation="none")),
    "activation that is a list": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], activation=["relu"])),
    "scale that is not finite": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], observation_scale=1e999)),
    "scale that is text": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], observation_scale="1")),
    "key that is a number": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], observation_key=1)),
    "unknown field": lambda a, d: a.update(policy_spec=altered(a["policy_spec"], bogus=1)),
    "spec that is no object": lambda a, d: a.update(policy_spec="3"),
    "spec that is no JSON": lambda a, d: a.update(policy_spec="{"),
    "spec nested too deep": lambda a, d: a.update(policy_spec="[" * 60_000),
    "provenance nested too deep": lambda a, d: a.update(provenance="[" * 60_000),
}


@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE)
def test_whole_file_that_makes_no_sense_is_refused(tmp_path, change):
    path = tmp_path / "p.h5"
    hdf5.write(path, **parts(change))
    with pytest.raises(UserError) as caught:
        PolicyFile.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_checkpoint_is_no_policy(tmp_path):
    hdf5.write(tmp_path / "c.h5", format="qtrl_hpc-checkpoint", format_version=1, attributes={}, datasets={})
    with pytest.raises(UserError, match=r"qtrl_hpc-checkpoint.*, expected a qtrl_hpc-policy file"):
        PolicyFile.load(tmp_path / "c.h5")
