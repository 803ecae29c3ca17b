"""Where compiled kernels are kept: no two variants in one file, and none that is out of date."""

import numpy as np

from qtrl_hpc import jit, simd


def double(x):
    for i in range(len(x)):
        x[i] *= 2.0


def name(variant):
    return jit.kernel(double, variant).py_func.__qualname__


def test_each_variant_has_a_name_of_its_own():
    assert name("float64") != name("float32")
    assert name("float64") == name("float64")


def test_the_name_changes_with_a_source_that_parts_are_taken_from(tmp_path, monkeypatch):
    before = name("float64")
    changed = tmp_path / "simd.py"
    changed.write_bytes(b"# changed\n")
    monkeypatch.setattr(simd, "__file__", str(changed))
    jit._digest.cache_clear()
    try:
        assert name("float64") != before
    finally:
        monkeypatch.undo()
        jit._digest.cache_clear()
    assert name("float64") == before


def test_a_kernel_does_what_its_function_says():
    x = np.arange(3.0)
    jit.kernel(double, "test")(x)
    assert x.tolist() == [0.0, 2.0, 4.0]
