"""Files that are written whole or not at all, and read only where they are what they say."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from qtrl_hpc import hdf5
from qtrl_hpc.errors import UserError

KIND = {"format": "qtrl_hpc-test", "format_version": 3}
ATTRIBUTES = {"text": "α β\nγ" * 50, "empty": "", "count": -5, "large": 2**62}
DATASETS = {
    "/group/one": np.array([0.1, -0.0, np.nextafter(1, 2), 5e-324, np.inf, np.nan]),
    "/group/two": np.random.default_rng(0).normal(size=(7, 3)),
    "/none": np.zeros(0),
}


def bits(datasets):
    return {name: (values.shape, values.dtype.str, values.tobytes()) for name, values in datasets.items()}


@pytest.fixture
def path(tmp_path):
    """A whole file."""
    hdf5.write(tmp_path / "file.h5", **KIND, attributes=ATTRIBUTES, datasets=DATASETS)
    return tmp_path / "file.h5"


def refusal(path, **kind):
    with pytest.raises(UserError) as caught:
        hdf5.read(path, **(kind or KIND))
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_round_trip_bit_for_bit(path):
    attributes, datasets = hdf5.read(path, **KIND)
    assert attributes == ATTRIBUTES
    assert {name: type(value) for name, value in attributes.items()} == {n: type(v) for n, v in ATTRIBUTES.items()}
    assert bits(datasets) == bits(DATASETS)


def test_nothing_else_is_left_in_the_folder_and_others_may_read_the_file(path):
    hdf5.write(path, **KIND, attributes={}, datasets={})
    assert os.listdir(path.parent) == ["file.h5"]
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_failed_write_leaves_the_old_file_and_nothing_else(path):
    with pytest.raises(TypeError):
        hdf5.write(path, **KIND, attributes={"text": object()}, datasets=DATASETS)
    assert hdf5.read(path, **KIND)[0] == ATTRIBUTES
    assert os.listdir(path.parent) == ["file.h5"]


def test_file_is_on_disk_before_it_has_its_name_and_the_name_before_write_returns(tmp_path, monkeypatch):
    done = []

    def noting(name):
        original = getattr(os, name)
        return lambda *arguments: (done.append(name), original(*arguments))[1]

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name))
    hdf5.write(tmp_path / "file.h5", **KIND, attributes={}, datasets={})
    assert done == ["fsync", "replace", "fsync"]


def keep_writing(path, start):
    """Write files of equal numbers for ever; the number goes up."""
    for number in range(start, 10**9):
        hdf5.write(path, **KIND, attributes={"number": number}, datasets={"/a": np.full(50_000, float(number))})


def test_writer_killed_at_any_instant_leaves_the_old_file_or_the_new_one(tmp_path):
    path, last, instants = tmp_path / "file.h5", -1, random.Random(0)
    hdf5.write(path, **KIND, attributes={"number": 0}, datasets={"/a": np.zeros(50_000)})
    for kill in range(200):  # a busy machine may let few of them come to write
        if kill >= 20 and last > 0:
            break
        writer = multiprocessing.get_context("fork").Process(target=keep_writing, args=(path, last + 1))
        writer.start()
        time.sleep(instants.uniform(0.005, 0.05 * (1 + kill // 20)))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        attributes, datasets = hdf5.read(path, **KIND)
        assert attributes["number"] >= last
        np.testing.assert_array_equal(datasets["/a"], np.full(50_000, float(attributes["number"])))
        last = attributes["number"]
    assert last > 0, "the writer never came to write"


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.h5").lower()
    assert "expected a qtrl_hpc-test file" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04zip", b"{}\n" * 1000], ids=repr)
def test_another_file_type_is_refused(tmp_path, content):
    path = tmp_path / "file.h5"
    path.write_bytes(content[:100])
    assert "no HDF5 file" in refusal(path)


def test_another_format_and_no_format_are_refused(path):
    text = refusal(path, format="other", format_version=3)
    assert "qtrl_hpc-test" in text
    assert "expected a other file" in text
    for libver, words in (("v110", "got a file of another kind"), ("earliest", "no HDF5 file as we write them")):
        with h5py.File(path, "w", libver=libver) as file:
            file["theta"] = np.zeros(3)
        assert words in refusal(path)


def test_long_name_of_a_format_is_not_repeated(tmp_path):
    path = tmp_path / "file.h5"
    hdf5.write(path, format="x" * 50_000, format_version=3, attributes={}, datasets={})
    assert "got a file of another kind" in refusal(path)


def test_newer_version_is_refused_as_such_and_an_older_one_is_read(path):
    text = refusal(path, format=KIND["format"], format_version=2)
    assert "got format version 3, expected at most 2" in text
    assert "newer" in text
    assert hdf5.read(path, format=KIND["format"], format_version=4)[0] == ATTRIBUTES


def test_file_cut_short_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "damaged" in refusal(path)


FLIPS = """
import sys
from pathlib import Path
import numpy as np
from qtrl_hpc import hdf5
from qtrl_hpc.errors import UserError

path = Path(sys.argv[1])
read = lambda: repr([sorted(part.items()) for part in hdf5.read(path, format="qtrl_hpc-test", format_version=3)])
np.set_printoptions(threshold=sys.maxsize, floatmode="unique")
whole, content, refused = path.read_bytes(), read(), 0
places = np.random.default_rng(0).permutation(8 * len(whole))
for place in sorted(places[:600]):
    changed = bytearray(whole)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    print("bit", place, end=": ", flush=True)
    try:
        assert read() == content, "reads as something else"
    except UserError as error:
        assert str(error).encode().startswith(f"{path}: ".encode()), error
        refused += 1
print("refused", refused)
"""


def test_flipped_bit_is_refused_or_harmless(path):
    """In a process of its own, because HDF5's C code might crash, or never come back."""
    job = [sys.executable, "-c", FLIPS, str(path)]
    try:
        done = subprocess.run(job, capture_output=True, text=True, timeout=100, check=False)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"reading never ends with {error.stdout.decode().split(': ')[-2]} flipped")
    assert done.returncode == 0, done.stdout[-30:] + done.stderr[-1500:]
    assert int(done.stdout.split()[-1]) > 100, "hardly a flip was noticed"


def test_no_part_of_a_file_is_without_a_checksum(path):
    """HDF5's global heap, where text of variable length lives, has none; a bit there can make HDF5 loop for ever."""
    assert b"GCOL" not in path.read_bytes()


def test_heap_that_would_make_hdf5_loop_for_ever_is_refused_unread(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs.update(KIND)  # text of variable length
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)  # free space of size 0: the next object is where this one is
    path.write_bytes(content)
    program = (
        "import sys\nfrom pathlib import Path\nfrom qtrl_hpc import hdf5\n"
        "try: hdf5.read(Path(sys.argv[1]), format='qtrl_hpc-test', format_version=3)\n"
        "except hdf5.UserError as error: print(error)"
    )
    job = [sys.executable, "-c", program, str(path)]
    assert subprocess.run(job, capture_output=True, text=True, timeout=30, check=True).stdout.startswith(f"{path}: ")


def stamp(file):
    """Make a file look like one of ours, but for its content and its digest."""
    file.attrs["format"] = np.bytes_(KIND["format"])
    file.attrs["format_version"] = KIND["format_version"]
    file["good"] = np.zeros(3)


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(".", "good", (3,))
    file.create_virtual_dataset("a", layout)


# What a stranger may put in, and a word of why it is refused before its content is looked at.
FROM_STRANGERS = {
    "soft link": (lambda file: file.__setitem__("a", h5py.SoftLink("/good")), "link"),
    "external link": (lambda file: file.__setitem__("a", h5py.ExternalLink("other.h5", "/good")), "link"),
    "storage in another file": (
        lambda file: file.create_dataset("a", (3,), "f8", external=[("other.h5", 0, 24)]),
        "/a",
    ),
    "virtual dataset": (virtual, "/a"),
    "chunks that claim 80 TB": (lambda file: file.create_dataset("a", (10**13,), "f8", chunks=(10**5,)), "/a"),
    "compressed zeros": (lambda file: file.create_dataset("a", data=np.zeros(10**6), compression="gzip"), "/a"),
    "array that claims 800 GB": (lambda file: file.create_dataset("a", (10**11,), "f8"), "claims more bytes"),
    "group within itself": (lambda file: file.__setitem__("a", file["/"]), ""),
    "integers": (lambda file: file.create_dataset("a", data=np.zeros(3, int)), "/a"),
    "rows of any length": (lambda file: file.create_dataset("a", (3,), h5py.vlen_dtype(np.float64)), "/a"),
    "array without a size": (lambda file: file.create_dataset("a", data=h5py.Empty("f8")), "/a"),
    "data type": (lambda file: file.__setitem__("a", np.dtype("f8")), "/a"),
    "attribute that is an array": (lambda file: file.attrs.__setitem__("a", np.zeros(3, int)), "attribute a"),
    "attribute that is a fraction": (lambda file: file.attrs.__setitem__("a", 0.5), "attribute a"),
    "attribute that is a reference": (lambda file: file.attrs.__setitem__("a", file.ref), "attribute a"),
    "attribute without a value": (lambda file: file.attrs.__setitem__("a", h5py.Empty("S3")), "attribute a"),
    "text of variable length": (lambda file: file.attrs.__setitem__("a", "text"), "attribute a"),
    "text that is none": (lambda file: file.attrs.__setitem__("a", np.bytes_(b"\xff\xfe")), "utf-8"),
    "version that is text": (lambda file: file.attrs.__setitem__("format_version", np.bytes_(b"3")), "version"),
    "no digest": (lambda file: None, "digest"),
}


@pytest.mark.parametrize(("content", "reason"), FROM_STRANGERS.values(), ids=FROM_STRANGERS)
def test_strangers_file_is_refused(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    with h5py.File("other.h5", "w") as file:
        stamp(file)
    with h5py.File("file.h5", "w", libver="latest") as file:
        stamp(file)
        content(file)
    text = refusal(tmp_path / "file.h5")
    assert reason in text
    assert ("digest" in text) == (reason == "digest"), "its content was looked at"


def test_small_file_cannot_claim_much_memory_by_many_names_for_one_array(tmp_path):
    """3000 names for 800 kB: 2.4 GB if each were read."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="latest") as file:
        stamp(file)
        array = file.create_dataset("a", data=np.zeros(100_000))
        for number in range(3000):
            file[f"b{number}"] = array
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom qtrl_hpc import hdf5\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "try: hdf5.read(Path(sys.argv[1]), format='qtrl_hpc-test', format_version=3)\n"
        "except hdf5.UserError as error: print(error)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    refused, kilobytes = done.stdout.splitlines()
    assert refused.startswith(f"{path}: ")
    assert "digest" not in refused
    assert int(kilobytes) < 500_000
