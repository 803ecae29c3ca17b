"""Directives that ask the code: what a command prints for ``--help``, every flag of training, modules' docstrings."""

import os
import pkgutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from docstring_parser import parse_from_object
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import qtrl_hpc
from qtrl_hpc.cli import TYPE_WORDS, preset
from qtrl_hpc.config import TOPICS, title_of
from qtrl_hpc.rules import flag_of

WIDTH = "92"
SECONDS_AT_MOST = 120


def help_text(module: str) -> str:
    """Return what ``python -m MODULE --help`` prints.

    Raises:
        RuntimeError: the command fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        env={**os.environ, "COLUMNS": WIDTH},
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
    )
    if done.returncode != 0:
        raise RuntimeError(f"python -m {module} --help: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def flags_of_train() -> str:
    """Return MyST text: by topic every flag, its type, its default in the default preset, and what it means."""
    defaults = preset("tuned")
    lines = []
    for topic in TOPICS:
        hints = get_type_hints(topic)
        helps = {item.arg_name: item.description or "" for item in parse_from_object(topic).params}
        lines += [f"**{title_of(topic).rstrip('.')}**", ""]
        for field in fields(topic):
            if field.name not in topic.__annotations__:
                continue
            flag = flag_of(field.name)
            lines += [
                f"````{{option}} {flag}",
                _plain(helps[field.name]),
                "",
                f"{_kind(hints[field.name])}; default {_value(getattr(defaults, field.name))}.",
                "````",
                "",
            ]
    return "\n".join(lines)


def modules(name: str) -> list[str]:
    """Return a module's full name, and those of what it contains if it is a package."""
    path = Path(qtrl_hpc.__path__[0], *name.split("."))
    inside = sorted(found.name for found in pkgutil.iter_modules([str(path)])) if path.is_dir() else []
    return [f"qtrl_hpc.{name}", *(f"qtrl_hpc.{name}.{module}" for module in inside)]


def _plain(text: str) -> str:
    """Return text whose stars and underscores are themselves."""
    return " ".join(text.split()).replace("*", r"\*").replace("_", r"\_").replace("<", r"\<")


def _kind(hint: Any) -> str:
    if hint in TYPE_WORDS:
        return TYPE_WORDS[hint].capitalize()
    return "One of " + ", ".join(f"`{choice}`" for choice in get_args(hint))


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return f"`[{','.join(map(str, value))}]`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


class CommandHelp(SphinxDirective):
    """``{command-help} MODULE``: what the command prints when it is asked for help."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return one literal block."""
        text = help_text(self.arguments[0])
        return [nodes.literal_block(text, text, language="text")]


class TrainFlags(SphinxDirective):
    """``{train-flags}``: every flag of ``qtrl_hpc.train``, by topic."""

    def run(self) -> list[nodes.Node]:
        """Return a heading and options for each topic."""
        return self.parse_text_to_nodes(flags_of_train())


class Modules(SphinxDirective):
    """``{modules} NAME …``: a section for each module, from its docstrings; a package stands for all in it."""

    required_arguments = 1
    optional_arguments = 100

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        names = [module for name in self.arguments for module in modules(name)]
        section = "## {0}\n\n```{{eval-rst}}\n.. automodule:: {0}\n   :members:\n```\n\n"
        return self.parse_text_to_nodes("".join(map(section.format, names)), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives; nothing of a build is shared between its processes."""
    app.add_directive("command-help", CommandHelp)
    app.add_directive("train-flags", TrainFlags)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
