"""What a user can do about an engine that cannot be opened: error messages and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.config.backends import FALLBACK
from pytest_llmengine.containers.spec import recipe_of
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import EngineConfig
    from llmengine.backends.base import Backend


def no_source(name: str, backend: type[Backend], folder: Path) -> str:
    """The message if there is neither an address nor a recording; it names the three modes."""
    return (
        f"engine {name!r} has neither an address nor a recording. Live: {_give_address(backend)}. "
        f"Replay: there are no cassettes in {folder}; record some first: "
        f"{record_command(name, backend)}. Docker: {_start_container(backend)}."
    )


def no_cassettes(name: str, backend: type[Backend], folder: Path) -> str:
    """The message for a replay without recordings."""
    return (
        f"engine {name!r} cannot be replayed: there are no cassettes in {folder}; "
        f"record some first: {record_command(name, backend)}"
    )


def no_address(name: str, backend: type[Backend]) -> str:
    """The message if no address is configured and the backend has no default address."""
    return f"engine {name!r} has no address: {_give_address(backend)}"


def not_installed(name: str, extra: str) -> str:
    """The message if the server that the engine would start is not installed."""
    return f"engine {name!r} needs an extra: pip install 'pytest-llmengine[{extra}]'"


def without_server(config: EngineConfig, consequence: str) -> str:
    """The message if something needs a server and the engine has none."""
    kind = "is a fallback" if config.backend == FALLBACK else "runs in this process"
    return f"engine {config.name!r} {kind} and has no server; {consequence}"


def no_model(name: str, backend: str) -> str:
    """The message if no model is given and there is no server that lists its models."""
    return f"engine {name!r} has no model: {choose_model(name, backend)}"


def choose_model(name: str, backend: str) -> str:
    """Advice on how to choose a model; --engine-model applies only to engines named by --engine."""
    variable = facts(backend).model_variable
    or_set = f" or set {variable}" if variable else ""
    return f"give --engine={name} --engine-model=MODEL{or_set}"


def or_replay(folder: Path) -> str:
    """Advice for an engine whose server does not answer but which has recordings."""
    return f"; or replay what is recorded in {folder}: --engine-mode=replay"


def record_command(
    name: str, backend: type[Backend], *, test: str = "", rewrite: bool = False
) -> str:
    """The command that records an engine's answers to one test, or to all tests."""
    words = [
        "pytest",
        f"'{test}'" if test else "",
        f"--engine={name}",
        "--engine-mode=record",
        "" if facts(backend.name).own_server else "--engine-url=URL",
        "--rewrite" if rewrite else "",
    ]
    return " ".join(word for word in words if word)


def _start_container(backend: type[Backend]) -> str:
    recipe = recipe_of(backend.name)
    if recipe is None:
        return f"no image of {facts(backend.name).server} is known"
    gpus = " --engine-gpus=all" if recipe.needs_gpu else ""
    return f"--engine-mode=docker{gpus} starts {recipe.image}"


def _give_address(backend: type[Backend]) -> str:
    variables = " or ".join(("LLMENGINE_URL", *backend.endpoint_env[:1]))
    key = f"set {backend.key_env}, or " if facts(backend.name).one_address else ""
    if backend.default_endpoint is not None and not key:
        key = f"nothing answers at {backend.default_endpoint}; start the server there, "
    return f"{key}give --engine-url=http://host:port or set {variables}, or llmengine_url (ini)"
