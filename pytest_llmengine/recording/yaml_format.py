"""vcrpy's YAML, laid out for review: bodies as blocks, UTF-8 as it is, provenance first.

A serializer in vcrpy's sense: a module with `serialize` and `deserialize`. The loader is not
vcrpy's, since that of vcrpy 8 and 9.0 runs code that a file asks for.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import yaml

from llmengine.config.documents import load_yaml

# libYAML's, where PyYAML was built with it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PYTHON = "tag:yaml.org,2002:python/"


class _Loader(_SafeLoader):  # type: ignore[misc]  # which of two is known only here
    """Refuses tags that would make Python objects, but for the plain values that vcrpy writes."""


_Loader.add_constructor(f"{_PYTHON}str", _SafeLoader.construct_scalar)
_Loader.add_constructor(f"{_PYTHON}unicode", _SafeLoader.construct_scalar)
_Loader.add_constructor(f"{_PYTHON}tuple", _SafeLoader.construct_sequence)

# Text that a YAML block gives back as it was: no control characters, and none of the line breaks
# that YAML has beside the line feed.
_PLAIN = re.compile(
    "[\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffd]*"
)


class _Dumper(yaml.SafeDumper):
    """Refuses Python objects, as the loader does; repeats values instead of using anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not _PLAIN.fullmatch(text):
        style = '"'
    elif "\n" in text or text.startswith(("{", "[")):
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    numbers = bool(items) and all(isinstance(item, int) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=numbers)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def deserialize(text: str) -> Any:
    """The file's value; raises DocumentError, also for what is not safe, and runs nothing."""
    return load_yaml(text, partial(yaml.load, Loader=_Loader))


def serialize(cassette: dict[str, Any]) -> str:
    """The file's text; raises yaml.YAMLError for what the safe loader could not read."""
    order = ("version", "metadata", "interactions")
    return yaml.dump(
        {key: cassette[key] for key in order if key in cassette},
        Dumper=_Dumper,
        allow_unicode=True,
        sort_keys=False,
        width=float("inf"),
    )
