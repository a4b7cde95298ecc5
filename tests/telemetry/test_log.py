"""What is logged, where, and what is never logged."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

from llmengine.mock import Fault

SECRET = "sk-very-secret-key"
PROMPT = "the patient's name is Ada"
LOGGER = "llmengine"


def batches(caplog: Any) -> list[Any]:
    """The log records of whole batches."""
    return [record for record in caplog.records if hasattr(record, "llmengine")]


def test_one_line_per_batch_with_data(counted_server: Any, caplog: Any) -> None:
    """A batch is one line, with the same facts as data for machines."""
    s = counted_server(price={"input": 1_000_000, "output": 1_000_000})

    with caplog.at_level(logging.INFO, LOGGER):
        s.engine.results(["a", "b", 7], step_id="extract")

    (record,) = batches(caplog)
    total = s.generated.total_tokens
    words = f"(extract): 2 of 3 prompts answered, 2 attempts, {total} tokens, cost {total} USD"
    assert words in record.getMessage()
    data = record.llmengine
    assert data["usage"]["total_tokens"] == data["cost"] == total
    assert (data["event"], data["step"], data["model"]) == ("batch", "extract", "mock")
    assert (data["prompts"], data["answered"], data["attempts"]) == (3, 2, 2)
    assert data["seconds"] > 0


@pytest.mark.parametrize(
    ("faults", "price", "words"),
    [
        ([], None, "tokens, unknown cost"),
        ([Fault(cut_after=0)], {"input": 1, "output": 1}, "cost at least "),
        ([Fault(cut_after=0)], {"input": 1, "output": 1}, "attempts, at least "),
        ([], {"input": 0, "output": 0}, "cost 0 USD"),
    ],
)
def test_unknown_sums_are_named(
    counted_server: Any, caplog: Any, faults: Any, price: Any, words: str
) -> None:
    """A sum with an unknown part says "at least", an unknown one says so, and 0 means 0."""
    s = counted_server(faults=faults, price=price)

    with caplog.at_level(logging.INFO, LOGGER):
        s.engine.results(["a", "b"])

    assert words in batches(caplog)[0].getMessage()


@pytest.mark.parametrize("status", [400, 503])
def test_no_prompt_and_no_key_above_debug(raw_server: Any, caplog: Any, status: int) -> None:
    """The log does not have them, even if the server quotes both."""
    from llmengine import EngineConfig  # noqa: PLC0415 - beside its use

    def echo(request: Any, connection: Any) -> None:
        said = request.body.decode() + request.headers["authorization"]
        connection.reply({"error": {"message": said}}, status=status)

    server = raw_server(echo)
    config = EngineConfig(
        backend="openai_compatible", model="m", endpoint=server.url, api_key=SECRET, max_retries=1
    )
    with caplog.at_level(logging.DEBUG, LOGGER):
        config.engine.results(PROMPT)

    shown = [r.getMessage() + repr(vars(r)) for r in caplog.records if r.levelno > logging.DEBUG]
    assert shown
    assert not [text for text in shown if PROMPT in text]
    assert SECRET not in caplog.text


def test_quiet_by_default(counted_server: Any) -> None:
    """Without any set-up nothing is printed, not even a warning."""
    code = "import llmengine, logging; logging.getLogger('llmengine').error('loud')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout + done.stderr == ""
