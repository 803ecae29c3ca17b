"""YAML that says each thing once."""

from typing import Any

import yaml

from qtrl_hpc.errors import one_line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader takes the last of values with the same key, without a word; this one refuses."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} comes twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def load(text: str) -> Any:
    """Return what YAML says, as plain values.

    Raises:
        ValueError: it is no YAML, or says a thing twice; the text is one line.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(one_line(error)) from None
