"""What a stranger may put into a file: of the right form and digest, but not as we write it."""

import io
import json
import random
import struct
from contextlib import suppress

import h5py
import numpy as np
import onnx

from qtrl_hpc import hdf5, onnx_format, safetensors_format

PWNED = "pwned"


def pwned(folder):
    """Return whether a file made something be run, and forget it."""
    path = folder / PWNED
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


# --- HDF5


def write_hdf5(path, kind, whole, rng):
    """Write a checkpoint or policy with one thing wrong, the digest right where there can be one; return what."""
    attributes, datasets = _parts(whole)
    what = rng.choice([*WRONG])
    image = _new_file(rng)
    with h5py.File(image) as file:
        with suppress(Exception):  # what h5py itself does not let anyone write
            WRONG[what](file, attributes, datasets, rng)
        for name, values in datasets.items():
            if name not in file:
                file.create_dataset(name, data=values)
        try:
            digest = hdf5.content_digest(attributes, datasets)
        except Exception:
            digest = "0" * 64
        for name, value in {**attributes, "digest": digest}.items():
            if name not in file.attrs:
                stored = np.bytes_(value.encode(errors="surrogateescape")) if isinstance(value, str) else value
                with suppress(Exception):
                    file.attrs[name] = stored
        file.flush()
        content = image.get_file_image()
    path.write_bytes(content)
    return what


def _new_file(rng):
    """Return a file in memory, mostly of the format that ours are of, its attributes in the header."""
    access, creation = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    access.set_fapl_core(backing_store=False)
    ours = h5py.h5f.LIBVER_V110
    lowest = rng.choice([ours, ours, ours, ours, h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_EARLIEST])
    access.set_libver_bounds(lowest, ours if lowest == ours else h5py.h5f.LIBVER_LATEST)
    if rng.random() < 0.9:
        creation.set_attr_phase_change(1000, 0)
    return h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, creation, access)


def _parts(whole):
    with h5py.File(io.BytesIO(whole), "r") as file:
        attributes = {}
        for name in file.attrs:
            value = file.attrs[name]
            attributes[name] = value.decode() if isinstance(value, bytes) else int(value)
        datasets = {}
        file.visititems(lambda name, item: datasets.update({f"/{name}": item[()]}) if hasattr(item, "shape") else None)
    del attributes["digest"]
    return attributes, datasets


def _dataset(datasets, rng):
    return rng.choice(sorted(datasets))


def _dtype(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    kinds = ["i8", "f4", ">f8", "S8", "u1", "c16", "f2", "b1", [("a", "f8")], h5py.vlen_dtype(np.float64)]
    kinds += [h5py.string_dtype(), h5py.ref_dtype, h5py.regionref_dtype, h5py.enum_dtype({"a": 1}), "(3,)f8"]
    file.create_dataset(name, shape=datasets[name].shape, dtype=rng.choice(kinds))


def _shape(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    size = max(1, datasets[name].size)
    shape = rng.choice([(), (0,), (size, 1), (1, size), (size + 1,), (1,) * 32, (size, 0), (2, size)])
    datasets[name] = np.zeros(shape)


def _huge(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    shape = rng.choice([(2**40,), (2**20, 2**20), (2**31,), (2**61,), (10**6, 10)])
    way = rng.choice(["contiguous", "chunked", "gzip", "max"])
    if way == "contiguous":
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
        h5py.h5d.create(
            file.require_group(name.rpartition("/")[0] or "/").id,
            name.rpartition("/")[2].encode(),
            h5py.h5t.NATIVE_DOUBLE,
            h5py.h5s.create_simple(shape),
            plist,
        )
    else:
        chunks = (2**10,) * len(shape)
        more = {"gzip": {"compression": "gzip"}, "max": {"maxshape": (None,) * len(shape)}}.get(way, {})
        file.create_dataset(name, shape=shape, dtype="f8", chunks=chunks, **more)


def _bomb(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    file.create_dataset(name, data=np.zeros(4_000_000), compression="gzip", compression_opts=9, chunks=(1_000_000,))


def _filters(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    more = rng.choice([{"shuffle": True}, {"fletcher32": True}, {"compression": "lzf"}, {"scaleoffset": 2}])
    file.create_dataset(name, data=datasets[name], chunks=True, **more) if datasets[name].shape else None


def _link(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    target = rng.choice(["/", "/loop", name, "/nowhere", "/theta", ".", ".."])
    outside = rng.choice(["/dev/zero", "/proc/self/mem", "/etc/passwd", "whole-policy", "whole-checkpoint", "file"])
    link = rng.choice([h5py.SoftLink(target), h5py.ExternalLink(outside, target)])
    if rng.random() < 0.5:
        file[name] = link
    else:
        file["more"] = link
        file["loop"] = h5py.SoftLink("/more")


def _hard(file, attributes, datasets, rng):
    group = file.create_group("a/b/c")
    group["up"] = file["/"]
    group["up2"] = file["a"]


def _external(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    outside = rng.choice(["/dev/zero", "/etc/passwd", "whole-policy"])
    file.create_dataset(name, shape=(100,), dtype="f8", external=[(outside, 0, 800)])


def _virtual(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    layout = h5py.VirtualLayout((8,), "f8")
    layout[:] = h5py.VirtualSource(rng.choice([".", "whole-policy", "/dev/zero"]), "theta", (8,))
    file.create_virtual_dataset(name, layout)


def _reference(file, attributes, datasets, rng):
    name = rng.choice(sorted(attributes))
    file.attrs[name] = rng.choice([file.ref, np.zeros(3), 0.5, np.bytes_(b"\xff\xfe"), h5py.Empty("S3"), "variable"])


def _many(file, attributes, datasets, rng):
    for number in range(rng.choice([90, 3000])):
        if rng.random() < 0.3:
            file.attrs[f"attribute{number}"] = np.bytes_(rng.randbytes(rng.choice([1, 1000])).hex().encode())
        else:
            file.create_group(f"group{number}")


def _deep(file, attributes, datasets, rng):
    group = file
    for _ in range(rng.choice([50, 2000])):
        group = group.create_group("g")


def _names(file, attributes, datasets, rng):
    name = rng.choice([b"\xff\xfe", b"a" * 60_000, b"a\nb", "\u202e".encode(), b"~", b"config~1", b"\x1b[2J"])
    if rng.random() < 0.5:
        h5py.h5g.create(file.id, name)
    else:
        h5py.h5a.create(file.id, name, h5py.h5t.NATIVE_INT64, h5py.h5s.create(h5py.h5s.SCALAR))


def _text(file, attributes, datasets, rng):
    """Text in place of an attribute: JSON of the right form, but for one value, or of no form."""
    name = rng.choice(sorted(attributes))
    attributes[name] = strange_value(attributes[name], rng)


def _numbers(file, attributes, datasets, rng):
    name = _dataset(datasets, rng)
    values = datasets[name].copy().reshape(-1)
    for _ in range(rng.choice([1, 1, 10])):
        if values.size:
            values[rng.randrange(values.size)] = rng.choice(
                [np.nan, np.inf, -np.inf, 1e308, -1.0, 5e-324, 0.5, 2.0**53, 2.0**63, -0.0]
            )
    datasets[name] = values.reshape(datasets[name].shape)


def _missing(file, attributes, datasets, rng):
    parts = rng.choice([attributes, datasets])
    parts.pop(rng.choice(sorted(parts)))


def _types(file, attributes, datasets, rng):
    """A type nested as deep as HDF5 lets it be."""
    kind = np.dtype("f8")
    for _ in range(rng.choice([3, 30])):
        kind = np.dtype([("a", kind)])
    file["type"] = kind


WRONG = {
    "types": _dtype,
    "shapes": _shape,
    "huge sizes": _huge,
    "compressed zeros": _bomb,
    "filters": _filters,
    "links": _link,
    "loops": _hard,
    "data in other files": _external,
    "virtual data": _virtual,
    "attributes of other kinds": _reference,
    "many names": _many,
    "deep groups": _deep,
    "strange names": _names,
    "strange text": _text,
    "strange numbers": _numbers,
    "something missing": _missing,
    "nested types": _types,
}

# --- safetensors


def write_safetensors(path, whole, rng):
    """Write a policy with one thing wrong, the digest right where there can be one; return what."""
    texts, arrays = safetensors_format.decode(whole)
    arrays = {name: array.copy() for name, array in arrays.items()}
    what = rng.choice([*WRONG_SAFETENSORS])
    header, data = WRONG_SAFETENSORS[what](texts, arrays, rng) or (None, None)
    if header is None:
        _seal(texts, arrays)
        with suppress(Exception):
            header, data = _container(texts, arrays)
    text = json.dumps(header).encode() if isinstance(header, dict) else header or b""
    length = len(text)
    if what == "header lengths":
        length = rng.choice([0, 1, length - 1, length + 1, 2**21, 2**21 + 1, 2**31, 2**32, 2**63, 2**64 - 1])
    path.write_bytes(struct.pack("<Q", length) + text + (data or b""))
    return what


def _container(texts, arrays):
    header, data = {"__metadata__": texts}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    return header, data


def _seal(texts, arrays):
    """Give the digest that the contents have, if they have one."""
    with suppress(Exception):
        theta = np.concatenate([arrays[name].reshape(-1) for name in json.loads(texts["parameters"])])
        named = {name: texts[name] for name in ("format", "format_version", "policy_spec", "env_id", "provenance")}
        texts["digest"] = hdf5.content_digest(named, {"/theta": theta})


def _plain_container(texts, arrays, rng):
    _seal(texts, arrays)
    return _container(texts, arrays)


def _strange_entries(texts, arrays, rng):
    header, data = _plain_container(texts, arrays, rng)
    entry = header[rng.choice(sorted(arrays))]
    key = rng.choice(["dtype", "shape", "data_offsets", "more"])
    values = {
        "dtype": ["F32", "BF16", "U8", "BOOL", "C64", "F4", "x", None, 3],
        "shape": [[], [0], [-1], [2**62, 2**62], [2**40], [1] * 10_000, [8.0, 4.0], "8", [True]],
        "data_offsets": [[0, 2**63], [8, 0], [-8, 8], [0, 8], [0, 8.0], [0], [], "08", [2**64, 2**65]],
        "more": SCALARS,
    }
    entry[key] = rng.choice(values[key])
    return header, data


def _strange_words(texts, arrays, rng):
    name = rng.choice(sorted(texts))
    texts[name] = strange_value(texts[name], rng)


def _strange_metadata(texts, arrays, rng):
    header, data = _plain_container(texts, arrays, rng)
    header["__metadata__"] = rng.choice([*SCALARS, {**texts, "more": rng.choice(SCALARS)}, {"format": "pt"}])
    return header, data


def _strange_numbers(texts, arrays, rng):
    values = arrays[rng.choice(sorted(arrays))].reshape(-1)
    values[rng.randrange(values.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e308, 5e-324, -0.0])


def _many_tensors(texts, arrays, rng):
    for number in range(rng.choice([100, 20_000])):
        arrays[f"more{number}"] = np.zeros(rng.choice([0, 1]))


def _header_bombs(texts, arrays, rng):
    size = rng.choice([1_000, 100_000, 600_000, 5_000_000])
    text = rng.choice(["[" * size, '{"a":' * size, "[" + "{}," * size, '{"__metadata__":{"a":"' + "x" * size + '"}}'])
    return text.encode(), b""


def _other_names(texts, arrays, rng):
    name = rng.choice(sorted(arrays))
    arrays[rng.choice(["", "../../x", "a\nb", "\x1b[2J", "__metadata__", "x" * 60_000, name.upper()])] = arrays.pop(
        name
    )


def _missing_parts(texts, arrays, rng):
    parts = rng.choice([texts, arrays])
    parts.pop(rng.choice(sorted(parts)))


WRONG_SAFETENSORS = {
    "header lengths": _plain_container,
    "headers that are bombs": _header_bombs,
    "strange entries": _strange_entries,
    "strange text": _strange_words,
    "strange metadata": _strange_metadata,
    "strange numbers": _strange_numbers,
    "many tensors": _many_tensors,
    "strange names": _other_names,
    "something missing": _missing_parts,
}


# --- ONNX


def write_onnx(path, whole, rng):
    """Write a policy with one thing wrong, the digest right where there can be one; return what."""
    model = onnx.load_model_from_string(whole)
    what = rng.choice([*WRONG_ONNX])
    content = WRONG_ONNX[what](model, rng)
    if content is None:
        texts = {entry.key: entry.value for entry in model.metadata_props}
        arrays = {}
        with suppress(Exception):
            arrays = onnx_format.decode(model.SerializeToString())[1]
        _seal(texts, arrays)
        del model.metadata_props[:]
        for name, text in texts.items():
            with suppress(Exception):  # text that is no UTF-8
                model.metadata_props.add(key=name, value=text)
        content = model.SerializeToString()
    path.write_bytes(content)
    return what


def _initializer(model, rng):
    return rng.choice(model.graph.initializer)


def _onnx_dims(model, rng):
    dims = rng.choice([[2**62], [2**31, 2**31], [-1], [0], [1] * 33, [1] * 10_000, [2**63 - 1] * 30, []])
    _initializer(model, rng).dims[:] = dims


def _onnx_external(model, rng):
    tensor = _initializer(model, rng)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", rng.choice(["/etc/passwd", "whole-policy", "/dev/zero"])), ("length", "9" * 18)):
        tensor.external_data.add(key=key, value=value)
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")


def _onnx_types(model, rng):
    tensor = _initializer(model, rng)
    tensor.data_type = rng.choice([0, 1, 7, 8, 10, 16, 99])
    if rng.random() < 0.5:
        tensor.double_data[:] = [0.0] * 10
        tensor.ClearField("raw_data")


def _onnx_graphs(model, rng):
    """Graphs in graphs, which a reader by recursion would follow."""
    graph = onnx.GraphProto()
    for _ in range(rng.choice([5, 90])):
        outer = onnx.GraphProto()
        outer.node.add(op_type="If").attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = outer
    model.graph.node.add(op_type="If").attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(
        graph
    )


def _onnx_many(model, rng):
    field = rng.choice([b"\x0a\x00", b"\x2a\x00", b"\x40\x01"])  # empty nodes, empty initializers, numbers
    inner = field * rng.choice([1_000, 200_000, 2_000_000])
    whole = model.SerializeToString()
    return whole + b"\x3a" + _varint(len(inner)) + inner if rng.random() < 0.5 else whole + b"\x72\x00" * len(inner)


def _onnx_wire(model, rng):
    more = [b"\x3b", b"\x3c", b"\x3e", b"\xff" * 11, b"\x3a" + _varint(2**63), b"\x72" + _varint(2**40), b"\x80" * 9]
    more += [b"\x38\x01", b"\x3a\x00", b"\x00", b"\x72\x02\x0a\xff", b"\x3a\x04\x2a\x02\x0a\xff"]
    whole = model.SerializeToString()
    return rng.choice([whole + rng.choice(more), rng.choice(more) + whole, b"\x08\x0a" + rng.choice(more)])


def _onnx_text(model, rng):
    entry = rng.choice(model.metadata_props)
    with suppress(Exception):
        entry.value = strange_value(entry.value, rng)


def _onnx_missing(model, rng):
    parts = rng.choice([model.metadata_props, model.graph.initializer])
    del parts[rng.randrange(len(parts))]
    if rng.random() < 0.1:
        model.ClearField("graph")


def _onnx_twice(model, rng):
    parts = rng.choice([model.metadata_props, model.graph.initializer])
    parts.add().CopyFrom(rng.choice(parts))
    return model.SerializeToString()


def _varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


WRONG_ONNX = {
    "huge sizes": _onnx_dims,
    "data in other files": _onnx_external,
    "types": _onnx_types,
    "graphs in graphs": _onnx_graphs,
    "many fields": _onnx_many,
    "other wire formats": _onnx_wire,
    "strange text": _onnx_text,
    "something missing": _onnx_missing,
    "something twice": _onnx_twice,
}

SCALARS = [None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(2**63), 0.5, float("nan"), float("inf"), 1e308]
SCALARS += ["", "x", "0", "\x00", "\ud800", "a\nb", "../../etc/passwd", "os:system", "__import__('os')", [], {}, [[]]]
SCALARS += [[-1], [0], [1] * 1000, ["x"], {"a": 1}, [2**62, 2**62], [10**30], "x" * 50_000, "relu", "tanh"]


def strange_value(value, rng):
    """Return something else for an attribute: of its type or not, of its form or not."""
    if isinstance(value, int):
        return rng.choice([-1, 0, 1, 2**31, 2**62, -(2**63), "x", "7", ""])
    try:
        read = json.loads(value)
    except ValueError:
        read = None
    if not isinstance(read, dict) or rng.random() < 0.2:
        return rng.choice(
            ["", "{", "[]", "null", "3", "[" * 50_000, '{"a":' * 9_000, "1" * 10_000, "NaN", "\x00", "x" * 59_000]
        )
    name = rng.choice([*read, "bogus", "__class__"])
    if rng.random() < 0.2:
        read.pop(name, None)
    else:
        read[name] = rng.choice(SCALARS)
    return json.dumps(read).replace("\\ud800", "\\ud800")


# --- YAML


def yaml_text(text, kind, rng):
    """Return what was done, and the bytes of a YAML file that a stranger wrote from a proper one."""
    what = rng.choice(
        ["bytes changed", "a strange value", "tags", "anchors", "nested deep", "large", "another encoding"]
    )
    lines = text.splitlines()
    place = rng.randrange(len(lines))
    key = lines[place].partition(":")[0]
    if what == "bytes changed":
        changed = bytearray(text.encode())
        for _ in range(rng.choice([1, 2, 5])):
            at, how = rng.randrange(len(changed)), rng.randrange(3)
            new = rng.choice([*b"{}[]&*!|>'\"%@`:#,-?~\n\t\0.0123456789eE_+", 0x80, 0xFF, rng.randrange(256)])
            if how == 0:
                changed[at] = new
            elif how == 1:
                changed.insert(at, new)
            elif len(changed) > 1:
                del changed[at]
        return what, bytes(changed)
    if what == "a strange value":
        value = json.dumps(rng.choice(SCALARS))
        value = rng.choice(
            [value, ".nan", ".inf", "-.inf", "1e999", "0x" + "f" * 5000, "9" * 5000, "1:" * 3000 + "1", "2001-01-01"]
        )
        lines[place] = (
            f"{rng.choice([key, 'config', '__path__', 'noise', 'bogus', '3', '[1]', '? ', 'qpu', 'env_id'])}: {value}"
        )
    elif what == "tags":
        touch = f"['touch {PWNED}']"
        tag = rng.choice(
            [
                f"!!python/object/apply:os.system {touch}",
                f"!!python/object/new:os.system {touch}",
                f"!!python/object/apply:subprocess.check_call [{touch}]",
                "!!python/name:os.system",
                "!!python/module:os",
                f"!!python/object/apply:builtins.exec [\"open('{PWNED}', 'w')\"]",
                "!!binary aGk=",
                "!!set {a}",
                "!!omap [a: 1]",
                "!!int x",
                "!!float x",
                "!!bool x",
                "!!timestamp x",
                "!!null x",
                "!bogus x",
                "!!str 3",
                "!!map [a]",
                "!!seq {a: b}",
            ]
        )
        lines[place] = f"{key}: {tag}"
    elif what == "anchors":
        levels = rng.choice([2, 9, 30])
        bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        bomb += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(levels)]
        ways = [[*bomb, f"{key}: *a{levels}"], [f"{key}: &a [*a]"], [f"<<: &m {{{key}: 1}}"], [f"{key}: &x 3", "b: *x"]]
        lines[place : place + 1] = rng.choice(ways)
    elif what == "nested deep":
        depth = rng.choice([10, 100, 10_000, 300_000])
        opening, closing = rng.choice(
            [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("!!seq [", "]"), ("'[", "]'")]
        )
        lines[place] = f"{key}: {opening * depth}{rng.choice(['', '1'])}{closing * rng.choice([0, depth])}"
    elif what == "large":
        size = rng.choice([10_000, 100_000, 400_000])
        lines[place : place + 1] = rng.choice(
            [
                [f"{key}: [{'1,' * size}]"],
                [f"{key}: {'x' * size}"],
                [f"{key}: {'9' * size}"],
                [f"{key}: {'1:' * size}1"],
                [f"{key}: 0x{'f' * size}"],
                [f"{key}: '{' ' * size}'"],
                [f"k{n}: 1" for n in range(size // 20)],
                [f"{key}: 1"] * (size // 20),
                ["#" * size, lines[place]],
                [f"{key}: |", *[" x"] * (size // 3)],
                ["x" * size],
            ]
        )
    else:
        encoding = rng.choice(["utf-16", "utf-16-le", "utf-32", "cp037", "utf-8-sig", "rot"])
        body = "\n".join(lines)
        return what, random.Random(0).randbytes(500) if encoding == "rot" else body.encode(encoding)
    return what, ("\n".join(lines) + "\n").encode(errors="surrogatepass")
