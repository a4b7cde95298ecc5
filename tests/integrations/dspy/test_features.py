"""What works on the installed DSPy: each feature, at each engine, by our model and DSPy's own.

``docs/dspy.md`` has its table from these tests: a row is a test, and its outcome is the cell. The
mock says what the test wants to hear; at the real engines it is a model that speaks, so that what
is asserted is the kind of answer.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
from pydantic import BaseModel, Field

from llmengine import EngineConfig
from llmengine.integrations.dspy import Generation, native_lm, to_lm
from llmengine.mock import Script

if TYPE_CHECKING:
    from llmengine.mock import MockServer

_LIMITS = {"temperature": 0.0, "max_tokens": 150}


Mood = Literal["glad", "sad"]


class Ticket(BaseModel):
    """What support has to know."""

    category: Literal["billing", "bug"]
    urgent: bool
    summary: str = Field(max_length=40)


_TICKET = '{"category": "bug", "urgent": true, "summary": "It crashes."}'


class Known(NamedTuple):
    """A limit of DSPy or litellm: the test that fails, the DSPy, the route, and the reason."""

    test: str
    generation: Generation
    route: str
    reason: str
    real_only: bool = False  # a model of another size may do better


_2_4, _2_5, _3_4 = Generation.LEGACY, Generation.FORWARD, Generation.ENGINE
_NO_SCHEMA = "dspy.OpenAI sends no schema, and the small model needs one"
KNOWN = [
    Known(
        "test_truncation_is_seen",
        _2_4,
        "native",
        "dspy.OpenAI says nothing of an answer that was cut",
    ),
    Known(
        "test_errors_retried_by_one",
        _2_4,
        "native",
        "the openai SDK retries twice, whatever is configured",
    ),
    Known(
        "test_errors_retried_by_one",
        _2_5,
        "native",
        "litellm, the SDK beneath it and the adapters all retry",
    ),
    Known(
        "test_two_servers_apart",
        _2_5,
        "native",
        "with cache=True: DSPy's cache ignores the address",
    ),
    Known(
        "test_two_servers_apart",
        _3_4,
        "native",
        "with cache=True: DSPy's cache ignores the address",
    ),
    Known("test_typed_fields", _2_4, "native", _NO_SCHEMA, real_only=True),
    Known("test_pydantic_answer", _2_4, "native", _NO_SCHEMA, real_only=True),
    Known(
        "test_several_answers", _2_4, "native", "answers that were cut are dropped", real_only=True
    ),
]


@dataclass(frozen=True, slots=True)
class Aim:
    """An engine, the route to it, and how its answers are scripted, if they can be."""

    dspy: Any
    generation: Generation
    config: EngineConfig
    route: str
    server: MockServer | None

    def lm(self, **arguments: Any) -> Any:
        """The language model."""
        if self.route == "ours":
            return to_lm(self.config, **_LIMITS | arguments)
        return native_lm(self.config, declared=True, **_LIMITS | arguments)

    def context(self, **arguments: Any) -> Any:
        """The settings with that model, and with the adapter that small models understand."""
        settings = {"lm": self.lm(**arguments)}
        if self.generation is not Generation.LEGACY:
            settings["adapter"] = self.dspy.JSONAdapter()
        return self.dspy.settings.context(**settings)

    def says(self, *answers: str) -> None:
        """Script the answers of a mock; those of a real model are free."""
        if self.server is not None:
            self.server.play(Script(replies=answers))

    def spelled(self, legacy: str, json: str) -> str:
        """An answer, as the installed DSPy reads it."""
        return legacy if self.generation is Generation.LEGACY else json


@pytest.fixture(
    params=[
        pytest.param((engine, route), id=f"{engine}-{route}")
        for engine in ("mock", "embedded", "vllm_api")
        for route in ("ours", "native")
    ]
)
def aim(request: Any, dspy: Any, generation: Generation) -> Aim:
    """Every engine, by every route."""
    engine, route = request.param
    here = (request.node.originalname, generation, route)
    for known in KNOWN:
        if here == known[:3] and (engine != "mock" or not known.real_only):
            request.applymarker(pytest.mark.xfail(reason=known.reason, strict=not known.real_only))
    server = request.getfixturevalue("server") if engine == "mock" else None
    config = request.getfixturevalue("config" if engine == "mock" else engine)
    return Aim(dspy, generation, config, route, server)


@pytest.fixture(scope="session")
def vllm_api() -> EngineConfig:
    """A running vLLM server; skips if no variable has its address."""
    if not os.environ.get("VLLM_BASE_URL"):
        pytest.skip("no vLLM server; run: VLLM_BASE_URL=http://host:8000/v1 nox -s dspy-latest")
    config = EngineConfig(backend="vllm_api", model="", timeout=180)
    import httpx  # noqa: PLC0415 - for one request

    models = httpx.get(f"{config.engine.base_url}/models").raise_for_status().json()
    return config.model_copy(update={"model": models["data"][0]["id"]})


@pytest.fixture
def modern_aim(aim: Aim) -> Aim:
    """Skips on 2.4, which does not have the feature."""
    if aim.generation is Generation.LEGACY:
        pytest.skip("DSPy 2.4 has no such thing")
    return aim


def _predict(aim: Aim, signature: Any = "question -> answer", **config: Any) -> Any:
    """The class for typed answers, which is Predict in 3.x."""
    return getattr(aim.dspy, "TypedPredictor", aim.dspy.Predict)(signature, **config)


def test_predict(aim: Aim) -> None:
    """A question and an answer."""
    aim.says(aim.spelled("Paris", '{"answer": "Paris"}'))

    with aim.context():
        prediction = aim.dspy.Predict("question -> answer")(question="The capital of France?")

    assert prediction.answer


def test_chain_of_thought(aim: Aim) -> None:
    """Reasoning before the answer."""
    aim.says(aim.spelled("known.\nAnswer: Paris", '{"reasoning": "known", "answer": "Paris"}'))

    with aim.context():
        prediction = aim.dspy.ChainOfThought("question -> answer")(question="2 + 2?")

    assert prediction.get("reasoning") or prediction.get("rationale")


def test_typed_fields(aim: Aim) -> None:
    """One of the values that are allowed."""
    aim.says(aim.spelled('{"value": "sad"}', '{"mood": "sad"}'))

    with aim.context():
        prediction = _predict(aim, _judging(aim.dspy))(text="I lost my keys.")

    assert prediction.mood in {"glad", "sad"}


def _judging(dspy: Any) -> Any:
    class Judge(dspy.Signature):  # type: ignore[misc,name-defined]  # dspy has no types
        """Tell the mood of a text."""

        text: str = dspy.InputField()
        mood: Mood = dspy.OutputField()

    return Judge


def test_pydantic_answer(aim: Aim) -> None:
    """An instance of a model."""
    aim.says(aim.spelled(_TICKET, f'{{"ticket": {_TICKET}}}'))

    with aim.context():
        prediction = _predict(aim, _triage(aim.dspy))(text="The app crashes!")

    assert isinstance(prediction.ticket, Ticket)


def _triage(dspy: Any) -> Any:
    class Triage(dspy.Signature):  # type: ignore[misc,name-defined]  # dspy has no types
        """Sort a support ticket."""

        text: str = dspy.InputField()
        ticket: Ticket = dspy.OutputField()

    return Triage


def test_react_with_tools(aim: Aim) -> None:
    """Tools in the prompt."""
    if aim.server is None:
        pytest.skip("a model of this size follows no such protocol")
    step = '{"next_thought": "I know.", "next_tool_name": "finish", "next_tool_args": {}}'
    end = '{"reasoning": "Known.", "answer": "blue"}'
    aim.says(aim.spelled("I know.\nAction 1: Finish[blue]", step), end)

    with aim.context():
        prediction = aim.dspy.ReAct("question -> answer", tools=[])(question="Sky?")

    assert prediction.answer == "blue"


def test_native_tool_calls(modern_aim: Aim) -> None:
    """Tools as the server's own tool calls."""
    aim, dspy = modern_aim, modern_aim.dspy
    if aim.server is None:
        pytest.skip("a model of this size calls no tools")
    call = {"id": "c1", "function": {"name": "lookup", "arguments": '{"query": "sky"}'}}
    aim.server.play(Script(replies=[{"tool_calls": [call]}]))
    fields = {
        "question": (str, dspy.InputField()),
        "tools": (list[dspy.Tool], dspy.InputField()),
        "calls": (dspy.ToolCalls, dspy.OutputField()),
    }

    with aim.context():
        prediction = dspy.Predict(dspy.Signature(fields))(
            question="Sky?", tools=[dspy.Tool(_lookup)]
        )

    assert prediction.calls.tool_calls[0].args == {"query": "sky"}


def _lookup(query: str) -> str:
    """Look something up."""
    return query


def test_streaming(modern_aim: Aim) -> None:
    """A field, piece by piece."""
    aim, dspy = modern_aim, modern_aim.dspy
    aim.says('{"answer": "one two three four five six seven eight nine ten eleven twelve"}')
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])

    async def read() -> list[Any]:
        with aim.context():
            return [item async for item in program(question="Count to twelve.")]

    *pieces, prediction = asyncio.run(read())
    assert len(pieces) > 1
    assert prediction.answer


def test_async_programs(modern_aim: Aim) -> None:
    """Two awaited together."""
    aim, dspy = modern_aim, modern_aim.dspy
    aim.says('{"answer": "a"}', '{"answer": "b"}')
    predict = dspy.Predict("question -> answer")

    async def ask() -> list[Any]:
        with aim.context():
            return await asyncio.gather(*(predict.acall(question=f"{i}?") for i in range(2)))

    assert all(prediction.answer for prediction in asyncio.run(ask()))


def test_several_answers(aim: Aim) -> None:
    """``n=2`` gives two completions."""
    said = aim.spelled("Paris", '{"answer": "Paris"}')
    aim.says(said, said)

    with aim.context():
        prediction = aim.dspy.Predict("question -> answer", n=2)(question="A city?")

    assert len(prediction.completions.answer) == 2


def test_usage(modern_aim: Aim) -> None:
    """The tokens of a program."""
    aim, dspy = modern_aim, modern_aim.dspy
    aim.says('{"answer": "Paris"}')

    with aim.context(), dspy.context(track_usage=True):
        prediction = dspy.Predict("question -> answer")(question="The capital of France?")

    (usage,) = prediction.get_lm_usage().values()
    assert usage["total_tokens"] > usage["completion_tokens"] > 0


def test_history(aim: Aim) -> None:
    """The history has the prompt and the answer."""
    lm = aim.lm(max_tokens=5)

    lm("The capital of France?")

    assert "capital of France" in str(lm.history[-1]["prompt"])


def test_cache(modern_aim: Aim) -> None:
    """The second time nothing is sent."""
    aim = modern_aim
    lm = aim.lm(cache=True, max_tokens=5)

    first, second = lm("A word?"), lm("A word?")

    assert first == second
    assert not lm.history[-1]["usage"]
    if aim.server is not None:
        assert len(aim.server.calls) == 1


def test_copies(aim: Aim) -> None:
    """A copy of the model uses the same server, and a copied program has its model."""
    aim.says("yes", aim.spelled("Paris", '{"answer": "Paris"}'))
    program, lm = _program(aim.dspy), aim.lm()
    program.predictors()[0].lm = lm

    with aim.context():
        assert lm.copy(temperature=0.5)("A word?")
        assert program.deepcopy()(question="A city?").answer


def test_save_and_load(aim: Aim, tmp_path: Any) -> None:
    """A program with its model in a file, and back."""
    dspy, path = aim.dspy, str(tmp_path / "program.json")
    aim.says(aim.spelled("Paris", '{"answer": "Paris"}'))

    program, loaded = _program(dspy), _program(dspy)
    program.predictors()[0].lm = aim.lm()
    program.save(path)
    trust = {"allow_unsafe_lm_state": True} if aim.generation is Generation.ENGINE else {}
    loaded.load(path, **trust)
    if aim.generation is Generation.FORWARD:
        loaded.set_lm(aim.lm())  # no key is saved, and no class but DSPy's own

    with aim.context():
        assert loaded(question="The capital of France?").answer


def _program(dspy: Any) -> Any:
    class Program(dspy.Module):  # type: ignore[misc,name-defined]  # dspy has no types
        """Asks one question."""

        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            """The prediction."""
            return self.predict(question=question)

    return Program()


def test_evaluation_in_threads(aim: Aim) -> None:
    """Four examples by two threads."""
    aim.says(*[aim.spelled("Paris", '{"answer": "Paris"}')] * 4)
    examples = [
        aim.dspy.Example(question=f"{i}?", answer="").with_inputs("question") for i in range(4)
    ]
    evaluate = pytest.importorskip("dspy.evaluate").Evaluate(
        devset=examples,
        metric=lambda _example, prediction, _trace=None: bool(prediction.answer),
        num_threads=2,
        display_progress=False,
        display_table=0,
    )

    with aim.context():
        score = evaluate(aim.dspy.Predict("question -> answer"))

    assert getattr(score, "score", score) == 100.0


def test_truncation_is_seen(
    aim: Aim, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a warning for an answer that the token limit cut."""
    import logging  # noqa: PLC0415 - for one handler

    monkeypatch.setattr(logging.getLogger("dspy"), "propagate", True)

    aim.lm(max_tokens=2)("Count from 1 to 100.")

    assert "cut at 2 tokens" in caplog.text or "truncated" in caplog.text


def test_errors_retried_by_one(aim: Aim) -> None:
    """A server that fails for good is asked once and retried as often as configured.

    With a schema, which some servers fail at, our engine asks once more without it.
    """
    if aim.server is None:
        pytest.skip("only the mock fails on purpose")
    from itertools import repeat  # noqa: PLC0415 - for one test

    from llmengine.mock import Fault  # noqa: PLC0415 - for one test

    aim.server.play(Script(faults=repeat(Fault(status=500))))

    with aim.context(), pytest.raises(Exception):  # noqa: B017, PT011 - the count is the point
        aim.dspy.Predict("question -> answer")(question="Where?")

    sends_schema = aim.route == "ours" and aim.generation is not Generation.LEGACY
    assert len(aim.server.calls) == aim.config.max_retries + 1 + sends_schema


def test_two_servers_apart(modern_aim: Aim) -> None:
    """One model's name at two addresses, with the cache on."""
    aim = modern_aim
    if aim.server is None:
        pytest.skip("it takes two servers")
    from llmengine.mock import MockServer  # noqa: PLC0415 - for one test

    aim.says("here")
    with MockServer() as other:
        other.play(Script(replies=["there"]))
        there = aim.config.model_copy(update={"endpoint": other.base_url})
        make = to_lm if aim.route == "ours" else native_lm
        answers = [make(config, cache=True)("Where?") for config in (aim.config, there)]

    assert answers == [["here"], ["there"]]
