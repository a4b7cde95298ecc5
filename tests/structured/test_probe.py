"""The probe: when it is sent, what it believes, and what it remembers."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import ConfigError, EngineConfig, load_engines

LYON = '{"name": "Lyon", "people": 520000}'
PROOF = '{"vq": "kzzub-7"}'


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def test_enforced_schema_is_trusted_after_one_probe(play: Any, caplog: Any) -> None:
    """Many prompts at once wait for one probe, and later calls need none."""
    caplog.set_level("INFO", "llmengine")
    engine = play.engine()

    outputs = engine.generate(["A city."] * 30, output_model=City)
    engine.generate("Another.", output_model=City)

    assert {o.schema_strategy for o in outputs} == {"json_schema"}
    assert len(play.probes) == 1
    assert len(play.asked) == 31
    told = [r for r in caplog.records if "enforces JSON schemas" in r.message]
    assert [r.levelname for r in told] == ["INFO"]


def test_probe_is_small_and_its_cost_is_kept(play: Any) -> None:
    """It is not in the results, so the verdict has its requests and tokens."""
    engine = play.engine(extra_body={"top_k": 1})

    (result,) = engine.results("A city.", output_model=City)

    (probe,) = play.probes
    assert (probe["temperature"], probe["max_tokens"], probe["top_k"]) == (0, 64, 1)
    asked_for = json.dumps(probe["response_format"])
    assert "kzzub-7" in asked_for
    assert "kzzub-7" not in json.dumps(probe["messages"])
    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.requests, verdict.enforced) == (1, True)
    assert verdict.usage.total_tokens > 0
    assert result.attempts == 1


def test_configured_step_and_trusted_server_need_no_probe(play: Any) -> None:
    """A named step is taken as it is, and the mock backend knows its server."""
    for fields in ({"structured": "json_schema"}, {"backend": "mock"}):
        play.engine(**fields).generate("A city.", output_model=City)
        assert play.probes == []
        assert play.formats == ["json_schema"]


def test_call_without_output_model_is_not_probed(play: Any) -> None:
    """Who asks for text pays for text."""
    play.engine().generate("A city.")

    assert len(play.server.calls) == 1


def test_step_that_nobody_knows_is_refused(tmp_path: Any) -> None:
    """The configuration names the four there are."""
    path = tmp_path / "engines.yaml"
    path.write_text("- {name: e, backend: mock, model: m, structured: hope}")

    with pytest.raises(ConfigError, match=r"structured: Input should be 'auto', 'json_schema'"):
        load_engines(path)
    assert EngineConfig(backend="mock", model="m").structured == "auto"


@pytest.mark.parametrize("status", [401, 404, 429, 502, 503])
def test_failed_probe_is_no_verdict(engine_for: Any, chat: Any, status: int) -> None:
    """The answer is validated all the same, and the next call probes again."""
    first = itertools.count()

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        if is_probe and next(first) == 0:
            connection.reply({"error": {"message": "not now"}}, status=status)
        else:
            connection.reply(chat(PROOF if is_probe else LYON))

    engine, _ = engine_for(handler)

    (output,) = engine.generate("A city.", output_model=City)
    assert output.parsed == City(name="Lyon", people=520000)
    assert engine.backend.enforcement.verdicts() == {}
    engine.generate("A city.", output_model=City)

    assert [v.enforced for v in engine.backend.enforcement.verdicts().values()] == [True]


def test_a_500_that_passes_costs_no_verdict(engine_for: Any, chat: Any) -> None:
    """The probe is asked again before a server is said to fail at schemas."""
    first = itertools.count()

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        if is_probe and next(first) < 2:
            connection.reply({"error": {"message": "not now"}}, status=500)
        else:
            connection.reply(chat(PROOF if is_probe else LYON))

    engine, _ = engine_for(handler, retry_wait=0.001)

    engine.generate("A city.", output_model=City)

    assert [v.enforced for v in engine.backend.enforcement.verdicts().values()] == [True]


@pytest.mark.parametrize(
    ("text", "finish", "enforced"),
    [
        (PROOF, "stop", True),
        ('{\n  "vq": "kzzub-7"\n}', "stop", True),
        (PROOF, "length", True),
        ('{"vq": "Paris"}', "stop", False),
        ("Paris.", "length", False),
        ("", "stop", False),
        ('{"vq": "kz', "length", None),
        ("", "length", None),
    ],
)
def test_verdict_follows_from_the_answer(
    engine_for: Any, chat: Any, text: str, finish: str, enforced: bool | None
) -> None:
    """Only the token itself is proof; an answer that was cut before it is asked for once more."""

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        connection.reply(chat(text, finish_reason=finish) if is_probe else chat(LYON))

    engine, server = engine_for(handler)

    (output,) = engine.generate("A city.", output_model=City)

    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert verdict.enforced is enforced
    assert output.schema_strategy == ("json_object" if enforced is False else "json_schema")
    limits = [r.json["max_tokens"] for r in server.requests if "max_tokens" in r.json]
    assert limits == ([64, 1024] if enforced is None else [64])
    assert verdict.requests == len(limits)


def test_answer_that_is_all_reasoning_proves_nothing(engine_for: Any, chat: Any) -> None:
    """A constraint holds from the end of the reasoning on, and this one never came to it."""

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        thought = {"role": "assistant", "content": None, "reasoning": "Paris?"}
        connection.reply(chat(message=thought) if is_probe else chat(LYON))

    engine, _ = engine_for(handler)

    (output,) = engine.generate("A city.", output_model=City)

    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.enforced, output.schema_strategy) == (None, "json_schema")


def test_probe_that_is_refused_with_and_without_a_schema_proves_nothing(
    engine_for: Any, chat: Any
) -> None:
    """A server that takes no temperature refuses the probe for that, not for the schema."""

    def handler(request: Any, connection: Any) -> None:
        if "temperature" in request.json:
            connection.reply({"error": {"message": "no temperature here"}}, status=400)
        else:
            connection.reply(chat(LYON))

    engine, server = engine_for(handler)

    engine.generate("One.", output_model=City)
    (output,) = engine.generate("Two.", output_model=City)

    assert output.schema_strategy == "json_schema"
    assert [v.enforced for v in engine.backend.enforcement.verdicts().values()] == [None]
    assert len(server.requests) == 4


def test_cancelled_prompt_leaves_the_probe_to_the_others(engine_for: Any, chat: Any) -> None:
    """The one who started the probe may go; those who wait for it still get their verdict."""
    asked, answer = threading.Event(), threading.Event()

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        if is_probe:
            asked.set()
            assert answer.wait(5)
        connection.reply(chat(PROOF if is_probe else LYON))

    engine, server = engine_for(handler)

    async def two() -> Any:
        first = asyncio.create_task(engine.aresults("One.", output_model=City))
        await asyncio.to_thread(asked.wait, 5)
        second = asyncio.create_task(engine.aresults("Two.", output_model=City))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.wait([first])
        answer.set()
        return await second

    (result,) = asyncio.run(two())

    assert result.unwrap().schema_strategy == "json_schema"
    assert len(server.requests) == 2


def test_forgotten_server_is_probed_again(play: Any) -> None:
    """For a server that was replaced behind its address."""
    engine = play.engine()
    engine.generate("A city.", output_model=City)

    engine.close()
    engine.generate("A city.", output_model=City)

    assert len(play.probes) == 2
