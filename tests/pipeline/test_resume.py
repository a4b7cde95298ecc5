"""A stopped run is continued where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig, FallbackConfig, SamplingParams
from llmengine.mock import Fault, MockServer, Script
from llmengine.pipeline import Chain, Step, load_pipeline, resume, run, to_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST = Step(id="first", engine="main", user_prompt="first {{ n }}")
SECOND = Step(id="second", engine="main", user_prompt="second {{ n }} {{ steps.first }}")
CHAIN = Chain("two", (FIRST, SECOND))
RECORDS = to_records([{"n": n} for n in range(4)])


def test_only_what_failed_is_asked_again(
    server: MockServer,
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    """A resumed run sends the failed records and their later steps; its usage counts both runs."""
    server.play(Script(["A", "C", "D"], [None, Fault(status=400)]))
    report = run(CHAIN, RECORDS, engines, out=tmp_path)
    assert report.counts["failed"] == 1
    before = len(server.calls)
    server.play(Script(["B", "later"]))

    resumed = resume(report.folder, CHAIN, engines)

    assert sent_prompts()[before:] == ["first 1", "second 1 B"]
    assert resumed.exit_status == 0
    assert resumed.folder == report.folder
    assert [r["outputs"]["first"] for r in resumed.records] == ["A", "B", "C", "D"]
    assert resumed.usage["total"]["attempts"] == len(server.calls)
    account = json.loads((report.folder / "run.json").read_text("utf-8"))
    assert account["status"] == "finished"
    assert len(account["resumed"]) == 1


def test_a_finished_run_asks_nothing(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """A finished run that is resumed does not change."""
    report = run(CHAIN, RECORDS, engines, out=tmp_path)
    before = len(server.calls)
    assert resume(report.folder, CHAIN, engines).records == report.records
    assert len(server.calls) == before


def test_an_interrupt_leaves_what_was_done(
    server: MockServer,
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    """After Ctrl-C in the second step, run.json says so, and the answers before it are used."""

    def stop(progress: Any) -> None:
        if progress.step == "second" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(CHAIN, RECORDS, engines, out=tmp_path, watch=stop)

    (folder,) = tmp_path.iterdir()
    account = json.loads((folder / "run.json").read_text("utf-8"))
    assert (account["status"], account["exit_status"]) == ("stopped", None)
    assert account["stopped_by"].startswith("KeyboardInterrupt")
    assert account["counts"] == {"records": 4, "answered": 2, "failed": 0, "pending": 2}
    before = len(server.calls)
    assert resume(folder, CHAIN, engines).exit_status == 0
    again = [text for text in sent_prompts()[before:] if text.startswith("first") or " 0 " in text]
    assert again == []


def test_a_line_cut_in_the_middle_is_asked_again(
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """Half a line, as a kill leaves it, is removed; only its record is sent again."""
    folder = run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path).folder
    path = folder / "first.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    resume(folder, Chain("one", (FIRST,)), engines)

    assert sent_prompts()[4:] == ["first 3"]
    assert [row["id"] for row in lines(path)] == ["1", "2", "3", "4"]


def test_a_complete_last_line_gets_its_newline(
    engines: dict[str, EngineConfig],
    sent_prompts: Callable[[], list[str]],
    tmp_path: Path,
) -> None:
    """If only the newline was lost, the answer is kept."""
    folder = run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path).folder
    path = folder / "first.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])

    resume(folder, Chain("one", (FIRST,)), engines)

    assert len(sent_prompts()) == 4
    assert path.read_bytes() == whole


def test_only_one_run_at_a_time_writes_to_a_folder(
    engines: dict[str, EngineConfig], sent_prompts: Callable[[], list[str]], tmp_path: Path
) -> None:
    """A run that is resumed while it is still at work would send every request twice."""
    refused: list[str] = []

    def meanwhile(progress: Any) -> None:
        if progress.done == 1:
            (folder,) = tmp_path.iterdir()
            with pytest.raises(ConfigError) as caught:
                resume(folder, Chain("one", (FIRST,)), engines)
            refused.append(str(caught.value))

    run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path, watch=meanwhile)

    assert "run.json: another run is writing to it" in refused[0]
    assert len(sent_prompts()) == 4


@pytest.mark.parametrize("row", [b"[]", b'{"id": 1}', b'{"id": "1", "attempts": "x"}'])
def test_a_line_of_another_form_is_named(
    engines: dict[str, EngineConfig], tmp_path: Path, row: bytes
) -> None:
    """A line that no run has written is refused with its number."""
    folder = run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path).folder
    path = folder / "first.jsonl"
    path.write_bytes(row + b"\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"first\.jsonl: line 1: is not a line of a run: "):
        resume(folder, Chain("one", (FIRST,)), engines)


def test_a_last_line_of_another_program_is_left_alone(
    engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """Only what a run has begun to write is removed."""
    folder = run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path).folder
    path = folder / "first.jsonl"
    path.write_bytes(path.read_bytes() + b"my notes")
    with pytest.raises(ConfigError, match=r"first\.jsonl: its last line was not written by a run"):
        resume(folder, Chain("one", (FIRST,)), engines)
    assert path.read_bytes().endswith(b"my notes")


def test_a_broken_line_is_named(engines: dict[str, EngineConfig], tmp_path: Path) -> None:
    """A complete line that is not JSON was not caused by a kill, so it is an error."""
    folder = run(Chain("one", (FIRST,)), RECORDS, engines, out=tmp_path).folder
    path = folder / "first.jsonl"
    path.write_bytes(b"rubbish\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"first\.jsonl: line 1: is not JSON"):
        resume(folder, Chain("one", (FIRST,)), engines)


def test_kill_9_loses_no_answer(
    server: MockServer,
    engines: dict[str, EngineConfig],
    lines: Callable[[Path], list[Any]],
    tmp_path: Path,
) -> None:
    """The lines of a killed process are used, and their records are not sent again."""
    server.play(Script(faults=[None, None, Fault(delay=30)]))
    code = (
        "import sys; from llmengine import EngineConfig\n"
        "from llmengine.pipeline import *\n"
        "engine = EngineConfig(name='main', backend='openai_compatible', model='mock',"
        " endpoint=sys.argv[1], max_concurrency=1)\n"
        "step = Step(id='first', engine='main', user_prompt='first {{ n }}')\n"
        "def watch(p): print(p.done, flush=True)\n"
        "run(Chain('one', (step,)), to_records([{'n': n} for n in range(4)]), {'main': engine},"
        " out=sys.argv[2], watch=watch)\n"
    )
    argv = [sys.executable, "-c", code, server.root_url, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline().strip() != "2":
            assert process.poll() is None
        process.kill()
    (folder,) = tmp_path.iterdir()
    answered = {row["id"] for row in lines(folder / "first.jsonl")}
    assert answered == {"1", "2"}
    server.play(Script())
    before = len(server.calls)

    report = resume(folder, Chain("one", (FIRST,)), engines)

    again = [call.json["messages"][0]["content"] for call in server.calls[before:]]
    assert [text for text in again if text in {"first 0", "first 1"}] == []
    assert report.counts["answered"] == 4


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (replace(SECOND, user_prompt="other"), "step 'second': user_prompt: is not what the run"),
        (replace(SECOND, sampling=SamplingParams(seed=1)), "step 'second': sampling: is not"),
        (replace(SECOND, id="third"), "steps: the run has first, second, and the pipeline has"),
    ],
)
def test_another_chain_is_refused(
    engines: dict[str, EngineConfig], tmp_path: Path, step: Step, message: str
) -> None:
    """Answers to two different prompts are not written to one file."""
    folder = run(CHAIN, RECORDS[:1], engines, out=tmp_path).folder
    with pytest.raises(ConfigError) as caught:
        resume(folder, Chain("two", (FIRST, step)), engines)
    assert message in str(caught.value)


def test_another_model_is_refused_and_another_address_is_not(
    engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """The model must be the same; its address may change."""
    folder = run(CHAIN, RECORDS[:1], engines, out=tmp_path).folder
    other = {"main": engines["main"].model_copy(update={"model": "bigger"})}
    with pytest.raises(ConfigError, match="engine 'main': model: is not what the run began with"):
        resume(folder, CHAIN, other)
    with MockServer() as moved:
        there = engines["main"].model_copy(update={"endpoint": moved.root_url, "max_retries": 0})
        assert resume(folder, CHAIN, {"main": there}).exit_status == 0


def test_another_folder_is_refused(engines: dict[str, EngineConfig], tmp_path: Path) -> None:
    """Nothing is written to another folder."""
    with pytest.raises(ConfigError, match=r"is not the folder of a run: it has no pipeline\.yaml"):
        resume(tmp_path, CHAIN, engines)


def test_the_pipeline_of_the_folder_can_be_run(
    engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """`pipeline.yaml` can be loaded as a pipeline, and resumes its own run."""
    report = run(CHAIN, RECORDS, engines, out=tmp_path)
    again = load_pipeline(report.folder / "pipeline.yaml")
    assert again.records() == [replace(r, fields=dict(r.fields)) for r in RECORDS]
    assert resume(report.folder, again.chain, again.engines).records == report.records


def test_a_run_with_a_fallback_can_be_resumed(
    server: MockServer, engines: dict[str, EngineConfig], tmp_path: Path
) -> None:
    """Its `pipeline.yaml` has the engines of the fallback, without keys; what they are counts."""
    key = "sk-of-the-spare-engine"
    main = engines["main"].model_copy(update={"name": "first"})
    address = server.root_url.replace("://", "://user:s3cret-of-the-run@") + "?api-version=1"
    spare = EngineConfig(name="spare", backend="vllm_api", model="m", api_key=key)
    other = EngineConfig(name="other", backend="vllm_api", model="m", endpoint=address)
    safe = FallbackConfig(name="main", engines=[main, spare, other], answers=["empty"])
    report = run(CHAIN, RECORDS, {"main": safe}, out=tmp_path)

    text = (report.folder / "pipeline.yaml").read_text("utf-8")
    again = load_pipeline(report.folder / "pipeline.yaml")
    moved = spare.model_copy(update={"endpoint": "http://elsewhere.invalid"})
    there = FallbackConfig(name="main", engines=[main, moved, other], answers=["empty"])
    less = FallbackConfig(name="main", engines=[main, moved], answers=["empty"])

    assert key not in text
    assert "s3cret-of-the-run" not in text
    assert "api-version" not in text
    assert resume(report.folder, again.chain, again.engines).records == report.records
    assert resume(report.folder, CHAIN, {"main": there}).records == report.records
    with pytest.raises(ConfigError, match="engine 'main': engines: is not what the run began"):
        resume(report.folder, CHAIN, {"main": less})
