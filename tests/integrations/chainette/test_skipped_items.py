"""A failed item is skipped and reported, and the others continue."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import APIConnectionError, AuthenticationError, NotFoundError, RefusedError
from llmengine.integrations.chainette import (
    SkippedItemsWarning,
    collect_skipped,
    register_engine,
)
from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

REFUSED = {"refusal": "I will not say."}


@pytest.fixture
def main(chainette: Any, server: MockServer) -> MockServer:
    """The server of the engine ``main``, which sends one item after the other."""
    register_engine(
        "main",
        backend="openai",
        model="mock",
        endpoint=server.root_url,
        max_concurrency=1,
        max_retries=0,
        structured="json_schema",  # no probe: scripted replies are for the steps
    )
    return server


def _answers(*texts: str) -> list[str]:
    return [json.dumps({"answer": text}) for text in texts]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_bad_item_leaves_the_chain(
    main: MockServer,
    chain: Callable[..., Any],
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
    batch_size: int,
) -> None:
    """The failed item reaches no later step; both steps answer the others, in their own rows."""
    first, *rest = _answers("a", "c", "d")
    main.play(Script([first, REFUSED, *rest]))

    with pytest.warns(SkippedItemsWarning) as caught:
        chain(batch_size).run(questions, output_dir="out")

    assert [(r["answer"], r["row_id"]) for r in rows("answer")] == [("a", 0), ("c", 2), ("d", 3)]
    assert [row["row_id"] for row in rows("grade")] == [0, 2, 3]
    graded = [call.json["messages"][-1]["content"] for call in main.calls[4:]]
    assert graded == ["a", "c", "d"]
    (told,) = [str(w.message) for w in caught if w.category is SkippedItemsWarning]
    assert told.startswith("chain 'QA' skipped 1 of 4 items, the first is row 1 at step 'answer'")
    assert "RefusedError" in told
    assert "I will not say." in told


def test_file_of_skipped_items(
    main: MockServer, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """The folder of the run has the missing items with their steps and reasons."""
    main.play(Script([*_answers("a", "b", "c"), REFUSED, '{"grade": "good"}', REFUSED]))

    with pytest.warns(SkippedItemsWarning, match=r"skipped 2 of 4 items.*out/skipped\.jsonl"):
        chain(batch_size=4).run(questions, output_dir="out")

    lines = [json.loads(x) for x in Path("out/skipped.jsonl").read_text("utf-8").splitlines()]
    assert [(x["row_id"], x["step"], x["engine"]) for x in lines] == [
        (3, "answer", "main"),
        (1, "grade", "main"),
    ]
    assert all(x["error"].startswith("RefusedError: ") for x in lines)


def test_step_that_keeps_no_output(
    main: MockServer, chainette: Any, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """The failed item is known also if its history does not identify it."""
    main.play(Script([REFUSED, *_answers("b")]))
    step = chain(yield_output=False).steps[0]
    histories = [{"chain_input": q, "row_id": row} for row, q in enumerate(questions[:2])]

    outputs, after = step.execute(questions[:2], histories)

    assert [output.answer for output in outputs] == ["b"]
    assert [history["row_id"] for history in after] == [1]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_item_is_bad(
    main: MockServer,
    chain: Callable[..., Any],
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
    batch_size: int,
) -> None:
    """The next step gets no items, and the run reports it."""
    main.play(Script([REFUSED] * 4))

    with pytest.warns(SkippedItemsWarning, match="skipped 4 of 4 items"):
        chain(batch_size).run(questions, output_dir="out")

    assert rows("answer") == rows("grade") == []
    assert len(main.calls) == 4


def test_functions_see_only_what_is_left(
    main: MockServer, chainette: Any, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """A function after the step does not get the input in place of a missing answer."""
    main.play(Script([*_answers("a"), REFUSED, *_answers("c", "d")]))
    seen: list[Any] = []

    def note(item: Any) -> list[Any]:
        seen.append(item.answer)
        return [item]

    steps = [chain().steps[0], chainette.ApplyNode(note, id="note")]
    with pytest.warns(SkippedItemsWarning):
        chainette.Chain(name="QA", steps=steps).run(questions, output_dir="out")

    assert seen == ["a", "c", "d"]


def test_skipped_items_are_collected(
    main: MockServer, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """A program gets the items as values, over several runs and inside another collection."""
    main.play(Script([REFUSED, '{"answer": "x"}', '{"grade": "bad"}', REFUSED]))
    with collect_skipped() as outer:
        with collect_skipped() as inner, pytest.warns(SkippedItemsWarning):
            chain().run(questions[:1], output_dir="out")
        chain().run(questions[:1], output_dir="out")
        with pytest.warns(SkippedItemsWarning):
            chain().run(questions[:1], output_dir="out")

    assert [(item.row_id, item.step_id, item.engine_name) for item in inner] == [
        (0, "answer", "main")
    ]
    assert outer[:1] == inner
    assert len(outer) == 2
    assert all(isinstance(item.error, RefusedError) for item in outer)


def test_nothing_skipped_writes_nothing(
    main: MockServer, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """There is no warning and no file, not even the file of an earlier run."""
    Path("out").mkdir()
    Path("out/skipped.jsonl").write_text("{}", "utf-8")

    chain().run(questions, output_dir="out")

    assert not Path("out/skipped.jsonl").exists()


def test_server_s_failure_of_one_item(
    main: MockServer,
    chain: Callable[..., Any],
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
) -> None:
    """An item for which the server fails is skipped too."""
    main.play(Script(faults=[None, Fault(malformed_json=True)]))

    with pytest.warns(SkippedItemsWarning, match="row 1 at step 'answer': UnexpectedResponseError"):
        chain(batch_size=4).run(questions, output_dir="out")

    assert [row["row_id"] for row in rows("grade")] == [0, 2, 3]


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (404, NotFoundError)])
def test_failure_of_all_ends_the_chain(
    main: MockServer,
    chain: Callable[..., Any],
    questions: list[BaseModel],
    status: int,
    error: type[Exception],
) -> None:
    """A wrong key or model ends the chain, because it affects all items."""
    main.play(Script(faults=[Fault(status=status)] * 9))

    with pytest.raises(error):
        chain().run(questions, output_dir="out")

    assert len(main.calls) == 1


def test_server_that_is_not_there_ends_the_chain(
    chainette: Any, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """A server that cannot be reached ends the chain."""
    with MockServer() as gone:
        address = gone.root_url
    register_engine("main", backend="openai", model="mock", endpoint=address, max_retries=0)

    with pytest.raises(APIConnectionError):
        chain().run(questions, output_dir="out")


def test_items_skipped_before_an_error_are_reported(
    main: MockServer, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """An error that ends the chain does not hide the items that were skipped before."""
    main.play(Script([REFUSED], faults=[None, Fault(status=401)]))

    with pytest.warns(SkippedItemsWarning, match="1 of 4"), pytest.raises(AuthenticationError):
        chain().run(questions, output_dir="out")


def test_engines_of_chainette_s_own_stay_as_they_are(
    main: MockServer, chainette: Any, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """For other clients Chainette's own behaviour stays: it keeps the history of a failed item."""

    class Client:
        def generate(self, *, prompts: list[Any], **options: Any) -> list[Any]:
            texts = ["no JSON", *_answers("b")]
            return [SimpleNamespace(outputs=[SimpleNamespace(text=text)]) for text in texts]

    from chainette.engine.registry import _REGISTRY, EngineConfig  # noqa: PLC0415

    entry = EngineConfig(name="main", model="m", backend="openai", endpoint="http://127.0.0.1:9")
    entry._engine = Client()
    _REGISTRY["main"] = entry
    step = chain().steps[0]
    histories = [{"chain_input": q, "row_id": row} for row, q in enumerate(questions[:2])]

    outputs, after = step.execute(questions[:2], histories)

    assert len(outputs) == 1
    assert len(after) == 2


def test_answer_with_words_around_it(
    chainette: Any,
    chain: Callable[..., Any],
    server: MockServer,
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
) -> None:
    """A server without schemas may add text to the JSON; Chainette gets only the JSON."""
    register_engine(
        "main", backend="openai", model="mock", endpoint=server.root_url, structured="prompt"
    )
    server.play(
        Script(['Sure:\n```json\n{"answer": "a"}\n```', 'It is {"grade": "good"}, I think.'])
    )

    chain().run(questions[:1], output_dir="out")

    assert rows("answer") == [{"answer": "a", "row_id": 0}]
    assert rows("grade") == [{"grade": "good", "row_id": 0}]
