"""Command lines and YAML files: which source wins, and one clear line for whatever is wrong with them."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import contents

from qtrl_hpc import cli, command, evaluate, export, hdf5, training
from qtrl_hpc import train as train_module
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.cli import TrainOptions, parse_train
from qtrl_hpc.config import Config
from qtrl_hpc.environment import make_environment, policy_spec
from qtrl_hpc.errors import UserError
from qtrl_hpc.factory import make_generator
from qtrl_hpc.policy_file import PolicyFile

FIELDS = [field.name for field in dataclasses.fields(Config)]
CARTPOLE = Config(env_id="CartPole-v1", num_actions=2, policy_hidden_sizes=(4,), qpu="statevector", updates=2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(*argv):
    with pytest.raises(UserError) as caught:
        parse_train([str(word) for word in argv])
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# What is asked for, and what the one line must hold: the flag, what was got, what is expected.
BAD_FLAGS = [
    (["--bogus", "1"], ["--bogus"]),
    (["--learning", "0.1"], ["--learning"]),
    (["extra"], ["extra"]),
    (["--updates"], ["--updates", "expected"]),
    (["--preset", "bogus"], ["--preset", "'bogus'", "paper, qtrl, tuned"]),
    (["--preset"], ["--preset", "expected"]),
    (["--config"], ["--config", "expected"]),
    (["--config", "none.yaml"], ["--config", "none.yaml", "expected a YAML file"]),
    (["--config", "."], ["--config", "got .", "expected a YAML file"]),
    (["--resume"], ["--resume", "--run-dir"]),
    (["--resume", "--run-dir", "none"], ["--run-dir", "got none", "expected"]),
    (["--updates", "many"], ["--updates", "got many", "expected a whole number"]),
    (["--updates", "1.5"], ["--updates", "got 1.5", "expected a whole number"]),
    (["--updates", "0"], ["--updates", "got 0", "expected a whole number of at least 1"]),
    (["--updates", "-3"], ["--updates", "got -3", "at least 1"]),
    (["--updates", "true"], ["--updates", "got True", "expected a whole number"]),
    (["--updates", "nan"], ["--updates", "got nan", "expected a whole number"]),
    (["--seed", "-1"], ["--seed", "got -1", "at least 0"]),
    (["--seed", "9223372036854775808"], ["--seed", "got 9223372036854775808", "at least 0 and below 2^63"]),
    (["--updates", "9223372036854775808"], ["--updates", "at least 1 and below 2^63"]),
    (["--layers", "0"], ["--layers", "got 0", "at least 1"]),
    (["--layers", "10001"], ["--layers", "got 10001", "at most 10000"]),
    (["--laers", "3"], ["unrecognized arguments: --laers 3 (did you mean --layers?)"]),
    (["--run-dri", "x"], ["unrecognized arguments: --run-dri x (did you mean --run-dir?)"]),
    (["--num-actions", "0"], ["--num-actions", "got 0", "at least 1"]),
    (["--agents-per-rank", "0"], ["--agents-per-rank", "got 0", "at least 1"]),
    (["--agents-per-rank", "10001"], ["--agents-per-rank", "got 10001", "at most 10000"]),
    (["--threads", "0"], ["--threads", "got 0", "at least 1"]),
    (["--learning-rate", "nan"], ["--learning-rate", "got nan", "expected a"]),
    (["--learning-rate", "inf"], ["--learning-rate", "got inf", "expected a"]),
    (["--learning-rate", "1e999"], ["--learning-rate", "got inf", "expected a"]),
    (["--learning-rate", "0"], ["--learning-rate", "got 0", "above 0"]),
    (["--learning-rate", "fast"], ["--learning-rate", "got fast", "expected a number"]),
    (["--gamma", "1.01"], ["--gamma", "got 1.01", "at most 1"]),
    (["--max-grad-norm", "-1"], ["--max-grad-norm", "got -1", "above 0"]),
    (["--max-grad-norm", "x"], ["--max-grad-norm", "got x", "a number or null"]),
    (["--observation-scale", "0"], ["--observation-scale", "got 0", "other than 0"]),
    (["--qpu", "ibm"], ["--qpu", "got 'ibm'", "aer, statevector, torch, backend:SPEC, MODULE:OBJECT"]),
    (["--qpu", "aerr"], ["--qpu", "got 'aerr'", "backend:SPEC, MODULE:OBJECT (did you mean aer?)"]),
    (
        ["--ansatz", "rign"],
        ["--ansatz: got 'rign', expected one of ring, linear, brick, real-ampl", "did you mean ring?"],
    ),
    (["--mapping", "mlpp"], ["--mapping: got 'mlpp', expected one of mlp, MODULE:OBJECT (did you mean mlp?)"]),
    (["--policy-network", "mine:"], ["--policy-network: got 'mine:', expected one of mlp, MODULE:OBJECT"]),
    (["--shots", "0"], ["--shots", "got 0", "at least 1"]),
    (["--shots", "10000001"], ["--shots", "got 10000001", "at most 10000000"]),
    (["--shots", "99999999999999999999"], ["--shots", "got 99999999999999999999", "at most 10000000"]),
    (["--shots", "many"], ["--shots", "got many", "a whole number or null"]),
    (["--gradient", "finite"], ["--gradient", "got finite", "adjoint, parameter-shift, spsa, surrogate"]),
    (["--spsa-c", "0"], ["--spsa-c", "got 0", "above 0"]),
    (["--share-circuits=maybe"], ["--share-circuits: got 'maybe'", "true or false"]),
    (["--quorum", "1.1"], ["--quorum", "got 1.1", "at most 1"]),
    (["--noise", "none.yaml"], ["--noise", "got 'none.yaml'", "fake:NAME or a YAML file"]),
    (["--noise", "{two_qubit_rat: 0.1}"], ["--noise", "'two_qubit_rat'", "two_qubit_rate"]),
    (["--noise", "{two_qubit_rate: -0.1}"], ["--noise", "two_qubit_rate: got -0.1", "at least 0 and at most 1"]),
    (["--noise", "{one_qubit_rate: 1.1}"], ["--noise", "one_qubit_rate: got 1.1", "at most 1"]),
    (["--noise", "{readout_error: [0.1, 2]}"], ["--noise", "readout_error: got 2", "at most 1"]),
    (["--noise", "{t1: fast}"], ["--noise", "t1: got 'fast'", "a number"]),
    (["--noise", "{two_qubit_rate: 0.1"], ["--noise", "not YAML"]),
    (["--noise", "{two_qubit_rate: 0.1, two_qubit_rate: 0.2}"], ["--noise", "'two_qubit_rate' comes twice"]),
    (["--noise", "{two_qubit_rate: 0.1, spread: 1000}"], ["--noise", "spread: got 1000", "at most 3"]),
    (["--noise", "[&a [*a]]"], ["--noise", "got an alias (*), expected YAML without"]),
    (["--reduction", "tree"], ["--reduction", "got tree", "allreduce", "ordered"]),
    (["--policy-hidden-sizes", "[0]"], ["--policy-hidden-sizes", "at least 1"]),
    (["--policy-hidden-sizes", "32"], ["--policy-hidden-sizes", "got 32", "expected a list"]),
    (["--mapping-hidden-sizes", "[a]"], ["--mapping-hidden-sizes", "got a", "expected a"]),
    (["--env-id", ""], ["--env-id", "expected"]),
    (["--run-dir", ""], ["--run-dir", "expected"]),
    (["--print_config"], ["--print_config"]),
]


@pytest.mark.parametrize(("argv", "words"), BAD_FLAGS, ids=[" ".join(argv) for argv, _ in BAD_FLAGS])
def test_bad_flag_is_refused_in_one_line(argv, words, folder, capfd):
    text = refusal(*argv)
    assert [word for word in words if word not in text] == [], text
    assert capfd.readouterr() == ("", "")
    assert contents(folder) == {}


BAD_YAML = [
    ("bogus: 1", ["bad.yaml", "bogus"]),
    ("updates: many", ["--updates", "got many", "a whole number"]),
    ("updates: true", ["--updates", "got True", "a whole number"]),
    ("updates: -1", ["--updates", "got -1", "at least 1"]),
    ("updates:", ["--updates", "got None", "a whole number"]),
    ("learning_rate: .nan", ["--learning-rate", "got nan", "expected a"]),
    ("qpu: ibm", ["--qpu", "got 'ibm'", "statevector"]),
    ("share_circuits: 3", ["--share-circuits: got 3", "true or false"]),
    ("noise: bad.yaml", ["--noise", "bad.yaml", "'noise'", "one_qubit_rate"]),
    ("noise: {two_qubit_rat: 0.1}", ["bad.yaml", "--noise", "'two_qubit_rat'", "two_qubit_rate"]),
    ("noise: [{}, 3]", ["bad.yaml", "--noise", "got 3", "fake:NAME or a YAML file"]),
    ("noise: {two_qubit_rate: 0.1}\nupdates: many", ["bad.yaml", "--updates", "got many", "a whole number"]),
    ("updates: 1\nupdates: 2", ["bad.yaml", "the key 'updates' comes twice"]),
    ("optimizer:\n  adam: 1", ["--optimizer", "adam", "sgd"]),
    ("- updates: 1", ["bad.yaml", "expected a YAML file of lines"]),
    ("just text", ["bad.yaml", "expected a YAML file of lines"]),
    ("", ["bad.yaml", "expected a YAML file of lines"]),
    ("updates: [1", ["bad.yaml", "expected"]),
    ("a: b: c", []),
    ("!!python/object/apply:os.mkdir [owned]", []),
    ("updates: !!python/object/apply:os.mkdir [owned]", []),
    (b"updates: \xff\xfe", []),
    (b"\x00\x01", []),
]


@pytest.mark.parametrize(("text", "words"), BAD_YAML, ids=[repr(text) for text, _ in BAD_YAML])
def test_bad_yaml_is_refused_in_one_line_that_names_the_key_or_the_file(text, words, folder, capfd):
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    found = refusal("--config", "bad.yaml")
    assert [word for word in words or ["bad.yaml"] if word not in found] == [], found
    assert capfd.readouterr() == ("", "")
    assert list(contents(folder)) == [Path("bad.yaml")]


def test_yaml_that_sets_nothing_changes_nothing():
    Path("empty.yaml").write_text("{}")
    assert parse_train(["--config", "empty.yaml"]).config == parse_train([]).config


def test_noise_in_a_yaml_file_may_be_written_out_or_be_a_file_beside_it(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "noise.yaml").write_text("two_qubit_rate: 0.1")
    for text, kept in (
        ("noise: {two_qubit_rate: 1e-1}\nupdates: 7\nlearning_rate: 1e-4", '{"two_qubit_rate": 0.1}'),
        ("noise:\n  two_qubit_rate: 0.1\nlearning_rate: 1e-4\nupdates: 7", '{"two_qubit_rate": 0.1}'),
        ("noise:\n- {two_qubit_rate: 0.1}\n- {}\nlearning_rate: 1e-4\nupdates: 7", '[{"two_qubit_rate": 0.1}, {}]'),
        ("noise: noise.yaml\nlearning_rate: 1e-4\nupdates: 7", '{"two_qubit_rate": 0.1}'),
        ("noise: '[noise.yaml, {}]'\nlearning_rate: 1e-4\nupdates: 7", '[{"two_qubit_rate": 0.1}, {}]'),
        ("noise: [noise.yaml, {}]\nlearning_rate: 1e-4\nupdates: 7", '[{"two_qubit_rate": 0.1}, {}]'),
    ):
        (folder / "sub" / "run.yaml").write_text(text)
        found = parse_train(["--config", "sub/run.yaml"]).config
        assert (found.noise, found.updates, found.learning_rate) == (kept, 7, 1e-4), text
    (folder / "sub" / "run.yaml").write_text("noise: {two_qubit_rate: 0.1}")
    assert parse_train(["--config", "sub/run.yaml"]).config.noise == '{"two_qubit_rate": 0.1}'
    assert parse_train(["--config", "sub/run.yaml", "--noise={}"]).config.noise == "{}"
    assert parse_train(["--config", "sub/run.yaml", "--noise=null"]).config.noise is None


def test_later_source_wins():
    """Field defaults < preset < --config files in their order < flags."""
    Path("a.yaml").write_text("gamma: 0.5\nlearning_rate: 1e-3\nseed: 1\nlayers: 5\n")
    Path("b.yaml").write_text("seed: 2\nlayers: 6\n")
    options = parse_train(["--layers=7", "--preset=qtrl", "--config", "a.yaml", "--config", "b.yaml"])
    found = options.config
    assert Config().entropy_coefficient != 0.05
    assert found.entropy_coefficient == 0.05  # qtrl
    assert (found.gamma, found.learning_rate) == (0.5, 1e-3)  # a.yaml over qtrl's 0.99 and 1e-4
    assert found.seed == 2  # b.yaml over a.yaml
    assert found.layers == 7  # the flag, though it came first
    assert found.checkpoint_every == Config().checkpoint_every  # the default


def test_tuned_is_the_preset_that_is_taken():
    assert (
        parse_train([]).config == parse_train(["--preset", "tuned"]).config != parse_train(["--preset", "qtrl"]).config
    )


def test_flags_take_every_kind_of_value():
    argv = ["--policy-hidden-sizes=[8, 4]", "--mapping-hidden-sizes=[]", "--max-grad-norm=null", "--num-actions=null"]
    found = parse_train([*argv, "--learning-rate=1e-3", "--gamma=1", "--preset=qtrl"]).config
    assert (found.policy_hidden_sizes, found.mapping_hidden_sizes) == ((8, 4), ())
    assert (found.max_grad_norm, found.num_actions) == (None, None)
    assert (found.learning_rate, found.gamma) == (0.001, 1)


def write_run(run_dir, config):
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))


def test_resume_takes_the_runs_own_values_and_no_preset(folder):
    own = dataclasses.replace(CARTPOLE, learning_rate=0.123, seed=9)
    write_run(folder / "run", own)
    options = parse_train(["--run-dir=run", "--resume"])
    assert (options.config, options.resume, options.run_dir) == (own, True, Path("run"))
    assert parse_train(["--run-dir=run", "--resume", "--updates=7"]).config == dataclasses.replace(own, updates=7)
    assert parse_train(["--run-dir=run", "--resume", "--preset=qtrl"]).config.learning_rate == 1e-4


def test_default_run_directory_names_preset_and_seed():
    options = parse_train(["--seed=5", "--preset=paper"])
    assert re.fullmatch(r"runs/\d{8}-\d{6}-paper-seed5", str(options.run_dir))
    assert not options.resume


def test_options_survive_json():
    for argv in (["--run-dir=x"], ["--run-dir", "a b/ü", "--max-grad-norm=3", "--policy-hidden-sizes=[]"]):
        options = parse_train(argv)
        assert TrainOptions.from_json(options.to_json()) == options


PRESETS = {
    "paper": {"advantage": "return", "time_reduction": "mean", "entropy_coefficient": 0.0, "max_grad_norm": None}
    | {"optimizer": "sgd", "updates": 4000},
    "qtrl": {"advantage": "standardised", "time_reduction": "sum", "entropy_coefficient": 0.05, "max_grad_norm": 10.0}
    | {"optimizer": "adam", "learning_rate": 1e-4, "gamma": 0.99, "updates": 4000},
    "tuned": {"advantage": "baseline", "optimizer": "adam"},
}
SYSTEM = {
    "env_id": "MiniGrid-Empty-5x5-v0",
    "num_actions": 3,
    "observation_scale": 1.0,
    "policy": "quantum",
    "policy_hidden_sizes": (32,),
    "policy_activation": "relu",
    "layers": 3,
    "mapping_hidden_sizes": (10, 64, 10),
    "episodes_per_update": 1,
    **{"feature_a": 0.1, "feature_b": 1.0, "feature_c": 1.0, "qpu": "aer", "gradient": "adjoint"},
}


def test_there_are_the_three_presets():
    assert cli.preset_names() == sorted(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_as_published(name):
    config = parse_train(["--preset", name]).config
    expected = {**SYSTEM, **PRESETS[name]}
    if name != "tuned":
        expected |= {"mapping_activation": "none", "logit_penalty": 0.0}
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_line_of_a_preset_says_where_its_value_is_from(name):
    lines = (Path(cli.__file__).parent / "presets" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) > 10
    assert [line for line in lines if not re.search(r"# .{3,}", line)] == []


def test_help_lists_every_flag_and_ends_well(capsys):
    with pytest.raises(SystemExit) as ended:
        train_module.main(["--layers", "3", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    flags = [f"--{name.replace('_', '-')}" for name in FIELDS]
    for flag in [*flags, "--preset", "--config", "--run-dir", "--resume"]:
        found = re.search(rf"^ +{flag}(?= ).*\n?(.*)", out, re.MULTILINE)
        assert found, flag
    assert "Step size." in out
    assert "tuned" in out


@pytest.mark.parametrize("command", [export.main, evaluate.main])
def test_help_of_the_other_commands_ends_well(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command(["--help"])
    assert ended.value.code == 0
    assert "usage: qtrl_hpc." in capsys.readouterr().out


# --- environment and run directory: refused by train() itself, in one process ---


class Alone:
    """The one rank of a world in which nothing needs MPI until the run has been accepted."""

    rank, size = 0, 1

    def agree(self, step):
        return step()


REFUSED_BY_TRAIN = {
    "no such environment": ({"env_id": "Bogus-v1"}, ["--env-id", "'Bogus-v1'", "expected"]),
    "no such version": ({"env_id": "CartPole-v99"}, ["--env-id", "'CartPole-v99'", "expected"]),
    "no such minigrid": ({"env_id": "MiniGrid-Bogus-v0"}, ["--env-id", "'MiniGrid-Bogus-v0'", "expected"]),
    "no such module": ({"env_id": "bogus:X-v0"}, ["--env-id", "'bogus:X-v0'", "expected"]),
    "malformed name": ({"env_id": "a b!"}, ["--env-id", "'a b!'", "expected"]),
    "malformed module": ({"env_id": "..:X-v0"}, ["--env-id", "'..:X-v0'", "expected"]),
    "two colons": ({"env_id": "::"}, ["--env-id", "'::'", "expected"]),
    "continuous actions": ({"env_id": "Pendulum-v1"}, ["--env-id", "Pendulum-v1", "expected discrete"]),
    "observation that cannot be flattened": (
        {"env_id": "Blackjack-v1"},
        ["--env-id", "Blackjack-v1", "expected a box"],
    ),
    "more actions than there are": ({"num_actions": 3}, ["--num-actions", "got 3", "at most 2"]),
}


@pytest.mark.parametrize(("values", "words"), REFUSED_BY_TRAIN.values(), ids=REFUSED_BY_TRAIN)
def test_environment_that_does_not_fit_is_refused_before_anything_is_written(values, words, folder):
    options = TrainOptions(config=dataclasses.replace(CARTPOLE, **values), run_dir=folder / "run", resume=False)
    with pytest.raises(UserError) as caught:
        training.train(Alone(), options, None)
    text = str(caught.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text
    assert contents(folder) == {}


# --- export and evaluate ---


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint and a policy file of a CartPole run that never trained."""
    folder = tmp_path_factory.mktemp("files")
    spec = policy_spec(make_environment(CARTPOLE.env_id), CARTPOLE, CARTPOLE)
    generator = make_generator(CARTPOLE, spec)
    state = training.initial_state(generator, CARTPOLE)
    theta = generator(state.Theta)
    Checkpoint(state=state, theta=theta, config=CARTPOLE, policy_spec=spec, num_agents=1, world_size=1).save(
        folder / "checkpoint.h5"
    )
    PolicyFile(theta=theta, spec=spec, env_id=CARTPOLE.env_id, provenance={}).save(folder / "policy.h5")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def beside(folder, files):
    """The same files in the folder that the command runs in, and damaged ones."""
    for name, content in files.items():
        Path(name).write_bytes(content)
        Path(f"short-{name}").write_bytes(content[: len(content) // 2])
        flipped = bytearray(content)
        flipped[content.index(_theta_bytes(name))] ^= 1
        Path(f"flipped-{name}").write_bytes(flipped)
    Path("text.h5").write_text("not HDF5")
    Path("folder.h5").mkdir()
    Path("folder").mkdir()
    attributes, data = hdf5.read(Path("policy.h5"), format="qtrl_hpc-policy", format_version=1)
    hdf5.write(Path("newer.h5"), format="qtrl_hpc-policy", format_version=2, attributes=attributes, datasets=data)
    attributes, data = hdf5.read(Path("checkpoint.h5"), format="qtrl_hpc-checkpoint", format_version=1)
    hdf5.write(
        Path("newer-checkpoint.h5"),
        format="qtrl_hpc-checkpoint",
        format_version=2,
        attributes=attributes,
        datasets=data,
    )
    return folder


def _theta_bytes(name):
    path = Path(name)
    kind = "qtrl_hpc-policy" if "policy" in name else "qtrl_hpc-checkpoint"
    return hdf5.read(path, format=kind, format_version=1)[1]["/theta"].tobytes()


BAD_EXPORTS = [
    ([], ["source", "--output"]),
    (["checkpoint.h5"], ["--output"]),
    (["checkpoint.h5", "--output"], ["--output", "expected"]),
    (["checkpoint.h5", "--output", "p.h5", "--bogus"], ["--bogus"]),
    (["checkpoint.h5", "--out", "p.h5"], ["--out"]),
    (["none.h5", "--output", "p.h5"], ["none.h5", "no such file", "expected a qtrl_hpc-checkpoint"]),
    (["folder", "--output", "p.h5"], ["folder/checkpoint.h5", "no such file", "expected"]),
    (["text.h5", "--output", "p.h5"], ["text.h5", "no HDF5 file", "expected"]),
    (["policy.h5", "--output", "p.h5"], ["policy.h5", "qtrl_hpc-policy", "expected a qtrl_hpc-checkpoint"]),
    (["short-checkpoint.h5", "--output", "p.h5"], ["short-checkpoint.h5", "damaged", "expected"]),
    (["flipped-checkpoint.h5", "--output", "p.h5"], ["flipped-checkpoint.h5", "damaged"]),
    (["newer-checkpoint.h5", "--output", "p.h5"], ["newer-checkpoint.h5", "version 2", "expected at most 1"]),
    (["checkpoint.h5", "--output", "p.txt"], ["--output", "got p.txt", "expected", ".h5"]),
    (["checkpoint.h5", "--output", "none/p.h5"], ["--output", "got none/p.h5"]),
    (["checkpoint.h5", "--output", "text.h5/p.h5"], ["--output", "got text.h5/p.h5"]),
    (["checkpoint.h5", "--output", "folder.h5"], ["--output", "got folder.h5"]),
    (["checkpoint.h5", "--output", "checkpoint.h5"], ["--output", "got checkpoint.h5"]),
    (["checkpoint.h5", "--output", "folder/../checkpoint.h5"], ["--output"]),
    (["checkpoint.h5", "--output", f"{'x' * 300}.h5"], ["--output"]),
]
BAD_EVALUATIONS = [
    ([], ["policy"]),
    (["policy.h5", "--bogus"], ["--bogus"]),
    (["policy.h5", "--episode", "3"], ["--episode"]),
    (["policy.h5", "--episodes", "0"], ["--episodes", "got '0'", "at least 1"]),
    (["policy.h5", "--episodes", "-1"], ["--episodes", "expected"]),
    (["policy.h5", "--episodes", "1.5"], ["--episodes", "got '1.5'", "whole number"]),
    (["policy.h5", "--episodes", "nan"], ["--episodes", "got 'nan'", "whole number"]),
    (["policy.h5", "--seed", "x"], ["--seed", "got 'x'", "at least 0"]),
    (["policy.h5", "--device", "bogus"], ["--device", "got 'bogus'", "expected cpu"]),
    (["policy.h5", "--device", "meta"], ["--device", "got 'meta'", "expected cpu"]),
    (["policy.h5", "--env-id", "Bogus-v1"], ["--env-id", "'Bogus-v1'", "expected"]),
    (["policy.h5", "--env-id", "Pendulum-v1"], ["policy.h5", "Pendulum-v1"]),
    (["policy.h5", "--env-id", "MiniGrid-Empty-5x5-v0"], ["policy.h5", "MiniGrid-Empty-5x5-v0", "(4,)"]),
    (["policy.h5", "--env-id", "Acrobot-v1"], ["policy.h5", "Acrobot-v1", "(4,)"]),
    (["none.h5"], ["none.h5", "no such file", "expected a qtrl_hpc-policy"]),
    (["folder"], ["folder", "expected a qtrl_hpc-policy"]),
    (["text.h5"], ["text.h5", "no HDF5 file", "expected"]),
    (["checkpoint.h5"], ["checkpoint.h5", "qtrl_hpc-checkpoint", "expected a qtrl_hpc-policy"]),
    (["short-policy.h5"], ["short-policy.h5", "damaged"]),
    (["flipped-policy.h5"], ["flipped-policy.h5", "damaged"]),
    (["newer.h5"], ["newer.h5", "version 2", "expected at most 1"]),
]


@pytest.mark.parametrize(
    ("command", "argv", "words"),
    [(export.main, *case) for case in BAD_EXPORTS] + [(evaluate.main, *case) for case in BAD_EVALUATIONS],
    ids=[
        f"{name} {' '.join(argv)[:60]}"
        for name, cases in (("export", BAD_EXPORTS), ("evaluate", BAD_EVALUATIONS))
        for argv, _ in cases
    ],
)
def test_bad_input_of_export_and_evaluate_is_one_line_and_nothing_written(beside, command, argv, words, capfd):
    before = contents(beside)
    assert command(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    assert [word for word in words if word.lower() not in err.lower()] == [], err
    assert contents(beside) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_export_to_a_folder_that_is_not_writable_is_refused(beside, capsys):
    Path("folder").chmod(0o500)
    assert export.main(["checkpoint.h5", "--output", "folder/p.h5"]) == 2
    assert "--output: got folder/p.h5" in capsys.readouterr().err
    assert os.listdir("folder") == []


def test_under_a_launcher_one_process_alone_does_the_work(beside, monkeypatch, capfd):
    before = contents(beside)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert export.main(["checkpoint.h5", "--output", "p.h5"]) == evaluate.main(["policy.h5"]) == 0
    assert capfd.readouterr() == ("", "")
    assert contents(beside) == before


def test_ctrl_c_ends_a_command_with_one_line(capfd):
    def pressed(argv):
        raise KeyboardInterrupt

    assert command.run_refusing(pressed, []) == 130
    assert capfd.readouterr() == ("", "interrupted\n")


def test_misspelt_flag_of_evaluate_is_guessed(beside, capsys):
    assert evaluate.main(["policy.h5", "--episods", "3"]) == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --episods 3 (did you mean --episodes?)\n"


def test_export_does_not_overwrite_a_checkpoint(beside, capsys):
    Path("checkpoint-0000000001.h5").write_bytes(Path("checkpoint.h5").read_bytes())
    before = contents(beside)
    assert export.main([".", "--output", "checkpoint-0000000001.h5"]) == 2
    assert "--output: got checkpoint-0000000001.h5" in capsys.readouterr().err
    assert contents(beside) == before


def test_policy_of_too_many_actions_is_refused(beside, capsys):
    """MountainCar has observations of 2 numbers and 3 actions."""
    spec = dataclasses.replace(PolicyFile.load(Path("policy.h5")).spec, obs_shape=(2,), num_actions=4)
    PolicyFile(theta=np.zeros(spec.num_parameters), spec=spec, env_id="MountainCar-v0", provenance={}).save(
        Path("p.h5")
    )
    assert evaluate.main(["p.h5"]) == 2
    assert re.fullmatch(r"error: p\.h5: chooses among .*, but MountainCar-v0 has .*\n", capsys.readouterr().err)
