"""vLLM itself with a real small model; docs/vllm_local.md says how to run these tests."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from llmengine import ContextLengthError, EngineConfig, SamplingParams, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from llmengine import Engine, LLMOutput

pytestmark = pytest.mark.filterwarnings("default")  # torch and vLLM warn while they load

PROMPTS = [f"Write a line about rivers and the number {number}." for number in range(12)]
GREEDY = SamplingParams(temperature=0, max_tokens=24, logprobs=1)


def weather(city: str) -> str:
    """The weather in a city."""
    return city


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def _said(outputs: list[LLMOutput]) -> list[Any]:
    """What must be equal to the bit."""
    return [
        (
            tuple(o.prompt_token_ids or ()),
            o.outputs[0].text,
            tuple(o.outputs[0].token_ids or ()),
            o.outputs[0].finish_reason,
            o.outputs[0].stop_reason,
        )
        for o in outputs
    ]


@pytest.fixture(scope="module")
def llm(real_model: str, real_options: Mapping[str, Any]) -> Iterator[Any]:
    """A ``vllm.LLM`` of the test, with which the engine is compared."""
    from vllm import LLM  # noqa: PLC0415 - optional, and seconds to import

    direct = LLM(real_model, **real_options)
    yield direct
    direct.llm_engine.engine_core.shutdown()


def test_it_says_what_vllm_says(real: Engine, llm: Any) -> None:
    """Prompts, texts, token ids and log-probabilities are those of LLM.chat on the same batch."""
    conversations = [[{"role": "user", "content": p}] for p in PROMPTS]
    from vllm import SamplingParams as Native  # noqa: PLC0415 - optional, and seconds to import

    native = Native(temperature=0, max_tokens=24, logprobs=1)
    direct = llm.chat(conversations, native, use_tqdm=False)
    for params in (GREEDY, native):
        ours = real.generate(PROMPTS, params)
        assert _said(ours) == _said(direct)
        for here, there in zip(ours, direct, strict=True):
            summed = there.outputs[0].cumulative_logprob
            assert here.outputs[0].cumulative_logprob == pytest.approx(summed, abs=1e-9)


def test_a_server_says_the_same(real: Engine) -> None:
    """A float32 server of the same model gives the same texts and token ids."""
    if not os.environ.get("VLLM_BASE_URL"):
        pytest.skip("no server: set VLLM_BASE_URL and VLLM_MODEL to a float32 one of this model")
    server = EngineConfig(backend="vllm_api", model=os.environ["VLLM_MODEL"], timeout=300).engine
    asked = GREEDY.merged(SamplingParams(return_token_ids=True))
    assert _said(server.generate(PROMPTS, asked)) == _said(real.generate(PROMPTS, GREEDY))


def test_a_stream_says_what_a_whole_answer_says(real: Engine) -> None:
    """It has the same tokens and counts, token by token."""
    (whole,) = real.generate(PROMPTS[0], GREEDY)
    deltas = list(real.stream(PROMPTS[0], GREEDY))
    assert "".join(d.text for d in deltas) == whole.outputs[0].text
    assert sum([d.token_ids for d in deltas], ()) == whole.outputs[0].token_ids
    assert sum([d.logprobs for d in deltas], ()) == whole.outputs[0].logprobs
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]
    assert deltas[-1].usage is not None
    assert whole.usage is not None
    assert deltas[-1].usage.total_tokens == whole.usage.total_tokens


def test_logprobs_are_vllms(real: Engine) -> None:
    """There are as many alternatives as requested, and greedy tokens are the likeliest."""
    params = SamplingParams(temperature=0, max_tokens=4, logprobs=3, prompt_logprobs=1)
    (output,) = real.generate("Say hello.", params)
    places = output.outputs[0].logprobs
    assert places is not None
    for place in places:
        assert len(place.top) == 3
        assert (place.token, place.logprob) == (place.top[0].token, place.top[0].logprob)
        assert place.logprob >= place.top[1].logprob >= place.top[2].logprob
        assert math.exp(place.logprob) <= 1
    assert output.prompt_logprobs is not None
    assert output.prompt_token_ids is not None
    assert output.prompt_logprobs[0] is None
    for token, found in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True):
        assert found is not None
        assert token in found


def test_several_answers_and_seeds(real: Engine) -> None:
    """A seed repeats all n answers, which are counted together."""
    params = SamplingParams(n=3, temperature=1.0, seed=5, max_tokens=6)
    first, again = (real.generate("Name a colour.", params)[0] for _ in range(2))
    assert len({a.text for a in first.outputs}) > 1
    assert [a.token_ids for a in first.outputs] == [a.token_ids for a in again.outputs]
    assert first.usage is not None
    assert first.usage.completion_tokens == sum(len(a.token_ids or ()) for a in first.outputs)
    streamed: dict[int, str] = dict.fromkeys(range(3), "")
    for delta in real.stream("Name a colour.", params):
        streamed[delta.index] += delta.text
    assert [streamed[a.index] for a in first.outputs] == [a.text for a in first.outputs]


def test_a_stop_is_named(real: Engine) -> None:
    """The reason is the text or the token that stopped the answer."""
    (whole,) = real.generate(PROMPTS[0], GREEDY)
    token_ids = whole.outputs[0].token_ids
    assert token_ids
    by_token = SamplingParams(temperature=0, max_tokens=24, stop_token_ids=[token_ids[3]])
    answer = real.generate(PROMPTS[0], by_token)[0].outputs[0]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", token_ids[3])
    word = whole.outputs[0].text.split()[2]
    by_text = SamplingParams(temperature=0, max_tokens=24, stop=[word])
    answer = real.generate(PROMPTS[0], by_text)[0].outputs[0]
    assert (answer.finish_reason, answer.stop_reason) == ("stop", word)
    assert word not in answer.text


@pytest.mark.parametrize(
    ("constraint", "fits"),
    [
        ({"choice": ["yes", "no"]}, lambda text: text in {"yes", "no"}),
        ({"regex": "[0-9]{3}-[0-9]{2}"}, lambda text: len(text) == 6 and text[3] == "-"),
        ({"grammar": 'root ::= "a" | "b" root'}, lambda text: set(text) <= {"a", "b"}),
        ({"json": {"type": "integer"}}, lambda text: isinstance(json.loads(text), int)),
    ],
)
def test_constraints_hold(constraint: dict[str, Any], fits: Any, real: Engine) -> None:
    """Each kind of vLLM's structured outputs is enforced."""
    params = SamplingParams(temperature=0, max_tokens=12, structured_outputs=constraint)
    assert fits(real.generate("Answer.", params)[0].outputs[0].text)


def test_an_output_model_is_enforced(real: Engine) -> None:
    """The constraint of vLLM enforces it at the first attempt, whole and streamed."""
    ask = "Describe Ann, who is 30 years old."
    params = SamplingParams(temperature=0, max_tokens=60)
    (output,) = real.generate(ask, params, output_model=Person)
    assert output.schema_strategy == "json_schema"
    assert isinstance(output.parsed, Person)
    assert list(real.stream(ask, params, output_model=Person))[-1].parsed == output.parsed


def test_fields_that_no_server_takes_are_vllms(real: Engine) -> None:
    """A vllm.SamplingParams is used as it is, with its 16 tokens and all fields."""
    from vllm import SamplingParams as Native  # noqa: PLC0415 - optional, and seconds to import

    (output,) = real.generate("Count.", Native(allowed_token_ids=[33, 34], ignore_eos=True))
    assert output.outputs[0].token_ids is not None
    assert len(output.outputs[0].token_ids) == 16
    assert set(output.outputs[0].token_ids) <= {33, 34}


def test_a_prompt_that_is_too_long_fails_alone(real: Engine) -> None:
    """The others are answered."""
    long, fine = real.results(["word " * 5000, "Hi"], SamplingParams(max_tokens=2))
    assert isinstance(long.error, ContextLengthError)
    assert (fine.ok, long.attempts) == (True, 1)


def test_usage_is_vllms(real: Engine) -> None:
    """The prompt counts with its template, like its token ids."""
    (output,) = real.generate("Hi", SamplingParams(temperature=0, max_tokens=3))
    assert output.prompt_token_ids is not None
    prompt = len(output.prompt_token_ids)
    assert output.usage is not None
    assert output.usage == Usage(prompt, 3, prompt + 3, cached_tokens=output.usage.cached_tokens)


def test_tool_calls_are_read_by_vllms_parser(real_model: str, real_options: dict[str, Any]) -> None:
    """A required call is a tool call, whole and streamed."""
    options = {**real_options, "tool_call_parser": "hermes"}
    config = EngineConfig(backend="vllm_local", model=real_model, options=options)
    ask: dict[str, Any] = {"tools": [weather], "tool_choice": "required"}
    params = SamplingParams(temperature=0, max_tokens=80)
    with config.engine as engine:
        answer = engine.generate("Weather in Paris?", params, **ask)[0].outputs[0]
        deltas = list(engine.stream("Weather in Paris?", params, **ask))
    (call,) = answer.tool_calls
    assert call.name == "weather"
    assert json.loads(call.arguments)
    assert answer.finish_reason == "tool_calls"
    fragments = [f for d in deltas for f in d.tool_calls]
    assert fragments[0].name == "weather"
    assert json.loads("".join(f.arguments for f in fragments)) == json.loads(call.arguments)
    assert [d.finish_reason for d in deltas if d.finish_reason] == ["tool_calls"]


THINK, END_THINK = 5, 6  # ids of tokens that the model's tokenizer has but never uses


@pytest.fixture(scope="module")
def thinking_model(real_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model with ``<think>`` and ``</think>`` as tokens."""
    folder = tmp_path_factory.mktemp("thinking")
    for file in Path(real_model).iterdir():
        if file.name == "tokenizer.json":
            (folder / file.name).write_text(_with_think_tokens(file.read_text("utf-8")), "utf-8")
        else:
            (folder / file.name).symlink_to(file)
    return str(folder)


def _with_think_tokens(tokenizer: str) -> str:
    data = json.loads(tokenizer)
    for token in data["added_tokens"]:
        if (text := {THINK: "<think>", END_THINK: "</think>"}.get(token["id"])) is not None:
            del data["model"]["vocab"][token["content"]]
            data["model"]["vocab"][text] = token["id"]
            token |= {"content": text, "special": False}
    return json.dumps(data)


def test_reasoning_is_read_by_vllms_parser(
    thinking_model: str, real_options: dict[str, Any]
) -> None:
    """The text between the model's tags is reasoning and counted so, whole and streamed."""
    constraints = {**real_options["structured_outputs_config"], "enable_in_reasoning": True}
    options = {
        **real_options,
        "reasoning_parser": "deepseek_r1",
        "structured_outputs_config": constraints,
    }
    config = EngineConfig(backend="vllm_local", model=thinking_model, options=options)
    params = SamplingParams(
        temperature=0,
        max_tokens=24,
        structured_outputs={"regex": "<think>[a-z]{6,9}</think>[A-Z]{3,5}"},
        logit_bias={THINK: 100.0, END_THINK: 100.0},
    )
    with config.engine as engine:
        (output,) = engine.generate("Hi", params)
        deltas = list(engine.stream("Hi", params))
    assert re.fullmatch("[a-z]{6,9}", output.reasoning or "")
    assert re.fullmatch("[A-Z]{3,5}", output.outputs[0].text)
    ids = output.outputs[0].token_ids or ()
    assert output.usage is not None
    assert output.usage.reasoning_tokens == ids.index(END_THINK) - ids.index(THINK) - 1
    assert "".join(d.reasoning for d in deltas) == output.reasoning
    assert "".join(d.text for d in deltas) == output.outputs[0].text
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.reasoning_tokens == output.usage.reasoning_tokens
