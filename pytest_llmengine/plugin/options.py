"""The plugin's options, in one table for the command line, the environment and the ini file."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_llmengine.targets import Settings

OptionKind = Literal["text", "list", "lines", "flag", "path", "seconds", "count", "rate"]

_INI_TYPES: dict[OptionKind, Any] = {
    "text": "string",
    "list": "args",
    "lines": "linelist",
    "flag": "bool",
    "path": "string",
    "seconds": "string",
    "count": "string",
    "rate": "string",
}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
# The modes that can start a container.
_OF_IMAGES = frozenset({"docker", "record", "once", "new_episodes", "all"})
# The modes that need no existing recordings.
_WITHOUT_RECORDINGS = _OF_IMAGES | {"live"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: ``llmengine_<name>`` in the ini file, ``LLMENGINE_<NAME>`` in the environment.

    ``short`` is a flag with a common name, which a project's own option of that name replaces.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    kind: OptionKind = "text"
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    short: str = ""

    @property
    def key(self) -> str:
        """The name under which pytest stores the option, from the command line and the ini file."""
        return f"llmengine_{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable of the option."""
        return f"LLMENGINE_{self.name.upper()}"


ENGINE = Option(
    "engine",
    ("--llmengine",),
    "the engine for the tests: a backend, its marker (ollama), or a name from the engines file; "
    "repeatable",
    "list",
    "NAME",
    short="--engine",
)
URL = Option("url", ("--engine-url",), "the server's address", metavar="URL")
MODEL = Option("model", ("--engine-model",), "the model to request")
SERVER_NAME = Option(
    "name",
    ("--engine-name",),
    "what reports call the server, and the name of its folder of recordings "
    "(default: the server program, or host and port)",
    metavar="NAME",
)
HEADER = Option(
    "header",
    ("--engine-header",),
    "a header to send with every request of the contract and of the engine; repeatable, one per "
    "line in the environment and the ini file; its value is not printed",
    "lines",
    "'NAME: VALUE'",
)
CONFIG = Option("config", ("--engine-config",), "the engines file (YAML)", "path", "PATH")
MODE = Option(
    "mode",
    ("--engine-mode",),
    "where answers come from; by default: live if an address is configured or none is needed, "
    "else replay if there are cassettes, else live if a server answers at its default address; "
    "none, once, new_episodes and all are vcrpy's record modes",
    choices=(
        *("live", "record", "replay", "verify", "docker"),
        *("none", "once", "new_episodes", "all"),
    ),
)
FAIL_ON = Option(
    "fail_on",
    ("--engine-fail-on",),
    "with --engine-mode=verify, fail a test whose live answers agree with the recorded ones only "
    "in this tier, or in a worse one (default: different)",
    choices=("volatile", "shape", "outcome", "different"),
)
PLAYED = Option(
    "played",
    ("--engine-played",),
    "write which cassettes were played to this file, for `llmengine cassettes lint --played`",
    "path",
    "FILE",
)
CASSETTES = Option(
    "cassettes",
    ("--engine-cassettes",),
    "the folder of recordings, with one folder per engine (default: cassettes in the rootdir)",
    "path",
    "DIR",
)
REWRITE = Option(
    "rewrite",
    ("--llmengine-rewrite",),
    "when recording, replace existing cassettes",
    "flag",
    short="--rewrite",
)
MISSING = Option(
    "missing",
    ("--engine-missing",),
    "what a test does whose engine is missing, because it is not installed, or there is neither a "
    "server nor a recording: fail or skip (default: fail)",
    choices=("fail", "skip"),
)
TIER = Option(
    "tier",
    ("--engine-tier",),
    "how deep the contract suite goes (default: extended)",
    choices=("smoke", "core", "extended"),
)
LEVEL = Option(
    "level",
    ("--engine-level",),
    "only the contract's rules of this level; repeatable (default: all levels)",
    "list",
    choices=("required", "expected", "optional", "quirk"),
)
REPORT = Option(
    "report",
    ("--engine-report",),
    "also write the contract's verdicts to this file: .json, .md, .html, .xml (JUnit), .sarif, "
    ".ctrf.json or .badge.json",
    "path",
    "PATH",
)
PARITY_BASELINE = Option(
    "parity_baseline",
    ("--parity-baseline",),
    "the side to compare with: an engine's name, or a file that `llmengine parity --save` wrote",
    metavar="NAME|FILE",
)
PARITY_CANDIDATE = Option(
    "parity_candidate",
    ("--parity-candidate",),
    "the side to compare: an engine's name, or such a file (default: the engine)",
    metavar="NAME|FILE",
)
PARITY_PROMPTS = Option(
    "parity_prompts",
    ("--parity-prompts",),
    "a file of your own prompts for the comparison (JSON Lines)",
    "path",
    "PATH",
)
PARITY_ALPHA = Option(
    "parity_alpha",
    ("--parity-alpha",),
    "the false-alarm rate of the comparison, all tests of the run together (default: 0.01)",
    "rate",
    "RATE",
)
PROFILE = Option(
    "profile",
    ("--engine-profile",),
    "a file of known deviations (TOML), instead of the shipped one; `llmengine verify "
    "--write-profile` writes one",
    "path",
    "PATH",
)
IMAGE = Option(
    "image",
    ("--engine-image",),
    "the image to run with --engine-mode=docker, or to record from (default: a pinned one)",
    metavar="IMAGE",
)
GPUS = Option(
    "gpus",
    ("--engine-gpus",),
    "the GPUs that a container sees: all, a number, or device=0,1 (default: none)",
    metavar="GPUS",
)
STARTUP_TIMEOUT = Option(
    "startup_timeout",
    ("--engine-startup-timeout",),
    "how long a container may take until its first token, without downloads (default: 600)",
    "seconds",
    "SECONDS",
)
ANSWER_TIMEOUT = Option(
    "answer_timeout",
    ("--engine-answer-timeout",),
    "how long one whole answer to a check of the contract may take (default: 120)",
    "seconds",
    "SECONDS",
)
CHECK_TIMEOUT = Option(
    "check_timeout",
    ("--engine-check-timeout",),
    "how long all requests of a check may take together (default: 300)",
    "seconds",
    "SECONDS",
)
RUN_TIMEOUT = Option(
    "run_timeout",
    ("--engine-run-timeout",),
    "how long the checks on one engine may take together (default: 7200)",
    "seconds",
    "SECONDS",
)
MAX_UNANSWERED = Option(
    "max_unanswered",
    ("--engine-max-unanswered",),
    "stop testing an engine after this many checks in a row without an answer (default: 3)",
    "count",
    "N",
)
OPTIONS = (
    ENGINE,
    URL,
    MODEL,
    SERVER_NAME,
    HEADER,
    CONFIG,
    MODE,
    CASSETTES,
    REWRITE,
    FAIL_ON,
    PLAYED,
    MISSING,
    TIER,
    LEVEL,
    REPORT,
    PROFILE,
    IMAGE,
    GPUS,
    STARTUP_TIMEOUT,
    ANSWER_TIMEOUT,
    CHECK_TIMEOUT,
    RUN_TIMEOUT,
    MAX_UNANSWERED,
    PARITY_BASELINE,
    PARITY_CANDIDATE,
    PARITY_PROMPTS,
    PARITY_ALPHA,
)
_LIMITS = {
    "answer": ANSWER_TIMEOUT,
    "check": CHECK_TIMEOUT,
    "run": RUN_TIMEOUT,
    "unanswered": MAX_UNANSWERED,
}


def add_options(parser: pytest.Parser, options: Iterable[Option]) -> None:
    """Add these options and their ini keys to pytest; those without a flag have only an ini key."""
    group = parser.getgroup("llmengine", "LLM engines")
    for option in options:
        text = f"{option.help} (env {option.variable}, ini {option.key})"
        if option.flags:
            group.addoption(*option.flags, dest=option.key, help=text, **_argument(option))
        parser.addini(option.key, option.help, type=_INI_TYPES[option.kind], default=None)


def add_short_flags(parser: pytest.Parser, args: list[str]) -> None:
    """Add the flags with common names, except those that a project or another plugin has added."""
    group = parser.getgroup("llmengine")
    for option in OPTIONS:
        if option.short and _is_free(parser, option.short, args):
            text = f"the same as {option.flags[0]}"
            group.addoption(option.short, dest=option.key, help=text, **_argument(option))


def _is_free(parser: pytest.Parser, flag: str, args: list[str]) -> bool:
    """Whether no option has that flag; ``args`` are the run's, which may hold required options."""
    try:
        _, unknown = parser.parse_known_and_unknown_args([flag, *args])
    except pytest.UsageError:  # such as a missing value
        return False
    return flag in unknown


def _argument(option: Option) -> dict[str, Any]:
    if option.kind == "flag":
        return {"action": "store_true", "default": None}
    argument: dict[str, Any] = {
        "default": None,
        "metavar": option.metavar,
        "choices": option.choices,
    }
    if option.kind in {"list", "lines"}:
        argument["action"] = "append"
    if option.kind in _NUMBERS:
        argument["type"] = _NUMBERS[option.kind]
    return argument


def given(config: pytest.Config, option: Option) -> Any:
    """The value from the command line, else from the environment, else None."""
    value = config.getoption(option.key, None)
    if value is None and (text := os.environ.get(option.variable)):
        value = _parsed(option, text)
    return _absolute(value, config.invocation_params.dir) if option.kind == "path" else value


def written(config: pytest.Config, option: Option) -> Any:
    """The value from the ini file, or None; paths are relative to the folder of the ini file."""
    value = config.getini(option.key) or None
    if value is not None:
        value = _checked(option, value, f"ini option {option.key}")
    folder = config.inipath.parent if config.inipath else config.rootpath
    return _absolute(value, folder) if option.kind == "path" else value


def chosen(config: pytest.Config, option: Option) -> Any:
    """The value from the command line, else the environment, else the ini file, else None."""
    value = given(config, option)
    return written(config, option) if value is None else value


def values_of(config: pytest.Config) -> dict[str, Any]:
    """Every option as a plain value; raises UsageError that names the option if one is wrong."""
    engines = tuple(dict.fromkeys(chosen(config, ENGINE) or ()))
    chosen(config, LEVEL)  # checked here and read where the checks are selected
    _check_image(config, engines)
    _check_cassettes(config)
    url, fallback_url = given(config, URL), written(config, URL)
    if (url or fallback_url) and len(engines) > 1:
        raise pytest.UsageError(
            f"an address applies to one engine, but {len(engines)} are given "
            f"({', '.join(engines)}); "
            "give each its endpoint in an engines file (--engine-config)"
        )
    for option in (SERVER_NAME, HEADER):
        if chosen(config, option) and len(engines) > 1:
            raise pytest.UsageError(
                f"{option.flags[0]} applies to one engine, but {len(engines)} are given "
                f"({', '.join(engines)})"
            )
    return {
        "engines": engines or (("openai_compatible" if url or fallback_url else "embedded"),),
        "url": url,
        "fallback_url": fallback_url,
        "model": given(config, MODEL),
        "fallback_model": written(config, MODEL),
        "by_address": not engines and bool(url or fallback_url),
        "server_name": chosen(config, SERVER_NAME),
        "headers": chosen(config, HEADER) or (),
        "config": chosen(config, CONFIG),
        "mode": chosen(config, MODE),
        "cassettes": chosen(config, CASSETTES) or config.rootpath / "cassettes",
        "rewrite": bool(chosen(config, REWRITE)),
        "fail_on": chosen(config, FAIL_ON) or "different",
        "tier": chosen(config, TIER) or "extended",
        "image": chosen(config, IMAGE),
        "gpus": chosen(config, GPUS),
        "startup_timeout": chosen(config, STARTUP_TIMEOUT),
        "limits": {
            name: value
            for name, option in _LIMITS.items()
            if (value := chosen(config, option)) is not None
        },
    }


def settings_of(config: pytest.Config) -> Settings:
    """The run's settings, from `values_of`."""
    from pytest_llmengine.contract.limits import Limits  # noqa: PLC0415 - imported when used
    from pytest_llmengine.contract.registry import Tier  # noqa: PLC0415 - the same
    from pytest_llmengine.recording.comparison import AnswerTier  # noqa: PLC0415 - the same
    from pytest_llmengine.targets import Settings, TargetError  # noqa: PLC0415 - the same
    from pytest_llmengine.targets.headers import parse_headers  # noqa: PLC0415 - the same
    from pytest_llmengine.targets.settings import run_mode  # noqa: PLC0415 - the same

    values = values_of(config)
    try:
        values["headers"] = parse_headers(values["headers"])
    except TargetError as error:
        raise pytest.UsageError(str(error)) from error
    try:
        values["mode"], values["record_mode"] = run_mode(
            values["mode"], rewrite=values.pop("rewrite")
        )
    except TargetError as error:
        raise pytest.UsageError(str(error)) from error
    values["tier"] = Tier[values["tier"].upper()]
    values["fail_on"] = AnswerTier(values["fail_on"])
    values["limits"] = Limits(**values["limits"])
    return Settings(**values)


def _parsed(option: Option, text: str) -> Any:
    if option.kind == "list":
        return _checked(option, text.replace(",", " ").split(), option.variable)
    if option.kind == "lines":
        return text.splitlines()
    if option.kind == "flag":
        return _flag(option, text.lower())
    return _checked(option, text, option.variable)


def _checked(option: Option, value: Any, where: str) -> Any:
    """A value from the environment or the ini file, checked like one from the command line."""
    if option.kind in _NUMBERS:
        try:
            return _NUMBERS[option.kind](value)
        except ArgumentTypeError as error:
            raise pytest.UsageError(f"{where} is {error}") from error
    for one in value if option.kind == "list" else (value,):
        if option.choices is not None and one not in option.choices:
            raise pytest.UsageError(f"{where} is {one!r}; it is one of {', '.join(option.choices)}")
    return value


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < inf:
            return seconds
    raise ArgumentTypeError(f"{text!r}; give seconds above 0")


def _count(text: str) -> int:
    with suppress(ValueError):
        if (count := int(text)) > 0:
            return count
    raise ArgumentTypeError(f"{text!r}; give a whole number above 0")


def _rate(text: str) -> float:
    with suppress(ValueError):
        if _LEAST_RATE <= (rate := float(text)) <= _MOST_RATE:
            return rate
    raise ArgumentTypeError(f"{text!r}; give a rate from {_LEAST_RATE} to {_MOST_RATE}")


_LEAST_RATE, _MOST_RATE = 0.0001, 0.5
_NUMBERS: dict[str, Callable[[str], float]] = {
    "seconds": _seconds,
    "count": _count,
    "rate": _rate,
}


def _flag(option: Option, text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise pytest.UsageError(f"{option.variable} is {text!r}; write 1 or 0")
    return text in _TRUE


def _check_image(config: pytest.Config, engines: tuple[str, ...]) -> None:
    """Raise UsageError if an image is given but would not be used."""
    if chosen(config, IMAGE) and len(engines) != 1:
        raise pytest.UsageError("an image applies to one engine; name that engine with --engine")
    if given(config, IMAGE) and chosen(config, MODE) not in _OF_IMAGES:
        raise pytest.UsageError(
            f"{IMAGE.flags[0]} (or {IMAGE.variable}) needs "
            "--engine-mode=docker or --engine-mode=record"
        )


def _check_cassettes(config: pytest.Config) -> None:
    """Raise UsageError if a given folder of recordings does not exist and would be replayed."""
    folder: Path | None = given(config, CASSETTES)
    if folder is None or folder.is_dir() or chosen(config, MODE) in _WITHOUT_RECORDINGS:
        return
    raise pytest.UsageError(
        f"{CASSETTES.flags[0]} (or {CASSETTES.variable}): there is no folder {folder}; correct the "
        f"path, or record into it with {MODE.flags[0]}=record"
    )


def _absolute(value: Any, folder: Path) -> Path | None:
    return None if value is None else folder / value
