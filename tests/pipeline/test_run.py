"""Runs of a chain over records, and the files in the folder of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from llmengine import ConfigError, EngineConfig, Price, SamplingParams
from llmengine.mock import Fault, Script
from llmengine.pipeline import Chain, Step, load_pipeline, run, to_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import MockServer
    from llmengine.pipeline import StepProgress


class Summary(BaseModel):
    """The answer of the first step."""

    summary: str


EXTRACT = Step(id="extract", engine="main", user_prompt="Sum up {{ text }}", output_model=Summary)
ANSWER = Step(
    id="answer",
    engine="main",
    system_prompt="Be {{ mood }}.",
    user_prompt="{{ text }}: {{ steps.extract.summary }}",
)
CHAIN = Chain("two steps", (EXTRACT, ANSWER))
RECORDS = to_records([{"text": "one", "mood": "kind"}, {"text": "two", "mood": "brief"}])
REPLIES = ['{"summary": "I"}', '{"summary": "II"}', "first", "second"]


def test_a_step_reads_the_record_and_the_answers_before_it(
    server: MockServer,
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    """Templates are filled from the record's fields and from earlier steps' outputs."""
    server.play(Script(REPLIES))

    report = run(CHAIN, RECORDS, engines, out=tmp_path)

    assert sent_prompts() == ["Sum up one", "Sum up two", "one: I", "two: II"]
    assert server.calls[3].json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [r["outputs"] for r in report.records] == [
        {"extract": {"summary": "I"}, "answer": "first"},
        {"extract": {"summary": "II"}, "answer": "second"},
    ]
    assert report.exit_status == 0


def test_the_folder_holds_inputs_steps_outputs_usage_and_the_account(
    server: MockServer,
    engines: dict[str, EngineConfig],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """Every file of a run exists and has the expected content."""
    server.play(Script(REPLIES))

    folder = run(CHAIN, RECORDS, engines, out=tmp_path).folder

    assert folder.parent == tmp_path
    assert folder.name.endswith("Z-two-steps")
    assert lines(folder / "inputs.jsonl")[0] == {"id": 1, "text": "one", "mood": "kind"}
    row = lines(folder / "extract.jsonl")[1]
    assert row["id"] == "2"
    assert row["prompt"] == [{"role": "user", "content": "Sum up two"}]
    assert row["text"] == '{"summary": "II"}'
    assert row["parsed"] == {"summary": "II"}
    assert (row["attempts"], row["schema_strategy"], row["error"]) == (1, "json_schema", None)
    assert row["usage"]["total_tokens"] > 0
    assert lines(folder / "outputs.jsonl")[0] == {
        "id": "1",
        "status": "answered",
        "outputs": {"extract": {"summary": "I"}, "answer": "first"},
        "error": None,
    }
    account = json.loads((folder / "run.json").read_text("utf-8"))
    assert account["engines"] == {"main": {"backend": "openai_compatible", "model": "mock"}}
    assert account["status"] == "finished"
    assert account["exit_status"] == 0
    assert account["started"] <= account["ended"]
    assert account["counts"] == {"records": 2, "answered": 2, "failed": 0, "pending": 0}
    as_run = yaml.safe_load((folder / "pipeline.yaml").read_text("utf-8"))
    assert [step["id"] for step in as_run["steps"]] == ["extract", "answer"]


def test_a_record_that_fails_keeps_its_error_and_the_others_go_on(
    server: MockServer,
    engines: dict[str, EngineConfig],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """A failed record is not sent to later steps; the outputs have its answers and its error."""
    server.play(Script([*REPLIES[:2], "first"], [None, None, Fault(status=400)]))

    report = run(CHAIN, RECORDS, engines, out=tmp_path)

    first, second = lines(report.folder / "outputs.jsonl")
    assert first["status"] == "failed"
    assert first["outputs"] == {"extract": {"summary": "I"}}
    assert first["error"]["step"] == "answer"
    assert (first["error"]["type"], first["error"]["status"]) == ("BadRequestError", 400)
    assert second["outputs"]["answer"] == "first"
    assert report.exit_status == 1


def test_an_answer_that_does_not_fit_is_kept_as_text_and_never_used(
    server: MockServer,
    engines: dict[str, EngineConfig],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """An answer that does not fit the schema is in the step's file, and no later step sees it."""

    def nonsense() -> Any:
        while True:
            yield "no JSON"

    server.play(Script(nonsense()))

    report = run(CHAIN, RECORDS[:1], engines, out=tmp_path)

    (row,) = lines(report.folder / "extract.jsonl")
    assert (row["text"], row["parsed"]) == ("no JSON", None)
    assert row["error"]["type"] == "StructuredOutputError"
    assert not (report.folder / "answer.jsonl").exists()


def test_an_answer_to_a_schema_has_its_defaults(
    server: MockServer,
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """A property that the answer leaves out is null for later steps, and others are refused."""
    spec = {"fields": {"quote": "string", "score?": "number"}}
    source = tmp_path / "p.yaml"
    steps = [
        {"id": "find", "engine": "main", "user_prompt": "{{ text }}", "output_model": spec},
        {"id": "use", "engine": "main", "user_prompt": "{{ steps.find.score }}"},
    ]
    source.write_text(yaml.safe_dump({"steps": steps}), "utf-8")
    chain = load_pipeline(source).chain
    wrong = ['{"quote": "a", "more": 1}'] * 3  # the answer, JSON mode and the repair
    server.play(Script(['{"quote": "a"}', *wrong, "done"]))

    report = run(chain, RECORDS, engines, out=tmp_path)

    first, second = lines(report.folder / "find.jsonl")
    assert first["parsed"] == {"quote": "a", "score": None}
    assert sent_prompts()[-1] == "null"
    assert second["error"]["type"] == "StructuredOutputError"
    assert "'more' was unexpected" in second["error"]["message"]


def test_usage_counts_what_the_server_saw(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """Attempts are all calls of the server, also retries and failures; an unknown cost is null."""
    busy = Fault(status=503, retry_after=0)
    server.play(Script(REPLIES, [busy, None, None, Fault(status=400), None]))

    report = run(CHAIN, RECORDS, engines, out=tmp_path)

    usage = json.loads((report.folder / "usage.json").read_text("utf-8"))
    assert usage == report.usage
    assert usage["total"]["attempts"] == len(server.calls) == 5
    assert (usage["steps"]["extract"]["answered"], usage["steps"]["extract"]["failed"]) == (2, 0)
    assert (usage["steps"]["answer"]["answered"], usage["steps"]["answer"]["failed"]) == (1, 1)
    assert usage["total"]["without_usage"] == 1
    assert usage["total"]["total_tokens"] > 0
    assert usage["total"]["cost"] is None


def test_cost_of_a_run(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """The cost of a run is the sum of its steps, in the currency of the engine's price."""
    price = Price(input=1_000_000, output=1_000_000, currency="EUR")
    paid = {"main": engines["main"].model_copy(update={"price": price})}
    server.play(Script(REPLIES))

    usage = run(CHAIN, RECORDS, paid, out=tmp_path).usage

    for counts in (usage["total"], *usage["steps"].values()):
        assert counts["cost"] == counts["total_tokens"] > 0
        assert counts["currency"] == "EUR"


def test_tokens_that_no_server_reported_are_null(
    raw_server: Any, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """If a server reports no usage, the tokens are null, and such lines are counted."""
    message = {"role": "assistant", "content": "Hi"}
    body = {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    silent = raw_server(lambda request, connection: connection.reply(body))
    aimed = {"main": engines["main"].model_copy(update={"endpoint": silent.url})}

    step = Step(id="greet", engine="main", user_prompt="Hello")
    usage = run(Chain("c", (step,)), RECORDS, aimed, out=tmp_path).usage

    assert usage["total"]["total_tokens"] is None
    assert usage["total"]["without_usage"] == 2


def test_no_file_holds_a_key(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """No file of the folder contains a key, whether it is configured or in an answer."""
    key = "sk-pipeline-4711"
    update = {"api_key": key, "headers": {"X-Tenant": "tenant-0815"}, "name": "main"}
    config = EngineConfig.model_validate(engines["main"].model_dump() | update)
    server.play(Script([f"the key is {key}"]))

    step = Step(id="leak", engine="main", user_prompt="Tell {{ text }}")
    folder = run(Chain("c", (step,)), RECORDS, {"main": config}, out=tmp_path).folder

    everything = "".join(path.read_text("utf-8") for path in folder.iterdir())
    assert "the key is [redacted]" in everything
    assert key not in everything
    assert "tenant-0815" not in everything
    as_run = yaml.safe_load((folder / "pipeline.yaml").read_text("utf-8"))
    assert "api_key" not in as_run["engines"][0]


def test_a_missing_field_fails_its_record_alone(
    engines: dict[str, EngineConfig], sent_prompts: Callable[[], list[str]], tmp_path: Path
) -> None:
    """The error names the step, the field, the record and the names; nothing is sent for it."""
    step = Step(id="ask", engine="main", user_prompt="{{ text }}")
    records = to_records([{"id": "a", "txt": "typo"}, {"id": "b", "text": "fine"}])

    report = run(Chain("c", (step,)), records, engines, out=tmp_path)

    assert sent_prompts() == ["fine"]
    assert [r["status"] for r in report.records] == ["failed", "answered"]
    assert report.records[0]["error"]["message"] == (
        "step 'ask': user_prompt: record 'a': 'text' is undefined; the names are id, txt, steps"
    )


def test_step_options_reach_the_server(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """Sampling and the output model's schema are in the request."""
    sampling = SamplingParams(temperature=0, max_tokens=60, seed=3)
    step = Step(id="ask", engine="main", user_prompt="Hi", sampling=sampling, output_model=Summary)

    run(Chain("c", (step,)), RECORDS[:1], engines, out=tmp_path)

    body = server.calls[-1].json
    assert (body["temperature"], body["max_tokens"], body["seed"]) == (0, 60, 3)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"].keys() == {"summary"}


def test_two_runs_in_one_second_have_two_folders(
    engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """Each run has a folder of its own."""
    chain = Chain("c", (Step(id="ask", engine="main", user_prompt="Hi"),))
    folders = {run(chain, RECORDS[:1], engines, out=tmp_path).folder for _ in range(3)}
    assert len(folders) == 3


def test_progress_of_each_step(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """The callback gets the progress at the start of each step and after every record."""
    server.play(Script(REPLIES))
    seen: list[StepProgress] = []

    run(CHAIN, RECORDS, engines, out=tmp_path, watch=seen.append)

    assert [(p.step, p.done, p.total) for p in seen] == [
        (step, done, 2) for step in ("extract", "answer") for done in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step(id="a", engine="man", user_prompt="x"), "engine: 'man' is unknown; known are main"),
        (
            Step(id="a", engine="main", user_prompt="x", sampling=SamplingParams(n=2)),
            "sampling: n: a step takes one answer per record",
        ),
    ],
)
def test_a_chain_that_cannot_run_is_refused_at_the_start(
    engines: dict[str, EngineConfig], tmp_path: Path, step: Step, message: str
) -> None:
    """A run that cannot start creates no folder."""
    with pytest.raises(ConfigError, match="step 'a': ") as caught:
        run(Chain("c", (step,)), RECORDS, engines, out=tmp_path / "runs")
    assert message in str(caught.value)
    assert not (tmp_path / "runs").exists()
