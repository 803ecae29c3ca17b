"""YAML that a stranger may write: read within bounds, or refused."""

import json
import os
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qtrl_hpc import yaml_text
from qtrl_hpc.cli import parse_train
from qtrl_hpc.errors import UserError
from qtrl_hpc.noise import NoiseSettings, read_noise

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
LAST = "learning_rate: *a9\n"

REFUSED = {
    "aliases that unfold to 9^10 words": BOMB + LAST,
    "list within itself": "layers: &a [*a]\n",
    "deep": "layers: " + "[" * 300_000,
    "many parts": "layers: [" + "1," * 200_000 + "]\n",
    "endless number": "layers: " + "9" * 500_000,
    "endless hexadecimal number": "layers: 0x" + "f" * 500_000,
    "endless number to the base 60": "layers: " + "1:" * 200_000 + "1",
    "too large": "# " + "x" * yaml_text.MOST_BYTES,
    "value that is not what its tag says": "layers: !!bool x\n",
    "date that is none": "layers: !!timestamp x\n",
    "command": "layers: !!python/object/apply:os.system ['touch pwned']\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_is_refused_at_once_as_configuration_and_as_noise(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        parse_train([f"--config={path}"])
    with pytest.raises(ValueError, match=str(path)) as noise:
        read_noise(str(path))
    assert time.process_time() - began < 60.0
    for error in (caught, noise):
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1500
    assert str(caught.value).startswith(f"{path}: ")
    assert os.listdir(tmp_path) == ["file.yaml"]


@pytest.mark.parametrize("key", ["config", "__path__", "bogus", "3", "class_path"])
def test_key_that_is_no_flag_is_refused_and_names_no_further_file(tmp_path, key):
    secret, path = tmp_path / "secret", tmp_path / "file.yaml"
    secret.write_text("layers: 3\n")
    path.write_text(f"{key}: {secret}\n")
    with pytest.raises(UserError, match=rf"{path}: got the key '{key}', expected names of flags"):
        parse_train([f"--config={path}"])


def test_what_is_no_regular_file_is_not_read(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, "/dev/zero"):
        with pytest.raises(ValueError, match="is no regular file"):
            read_noise(str(path))
    (tmp_path / "file.yaml").write_text("noise: /dev/zero\n")
    with pytest.raises(UserError, match="is no regular file"):
        parse_train([f"--config={tmp_path / 'file.yaml'}"])


@pytest.mark.parametrize("value", ["9" * 30, "0x" + "f" * 90, "-" + "9" * 30])
def test_whole_number_beyond_64_bits_is_refused_by_name(tmp_path, value):
    path = tmp_path / "file.yaml"
    path.write_text(f"layers: {value}\n")
    with pytest.raises(UserError, match="--layers: got"):
        parse_train([f"--config={path}"])


def test_whole_number_beyond_any_float_is_refused_as_noise(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("t1: 0x" + "f" * 80 + "\none_qubit_time: 1.0\n")
    read_noise(str(path))
    path.write_text("{" + ", ".join(f"{name}: {10**400}" for name in ("t1", "one_qubit_time")) + "}")
    with pytest.raises(ValueError, match="a number of 401 characters"):
        read_noise(str(path))
    with pytest.raises(ValueError, match="t1: got 1000"):
        NoiseSettings(t1=10**400, one_qubit_time=1.0)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_come_back(value):
    text = yaml.safe_dump(value)
    assert repr(yaml_text.load(text)) == repr(yaml.safe_load(text))


@given(st.text(st.sampled_from("abn01e.-+ \n\t:,[]{}&*!|>'\"%@#?~<=_\\x\0\ud800é"), max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        yaml_text.load(text)
    except (ValueError, yaml.YAMLError):
        return


@given(
    st.dictionaries(st.sampled_from(["layers", "seed", "noise", "policy_hidden_sizes", "qpu", "learning_rate"]), VALUES)
)
def test_any_values_of_flags_are_read_or_refused_in_one_line(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("any") / "file.yaml"
    path.write_text(json.dumps(values))
    try:
        parse_train([f"--config={path}"])
    except UserError as error:
        refusal = str(error)
    else:
        return
    assert refusal.startswith(f"{path}: ")
    assert "\n" not in refusal
