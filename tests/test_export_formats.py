"""The same policy in three formats, its card, and acting without a training package around it."""

import hashlib
import json
import os
import shlex
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from safetensors import safe_open
from support import QUICK, train

from qtrl_hpc import evaluate, export, infer, onnx_export, onnx_format, safetensors_format
from qtrl_hpc.errors import UserError
from qtrl_hpc.inference import Policy, load_policy, parameter_shapes
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.policy_file import PolicyFile

ROOT = Path(__file__).parents[1]
SUFFIXES = (".h5", ".safetensors", ".onnx")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    train(path, *QUICK, "--updates=5", "--seed=3")
    return path


@pytest.fixture(scope="module")
def exported(run_dir):
    """The folder of a policy in all formats with its card."""
    outputs = [f"--output={run_dir.parent / f'policy{suffix}'}" for suffix in SUFFIXES]
    assert export.main([str(run_dir), *outputs, "--license=CC-BY-4.0"]) == 0
    return run_dir.parent


def hand_made():
    """Two numbers in, hidden unit max(0, s0 + 2 s1 - 1), logits (h, 2 - h): by hand, scale 1/2."""
    spec = PolicySpec(
        obs_shape=(2,),
        hidden_sizes=(1,),
        num_actions=2,
        activation="relu",
        observation_key=None,
        observation_scale=0.5,
    )
    return PolicyFile(theta=np.array([1.0, 2, -1, 1, -1, 0, 2]), spec=spec, env_id="Test-v0", provenance={})


def in_formats(file, folder):
    policy = Policy(file.spec, file.theta)
    shapes = parameter_shapes(policy)
    file.save(folder / "p.h5")
    (folder / "p.safetensors").write_bytes(file.to_safetensors(shapes))
    (folder / "p.onnx").write_bytes(onnx_export.encode(onnx_export.to_onnx(policy), file.texts(shapes)))
    return [folder / f"p{suffix}" for suffix in SUFFIXES]


def run_onnx(path, observations):
    session = onnxruntime.InferenceSession(path)
    return session.run(["logits", "probabilities"], {"observation": observations.astype(np.float32)})


def test_numbers_worked_out_by_hand(tmp_path):
    """s = (4, 2)/2 = (2, 1): h = 2 + 2 - 1 = 3, logits (3, -1). s = (0, 0): h = 0, logits (0, 2)."""
    paths = in_formats(hand_made(), tmp_path)
    observations = np.array([[4.0, 2.0], [0.0, 0.0]])
    expected = [[1 / (1 + np.exp(-4)), 1 / (1 + np.exp(4))], [1 / (1 + np.exp(2)), 1 / (1 + np.exp(-2))]]
    for path in paths:
        np.testing.assert_allclose(load_policy(path).probabilities(observations), expected, rtol=0, atol=1e-15)
    logits, probabilities = run_onnx(paths[2], observations)
    np.testing.assert_array_equal(logits, [[3.0, -1.0], [0.0, 2.0]])
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_onnx_runtime_gives_the_policys_probabilities_for_raw_images(tmp_path, activation):
    spec = PolicySpec(
        obs_shape=(3, 2, 2),
        hidden_sizes=(6, 5),
        num_actions=4,
        activation=activation,
        observation_key="image",
        observation_scale=0.1,
    )
    theta = np.random.default_rng(0).normal(size=spec.num_parameters)
    paths = in_formats(PolicyFile(theta=theta, spec=spec, env_id="x", provenance={}), tmp_path)
    images = np.random.default_rng(1).integers(0, 256, size=(50, 3, 2, 2))
    probabilities = run_onnx(paths[2], images)[1]
    expected = load_policy(paths[0]).probabilities(images)
    assert np.abs(probabilities - expected).max() <= 1e-6
    np.testing.assert_array_equal(probabilities.argmax(axis=1), load_policy(paths[0]).act(images))
    assert run_onnx(paths[2], images[:1])[1].shape == (1, 4)


def test_trained_policy_is_the_same_in_all_formats(exported):
    first, *others = [PolicyFile.load(exported / f"policy{suffix}") for suffix in SUFFIXES]
    for other in others:
        assert other.theta.tobytes() == first.theta.tobytes()
        assert (other.spec, other.env_id, other.provenance) == (first.spec, first.env_id, first.provenance)
    observations = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    expected = load_policy(exported / "policy.h5").probabilities(observations)
    assert np.abs(run_onnx(exported / "policy.onnx", observations)[1] - expected).max() <= 1e-6


def test_metadata_is_as_documented(exported):
    with safe_open(exported / "policy.safetensors", framework="numpy") as file:
        texts = file.metadata()
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118
            "0.weight": (8, 4),
            "0.bias": (8,),
            "2.weight": (2, 8),
            "2.bias": (2,),
        }
    model = onnx.load(exported / "policy.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == texts
    assert set(texts) == {
        *("format", "format_version", "policy_spec", "env_id", "provenance", "parameters", "digest"),
    }
    assert (texts["format"], texts["format_version"], texts["env_id"]) == ("qtrl_hpc-policy", "1", "CartPole-v1")
    assert json.loads(texts["parameters"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert str(ROOT) not in str(model)  # no folders of the machine that exported it


def test_evaluation_is_in_the_file_and_is_what_evaluate_finds(exported, capsys):
    kept = PolicyFile.load(exported / "policy.onnx").provenance["evaluation"]
    capsys.readouterr()
    for suffix in SUFFIXES:
        path = str(exported / f"policy{suffix}")
        assert evaluate.main([path, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**kept, "policy": path}


# --- the card


def front_matter(path):
    return yaml.safe_load(path.read_text().split("---\n")[1])


def test_card_says_what_a_stranger_needs(exported):
    path, found = exported / "policy.md", PolicyFile.load(exported / "policy.h5").provenance["evaluation"]
    text, values = path.read_text(), front_matter(path)
    assert values["license"] == "cc-by-4.0"
    metric = values["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == pytest.approx(found["reward_mean"], abs=1e-9)
    assert metric["args"]["interval_95"] == [found["reward_low"], found["reward_high"]]
    interval = f"{found['reward_low']:.4f} to {found['reward_high']:.4f}"
    for words in ("2412.08845", "5 updates, 1 agents", "4-8-2 with relu, 58 weights", interval, "CC-BY-4.0"):
        assert words in text, words
    for suffix in SUFFIXES:
        assert hashlib.sha256((exported / f"policy{suffix}").read_bytes()).hexdigest() in text
    assert "  - `layers: 1`" in text
    for heading in ("Training", "Reward", "Intended use and limits", "Files", "How to run it", "Licence", "Versions"):
        assert f"\n## {heading}\n" in text


def test_card_that_somebody_changed_is_kept(run_dir, tmp_path, capsys):
    arguments = [str(run_dir), f"--output={tmp_path / 'p.h5'}", "--episodes=2"]
    assert export.main(arguments) == export.main(arguments) == 0
    assert "left as it is" not in capsys.readouterr().err
    changed = (tmp_path / "p.md").read_text().replace("not stated", "mine")
    for text in (changed, "notes of my own\n"):
        (tmp_path / "p.md").write_text(text)
        assert export.main(arguments) == 0
        assert (tmp_path / "p.md").read_text() == text
        assert f"warning: {tmp_path / 'p.md'} is not as an export wrote it" in capsys.readouterr().err


def test_card_of_a_file_with_a_strange_name_can_be_copied_from(run_dir, tmp_path):
    path = tmp_path / "my 'best\" one.h5"
    assert export.main([str(run_dir), f"--output={path}", "--episodes=0"]) == 0
    text = path.with_suffix(".md").read_text()
    [command] = [line for line in text.splitlines() if line.startswith("python -m qtrl_hpc.infer")]
    assert shlex.split(command)[3] == path.name
    assert f"load_policy({json.dumps(path.name)})" in text


def test_card_without_an_evaluation_says_so(run_dir, tmp_path):
    assert export.main([str(run_dir), f"--output={tmp_path / 'p.h5'}", "--episodes=0"]) == 0
    assert "Not evaluated: --episodes 0" in (tmp_path / "p.md").read_text()
    values = front_matter(tmp_path / "p.md")
    assert "model-index" not in values
    assert "license" not in values


def test_environment_that_is_missing_does_not_cost_the_policy(run_dir, tmp_path, monkeypatch, capsys):
    def missing(env_id, render_mode=None):
        raise UserError("--env-id: is missing here")

    monkeypatch.setattr(export, "make_environment", missing)
    arguments = [str(run_dir), f"--output={tmp_path / 'p.h5'}"]
    assert export.main(arguments) == 0
    assert "warning: not evaluated: --env-id: is missing here" in capsys.readouterr().err
    PolicyFile.load(tmp_path / "p.h5")
    (tmp_path / "p.h5").unlink()
    (tmp_path / "p.md").unlink()
    assert export.main([*arguments, "--env-id=Elsewhere-v0"]) == 2
    assert list(tmp_path.iterdir()) == []


# --- what is refused


def test_onnx_model_that_differs_is_not_written(run_dir, tmp_path, monkeypatch, capsys):
    whole = onnx_export.to_onnx

    def other_graph(policy):
        model = whole(policy)
        for node in model.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Tanh"
        return model

    monkeypatch.setattr(export, "to_onnx", other_graph)
    outputs = [f"--output={tmp_path / name}" for name in ("p.h5", "p.onnx")]
    assert export.main([str(run_dir), *outputs]) == 1
    assert "probabilities differ by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_one_line(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export.main([str(run_dir), f"--output={tmp_path / 'p.onnx'}"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pip install 'qtrl_hpc[onnx]'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["other.onnx", "other.safetensors"])
def test_file_of_another_kind_is_not_overwritten(run_dir, tmp_path, name, capsys):
    (tmp_path / name).write_bytes(b"\x08\x07" if name.endswith("onnx") else struct.pack("<Q", 2) + b"{}")
    before = (tmp_path / name).read_bytes()
    assert export.main([str(run_dir), f"--output={tmp_path / name}"]) == 2
    assert "which exists and is no policy file" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


def test_every_changed_byte_is_refused_or_changes_nothing_that_is_read(tmp_path):
    file = hand_made()
    for path in in_formats(file, tmp_path)[1:]:
        whole, refused = path.read_bytes(), 0
        for place in range(len(whole)):
            changed = bytearray(whole)
            changed[place] ^= 0x11
            path.write_bytes(changed)
            try:
                read = PolicyFile.load(path)
            except UserError:
                refused += 1
            else:
                assert read.theta.tobytes() == file.theta.tobytes()
                assert (read.spec, read.env_id, read.provenance) == (file.spec, file.env_id, file.provenance)
        assert refused > len(whole) / 3  # the rest is ONNX's graph, which is not read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 2**63) + b"{", "claims 9223372036854775808 bytes"),
        (struct.pack("<Q", 100) + b"{}", "header"),
        (struct.pack("<Q", 10_000) + b"{" + b"[" * 9_999, "header"),
    ],
)
def test_safetensors_header_is_checked_before_it_is_read(content, words):
    with pytest.raises(ValueError, match=words):
        safetensors_format.decode(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.dims.append(2**62), "another shape"),
        (lambda tensor: tensor.external_data.add(key="location", value="/etc/passwd"), "another file"),
        (lambda tensor: tensor.dims.extend([1] * 40), "another shape"),
    ],
    ids=["huge", "external", "dimensions"],
)
def test_onnx_array_that_is_not_in_the_file_is_refused(change, words):
    policy = Policy(hand_made().spec, hand_made().theta)
    model = onnx_export.to_onnx(policy)
    change(next(tensor for tensor in model.graph.initializer if tensor.name == "0.weight"))
    with pytest.raises(ValueError, match=words):
        onnx_format.decode(model.SerializeToString())


# --- acting


BLOCKED = """
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Refuse())
"""


def blocked(names, program, *argv):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=names) + program, *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("script", "suffix", "missing"),
    [
        ("torch_alone.py", ".safetensors", {"qtrl_hpc"}),
        ("onnxruntime_alone.py", ".onnx", {"qtrl_hpc", "torch"}),
        ("numpy_alone.py", ".h5", {"qtrl_hpc", "torch"}),
    ],
)
def test_scripts_of_the_docs_act_as_load_policy_does(exported, tmp_path, script, suffix, missing):
    observations = np.random.default_rng(2).normal(size=(40, 4)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    path = exported / f"policy{suffix}"
    program = f"import runpy; runpy.run_path({str(ROOT / 'docs/examples' / script)!r}, run_name='__main__')"
    expected = load_policy(path).act(observations).tolist()
    assert set(expected) == {0, 1}
    found = blocked(missing, program, path, tmp_path / "observations.npy")
    assert [int(word) for word in found.split()] == expected


QUANTUM = {"qiskit", "qiskit_aer", "mpi4py", "numba"}


def test_infer_plays_where_there_is_nothing_quantum_and_no_mpi(exported, capsys):
    path = exported / "policy.onnx"
    program = "from qtrl_hpc import infer; sys.exit(infer.main(sys.argv[1:]))"
    found = blocked(QUANTUM, program, path, "--episodes=3", "--seed=1", "--json")
    assert infer.main([str(path), "--episodes=3", "--seed=1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads(found) == said
    assert [one["reward"] for one in said["episodes"]] == [one["length"] for one in said["episodes"]]
    evaluate.main([str(path), "--episodes=3", "--seed=1", "--json"])
    assert json.loads(capsys.readouterr().out)["reward_mean"] == said["reward_mean"]
    infer.main([str(path), "--episodes=3", "--seed=1"])
    lines = capsys.readouterr().out.splitlines()
    first = said["episodes"][0]
    assert lines[0] == f"episode 0: reward {first['reward']:.4f}, {first['length']} steps"
    assert len(lines) == 4


def test_infer_acts_on_a_file_of_observations(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    policy, path = load_policy(exported / "policy.h5"), str(exported / "policy.h5")
    observations = np.random.default_rng(2).normal(size=(40, 4))
    np.save("o.npy", observations)
    flags = ["--observations=o.npy", "--output=a.npy"]
    assert infer.main([path, *flags, "--greedy"]) == 0
    np.testing.assert_array_equal(np.load("a.npy"), policy.act(observations))
    assert infer.main([path, *flags, "--seed=5"]) == 0
    np.testing.assert_array_equal(np.load("a.npy"), policy.sample(observations, np.random.default_rng(5)))
    assert capsys.readouterr().out.startswith("a.npy: 40 actions: ")
    np.save("objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.save("other.npy", np.zeros((3, 5)))
    np.save("nan.npy", np.full((3, 4), np.nan))
    Path("huge.npy").write_bytes(Path("o.npy").read_bytes().replace(b"(40, 4)", b"(4000000000, 4)"))
    for name in ("objects", "other", "nan", "huge", "none"):
        assert infer.main([path, f"--observations={name}.npy", "--output=b.npy"]) == 2
        assert f"--observations: {'got ' if name != 'other' else ''}{name}.npy" in capsys.readouterr().err
    assert infer.main([path, "--observations=o.npy", "--output=o.npy"]) == 2
    assert "no file of actions" in capsys.readouterr().err
    assert infer.main([path, "--observations=o.npy"]) == 2
    assert not Path("b.npy").exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), ",
        b"x\n  y\n z",
        b"(" * 9000,
        b"'''",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4611686018427387904000), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -12), }",
        b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (12,), }",
        b"{'descr': '<f8', 'fortran_order': False, b'shape': (3, 4), }",
    ],
    ids=["open", "indented", "deep", "quoted", "huge", "negative", "fields", "bytes"],
)
def test_npy_header_that_is_damaged_is_refused_in_one_line(exported, tmp_path, header, capsys):
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(96)
    (tmp_path / "o.npy").write_bytes(content)
    np.save(tmp_path / "whole.npy", np.zeros((3, 4)))
    path = str(exported / "policy.h5")
    for flags in (["o.npy", "a.npy"], ["whole.npy", "o.npy"]):
        names = [tmp_path / name for name in flags]
        assert infer.main([path, f"--observations={names[0]}", f"--output={names[1]}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --o")
        assert error.count("\n") == 1
    assert (tmp_path / "o.npy").read_bytes() == content
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize("flag", ["--episodes=1", "--env-id=CartPole-v1", "--render"])
def test_infer_refuses_what_would_have_no_effect_on_a_file_of_observations(exported, tmp_path, flag, capsys):
    np.save(tmp_path / "o.npy", np.zeros((3, 4)))
    flags = [f"--observations={tmp_path / 'o.npy'}", f"--output={tmp_path / 'a.npy'}", flag]
    assert infer.main([str(exported / "policy.h5"), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {flag.split('=')[0]}: got it beside --observations")
    assert not (tmp_path / "a.npy").exists()


def test_infer_imports_no_module_that_a_file_names(tmp_path, capsys):
    file = hand_made()
    PolicyFile(theta=file.theta, spec=file.spec, env_id="antigravity:X-v0", provenance={}).save(tmp_path / "p.h5")
    assert infer.main([str(tmp_path / "p.h5")]) == 2
    assert "expected --env-id antigravity:X-v0 from you" in capsys.readouterr().err
    assert "antigravity" not in sys.modules


def test_window_without_a_screen_is_refused(exported, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert infer.main([str(exported / "policy.h5"), "--render"]) == 2
    assert "--render: got no display" in capsys.readouterr().err
