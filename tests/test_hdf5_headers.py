"""HDF5 files whose structure is not ours are refused before HDF5 reads them."""

import os
import random
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from soak import checksums, files
from support import REPOSITORY

from qtrl_hpc import hdf5
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.errors import UserError
from qtrl_hpc.hdf5_headers import check_headers
from qtrl_hpc.policy import PolicySpec
from qtrl_hpc.policy_file import PolicyFile

KIND = {"format": "qtrl_hpc-test", "format_version": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint's bytes."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.h5"
    files.write_checkpoint(path)
    return path.read_bytes()


def test_all_that_we_write_is_in_object_headers(whole):
    check_headers(whole)
    for signature in (b"FRHP", b"BTHD", b"BTLF", b"GCOL", b"TREE", b"HEAP", b"SNOD"):
        assert signature not in whole


@pytest.mark.parametrize("length", [0, 1, 59_999, 60_000, 60_001, 500_000])
def test_long_text_comes_back_from_its_pieces(tmp_path, length):
    path, text = tmp_path / "file.h5", "aä" * length
    hdf5.write(path, **KIND, attributes={"text": text, "more": "x"}, datasets={"/a": np.zeros(3)})
    check_headers(path.read_bytes())
    assert hdf5.read(path, **KIND)[0] == {"text": text, "more": "x"}
    with h5py.File(path) as file:
        assert all(len(file.attrs[name]) <= 60_000 for name in file.attrs if name.startswith("text"))


def test_checksums_found_are_those_of_hdf5(whole):
    """Else what is forged below would be refused for its checksum alone."""
    found = checksums.blocks(whole)
    assert len(found) == whole.count(b"OHDR") + whole.count(b"OCHK") + 1
    changed = bytearray(whole)
    for start, length in found:
        changed[start + length : start + length + 4] = bytes(4)
        checksums.seal(changed, start, length)
    assert changed == whole


@given(st.data())
def test_any_bytes_are_passed_or_refused(whole, data):
    content = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, 2300), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        check_headers(bytes(content[: data.draw(st.integers(0, len(content)))]))
    except ValueError:
        return


def test_attributes_in_a_heap_are_refused_unread(tmp_path):
    """HDF5 2.0 crashes, or asks for gigabytes, where a stranger has changed the B-tree of such a heap."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="v110") as file:
        for number in range(20):
            file.attrs[f"a{number}"] = number
    with pytest.raises(UserError, match="keeps its attributes in a heap") as caught:
        hdf5.read(path, **KIND)
    assert not isinstance(caught.value, hdf5.DamagedError)  # an older file of our own, not to be set aside


def test_address_of_a_heap_that_leads_nowhere_is_damage(tmp_path):
    path = tmp_path / "file.h5"
    hdf5.write(path, **KIND, attributes={}, datasets={"/a": np.zeros(3)})
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff" * 16, content.index(b"OHDR"))  # of an attribute or link info message
    content[place + 2] = 0
    path.write_bytes(content)
    with pytest.raises(hdf5.DamagedError, match="in a heap"):
        hdf5.read(path, **KIND)


def test_older_file_is_rewritten_as_the_page_says(tmp_path):
    page = (REPOSITORY / "docs" / "formats.md").read_text()
    [script] = re.findall(r"```python\n(.*?)```", page, re.S)
    path = tmp_path / "file.h5"
    attributes = {f"a{number}": number for number in range(12)} | {"text": "words"}
    datasets = {"/one": np.arange(3.0), "/group/two": np.ones((2, 2))}
    stored = {**attributes, "format": KIND["format"], "format_version": KIND["format_version"]}
    with h5py.File(path, "w", libver="v110") as file:
        for name, values in datasets.items():
            file[name] = values
        for name, value in {**stored, "digest": hdf5.content_digest(stored, datasets)}.items():
            file.attrs[name] = value if isinstance(value, int) else np.bytes_(value)
    with pytest.raises(UserError, match=r"docs/formats\.md says how"):
        hdf5.read(path, **KIND)
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=60)
    found, arrays = hdf5.read(path, **KIND)
    assert found == attributes
    assert {name: values.tolist() for name, values in arrays.items()} == {
        name: values.tolist() for name, values in datasets.items()
    }


def test_names_in_a_heap_are_refused_unread(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="v110") as file:
        for number in range(20):
            file[f"a{number}"] = np.zeros(1)
    with pytest.raises(UserError, match="keeps its names in a heap"):
        hdf5.read(path, **KIND)


def test_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.h5")
    with pytest.raises(UserError, match="is no regular file"):
        Checkpoint.load(tmp_path / "fifo.h5")


def test_headers_without_end_are_refused(whole):
    """A continuation that goes on with itself."""
    [(start, _)] = [part for part in checksums.blocks(whole) if whole[part[0] :].startswith(b"OCHK")][:1]
    address = start.to_bytes(8, "little")
    changed = bytearray(whole)
    place = changed.index(address)
    length = changed[place + 8 : place + 16]
    changed[start + 4 : start + 4 + 22] = b"\x10\x10\x00\x00" + address + length + b"\0\0"
    with pytest.raises(ValueError, match=r"messages|longer|ends"):
        check_headers(bytes(changed))


SIZE = """
import sys
from pathlib import Path
from qtrl_hpc.checkpoint import Checkpoint
from qtrl_hpc.inference import load_policy
from soak.files import write_policy
now = lambda name: next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))
write_policy(Path(sys.argv[1] + ".small"))
load_policy(sys.argv[1] + ".small")
before = now("VmRSS")
load_policy(sys.argv[1])
print(now("VmHWM") - before)
"""


def test_large_policy_takes_twice_its_size_at_most(tmp_path):
    path = tmp_path / "policy.h5"
    spec = PolicySpec(
        obs_shape=(4000,),
        hidden_sizes=(4000,),
        num_actions=2,
        activation="relu",
        observation_key=None,
        observation_scale=1.0,
    )
    PolicyFile(theta=np.ones(spec.num_parameters), spec=spec, env_id="x", provenance={}).save(path)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = [sys.executable, "-c", SIZE, str(path)]
    taken = int(subprocess.run(job, capture_output=True, text=True, check=True, env=environ).stdout)
    assert taken < 2 * path.stat().st_size + 32 * 2**20
    assert taken > path.stat().st_size, "it was not read"


def test_300_files_damaged_forged_or_made_by_strangers(tmp_path):
    """A few of those that ``make soak`` tries, each read in a process of its own."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom soak.files import Tally, run_batch\ntally = Tally()\n"
        "found = run_batch(0, 0, 300, Path(sys.argv[1]), tally)\n"
        "print(*found, sep='\\n')\n"
        "for end in ('read', 'refused'): print(sum(count for key, count in tally.counts.items() if key[2] == end))\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    job = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(job, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr[-2000:]
    *problems, read, refused = done.stdout.strip().splitlines()
    assert problems == []
    read, refused = int(read), int(refused)
    assert read + refused == 300
    assert read > 30
    assert refused > 150


def test_forged_headers_reach_hdf5_itself(whole, tmp_path):
    """Many pass the first look and have right checksums; HDF5 then takes or refuses them by itself."""
    parts, passed = checksums.blocks(whole), 0
    for number in range(200):
        try:
            check_headers(files.forge(whole, parts, random.Random(number)))
            passed += 1
        except ValueError:
            continue
    assert passed > 50
