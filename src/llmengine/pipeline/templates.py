"""Prompt templates: Jinja in a sandbox, in which a missing name is an error and never a blank."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llmengine.types.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2 import Template


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _as_text(value: Any) -> Any:
    """What a placeholder prints: JSON where Python's own spelling is no data format."""
    return _json(value) if value is None or isinstance(value, (bool, Mapping, list)) else value


class _Prompts(ImmutableSandboxedEnvironment):
    """A dot after a mapping is always a key, so no method hides a field called ``items``."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return self.getitem(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if not isinstance(obj, Mapping):
            return super().getitem(obj, argument)
        if argument in obj:
            return obj[argument]
        hint = f"there is no {argument!r} among {', '.join(map(str, obj)) or 'nothing'}"
        return self.undefined(hint, obj=obj, name=argument)


@lru_cache(maxsize=1)
def _environment() -> _Prompts:
    made = _Prompts(
        undefined=StrictUndefined,
        autoescape=False,
        finalize=_as_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.clear()  # else `{{ range }}` in a record without that field prints a function
    made.filters["tojson"] = _json  # Jinja's own is for HTML and escapes < and &
    return made


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


def check(source: str, where: str) -> None:
    """Raise ConfigError that names `where` and the line if the text is no template."""
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        msg = f"{where}: line {error.lineno}: {error.message}"
        raise ConfigError(msg) from error
    except TemplateError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


def fill(source: str, names: Mapping[str, Any], where: str) -> str:
    """The template filled with the names.

    Raises InvalidRequestError that begins with `where` and says which name is missing and which
    there are, or what else went wrong.
    """
    try:
        return _compiled(source).render(names)
    except Exception as error:
        problem = error.message if isinstance(error, TemplateError) else str(error)
        known = f"; the names are {', '.join(names)}" if _is_unknown_name(problem) else ""
        msg = f"{where}: {problem}{known}"
        raise InvalidRequestError(msg) from error


def _is_unknown_name(problem: str | None) -> bool:
    return bool(problem) and str(problem).endswith(" is undefined")


def references(source: str, root: str) -> Iterator[tuple[str, ...]]:
    """Every dotted path below `root` that the template reads: ``("extract", "summary")``."""
    tree = _environment().parse(source)
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if path and path[0] == root:
            yield path[1:]


def _path(node: nodes.Node) -> tuple[str, ...]:
    """The names of a chain of dots and constant keys; empty where part of it is computed."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        before, key = _path(node.node), node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        before, key = _path(node.node), str(node.arg.value)
    else:
        return ()
    return (*before, key) if before else ()
