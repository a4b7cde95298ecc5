"""A pipeline as plain data: what a run's folder keeps of it, free of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from llmengine.pipeline.models import spec_of
from llmengine.types.errors import ConfigError
from llmengine.types.secrets import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.config.engine import EngineConfig
    from llmengine.pipeline.chain import Chain
    from llmengine.pipeline.step import Step

# What of an engine decides its answers; the rest (address, clocks, limits) may differ on resuming.
_ANSWERING = ("backend", "model", "sampling", "reasoning", "extra_body")


def as_data(chain: Chain, engines: Mapping[str, EngineConfig], inputs: str) -> dict[str, Any]:
    """The pipeline as its file says it, with everything resolved and nothing secret."""
    used = dict.fromkeys(step.engine for step in chain.steps)
    return {
        "name": chain.name,
        "engines": [_engine(engines[name]) for name in used],
        "steps": [_step(step) for step in chain.steps],
        "inputs": inputs,
    }


def check_same(before: Any, now: Any, where: str) -> None:
    """Raise ConfigError that names the first difference if the two would answer differently."""
    for part in ("steps", "engines"):
        old, new = _by_name(before, part), _by_name(now, part)
        if list(old) != list(new):
            msg = (
                f"{where}: {part}: the run has {', '.join(old)}, and the pipeline has "
                f"{', '.join(new)}; start a new run"
            )
            raise ConfigError(msg)
        for name, entry in old.items():
            _check_entry(entry, new[name], f"{where}: {part.removesuffix('s')} {name!r}")


def _check_entry(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    for field in dict.fromkeys([*old, *new]):
        if old.get(field) != new.get(field):
            msg = f"{where}: {field}: is not what the run began with; start a new run"
            raise ConfigError(msg)


def _by_name(data: Any, part: str) -> dict[str, dict[str, Any]]:
    try:
        if part == "steps":
            return {step["id"]: step for step in data[part]}
        return {e["name"]: {k: e[k] for k in _ANSWERING if k in e} for e in data[part]}
    except (KeyError, TypeError) as error:
        msg = f"the run's pipeline.yaml is broken: {part}: {error}"
        raise ConfigError(msg) from error


def _step(step: Step) -> dict[str, Any]:
    models = {
        name: spec_of(model)
        for name in ("input_model", "output_model")
        if (model := getattr(step, name)) is not None
    }
    rest: dict[str, Any] = {"reasoning": step.reasoning} if step.reasoning is not None else {}
    sampling = {k: list(v) if isinstance(v, tuple) else v for k, v in step.sampling.given().items()}
    if sampling:
        rest["sampling"] = sampling
    return {"id": step.id, "engine": step.engine, **step.templates, **models, **rest}


def _engine(config: EngineConfig) -> dict[str, Any]:
    data = config.model_dump(mode="json", exclude_defaults=True, exclude={"api_key"})
    if config.headers:
        data["headers"] = dict.fromkeys(config.headers, MASK)
    if config.endpoint:
        data["endpoint"] = _without_password(config.endpoint)
    return {"name": config.name} | data


def _without_password(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
