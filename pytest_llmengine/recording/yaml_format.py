"""Reads and writes vcrpy's YAML in a form for review: bodies as blocks, UTF-8, provenance first.

This module is a serializer for vcrpy: it has `serialize` and `deserialize`. It does not use vcrpy's
loader, because the one in vcrpy 8 and 9.0 runs code from the file.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import yaml

from llmengine.config.documents import load_yaml

# libYAML's loader and dumper, if PyYAML was built with it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CSafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_PYTHON = "tag:yaml.org,2002:python/"


class _Loader(_SafeLoader):  # type: ignore[misc]  # the base class is only known at run time
    """Refuses tags for Python objects, except for the plain values that vcrpy writes."""


_Loader.add_constructor(f"{_PYTHON}str", _SafeLoader.construct_scalar)
_Loader.add_constructor(f"{_PYTHON}unicode", _SafeLoader.construct_scalar)
_Loader.add_constructor(f"{_PYTHON}tuple", _SafeLoader.construct_sequence)

# Text that a YAML block preserves: it has no control characters, and the line feed is its only line
# break.
_PLAIN = re.compile(
    "[\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffd]*"
)


class _Dumper(yaml.SafeDumper):
    """Refuses Python objects, like the loader, and repeats values instead of using anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


class _FastDumper(_CSafeDumper):  # type: ignore[misc]  # the base class is only known at run time
    """The same with libYAML, which is six times as fast."""

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


for _one in (_Dumper, _FastDumper):
    _one.add_representer(str, _represent_text)
    _one.add_representer(list, _represent_list)


class _LineDumper(_CSafeDumper):  # type: ignore[misc]  # the base class is only known at run time
    """Writes every value in one line, without anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


_LineDumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)
_NEVER = 1 << 30  # a width at which no line is wrapped


class _Lines:
    """A serializer for vcrpy that writes a cassette of one exchange as one line.

    The lines of several exchanges are the list of exchanges of a cassette, so that an exchange can
    be appended to a file.
    """

    @staticmethod
    def serialize(cassette: dict[str, Any]) -> str:
        """The line, with its line feed at the end."""
        line: str = yaml.dump(
            cassette["interactions"],
            Dumper=_LineDumper,
            allow_unicode=True,
            default_flow_style=True,
            sort_keys=False,
            width=_NEVER,
        )
        return f"- {line.strip()[1:-1]}\n"


LINES = _Lines()


def deserialize(text: str) -> Any:
    """The value in the text; raises DocumentError, also for unsafe tags. Never runs code."""
    return load_yaml(text, partial(yaml.load, Loader=_Loader))


def serialize(cassette: dict[str, Any]) -> str:
    """The text for the file; raises yaml.YAMLError for values that cannot be loaded safely."""
    order = ("version", "metadata", "interactions")
    ordered = {key: cassette[key] for key in order if key in cassette}
    try:
        text = _dumped(ordered, _FastDumper)
    except UnicodeEncodeError:  # libYAML cannot write half of a surrogate pair
        return _dumped(ordered, _Dumper)
    # libYAML writes emoji as escapes, which nobody can read.
    return _dumped(ordered, _Dumper) if "\\U00" in text else text


_END = "\n...\n"


def _dumped(cassette: dict[str, Any], dumper: Any) -> str:
    text: str = yaml.dump(
        cassette, Dumper=dumper, allow_unicode=True, sort_keys=False, width=_NEVER
    )
    # The mark of the end of a document, which the two do not write after the same texts.
    return text[: -len(_END) + 1] if text.endswith(_END) else text
