"""When a recording replaces an earlier one, and what it keeps of it."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, Kept, RawUpstream, StreamOf, Whole

JSON = "Content-Type: application/json\r\n"
TODAY = dt.date(2026, 11, 21)
LATER = TODAY + dt.timedelta(days=10)


@pytest.fixture
def part(path: Path) -> Path:
    """The file beside the cassette with a recording that did not replace it."""
    return path.with_name("one.yaml.part")


@pytest.fixture
def record(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Callable[..., None]:
    """Records one exchange for each pair of a request and its answer, which may be a script."""

    def run(*exchanges: tuple[Any, Any], error: BaseException | None = None, **options: Any) -> Any:
        for _, answer in exchanges:
            script = answer if isinstance(answer, list) else [whole(_json(answer), headers=JSON)]
            upstream.will_send(*script)
        with RecordServer(upstream.url, **options) as recorder, recorder.cassette(path):
            for body, _ in exchanges:
                ask(recorder.root_url, body)
            if error is not None:
                raise error

    return run


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_failed_block(record: Callable[..., None], path: Path, part: Path, ask: Ask) -> None:
    """It leaves the good cassette as it is; its answers are in a file that the error names."""
    record(({"n": 1}, "good"))
    before = path.read_bytes()

    with pytest.raises(AssertionError) as failed:
        record(({"n": 1}, "bad 😀"), error=AssertionError())

    assert path.read_bytes() == before
    (note,) = failed.value.__notes__
    assert note == (
        f"{path} was not changed, because the run failed; the new answers are in {part}, and "
        "renaming it to one.yaml makes them the recording"
    )
    with ReplayServer() as player, player.cassette(part):
        assert ask(player.root_url, {"n": 1}).json() == "bad 😀"

    record(({"n": 1}, "new"))
    assert not part.exists()


def test_failed_block_is_recorded(record: Callable[..., None], kept: Kept, path: Path) -> None:
    """A first recording is kept in any case, and a later one if the project wants that."""
    for n, options in ((1, {}), (2, {"record_on_exception": True})):
        with pytest.raises(AssertionError):
            record(({"n": n}, "bad"), error=AssertionError(), **options)
        assert [json.loads(one["request"]["body"]) for one in kept(path)] == [{"n": n}]


def test_interrupted_block(record: Callable[..., None], path: Path, part: Path, ask: Ask) -> None:
    """After Ctrl-C there is no cassette, but a part that can be played, without a torn line."""
    with pytest.raises(KeyboardInterrupt):
        record(({"n": 1}, "one"), ({"n": 2}, "two"), error=KeyboardInterrupt())

    assert not path.exists()
    text = part.read_text()
    part.write_text(text[:-20])
    with ReplayServer() as player, player.cassette(part):
        replies = [ask(player.root_url, {"n": n}).status_code for n in (1, 2)]
    assert replies == [200, 501]


def test_part_of_added_exchanges(
    record: Callable[..., None], path: Path, part: Path, ask: Ask
) -> None:
    """If a run that adds to a cassette fails, the part has the earlier exchanges too."""
    record(({"n": 1}, "old"))
    with pytest.raises(AssertionError):
        record(({"n": 2}, "new"), error=AssertionError(), record_mode="new_episodes")
    part.replace(path)
    with ReplayServer() as player, player.cassette(path):
        assert [ask(player.root_url, {"n": n}).json() for n in (1, 2)] == ["old", "new"]


def test_binary_body_in_a_part(
    record: Callable[..., None], whole: Whole, part: Path, ask: Ask
) -> None:
    """Every byte of a body comes back from a part."""
    body = bytes(range(256)) + "\u2028\ufeff\x85".encode()
    with pytest.raises(KeyboardInterrupt):
        record(({"n": 1}, [whole(body)]), error=KeyboardInterrupt())
    with ReplayServer() as player, player.cassette(part):
        assert ask(player.root_url, {"n": 1}).content == body


def _chat(number: int, text: str = "hi") -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number:08}",
        "created": 1000 + number,
        "choices": [{"message": {"content": text}}],
        "system_fingerprint": f"b{number}",
        "timings": {"prompt_ms": number},
    }


def test_nothing_changed(record: Callable[..., None], path: Path) -> None:
    """If only ids and times differ, the file stays as it is, with its date."""
    record(({"n": 1}, _chat(1)), today=lambda: TODAY)
    before = path.read_bytes()

    record(({"n": 1}, _chat(2)), today=lambda: LATER)
    assert path.read_bytes() == before

    record(({"n": 1}, _chat(3)), today=lambda: LATER, max_age=7)
    assert path.read_bytes() == before.replace(b"2026-11-21", b"2026-12-01")


def test_one_answer_changed(record: Callable[..., None], kept: Kept, path: Path) -> None:
    """The exchanges that say the same stay as they were, beside the one that does not."""
    record(*(({"n": n}, _chat(n)) for n in (1, 2, 3)))
    before = kept(path)

    record(({"n": 1}, _chat(11)), ({"n": 2}, _chat(12, "ho")), ({"n": 3}, _chat(13)))

    after = kept(path)
    assert (after[0], after[2]) == (before[0], before[2])
    assert json.loads(after[1]["response"]["body"]["string"]) == _chat(12, "ho")


def test_streams(record: Callable[..., None], kept: Kept, path: Path, stream_of: StreamOf) -> None:
    """The events of a stream are compared, and not the chunks that they come in."""
    first = [b'data: {"id": "abcdefgh-1", "x": "a"}\n\n', b"data: [DONE]\n\n"]
    same = [b'data: {"id": "abcdefgh-2",', b' "x": "a"}\n\ndata: [DONE]\n\n']
    other = [b'data: {"id": "abcdefgh-3", "x": "b"}\n\n', b"data: [DONE]\n\n"]
    record(({"n": 1}, stream_of(*first)))
    before = path.read_bytes()

    record(({"n": 1}, stream_of(*same)))
    assert path.read_bytes() == before

    record(({"n": 1}, stream_of(*other)))
    assert b"abcdefgh-3" in path.read_bytes()


def test_ids_that_the_client_sends_back(record: Callable[..., None], path: Path, ask: Ask) -> None:
    """A kept id is put into the later requests too, so that a replay finds them."""

    def turn(number: int, last: str) -> list[tuple[Any, Any]]:
        call = {"id": f"call_{number:08}", "function": {"name": "f"}}
        asked = {"messages": ["hi"]}
        answered = {"messages": ["hi", {"tool_call_id": call["id"]}]}
        called = {"choices": [{"message": {"tool_calls": [call]}}]}
        return [(asked, called), (answered, {"text": last, "of": call["id"]})]

    record(*turn(1, "old"))
    record(*turn(2, "new"))

    text = path.read_text()
    assert set(re.findall(r"call_\d+", text)) == {"call_00000001"}
    with ReplayServer() as player, player.cassette(path) as cassette:
        asked, answered = (body for body, _ in turn(1, "new"))
        ask(player.root_url, asked)
        assert ask(player.root_url, answered).json() == {"text": "new", "of": "call_00000001"}
    assert cassette.unhandled == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"choices": [], "model": "a"}, {"choices": [], "model": "b"}),
        ({"data": [{"id": "model-of-old"}]}, {"data": [{"id": "model-of-new"}]}),
        ({"id": "call_1"}, {"id": "call_2"}),
        ({"id": "of a text"}, {"id": "of another"}),
        ({"mine": "2026"}, {"mine": "2027"}),
    ],
    ids=["model", "id of a model", "short id", "words", "unknown member"],
)
def test_what_is_not_volatile(
    record: Callable[..., None], path: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    """Everything but ids and times is a change, unless the project names its path."""
    record(({"n": 1}, old))
    before = path.read_bytes()

    record(({"n": 1}, new))

    assert json.dumps(new) in path.read_text()
    assert path.read_bytes() != before


def test_volatile_paths(record: Callable[..., None], path: Path) -> None:
    """A project names what differs in each answer of its server."""
    record(({"n": 1}, {"mine": "2026-old"}))
    before = path.read_bytes()
    record(({"n": 1}, {"mine": "2027-new"}), volatile_paths=["$.mine"])
    assert path.read_bytes() == before


def test_body_that_is_cut_off(record: Callable[..., None], whole: Whole, path: Path) -> None:
    """If it ends within an id, it cannot be compared, so it has changed."""
    for body in (b'{"id": "abcdefgh', b'{"id": "abcdefghi'):
        record(({"n": 1}, [whole(body)]))
        assert body.decode() + "\n" in path.read_text()


def test_earlier_exchange_with_a_secret(record: Callable[..., None], path: Path) -> None:
    """An exchange that the project redacts by now is not kept, even if nothing else has changed."""
    body = {"n": 1, "user": "ada@example.com"}
    record((body, _chat(1)))
    assert "ada@example.com" in path.read_text()
    record((body, _chat(1)), redact_paths=["$.user"], ignore_paths=["$.user"])
    assert "ada@example.com" not in path.read_text()


def test_order_of_arrival(record: Callable[..., None], path: Path, ask: Ask) -> None:
    """Another order is not a change; the same request keeps the order of its answers."""
    one, two, changed = _chat(1), _chat(2), _chat(3, "ho")
    record(({"n": 0}, one), ({"n": 1}, one), ({"n": 1}, two))
    before = path.read_bytes()

    record(({"n": 1}, one), ({"n": 1}, two), ({"n": 0}, one))
    assert path.read_bytes() == before

    record(({"n": 1}, one), ({"n": 1}, changed), ({"n": 0}, one))
    with ReplayServer() as player, player.cassette(path):
        assert [ask(player.root_url, {"n": 1}).json() for _ in range(2)] == [one, changed]


def test_status_changed(record: Callable[..., None], whole: Whole, kept: Kept, path: Path) -> None:
    """An answer with the same body and another status has changed."""
    record(({"n": 1}, [whole(b"{}")]))
    record(({"n": 1}, [whole(b"{}", status="201 Created")]))
    assert kept(path)[0]["response"]["status"]["code"] == 201
