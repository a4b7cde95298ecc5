"""Engines files: YAML lists of engine configurations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from llmengine.config.backends import FALLBACK, backends
from llmengine.config.documents import DocumentError, load_yaml, read_text
from llmengine.config.settings import problems
from llmengine.engine.engine import EngineConfig
from llmengine.engine.fallback import FallbackConfig
from llmengine.types.arguments import suggestion
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import conceal

if TYPE_CHECKING:
    import os


def load_engines(path: str | os.PathLike[str]) -> dict[str, EngineConfig]:
    """The engines of a YAML file, by name.

    The file is a list of mappings with the fields of EngineConfig, each with a name. Raises
    ConfigError, which names the file, the engine and the field.
    """
    source = Path(path)
    data = read_yaml(source, "an engines file")
    if not isinstance(data, list):
        msg = f"{source}: an engines file is a list of engines ('- name: ...'), not {_kind(data)}"
        raise ConfigError(msg)
    return parse_engines(data, str(source))


def parse_engines(entries: list[object], source: str) -> dict[str, EngineConfig]:
    """The engines of a list of mappings, by name; error messages begin with `source`."""
    listed = dict(enumerate(_with_limiters(entries, source), start=1))
    configs: dict[int, EngineConfig] = {}
    # The engines of which the fallbacks are made may come after them.
    for place, entry in sorted(listed.items(), key=lambda item: _is_fallback(item[1])):
        where = f"{source}: engine {place}"
        made = _with_engines(entry, list(configs.values()), where) if _is_fallback(entry) else entry
        configs[place] = _parse(made, where)
    engines: dict[str, EngineConfig] = {}
    for place, config in sorted(configs.items()):
        if config.name in engines:
            msg = f"{source}: engine {place}: name: {config.name!r} is taken by an earlier engine"
            raise ConfigError(msg)
        engines[config.name] = config
    return engines


def _is_fallback(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("backend") == FALLBACK


def _with_engines(entry: object, configs: list[EngineConfig], where: str) -> object:
    """The entry of a fallback, with the configurations of its engines.

    They are given by their names, or as mappings.
    """
    assert isinstance(entry, dict)
    if entry.get("name"):
        where = f"{where} ({entry['name']})"
    known = {config.name: config for config in configs}
    names = entry.get("engines")
    if not isinstance(names, list):
        raise ConfigError(
            f"{where}: engines: is {names!r}; give the names of the file's engines in their order, "
            "such as [laptop, h100]"
        )
    engines = []
    for name in names:
        if isinstance(name, dict):
            engines.append(_parse(name, f"{where}: engines"))
        elif isinstance(name, str) and name in known:
            engines.append(known[name])
        else:
            raise ConfigError(
                f"{where}: engines: no engine of this file that can be part of a fallback is named "
                f"{name!r}; {suggestion(str(name), known)}"
            )
    return entry | {"engines": engines}


def _with_limiters(entries: list[object], source: str) -> list[object]:
    """The entries; a limiter that is given by its name is replaced by the one with that name."""
    named: dict[object, dict[object, object]] = {}
    for place, entry in enumerate(entries, start=1):
        limiter = entry.get("limiter") if isinstance(entry, dict) else None
        if isinstance(limiter, dict):
            name = limiter.get("name")
            if isinstance(name, str) and named.setdefault(name, limiter) != limiter:
                msg = (
                    f"{source}: engine {place}: limiter: an earlier engine has {name!r} with other "
                    f"limits; write 'limiter: {name}' here, or choose another name"
                )
                raise ConfigError(msg)
    complete: list[object] = []
    for place, entry in enumerate(entries, start=1):
        if isinstance(entry, dict) and isinstance(name := entry.get("limiter"), str):
            if name not in named:
                known = ", ".join(map(str, named)) or "none"
                msg = (
                    f"{source}: engine {place}: limiter: no engine of this file defines {name!r} "
                    f"(defined: {known}); write 'limiter: {{name: {name}, max_concurrency: 32}}' "
                    "at one of them"
                )
                raise ConfigError(msg)
            complete.append(entry | {"limiter": named[name]})
        else:
            complete.append(entry)
    return complete


def read_yaml(source: Path, what: str) -> object:
    """The value in a YAML file, with keys as Secrets; raises ConfigError, which names the file."""
    try:
        return conceal(load_yaml(read_text(source)))
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; give the path of {what}"
    except DocumentError as error:
        problem = str(error)
    # Raised without the parser's error as its cause, because that error holds the file's keys.
    raise ConfigError(f"{source}: {problem}")


def _parse(entry: object, where: str) -> EngineConfig:
    entry = conceal(entry)  # needed for an entry that comes from a program and not from a file
    if not isinstance(entry, dict):
        msg = f"{where}: an engine is a mapping with name, backend and model, not {_kind(entry)}"
        raise ConfigError(msg)
    if entry.get("name"):
        where = f"{where} ({entry['name']})"
    try:
        kind = FallbackConfig if _is_fallback(entry) else EngineConfig
        config = kind.model_validate(entry)
    except ValidationError as error:
        raise ConfigError(problems(where, error, kind)) from None  # it shows values, also keys
    if config.backend != FALLBACK and config.backend not in backends():
        msg = f"{where}: backend: {config.backend!r} is unknown; known are {', '.join(backends())}"
        raise ConfigError(msg)
    return config


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
