"""What --noise may say, and how it is kept."""

import json

import numpy as np
import pytest

from qtrl_hpc.noise import NoiseSettings, noise_settings, read_noise, settings_of

FILE = """\
one_qubit_rate: 3.0e-4
two_qubit_rate: 3.0e-3
t1: 1.0e-4
t2: 8.0e-5
one_qubit_time: 35e-9
two_qubit_time: 3.0e-7
readout_error: [0.01, 1e-2]
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text, name="noise.yaml": (tmp_path / name).write_text(text) and name


def test_file_is_replaced_by_its_numbers(write):
    text = read_noise(write(FILE))
    write("{}")  # what was in it is kept, not its name
    [found] = noise_settings(text)
    assert (found.one_qubit_rate, found.two_qubit_rate, found.t1, found.t2) == (3e-4, 3e-3, 1e-4, 8e-5)
    assert (found.one_qubit_time, found.two_qubit_time, found.readout_error) == (3.5e-8, 3e-7, (0.01, 0.01))
    assert read_noise(text) == text, "what a run keeps is read again at --resume"


def test_one_for_all_or_one_for_each(write):
    write("two_qubit_rate: 0.1\n", "a.yaml")
    text = read_noise("[a.yaml, {readout_error: [0.1, 0.2]}, 'fake:FakeManilaV2', {}]")
    found = settings_of(text, 4)
    assert [each.two_qubit_rate for each in found] == [0.1, 0, 0, 0]
    assert (found[1].readout_error, found[2].fake, found[3]) == ((0.1, 0.2), "FakeManilaV2", NoiseSettings())
    with pytest.raises(ValueError, match="got a list of 4, expected one for each of the 3 agents"):
        settings_of(text, 3)
    assert settings_of(read_noise("a.yaml"), 3) == [NoiseSettings(two_qubit_rate=0.1)] * 3
    assert settings_of(read_noise(write("- two_qubit_rate: 0.1\n- {}\n")), 2)[1] == NoiseSettings()


def test_fake_needs_no_file():
    assert noise_settings(read_noise("fake:FakeManilaV2")) == [NoiseSettings(fake="FakeManilaV2")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("two_qubit_rat: 0.1", ["two_qubit_rat", "expected some of one_qubit_rate, two_qubit_rate"]),
        ("two_qubit_rate: -0.1", ["two_qubit_rate: got -0.1", "at least 0 and at most 1"]),
        ("one_qubit_rate: 1.01", ["one_qubit_rate: got 1.01", "at most 1"]),
        ("one_qubit_rate: .nan", ["one_qubit_rate: got nan"]),
        ("one_qubit_rate: true", ["one_qubit_rate: got True"]),
        ("one_qubit_rate:", ["one_qubit_rate: got None"]),
        ("readout_error: 1.5", ["readout_error: got 1.5", "at most 1"]),
        ("readout_error: [0.1, 0.2, 0.3]", ["readout_error: got [0.1, 0.2, 0.3]", "a list of two"]),
        ("t1: 0\none_qubit_time: 1", ["t1: got 0", "above 0"]),
        ("t1: 1\nt2: 2.5\none_qubit_time: 1", ["t2: got 2.5", "at most 2·t1 = 2"]),
        ("t1: 1", ["t1, t2", "expected seconds that gates take"]),
        ("one_qubit_time: 1", ["one_qubit_time", "expected either"]),
        ("spread: -1", ["spread: got -1", "at least 0"]),
        ("fake: FakeManilaV2\nspread: 0.1", ["fake: got 'FakeManilaV2'", "alone"]),
        ("just text", ["expected lines KEY: VALUE"]),
        ("3", ["expected lines KEY: VALUE"]),
        ("spread: 1000", ["spread: got 1000", "at least 0 and at most 3"]),
        (f"t1: {'9' * 400}\none_qubit_time: 1", ["a number of 400 characters"]),
        ("readout_error: &a [*a, 0.1]", ["got an alias (*), expected YAML without"]),
        ("two_qubit_rate: 0.1\ntwo_qubit_rate: 0.2", ["the key 'two_qubit_rate' comes twice"]),
        ("[noise.yaml]", ["a list with the settings of each agent"]),
        ("[" * 2000, ["not YAML"]),
        ("[]", ["a list with the settings of each agent"]),
        ("[[{}]]", ["a list with the settings of each agent"]),
        ("a: [1", ["not YAML"]),
        ("!!python/object/apply:os.mkdir [owned]", ["not YAML"]),
    ],
)
def test_bad_file_is_refused_in_one_line_that_names_it(write, text, words, tmp_path):
    with pytest.raises(ValueError, match=r"^noise\.yaml: ") as caught:
        read_noise(write(text))
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], caught.value
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "owned").exists()


def test_list_that_names_a_file_with_a_list_is_refused(write):
    write("[{}, {}]", "list.yaml")
    with pytest.raises(
        ValueError, match=r"list\.yaml: got \[{}, {}\], expected a list with the settings of each agent"
    ):
        read_noise("[{}, list.yaml]")


def test_list_of_lists_of_lists_is_refused_at_once(write):
    """Each names the one before ten times: written out it would be 10^40 numbers."""
    lines = ["- &a0 [0.1]", *(f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 40))]
    with pytest.raises(ValueError, match="got an alias"):
        read_noise(write("\n".join(lines)))


def test_file_that_a_file_names_is_looked_for_beside_it(write, tmp_path):
    (tmp_path / "folder").mkdir()
    write("two_qubit_rate: 0.1", "folder/a.yaml")
    write("[a.yaml, {}]", "folder/list.yaml")
    assert noise_settings(read_noise("folder/list.yaml"))[0].two_qubit_rate == 0.1
    assert noise_settings(read_noise("a.yaml", tmp_path / "folder"))[0].two_qubit_rate == 0.1
    with pytest.raises(ValueError, match=r"^got 'a\.yaml', expected fake:NAME or a YAML file that can be read$"):
        read_noise("[a.yaml]")


def test_spread_makes_agents_differ_around_the_numbers_given():
    settings = NoiseSettings(
        two_qubit_rate=3e-3, t1=1e-4, t2=1.5e-4, two_qubit_time=3e-7, readout_error=(0.01, 0.02), spread=0.5
    )
    drawn = [settings.drawn(np.random.default_rng([7, agent])) for agent in range(400)]
    assert drawn[3] == settings.drawn(np.random.default_rng([7, 3])) != drawn[4]
    for name in ("two_qubit_rate", "t1", "two_qubit_time"):
        factors = np.log([getattr(each, name) / getattr(settings, name) for each in drawn])
        assert abs(factors.mean()) < 4 * 0.5 / 20
        assert factors.std() == pytest.approx(0.5, rel=0.15)
    assert all(each.t2 <= 2 * each.t1 and each.spread == 0 for each in drawn)
    assert NoiseSettings(two_qubit_rate=0.1).drawn(np.random.default_rng(0)) == NoiseSettings(two_qubit_rate=0.1)
    worst = NoiseSettings(two_qubit_rate=0.9, readout_error=(0.9, 0.9), spread=3.0).drawn(np.random.default_rng(1))
    assert max(worst.two_qubit_rate, *worst.readout_error) <= 1.0


def test_settings_are_kept_without_what_is_default():
    assert json.loads(read_noise("{one_qubit_rate: 0.0, two_qubit_rate: 0.5}")) == {"two_qubit_rate": 0.5}
