"""Pipelines in YAML, and the messages for mistakes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmengine import ConfigError, EngineConfig
from llmengine.pipeline import load_pipeline, read_records, to_records

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "engines": [{"name": "main", "backend": "mock", "model": "mock"}],
    "models": {"Finding": {"fields": {"quote": "string"}}},
    "steps": [
        {"id": "find", "engine": "main", "output_model": "Finding", "user_prompt": "{{ text }}"},
        {
            "id": "use",
            "engine": "main",
            "user_prompt": "{{ steps.find.quote }}",
            "sampling": {"temperature": 0, "stop": ["."]},
            "reasoning": "low",
        },
    ],
    "inputs": [{"text": "one"}],
}


def written(folder: Path, **change: Any) -> Path:
    """A valid pipeline file with some parts changed; None removes a part."""
    data = {k: v for k, v in (GOOD | change).items() if v is not None}
    path = folder / "p.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    """Steps, models, engines and inputs are read; the name is that of the file."""
    pipeline = load_pipeline(written(tmp_path))

    find, use = pipeline.chain.steps
    assert pipeline.chain.name == "p"
    assert find.output_model == {
        "title": "Finding",
        "type": "object",
        "properties": {"quote": {"type": "string"}},
        "required": ["quote"],
        "additionalProperties": False,
    }
    assert use.sampling.given() == {"temperature": 0, "stop": (".",)}
    assert use.reasoning == "low"
    assert pipeline.engines["main"].backend == "mock"
    assert [(r.id, r.fields["text"]) for r in pipeline.records()] == [("1", "one")]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Paths of engines and inputs are relative to the folder of the pipeline."""
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(GOOD["engines"]), "utf-8")
    (tmp_path / "i.jsonl").write_text('{"id": "x", "text": "t"}\n\n', "utf-8")
    pipeline = load_pipeline(written(tmp_path, engines="e.yaml", inputs="i.jsonl"))
    assert list(pipeline.engines) == ["main"]
    assert [r.id for r in pipeline.records()] == ["x"]


def test_the_chain_says_the_order(tmp_path: Path) -> None:
    """A chain may use some of the steps, in another order."""
    assert [s.id for s in load_pipeline(written(tmp_path, chain=["find"])).chain.steps] == ["find"]
    with pytest.raises(ConfigError, match=r"p\.yaml: step 'use': user_prompt: steps\.find is no"):
        load_pipeline(written(tmp_path, chain=["use", "find"]))


def test_every_step_on_one_engine(tmp_path: Path) -> None:
    """`on` changes the engine of all steps and nothing else."""
    other = EngineConfig(name="other", backend="mock", model="m")
    moved = load_pipeline(written(tmp_path)).on(other)
    assert {step.engine for step in moved.chain.steps} == {"other"}
    assert moved.engines["other"] is other


def step(**change: Any) -> list[Any]:
    """The steps with the first one changed."""
    return [GOOD["steps"][0] | change, GOOD["steps"][1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, ": steps: is missing"),
        ({"steps": 3}, ": steps: Input should be a valid list"),
        ({"stepz": []}, ": stepz: is not a field here"),
        ({"steps": [{"id": "a", "engine": "main"}]}, ": step 'a': user_prompt: is missing"),
        ({"steps": [{"engine": "main", "user_prompt": "x"}]}, ": step 1: id: is missing"),
        ({"steps": step(user_promt="x")}, ": step 'find': user_promt: is not a field here"),
        (
            {"steps": step(sampling={"temperature": -1})},
            ": step 'find': sampling: sampling parameter 'temperature' is -1",
        ),
        (
            {"steps": step(sampling={"temp": 1})},
            ": step 'find': sampling: SamplingParams has no argument 'temp'",
        ),
        (
            {"steps": step(output_model="Findings")},
            ": step 'find': output_model: there is no model 'Findings'; those of this file are Fin",
        ),
        (
            {"steps": step(output_model={"fields": {"quote": {"type": "string", "format": "x"}}})},
            ": step 'find': output_model: quote: 'format' is not supported",
        ),
        ({"steps": step(id="use")}, ": steps: two steps have the same id"),
        ({"steps": step(id="a b")}, ": step 'a b': id: give a name"),
        ({"steps": step(user_prompt="{{ x")}, ": step 'find': user_prompt: line 1: "),
        ({"models": {"Finding": 3}}, ": models: Finding: give the name"),
        ({"chain": ["fnd"]}, ": chain: 'fnd' is not a step; the steps are find, use"),
        ({"engines": [{"name": "x"}]}, ": engine 1 (x): backend: is missing"),
        ({"engines": "none.yaml"}, "none.yaml: cannot be read: No such file"),
    ],
)
def test_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """The error names the file, the step and the field."""
    with pytest.raises(ConfigError) as caught:
        load_pipeline(written(tmp_path, **change))
    text = str(caught.value)
    assert text.startswith(str(tmp_path))
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "p.yaml: not valid YAML"),
        ("- a", "p.yaml: a pipeline is a mapping"),
        ("", "p.yaml: a pipeline is a mapping"),
    ],
)
def test_a_file_that_is_not_a_pipeline(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file."""
    path = tmp_path / "p.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_pipeline(path)
    assert message in str(caught.value)


def test_inputs_are_needed(tmp_path: Path) -> None:
    """The error says how to give inputs."""
    with pytest.raises(ConfigError, match=r"p\.yaml: inputs: is missing"):
        load_pipeline(written(tmp_path, inputs=None)).records()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"id": "a"}, {"id": "a"}], "record 2: id: an earlier record has the same id, 'a'"),
        ([{"id": 2}, {}], "record 2: id: an earlier record has the same id, '2'"),
        ([{"id": None}], "record 1: id: None is not a string"),
        ([{"id": True}], "record 1: id: True is not a string"),
        ([{"steps": 1}], "record 1: steps: is the name of earlier steps' answers"),
        (["text"], "record 1: is not a mapping"),
        ([], "there are no records"),
    ],
)
def test_wrong_records(items: list[Any], message: str) -> None:
    """Ids are unique, and a field must not have the name of the earlier steps."""
    with pytest.raises(ConfigError) as caught:
        to_records(items, "in")
    assert str(caught.value).startswith(f"in: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2: is not JSON: "),
        (b"[]", "line 2: is not a JSON object"),
        (b"\xff", "line 2: "),
    ],
)
def test_wrong_lines(tmp_path: Path, line: bytes, message: str) -> None:
    """The error names the number of a line that is not a record."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b"\n")
    with pytest.raises(ConfigError) as caught:
        read_records(path)
    assert message in str(caught.value)
