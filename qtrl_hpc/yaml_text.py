"""YAML of bounded size: no aliases, which a few lines can unfold to gigabytes, nothing deep, no endless numbers."""

from pathlib import Path
from typing import Any

import yaml

from qtrl_hpc.errors import shown

MOST_BYTES = 2**20
MOST_NODES = 100_000
MOST_DEPTH = 20
LONGEST_NUMBER = 100


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._nodes += 1
        if self.check_event(yaml.AliasEvent):
            raise ValueError("got an alias (*), expected YAML without")
        if self._nodes > MOST_NODES:
            raise ValueError(f"got YAML of more than {MOST_NODES} parts")
        if self._depth >= MOST_DEPTH:
            raise ValueError(f"got YAML nested deeper than {MOST_DEPTH}")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """PyYAML takes the last of values with the same key, without a word."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ValueError(f"the key {shown(key.value)} comes twice")
                seen.add(key.value)
        return node

    def construct_number(self, node: Any) -> int | float:
        if len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"got a number of {len(node.value)} characters, expected at most {LONGEST_NUMBER}")
        is_int = node.tag.endswith(":int")
        number: int | float = self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)
        return number


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def load(text: str) -> Any:
    """Return what YAML says, in Python's plain types.

    Raises:
        ValueError: it is larger, deeper or more intricate than any file of ours.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"got more than {MOST_BYTES} characters of YAML")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:  # !!bool x, !!timestamp x
        raise ValueError(f"got YAML with a value that is not what its tag says ({type(error).__name__})") from None
    finally:
        loader.dispose()


def read(path: Path) -> str:
    """Return the text of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, too large, or no text.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is no regular file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES} bytes, expected a small YAML file")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is no text, expected a YAML file in UTF-8") from None
