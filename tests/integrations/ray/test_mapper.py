"""EngineMapper as a plain callable class; a batch is a mapping of columns."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, field_serializer

from llmengine import ConfigError, EngineConfig, InvalidRequestError
from llmengine.integrations.ray_data import EngineMapper
from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import MockServer

    Make = Callable[..., EngineMapper]

ADDED = [
    "text",
    "parsed",
    "reasoning",
    "tool_calls",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "attempts",
    "error",
    "error_message",
]


class Person(BaseModel):
    """The type of the answer."""

    name: str
    age: int


def _repeat(*words: str) -> dict[str, list[Any]]:
    return {"prompt": [f"Repeat this: {word}" for word in words]}


def test_rows_keep_their_columns_and_gain_the_answer(mapper: Make) -> None:
    """There is one answer per row, in order, in flat columns after the old ones."""
    batch = {"id": [7, 8], **_repeat("ant", "bee")}

    answered = mapper()(batch)

    assert list(answered) == ["id", "prompt", *ADDED]
    assert answered["id"] == [7, 8]
    assert answered["text"] == ["ant", "bee"]
    assert answered["finish_reason"] == ["stop", "stop"]
    assert answered["attempts"] == [1, 1]
    assert answered["error"] == answered["error_message"] == [None, None]
    for used, sent, got in zip(
        answered["total_tokens"],
        answered["prompt_tokens"],
        answered["completion_tokens"],
        strict=True,
    ):
        assert used == sent + got > 0


def test_failures_are_rows(server: MockServer, mapper: Make, config: dict[str, Any]) -> None:
    """Refused and invalid rows stay in their places, with the reasons."""
    config.update(max_retries=1, max_concurrency=1)
    server.play(Script(faults=[None, Fault(status=500), Fault(status=500), None]))
    batch = {"prompt": ["Repeat this: ant", "Repeat this: bee", None, "Repeat this: cat"]}

    answered = mapper()(batch)

    assert answered["text"] == ["ant", None, None, "cat"]
    assert answered["error"] == [None, "InternalServerError", "InvalidRequestError", None]
    assert answered["attempts"] == [1, 2, 0, 1]
    assert answered["error_message"][2].startswith("prompt 2 is a NoneType")
    assert len(server.calls) == 4


def test_no_row_can_be_asked(server: MockServer, mapper: Make) -> None:
    """A batch with only invalid prompts, or without rows, sends nothing and loses no row."""
    assert mapper()({"prompt": [{"role": "user"}, 3]})["error"] == ["InvalidRequestError"] * 2
    assert mapper()({"prompt": []})["text"] == []
    assert not server.calls


def test_partial_text_of_a_failure_is_kept(raw_server: Any, chat: Any) -> None:
    """A truncated structured answer fails, and its text and tokens are in the row."""
    there = raw_server(lambda _, conn: conn.reply(chat('{"name": "A', finish_reason="length")))
    fields = {"backend": "openai_compatible", "model": "m", "endpoint": there.url}
    mapper = EngineMapper({**fields, "structured": "json_schema"}, output_model=Person)

    answered = mapper({"prompt": ["Ann is thirty."]})

    assert answered["error"] == ["TruncatedError"]
    assert answered["text"] == ['{"name": "A']
    assert answered["parsed"] == [None]
    assert answered["total_tokens"] == [5]


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt": "question"},
        {"prompt": lambda row: row["question"]},
        {"prompt": lambda row: [{"role": "user", "content": row["question"]}]},
        {"prompt": "messages"},
        {"template": "Repeat this: {{ word }}"},
    ],
)
def test_where_the_prompt_comes_from(mapper: Make, settings: dict[str, Any]) -> None:
    """A prompt is a column of strings or of messages, a function of the row, or a template."""
    question = "Repeat this: ant"
    messages = [{"role": "user", "content": question, "name": None}]
    batch = {"word": ["ant"], "question": [question], "messages": [messages]}

    assert mapper(**settings)(batch)["text"] == ["ant"]


def test_null_keys_of_a_message_are_not_sent(server: MockServer, mapper: Make) -> None:
    """Arrow puts every key into every message; the server gets only those that were written."""
    part = {"type": "text", "text": "Hi", "image_url": None}
    mapper()({"prompt": [[{"role": "user", "content": [part], "name": None}]]})

    assert server.calls[-1].json["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": lambda row: row["gone"]}, "prompt: KeyError: 'gone'"),
        ({"template": "{{ gone }}"}, "template: 'gone' is undefined; the names are prompt"),
    ],
)
def test_prompt_that_cannot_be_made_fails_its_row(
    mapper: Make, settings: dict[str, Any], words: str
) -> None:
    """The other rows are answered."""
    assert mapper(**settings)(_repeat("ant"))["error_message"] == [words]


def test_sampling_of_a_row_goes_over_that_of_all(server: MockServer, mapper: Make) -> None:
    """Null fields of a row's mapping have no effect; a row without one uses the common values."""
    own = [{"temperature": 0.5, "max_tokens": None}, None, {"temperature": -1}]
    batch = {**_repeat("ant", "bee", "cat"), "how": own}

    answered = mapper(sampling_params={"temperature": 0.1, "max_tokens": 7}, sampling_column="how")(
        batch
    )

    sent = {c.json["messages"][0]["content"][-3:]: c.json for c in server.calls}
    assert (sent["ant"]["temperature"], sent["ant"]["max_tokens"]) == (0.5, 7)
    assert sent["bee"]["temperature"] == 0.1
    assert answered["error"] == [None, None, "InvalidRequestError"]
    assert "'temperature' is -1" in answered["error_message"][2]


def test_several_answers_a_row_are_refused(
    server: MockServer, mapper: Make, config: dict[str, Any]
) -> None:
    """A row can hold only one answer, so n above 1 is refused, wherever it is set."""
    config["sampling"] = {"n": 2}

    assert "n is 2" in mapper()(_repeat("ant"))["error_message"][0]
    assert not server.calls


def test_structured_answers_are_json_of_what_was_validated(mapper: Make) -> None:
    """The column is text, because its type must not depend on the answer."""
    (parsed,) = mapper(output_model=Person)({"prompt": ["Ann is thirty."]})["parsed"]

    assert Person.model_validate_json(parsed).age >= 0
    assert set(json.loads(parsed)) == {"name", "age"}


def test_model_that_cannot_be_written_fails_its_row(mapper: Make) -> None:
    """An error in a serializer does not end the job, and the answer's text is in the row."""

    class Broken(Person):
        @field_serializer("name")
        def refuse(self, _name: str) -> str:
            raise RuntimeError("no such thing")

    answered = mapper(output_model=Broken)({"prompt": ["Ann is thirty."]})

    assert answered["error"] == ["StructuredOutputError"]
    assert "cannot be written as JSON" in answered["error_message"][0]
    assert json.loads(answered["text"][0])["name"]


def test_tool_calls_are_json(mapper: Make) -> None:
    """Tool calls are in a column of their own."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return city

    answered = mapper(tools=[weather], tool_choice="required")({"prompt": ["Weather in Lyon?"]})

    (call,) = json.loads(answered["tool_calls"][0])
    assert call["name"] == "weather"
    assert json.loads(call["arguments"])["city"]
    assert answered["finish_reason"] == ["tool_calls"]


def test_prefix_keeps_columns_apart(server: MockServer, mapper: Make) -> None:
    """A column that the answer would replace is refused before anything is sent."""
    batch = {**_repeat("ant"), "text": ["mine"]}

    with pytest.raises(ConfigError, match="already have a column 'text'"):
        mapper()(batch)
    assert not server.calls
    answered = mapper(prefix="a_")(batch)
    assert (answered["text"], answered["a_text"]) == (["mine"], ["ant"])


@pytest.mark.parametrize("settings", [{"prompt": "question"}, {"sampling_column": "question"}])
def test_missing_column_ends_the_job(mapper: Make, settings: dict[str, Any]) -> None:
    """An error that affects all rows is raised once and lists the columns."""
    with pytest.raises(ConfigError, match="no column 'question'; their columns are prompt"):
        mapper(**settings)(_repeat("ant"))


def test_batch_of_another_kind_is_named(mapper: Make) -> None:
    """The error for a batch in another format names the formats."""
    with pytest.raises(ConfigError, match="a batch is a list; give map_batches batch_format"):
        mapper()([])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prompt": "a", "template": "b"}, "give one of them"),
        ({"template": "{{ a"}, "template: line 1"),
        ({"output_model": "Person"}, "output_model is 'Person'"),
        ({"sampling_params": {"temprature": 0}}, "did you mean 'temperature'"),
    ],
)
def test_wrong_settings_fail_when_the_mapper_is_made(
    mapper: Make, settings: dict[str, Any], words: str
) -> None:
    """The actor does not start, so nothing is sent."""
    with pytest.raises((ConfigError, InvalidRequestError), match=words):
        mapper(**settings)


def test_engine_by_name(config: dict[str, Any], tmp_path: Path, clean_folder: Path) -> None:
    """A name is looked up on the actor: in the engines file, or in the environment."""
    file = tmp_path / "engines.yaml"
    file.write_text(json.dumps([config]), "utf-8")

    assert EngineMapper("there", engines_file=file)(_repeat("ant"))["text"] == ["ant"]
    with pytest.raises(ConfigError, match="unknown engine 'gone'; its engines are there"):
        EngineMapper("gone", engines_file=file)
    with pytest.raises(ConfigError, match="unknown engine 'gone'; registered"):
        EngineMapper("gone")
    assert clean_folder == tmp_path


@pytest.mark.parametrize("secret", [{"api_key": "sk-1234"}, {"headers": {"X-API-Key": "sk-1234"}}])
def test_key_does_not_travel(config: dict[str, Any], secret: dict[str, Any]) -> None:
    """A key in the plan is refused; the message names the field and not the key."""
    with pytest.raises(ConfigError, match="name the variable that holds it") as refused:
        EngineMapper(EngineConfig(**config, **secret))
    assert "sk-1234" not in str(refused.value)


@pytest.mark.parametrize("named", [{"api_key_env": "MY_KEY"}, {"api_key": "os.environ/MY_KEY"}])
def test_key_is_read_on_the_actor(
    server: MockServer,
    config: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, str],
) -> None:
    """The plan has the variable's name; the key is sent, but it is not in the plan."""
    monkeypatch.setenv("MY_KEY", "sk-from-the-node")
    plan = pickle.dumps(EngineConfig(**config, **named))

    EngineMapper(pickle.loads(plan))(_repeat("ant"))

    assert server.calls[-1].headers["authorization"] == "Bearer sk-from-the-node"
    assert b"sk-from-the-node" not in plan
