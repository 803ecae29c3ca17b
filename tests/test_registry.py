"""Names: ours, the user's own, and what is said of one that is neither."""

import sys

import pytest

from qtrl_hpc import registry

OURS = {"ring": str, "linear": int}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, which is not where Python looks for modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("mine:ring", True),
        ("my.package.mine:Ring_2", True),
        ("ring", False),
        ("mine:", False),
        (":ring", False),
        ("mine:a:b", False),
        ("mine:a.b", False),
        (".mine:a", False),
        ("mine.:a", False),
        ("mine:2a", False),
        ("mine:a\n", False),
        ("a/b:c", False),
        ("mine: a", False),
    ],
)
def test_module_and_object(name, own):
    assert registry.is_own(name) is own


def test_what_there_is_and_what_is_closest_is_said():
    for name in ("linear", "mine:linear"):
        registry.check_name(name, OURS)
    with pytest.raises(ValueError, match=r"^expected one of ring, linear, MODULE:OBJECT \(did you mean linear\?\)$"):
        registry.check_name("lienar", OURS)
    with pytest.raises(ValueError, match=r"^expected one of ring, linear, backend:SPEC, MODULE:OBJECT$"):
        registry.check_name("qqqq", OURS, further="backend:SPEC")


def test_ours_is_found_without_an_import():
    assert registry.resolve("ring", OURS, "a thing") is str
    with pytest.raises(ValueError, match="did you mean ring"):
        registry.resolve("rings", OURS, "a thing")


def test_own_is_found_in_the_current_folder(folder):
    (folder / "mine_here.py").write_text("def ring():\n    return 7\nthree = 3\n")
    assert registry.resolve("mine_here:ring", OURS, "a thing")() == 7
    with pytest.raises(ValueError, match=r"^expected a thing, got an int, which cannot be called$"):
        registry.resolve("mine_here:three", OURS, "a thing")


MODULES = {
    "raises_here": ("1 / 0", r"a module that can be imported \(ZeroDivisionError: division by zero\)$"),
    "exits_here": ("raise SystemExit(3)", r"a module that can be imported \(SystemExit: 3\)$"),
    "broken_here": ("def", r"a module that can be imported \(SyntaxError: .*\)$"),
    "lacks_here": (
        "thang = _thing = print",
        r"an object that the module has \(did you mean thang\?\) \(AttributeError: .*has no attribute 'thing'\)$",
    ),
    "refuses_here": ("def __getattr__(name): raise KeyError(name)", r"an object that the module has \(KeyError: "),
}


@pytest.mark.parametrize("name", MODULES)
def test_module_that_cannot_be_used_is_refused_in_one_line(name, folder):
    text, expected = MODULES[name]
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ValueError, match=f"^expected {expected}") as caught:
        registry.imported(f"{name}:thing")
    assert "\n" not in str(caught.value)


def test_module_that_is_missing(folder):
    with pytest.raises(ValueError, match=r"imported \(ModuleNotFoundError: No module named 'nowhere_here'\)$"):
        registry.imported("nowhere_here:thing")
