"""A batch with a fallback: its lines go from engine to engine as prompts do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine import FallbackConfig, run_batch
from llmengine.mock import Fault, MockServer, Script

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import LLMOutput
    from tests.batch.conftest import Kit

PRICE = {"input": 1_000_000, "output": 1_000_000}


def _fallback(engine_at: Any, *servers: MockServer, **fields: Any) -> Any:
    settings = {"max_retries": 0, "max_concurrency": 4, "price": PRICE}
    engines = [
        engine_at(server.root_url, name=name, **settings).config
        for server, name in zip(servers, ("first", "second"), strict=True)
    ]
    return FallbackConfig(name="safe", engines=engines, **fields).engine


def test_lines_of_a_server_that_dies_go_to_the_next_one(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """The second engine gets nothing before, and each line is answered once."""
    lines = [kit.request(f"r{number}") for number in range(60)]
    early = -1
    with MockServer() as other:

        def watch(progress: Any) -> None:
            nonlocal early
            if progress.done == 20:
                early = len(other.calls)
                server.stop()

        report = run_batch(lines, output, _fallback(engine_at, server, other), on_progress=watch)

    assert report.ok
    assert early == 0
    texts = [kit.text(line) for line in kit.read(output)]
    assert sorted(texts) == sorted(line["custom_id"] for line in lines)


def test_answers_of_lines_are_judged_and_all_of_them_are_paid(
    kit: Kit, engine_at: Any, server: MockServer, output: Path
) -> None:
    """A wrong request is not given to another engine, and its error is that of its line."""

    def is_second(answer: LLMOutput) -> bool:
        return answer.outputs[0].text == "r2"

    server.play(Script(faults=[None, Fault(status=400)]))
    lines = [kit.request(f"r{number}") for number in range(3)]
    with MockServer() as other:
        engine = _fallback(engine_at, server, other, answers=[is_second])
        report = run_batch(lines, output, engine)

        assert [kit.name(call) for call in other.calls] == ["r2"]
    progress = report.progress
    assert (progress.answered, progress.failed, progress.attempts) == (2, 1, 4)
    written = kit.read(output)
    tokens = {
        line["custom_id"]: line["response"]["body"]["usage"]["total_tokens"]
        for line in written
        if line["error"] is None
    }
    assert progress.cost == progress.usage.total_tokens == sum(tokens.values()) + tokens["r2"]
    failed = next(line for line in written if line["error"] is not None)
    assert failed["error"]["llmengine"]["attempts"] == 1
