"""The probe: when it is sent, what it proves and what is remembered."""

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
    """The output model."""

    name: str
    people: int


def test_enforced_schema_is_trusted_after_one_probe(mock_servers: Any, caplog: Any) -> None:
    """Concurrent prompts wait for one probe, and later calls need none."""
    caplog.set_level("INFO", "llmengine")
    engine = mock_servers.engine()

    outputs = engine.generate(["A city."] * 30, output_model=City)
    engine.generate("Another.", output_model=City)

    assert {o.schema_strategy for o in outputs} == {"json_schema"}
    assert len(mock_servers.probes) == 1
    assert len(mock_servers.requests) == 31
    infos = [r for r in caplog.records if "enforces JSON schemas" in r.message]
    assert [r.levelname for r in infos] == ["INFO"]


def test_probe_is_small_and_its_cost_is_kept(mock_servers: Any) -> None:
    """Its requests and tokens are kept with its outcome, not in the results."""
    engine = mock_servers.engine(extra_body={"top_k": 1})

    (result,) = engine.results("A city.", output_model=City)

    (probe,) = mock_servers.probes
    assert (probe["temperature"], probe["max_tokens"], probe["top_k"]) == (0, 64, 1)
    asked_for = json.dumps(probe["response_format"])
    assert "kzzub-7" in asked_for
    assert "kzzub-7" not in json.dumps(probe["messages"])
    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.requests, verdict.enforced) == (1, True)
    assert verdict.usage.total_tokens > 0
    assert result.attempts == 1


def test_configured_step_and_trusted_server_need_no_probe(mock_servers: Any) -> None:
    """A configured strategy is used as it is, and the mock backend trusts its server."""
    for fields in ({"structured": "json_schema"}, {"backend": "mock"}):
        mock_servers.engine(**fields).generate("A city.", output_model=City)
        assert mock_servers.probes == []
        assert mock_servers.formats == ["json_schema"]


def test_call_without_output_model_is_not_probed(mock_servers: Any) -> None:
    """A call for text pays only for text."""
    mock_servers.engine().generate("A city.")

    assert len(mock_servers.server.calls) == 1


def test_unknown_strategy_is_refused(tmp_path: Any) -> None:
    """The error of the configuration names the four strategies."""
    path = tmp_path / "engines.yaml"
    path.write_text("- {name: e, backend: mock, model: m, structured: hope}")

    with pytest.raises(ConfigError, match=r"structured: Input should be 'auto', 'json_schema'"):
        load_engines(path)
    assert EngineConfig(backend="mock", model="m").structured == "auto"


@pytest.mark.parametrize("status", [401, 404, 429, 502, 503])
def test_failed_probe_proves_nothing(engine_for: Any, chat: Any, status: int) -> None:
    """The answer is still validated, and the next call probes again."""
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


def test_a_500_that_passes_proves_nothing(engine_for: Any, chat: Any) -> None:
    """The probe is sent again before the server counts as one that fails at schemas."""
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
def test_enforcement_follows_from_the_answer(
    engine_for: Any, chat: Any, text: str, finish: str, enforced: bool | None
) -> None:
    """Only the token itself is proof; if it was cut before, the probe is sent once more."""

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
    """A constraint holds after the reasoning, which this answer never ended."""

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
    """A server that takes no temperature refuses the probe for that reason."""

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


def test_cancelled_prompt_leaves_the_probe_to_the_others(
    engine_for: Any, chat: Any, clock: Any
) -> None:
    """If the prompt that started the probe is cancelled, the others still get the outcome."""
    asked, answer = threading.Event(), threading.Event()

    def handler(request: Any, connection: Any) -> None:
        is_probe = "kzzub-7" in json.dumps(request.json)
        if is_probe:
            asked.set()
            assert answer.wait(30)
        connection.reply(chat(PROOF if is_probe else LYON))

    engine, server = engine_for(handler)

    async def two() -> Any:
        first = asyncio.create_task(engine.aresults("One.", output_model=City))
        await asyncio.to_thread(asked.wait, 30)
        second = asyncio.create_task(engine.aresults("Two.", output_model=City))
        await asyncio.sleep(0)  # until the call is on the background loop
        await asyncio.to_thread(clock.settle)
        first.cancel()
        await asyncio.wait([first])
        answer.set()
        return await second

    (result,) = asyncio.run(two())

    assert result.unwrap().schema_strategy == "json_schema"
    assert len(server.requests) == 2


def test_forgotten_server_is_probed_again(mock_servers: Any) -> None:
    """For a server that was replaced at the same address."""
    engine = mock_servers.engine()
    engine.generate("A city.", output_model=City)

    engine.close()
    engine.generate("A city.", output_model=City)

    assert len(mock_servers.probes) == 2
