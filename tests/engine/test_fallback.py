"""An engine made of engines: when the next one is asked, what is counted, and who answered."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    BadRequestError,
    CallError,
    ConfigError,
    EngineConfig,
    EnginePool,
    FallbackConfig,
    InternalServerError,
    InvalidFieldError,
    load_engines,
    run_batch,
)
from llmengine.integrations.dspy.adapter import engine_of
from llmengine.integrations.ray_data.config import config_of
from llmengine.mock import Fault, MockReply, MockServer, Script
from llmengine.telemetry.usage import Who, meter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine import LLMOutput
    from llmengine.engine.fallback import FallbackEngine

BROKEN = Script(faults=repeat(Fault(status=503)))
PRICE = {"input": 1_000_000, "output": 1_000_000}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[MockServer, MockServer]]:
    """Two servers of the same model, without scripts."""
    with ExitStack() as stack:
        yield stack.enter_context(MockServer()), stack.enter_context(MockServer())


@pytest.fixture
def first(servers: tuple[MockServer, MockServer]) -> Iterator[MockServer]:
    """The server of the first engine."""
    yield servers[0]
    servers[0].play(Script())


@pytest.fixture
def second(servers: tuple[MockServer, MockServer]) -> Iterator[MockServer]:
    """The server of the second engine."""
    yield servers[1]
    servers[1].play(Script())


def config(server: MockServer, name: str, **fields: Any) -> EngineConfig:
    """The configuration of an engine that does not try again."""
    settings = {
        "backend": "openai_compatible",
        "model": "mock",
        "max_retries": 0,
        "retry_wait": 0.001,
    }
    return EngineConfig(name=name, endpoint=server.root_url, **{**settings, **fields})


@pytest.fixture
def fallback(first: MockServer, second: MockServer) -> Any:
    """Makes a fallback of both engines."""

    def make(
        of_both: dict[str, Any] | None = None,
        of_first: dict[str, Any] | None = None,
        **fields: Any,
    ) -> FallbackEngine:
        given = of_both or {}
        engines = [
            config(first, "first", **{**given, **(of_first or {})}),
            config(second, "second", **given),
        ]
        return FallbackConfig(name="safe", engines=engines, **fields).engine

    return make


@pytest.mark.parametrize(
    ("fault", "kind", "by_default"),
    [
        (Fault(cut_after=0), "connection", True),
        (Fault(stall_after=0), "timeout", True),
        (Fault(status=429), "rate_limit", True),
        (Fault(status=503), "server", True),
        (Fault(malformed_json=True), "response", True),
        (Fault(status=401), "authentication", False),
        (Fault(status=404), "not_found", False),
        (Fault(status=422), "bad_request", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_next_engine_is_asked_after_these_errors(
    fallback: Any, first: MockServer, fault: Fault, kind: str, *, by_default: bool
) -> None:
    """Errors of the server move on; those of the request only if they are named."""
    fields = {"of_first": {"timeout": 0.05} if kind == "timeout" else {}}
    first.play(Script(faults=repeat(fault)))

    (usual,) = fallback(**fields).results("Hello")
    (named,) = fallback(**fields, errors=[kind]).results("Hello")
    (never,) = fallback(**fields, errors=[]).results("Hello")

    assert usual.ok is by_default
    assert (named.engine, named.attempts) == ("second", 2)
    assert (never.ok, never.engine, never.attempts) == (False, "first", 1)


def too_short(output: LLMOutput) -> bool:
    """Whether an answer has fewer than ten characters."""
    return len(output.outputs[0].text) < 10


@pytest.mark.parametrize(
    ("reply", "rejects"),
    [
        (MockReply(refusal="I will not."), "refusal"),
        (MockReply("The", finish_reason="content_filter"), "refusal"),
        (MockReply("The", finish_reason="length"), "length"),
        (MockReply(" "), "empty"),
        (MockReply("No."), too_short),
    ],
)
def test_next_engine_is_asked_after_these_answers(
    fallback: Any, first: MockServer, second: MockServer, reply: MockReply, rejects: object
) -> None:
    """An answer that is not accepted is paid for, and the other engine's is the result."""
    first.play(Script(replies=[reply, reply], optional=True))
    second.play(Script(replies=["A better answer."], optional=True))
    prices = {"price": PRICE}

    (usual,) = fallback(prices).results("Hello")
    (result,) = fallback(prices, answers=[rejects]).results("Hello")

    assert usual.engine == "first"
    assert (result.engine, result.attempts) == ("second", 2)
    assert result.output.outputs[0].text == "A better answer."
    assert result.usage == usual.usage + result.output.usage
    assert result.cost == result.usage.total_tokens


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (MockReply(refusal="I will not."), "refusal"),
        (MockReply('{"a"', finish_reason="length"), "length"),
        (MockReply('"many"'), "schema"),
        (MockReply(""), "empty"),
    ],
)
def test_answer_that_does_not_fit_the_model(
    fallback: Any, first: MockServer, second: MockServer, reply: MockReply, kind: str
) -> None:
    """The other engine is asked after the last step of the first."""
    first.play(Script(replies=repeat(reply)))
    second.play(Script(replies=["7"], optional=True))
    fields = {"structured": "json_schema"}

    (usual,) = fallback(fields).results("How many?", output_model=int)
    (result,) = fallback(fields, answers=[kind]).results("How many?", output_model=int)

    assert (usual.ok, usual.engine) == (False, "first")
    assert (result.engine, result.output.parsed) == ("second", 7)
    assert result.attempts == usual.attempts + 1


def test_rejected_answer_is_better_than_none(
    fallback: Any, first: MockServer, second: MockServer
) -> None:
    """If no answer is accepted, the last one is the result, even if a later engine failed."""
    first.play(Script(replies=["No."], optional=True))
    second.play(BROKEN)

    (result,) = fallback(answers=[too_short]).results("Hello")

    assert (result.engine, result.attempts) == ("first", 2)
    assert result.output.outputs[0].text == "No."


def test_function_that_raises_ends_its_prompt_only(fallback: Any) -> None:
    """The error names the exception and keeps the answer that was paid for."""

    def fails_once(output: LLMOutput) -> bool:
        return bool(1 / (output.prompt != "bad"))

    bad, good = fallback(answers=[fails_once]).results(["bad", "good"])

    assert good.ok
    assert isinstance(bad.error, CallError)
    assert "ZeroDivisionError" in str(bad.error)
    assert bad.error.partial.prompt == "bad"


def test_each_engine_counts_its_own_requests(
    fallback: Any, first: MockServer, second: MockServer
) -> None:
    """The meter has the requests of a prompt at the engine that sent them; the result has all."""
    first.play(Script(faults=[Fault(status=503)]))
    before = meter.snapshot()

    (result,) = fallback({"price": PRICE}).results("Hello")

    used = (meter.snapshot() - before).engines
    assert {who.engine: (t.calls, t.failed, t.attempts) for who, t in used.items()} == {
        "first": (1, 1, 1),
        "second": (1, 0, 1),
    }
    assert used[Who("second", "mock")].known_cost == result.cost
    assert (result.attempts, result.uncounted) == (2, 0)


def test_costs_in_two_currencies_are_not_added(
    first: MockServer, second: MockServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in a result nor in the log."""
    first.play(Script(replies=["No.", "A better answer."], optional=True))
    engines = [
        config(first, "first", price={**PRICE, "currency": "EUR"}, max_concurrency=1),
        config(second, "second", price=PRICE),
    ]
    engine = FallbackConfig(name="safe", engines=engines, answers=[too_short]).engine
    caplog.set_level("INFO", "llmengine")

    both, dear = engine.results(["Hello", "Hi"])

    assert (both.engine, both.cost, both.currency) == ("second", None, None)
    assert (dear.engine, dear.currency) == ("first", "EUR")
    (line,) = (r for r in caplog.records if getattr(r, "llmengine", {}).get("event") == "batch")
    assert line.getMessage().startswith("safe: 2 of 2 prompts answered, 3 attempts")
    assert "unknown cost" in line.getMessage()


def test_last_error_names_the_engines_that_failed_before(
    fallback: Any, first: MockServer, second: MockServer
) -> None:
    """It also counts all attempts, and keeps its notes when it is pickled."""
    first.play(BROKEN)
    second.play(Script(faults=repeat(Fault(status=400))))

    (result,) = fallback().results("Hello")
    error = pickle.loads(pickle.dumps(result.error))

    assert isinstance(error, BadRequestError)
    assert "these engines failed before: 'first' (InternalServerError (HTTP 503))" in str(error)
    assert error.__notes__[0].startswith("engine 'first': InternalServerError: HTTP 503")
    assert (result.engine, error.attempts) == ("second", 2)


def test_each_engine_gets_its_own_request(first: MockServer, second: MockServer) -> None:
    """Model, sampling defaults and further fields are those of the engine that is asked."""
    first.play(BROKEN)
    engines = [
        config(first, "first", model="small", sampling={"temperature": 1}),
        config(second, "second", sampling={"max_tokens": 5}, extra_body={"user": "u"}),
    ]
    engine = FallbackConfig(engines=engines).engine

    assert engine.generate("Hello")

    body = second.calls[-1].json
    assert (body["model"], body["max_tokens"], body["user"]) == ("mock", 5, "u")
    assert "temperature" not in body
    assert engine.model == "small, mock"


def test_weighted_order_spreads_the_turns(first: MockServer, second: MockServer) -> None:
    """The sequence is fixed: three turns of one engine for each turn of the other."""
    engines = [config(first, "first", weight=3), config(second, "second")]
    engine = FallbackConfig(engines=engines, order="weighted").engine

    answered = [engine.results("Hello")[0].engine for _ in range(8)]

    assert answered == ["first", "first", "second", "first"] * 2


def test_engine_that_fails_rests(fallback: Any, first: MockServer, clock: Any) -> None:
    """After three failures it gets no requests for a second, and then one as a trial."""
    first.play(BROKEN)
    engine, before = fallback(), len(first.calls)
    no_clocks = {"timeout": {"connect": None, "total": None}}
    engine = fallback(no_clocks)

    def ask() -> tuple[str | None, int]:
        (result,) = engine.results("Hello")
        return result.engine, len(first.calls) - before

    assert [ask() for _ in range(5)][-2:] == [("second", 3), ("second", 3)]
    clock.advance(1.5)
    assert ask() == ("second", 4)
    first.play(Script())
    clock.advance(1.5)
    assert ask() == ("second", 4)
    clock.advance(1)
    assert ask() == ("first", 5)


def test_prompts_that_wait_for_a_server_that_fails_go_elsewhere(
    fallback: Any, first: MockServer
) -> None:
    """They wait for their turn at the first engine when its third failure makes it rest."""
    first.play(BROKEN)
    before = len(first.calls)

    results = fallback(of_first={"max_concurrency": 1}).results(["Hello"] * 8)

    assert [result.engine for result in results] == ["second"] * 8
    assert sorted(result.attempts for result in results) == [1] * 5 + [2] * 3
    assert len(first.calls) - before == 3


def test_engine_that_asks_to_wait_is_passed_over(
    fallback: Any, first: MockServer, clock: Any
) -> None:
    """Time stands still, so a prompt that waits for the first engine does not end."""
    first.play(Script(faults=[Fault(status=429, retry_after=30)]))
    before = len(first.calls)
    engine = fallback({"timeout": {"connect": None, "total": None}})

    results = [engine.results("Hello")[0] for _ in range(3)]
    clock.advance(31)
    (later,) = engine.results("Hello")

    assert [result.engine for result in results] == ["second"] * 3
    assert [result.attempts for result in results] == [2, 1, 1]
    assert later.engine == "first"
    assert len(first.calls) - before == 2


@pytest.mark.parametrize("cut_after", [0, 1])
def test_stream_moves_on_before_the_first_content(
    fallback: Any, first: MockServer, second: MockServer, cut_after: int
) -> None:
    """The first chunk has only the role."""
    first.play(Script(replies=["one two"], faults=[Fault(cut_after=cut_after)], optional=True))
    second.play(Script(replies=["three four"], optional=True))

    assert "".join(delta.text for delta in fallback().stream("Hello")) == "three four"


def test_stream_does_not_move_on_after_the_first_content(
    fallback: Any, first: MockServer, second: MockServer
) -> None:
    """Another engine would repeat what the caller has."""
    first.play(Script(replies=["one two three four"], faults=[Fault(cut_after=3)], optional=True))
    before, deltas = len(second.calls), []

    with pytest.raises(CallError) as caught:
        deltas.extend(fallback().stream("Hello"))

    assert caught.value.partial.outputs[0].text.startswith("one")
    assert len(second.calls) == before


@pytest.mark.parametrize(
    ("reply", "rejects"),
    [
        (MockReply(""), "empty"),
        (MockReply("", finish_reason="content_filter"), "refusal"),
        (MockReply(""), too_short),
    ],
)
def test_stream_without_content_is_an_answer_too(
    fallback: Any, first: MockServer, second: MockServer, reply: MockReply, rejects: object
) -> None:
    """If it is not accepted, the next engine is asked; if none is accepted, it is the last one."""
    first.play(Script(replies=[reply] * 2, optional=True))
    second.play(Script(replies=["A better answer.", reply], optional=True))
    engine = fallback(answers=[rejects])

    better, last = list(engine.stream("Hello")), list(engine.stream("Hello"))

    assert "".join(delta.text for delta in better) == "A better answer."
    assert [delta.finish_reason for delta in last if delta.finish_reason] == [
        reply.finish_reason or "stop"
    ]


def test_function_that_raises_ends_its_stream(fallback: Any, first: MockServer) -> None:
    """The error names the exception."""

    def fails(_output: LLMOutput) -> bool:
        raise LookupError("no such list")

    first.play(Script(replies=[MockReply("")], optional=True))

    with pytest.raises(CallError, match="LookupError: no such list"):
        list(fallback(answers=[fails]).stream("Hello"))


def test_stream_that_no_engine_can_begin_raises_the_last_error(
    fallback: Any, first: MockServer, second: MockServer
) -> None:
    """It names the engines before."""
    first.play(BROKEN)
    second.play(BROKEN)

    with pytest.raises(InternalServerError, match="these engines failed before: 'first'"):
        list(fallback().stream("Hello"))


def test_iterated_prompts_move_on_one_by_one(fallback: Any, first: MockServer) -> None:
    """The results keep the order of the prompts."""
    first.play(Script(faults=[None, Fault(status=503), None]))
    prompts = ["a", "b", "c"]

    results = list(fallback({"max_concurrency": 1}).iter_results(iter(prompts), window=1))

    assert [result.output.prompt for result in results] == prompts
    assert [result.engine for result in results] == ["first", "second", "first"]


def test_copy_of_a_configuration_is_checked(fallback: Any) -> None:
    """A field that a fallback does not have would have no effect."""
    config = fallback(answers=["empty"], hedge_after=1).config

    copied = config.model_copy(update={"name": "other", "hedge_budget": 0.5, "headers": {}})

    assert (copied.name, copied.hedge_budget, copied.engines) == ("other", 0.5, config.engines)
    assert copied.answers == ("empty",)
    assert copied.engine is not config.engine
    with pytest.raises(InvalidFieldError, match="engine 'safe': model: a fallback has none"):
        config.model_copy(update={"model": "another"})


def test_pickled_fallback_answers(fallback: Any, first: MockServer) -> None:
    """A copy has its own engines."""
    first.play(BROKEN)
    engine = pickle.loads(pickle.dumps(fallback()))

    assert engine.results("Hello")[0].engine == "second"
    assert [one.name for one in engine.engines] == ["first", "second"]


def test_key_of_an_engine_is_neither_shown_nor_sent(second: MockServer) -> None:
    """The engines of a fallback are treated like other engines, also if they are mappings."""
    key = "sk-of-the-second-engine"
    fields = {"backend": "openai_compatible", "model": "mock", "endpoint": second.root_url}
    given = [{"name": "a", **fields}, {"name": "b", "api_key": key, **fields}]
    safe = FallbackConfig(engines=given, answers=["empty", too_short])

    assert key not in repr(safe)
    assert key not in safe.model_dump_json()
    assert '"answers":["empty","too_short"]' in safe.model_dump_json()
    with pytest.raises(ConfigError, match="engine 'b': api_key: Ray would send the key"):
        config_of(safe)


def test_language_model_of_dspy_needs_one_engine(fallback: Any) -> None:
    """DSPy's cache keeps answers by the server."""
    with pytest.raises(ConfigError, match="make the language model of one of its engines"):
        engine_of(fallback())


FILE = """
- name: safe
  backend: fallback
  engines: [laptop, hosted]
  order: weighted
  errors: [connection, authentication]
  answers: [refusal]
- {name: hosted, backend: vllm_api, model: l, endpoint: "http://[::1]:2", weight: 2, num_retries: 0}
- {name: laptop, backend: mock, model: mock}
"""


def test_file_names_the_engines(tmp_path: Path, clean_folder: Any) -> None:
    """A fallback names engines of its file, before or after it; a pool makes it like the others."""
    path = tmp_path / "engines.yaml"
    path.write_text(FILE)

    configs = load_engines(path)
    with EnginePool(configs) as pool:
        safe_engine = pool.get("safe")
        (result,) = safe_engine.results("Hello")
        assert safe_engine.engines == (pool.get("laptop"), pool.get("hosted"))

    assert list(configs) == ["safe", "hosted", "laptop"]
    safe = configs["safe"]
    assert isinstance(safe, FallbackConfig)
    assert safe.engines == (configs["laptop"], configs["hosted"])
    assert (safe.order, safe.answers) == ("weighted", ("refusal",))
    assert safe.model == "mock, l"
    assert result.engine == "laptop"  # nothing listens at the other's address


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("engines: [a, c]", "engines: no engine of this file that can be part of a fallback is"),
        ("engines: [a, f]", "engines: no engine of this file that can be part of a fallback is"),
        ("engines: a", "engines: is 'a'; give the names of the file's engines"),
        ("engines: [a]", "engines: a fallback is made of at least two engines, not of 1"),
        ("engines: [a, a]", "engines: give the engines different names, not 'a', 'a'"),
        ("engines: [a, b], errors: [serve]", "errors: 'serve' is not a kind of error; did you"),
        ("engines: [a, b], errors: server", "errors: is 'server'; give a list such as"),
        ("engines: [a, b], answers: [bad]", "answers: 'bad' is not a kind of answer; known are"),
        ("engines: [a, b], timeout: 5", "timeout: a fallback has none of its own; set it at its"),
        ("engines: [a, b], model: x", "model: a fallback has none of its own; set it at its"),
        ("engines: [a, {nam: b}]", "engines: nam: is not a field of an engine; did you mean"),
        ("engines: [a, b], ordr: given", "ordr: is not a field of an engine; did you mean 'order'"),
    ],
)
def test_wrong_entry_is_one_clear_error(tmp_path: Path, entry: str, message: str) -> None:
    """The error names the file, the engine and the field."""
    path = tmp_path / "engines.yaml"
    path.write_text(
        f"- {{name: a, backend: mock, model: m}}\n- {{name: b, backend: mock, model: m}}\n"
        f"- {{name: f, backend: fallback, {entry}}}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load_engines(path)

    assert f"engines.yaml: engine 3 (f): {message}" in str(caught.value)


async def coroutine(_output: LLMOutput) -> bool:
    """A function whose result would always count as true."""
    return False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [coroutine]}, "answers: coroutine is a coroutine function"),
        ({"engines": [EngineConfig(backend="mock", model="m").engine]}, "is its .config"),
        ({"engines": "a"}, "engines: give a list of EngineConfig"),
        ({"engines": [{"name": "a", "modl": "m"}]}, "engines.0.modl: is .* did you mean 'model'"),
        ({"hedge": 1}, "hedge: is not a field"),
    ],
)
def test_wrong_field_is_one_clear_error(fallback: Any, change: Any, message: str) -> None:
    """The error names the field."""
    engines = fallback().config.engines

    with pytest.raises(InvalidFieldError, match=message):
        FallbackConfig(**{"engines": engines, **change})


@pytest.mark.parametrize(
    "use",
    [
        lambda engine, _: engine.base_url,
        lambda engine, _: engine.fingerprint(),
        lambda engine, _: engine.tokenize("Hello"),
        lambda engine, folder: run_batch([], folder / "out.jsonl", [engine, engine]),
    ],
)
def test_what_needs_a_server_names_the_engines(fallback: Any, tmp_path: Path, use: Any) -> None:
    """A fallback has no address."""
    with pytest.raises(ConfigError, match="use one of its engines: 'first', 'second'"):
        use(fallback(), tmp_path)


def test_backend_alone_makes_no_fallback() -> None:
    """The error says how it is made."""
    with pytest.raises(ConfigError, match=r"make it by FallbackConfig\(engines="):
        _ = EngineConfig(backend="fallback", model="m").engine
