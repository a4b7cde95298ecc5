"""What to tell somebody whose engine has nothing to talk to: the ways to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.containers.spec import recipe_of
from pytest_llmengine.targets.backends import facts

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.engine.engine import Engine


def no_source(name: str, engine: type[Engine], folder: Path) -> str:
    """Neither address nor recordings: the three ways."""
    return (
        f"engine {name!r} has nothing to talk to. Live: {_give_address(engine)}. "
        f"Replay: there are no cassettes in {folder}; record some first: "
        f"{record_command(name, engine)}. Docker: {_start_container(engine)}."
    )


def no_cassettes(name: str, engine: type[Engine], folder: Path) -> str:
    """A replay without recordings."""
    return (
        f"engine {name!r} cannot be replayed: there are no cassettes in {folder}; "
        f"record some first: {record_command(name, engine)}"
    )


def no_address(name: str, engine: type[Engine]) -> str:
    """A server that has no usual address."""
    return f"engine {name!r} has no address: {_give_address(engine)}"


def not_installed(name: str, extra: str) -> str:
    """The server that the engine would start is not there."""
    return f"engine {name!r} needs an extra: pip install 'pytest-llmengine[{extra}]'"


def in_this_process(name: str, consequence: str) -> str:
    """Something was asked that needs a server."""
    return f"engine {name!r} runs in this process and has no server; {consequence}"


def no_model(name: str, variable: str) -> str:
    """Nobody can be asked which model is there."""
    return (
        f"engine {name!r} has no model: give --engine={name} --engine-model=MODEL or set {variable}"
    )


def choose_model(engine: Engine) -> str:
    """How to say which model is meant; an option alone is for the engine that --engine names."""
    variable = facts(engine.backend).model_variable
    return f"give --engine={engine.name} --engine-model=MODEL" + (
        f" or set {variable}" if variable else ""
    )


def or_replay(folder: Path) -> str:
    """What can be done without a server, if there are recordings."""
    return f"; or replay what is recorded in {folder}: --engine-mode=replay"


def record_command(
    name: str, engine: type[Engine], *, test: str = "", rewrite: bool = False
) -> str:
    """The command that records an engine's answers to a test, or to all."""
    words = [
        "pytest",
        f"'{test}'" if test else "",
        f"--engine={name}",
        "--engine-mode=record",
        "" if facts(engine.backend).own_server else "--engine-url=URL",
        "--rewrite" if rewrite else "",
    ]
    return " ".join(word for word in words if word)


def _start_container(engine: type[Engine]) -> str:
    recipe = recipe_of(engine.backend)
    if recipe is None:
        return f"no image of {facts(engine.backend).server} is known"
    gpus = " --engine-gpus=all" if recipe.needs_gpu else ""
    return f"--engine-mode=docker{gpus} starts {recipe.image}"


def _give_address(engine: type[Engine]) -> str:
    variables = " or ".join(("LLMENGINE_URL", *engine.endpoint_env[:1]))
    key = f"set {engine.key_env}, or " if facts(engine.backend).one_address else ""
    if engine.default_endpoint is not None and not key:
        key = f"nothing answers at {engine.default_endpoint}; start the server there, "
    return f"{key}give --engine-url=http://host:port or set {variables}, or llmengine_url (ini)"
