"""What an engine's entry in the engines file says of its container."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.config.engine import EngineConfig

STARTUP_TIMEOUT = 600.0  # seconds; a large model is loaded from a cold disk in that time


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """``options: {docker: {...}}`` of an engine; what is None is left to the backend's recipe.

    ``image`` replaces the pinned one. ``gpus`` is written as for ``docker run --gpus``: "all", a
    number, or "device=0,1"; without it the container sees no GPU. ``args`` are further arguments
    of the server, ``env`` further variables; one whose value is null is taken from this process.
    ``startup_timeout`` is in seconds, for the server to come up, and for its first token once it
    has its model.
    """

    image: str | None = None
    gpus: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    startup_timeout: float = STARTUP_TIMEOUT

    @classmethod
    def of(cls, config: EngineConfig) -> Self:
        """The options of an engine; raises ConfigError that names the engine and the field."""
        given = config.options.get("docker", {})
        where = f"engine {config.name!r}: options: docker"
        if not isinstance(given, dict):
            raise ConfigError(f"{where} is {given!r}; write a mapping such as {{image: ...}}")
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            names = ", ".join(known)
            raise ConfigError(f"{where}: {unknown[0]!r} is unknown; known are {names}")
        return cls(**_checked(given, where))


def _checked(given: dict[str, Any], where: str) -> dict[str, Any]:
    checked = dict(given)
    for name in ("image", "gpus"):
        if name in given:
            checked[name] = str(given[name])
    if "args" in given:
        checked["args"] = tuple(map(str, _of_type(given, "args", list, where)))
    if "env" in given:
        env = _of_type(given, "env", dict, where)
        checked["env"] = {str(k): None if v is None else str(v) for k, v in env.items()}
    if "startup_timeout" in given:
        seconds = _of_type(given, "startup_timeout", (int, float), where)
        if seconds <= 0:
            raise ConfigError(f"{where}: startup_timeout is {seconds}; give seconds above 0")
    return checked


def _of_type(given: dict[str, Any], name: str, kind: Any, where: str) -> Any:
    words = {list: "a list", dict: "a mapping"}
    if not isinstance(given[name], kind):
        raise ConfigError(f"{where}: {name} is {given[name]!r}; give {words.get(kind, 'a number')}")
    return given[name]
