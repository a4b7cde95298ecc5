"""Chains from YAML: names of Python objects."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from chainette.core.chain import Chain


def load_chain(path: str | Path, symbols: dict[str, Any]) -> Chain:
    """The chain of a file."""
    data = yaml.safe_load(Path(path).read_text("utf-8"))
    steps = [_found(name, symbols) for name in data["steps"]]
    return Chain(name=data["name"], steps=steps, batch_size=data.get("batch_size", 1))


def _found(name: str, symbols: dict[str, Any]) -> Any:
    if name in symbols:
        return symbols[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise KeyError(f"Symbol {name!r} not found")
    return getattr(import_module(module), attribute)
