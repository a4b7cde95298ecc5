"""The options of recordings on the command line, in the environment and in the ini file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.plugin.options import Option, given, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# Each has the name of the option in `pytest_llmengine.recording.RecordingOptions`.
RECORDING_OPTIONS = (
    Option(
        "ignore_paths",
        (),
        "JSON paths in the bodies of requests that are not compared with the recorded ones, one "
        "per line",
        "lines",
    ),
    Option(
        "normalize",
        (),
        "what is replaced in the strings of requests before they are compared: dates, uuids, "
        "numbers, or package.module:function",
        "list",
    ),
    Option(
        "match_on",
        (),
        "what must be equal in a request and the recorded one: method, path, query, body, or "
        "package.module:function (default: the first four)",
        "list",
    ),
    Option(
        "record_on_exception",
        (),
        "let the recording of a test that failed replace the earlier one",
        "flag",
    ),
    Option(
        "max_age",
        ("--engine-max-age",),
        "the largest age in days of a cassette that is replayed (default: any)",
        "count",
        "DAYS",
    ),
    Option(
        "expired",
        ("--engine-expired",),
        "what happens to a cassette that is older: a warning (the default), or the test fails",
        choices=("warn", "fail"),
    ),
)


def written_options(config: pytest.Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """The options in the ini file, each with its source for messages."""
    for option in RECORDING_OPTIONS:
        if (value := written(config, option)) is not None:
            yield f"ini option {option.key}", {option.name: value}


def given_options(config: pytest.Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """The options on the command line or in the environment, each with its source for messages."""
    for option in RECORDING_OPTIONS:
        if (value := given(config, option)) is not None:
            yield " or ".join((*option.flags, option.variable)), {option.name: value}
