"""The options of a recorder and a replayer: what they redact, compare and play."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmengine import InvalidFieldError
from pytest_llmengine import recording
from pytest_llmengine.recording import (
    RecordingConfig,
    RecordingOptions,
    RecordServer,
    ReplayServer,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, StreamOf, Whole

TENANT = "tenant-of-twenty-chars"


@pytest.fixture
def record(upstream: RawUpstream, path: Path, ask: Ask) -> Callable[..., str]:
    """Records one exchange, and returns the text of the file."""

    def run(*script: bytes, body: Any = None, **options: Any) -> str:
        upstream.will_send(*script)
        headers = {"X-Tenant": TENANT}
        with RecordServer(upstream.url, **options) as recorder, recorder.cassette(path):
            ask(recorder.root_url, body, headers=headers)
        return path.read_text()

    return run


@pytest.fixture
def status(path: Path, ask: Ask) -> Callable[..., int]:
    """The status of one replayed request."""

    def run(body: Any, **options: Any) -> int:
        with ReplayServer(**options) as player, player.cassette(path):
            return ask(player.root_url, body).status_code

    return run


def test_redacted_headers(record: Callable[..., str], whole: Whole) -> None:
    """They are dropped, and what the request had in them is removed everywhere."""
    text = record(
        whole(f"for {TENANT}".encode(), headers=f"X-Tenant: {TENANT}\r\nX-Region: eu\r\n"),
        body={"who": TENANT},
        redact_headers=["X-Tenant", "x-region"],
    )

    assert TENANT not in text
    assert "for [redacted]" in text
    assert "tenant" not in text
    assert "region" not in text


def test_redacted_paths(
    record: Callable[..., str], stream_of: StreamOf, path: Path, ask: Ask, status: Any
) -> None:
    """Requests and streamed events keep their layout; the masked value is not compared."""
    events = [b'data: {"id": "a-1", "text": "x"}\n\n', b'data: {"id": "a-2", "text": "y"}\n\n']
    options = {"redact_paths": ["$.user", "$.id"]}
    text = record(*stream_of(*events), body={"user": "ada lovelace", "n": 1}, **options)

    assert "lovelace" not in text
    response = yaml.safe_load(text)["interactions"][0]["response"]
    assert response["body"]["string"] == (
        'data: {"id": "[redacted]", "text": "x"}\n\ndata: {"id": "[redacted]", "text": "y"}\n\n'
    )
    assert len(response["llmengine"]["sizes"]) == 2
    assert status({"user": "bob", "n": 1}, **options) == 200
    assert status({"user": "bob", "n": 2}, **options) == 501


def test_several_redactions(record: Callable[..., str], whole: Whole) -> None:
    """Each function gets the result of the one before it."""
    text = record(
        whole(b"Ada Lovelace"),
        redact=[lambda t: t.replace("Ada", "A."), lambda t: t.replace("A. Lovelace", "A. L.")],
    )
    assert "A. L." in text
    assert "Ada" not in text


def test_ignored_paths(record: Callable[..., str], whole: Whole, status: Any) -> None:
    """A prompt with a timestamp is replayed if that is ignored; other differences count."""
    record(whole(b"{}"), body={"n": 1, "metadata": {"at": "10:00"}})
    ignoring: dict[str, Any] = {"ignore_paths": ["$.metadata.at"]}

    assert status({"n": 1, "metadata": {"at": "11:00"}}) == 501
    assert status({"n": 1, "metadata": {"at": "11:00"}}, **ignoring) == 200
    assert status({"n": 1, "metadata": {}}, **ignoring) == 200
    assert status({"n": 2, "metadata": {"at": "10:00"}}, **ignoring) == 501
    assert status({"n": 1}, **ignoring) == 501


def test_ignored_paths_are_not_shown_as_different(
    record: Callable[..., str], whole: Whole, path: Path, ask: Ask
) -> None:
    """The difference shows only why no recording matched."""
    record(whole(b"{}"), body={"n": 1, "at": "10:00"})

    with ReplayServer(ignore_paths=["at"]) as player, player.cassette(path) as cassette:
        ask(player.root_url, {"n": 2, "at": "11:00"})

    (reason,) = cassette.unhandled
    assert '-  "n": 1\n+  "n": 2' in reason
    assert "11:00" not in reason


def test_own_matchers(record: Callable[..., str], whole: Whole, path: Path, ask: Ask) -> None:
    """Parts may be left out; a function returns a bool, or raises AssertionError as in vcrpy."""

    def same_length(new: Any, recorded: Any) -> bool:
        return len(new.body) == len(recorded.body)

    def posted(new: Any, recorded: Any) -> None:
        assert new.method == recorded.method == "POST"

    record(whole(b"{}"), body={"n": 1})
    options: RecordingOptions = {"match_on": ["path", same_length, posted]}

    with ReplayServer(**options) as player, player.cassette(path) as cassette:
        assert ask(player.root_url, {"n": 7}, "/v1/chat?x=1").status_code == 200
        assert ask(player.root_url, {"n": 77}).status_code == 501
    assert cassette.unused == []
    with ReplayServer(match_on=["path", lambda *_: False]) as player, player.cassette(path) as one:
        assert ask(player.root_url, {"n": 1}).status_code == 501
    assert "a matcher of the project finds them different" in one.unhandled[0]


def test_options_of_one_cassette(
    record: Callable[..., str], whole: Whole, path: Path, ask: Ask
) -> None:
    """A configuration that is given with a cassette is used instead of the server's."""
    record(whole(b"{}"), body={"n": 1, "at": 1})
    config = RecordingConfig().extended({"ignore_paths": ["at"]})

    with ReplayServer() as player:
        with player.cassette(path, config):
            assert ask(player.root_url, {"n": 1, "at": 2}).status_code == 200
        with player.cassette(path):
            assert ask(player.root_url, {"n": 1, "at": 2}).status_code == 501


def test_extended() -> None:
    """Redactions and ignored paths add up, other options are replaced."""
    first = RecordingConfig().extended({"ignore_paths": ["a"], "speed": 2, "timing": "recorded"})

    second = first.extended({"ignore_paths": ["b"], "speed": 3})

    assert [path.text for path in second.ignore_paths] == ["a", "b"]
    assert (second.speed, second.timing) == (3, "recorded")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["ignore_paths"], r"recording options are a dict such as .*, not list"),
        ({"ignore_path": []}, "'ignore_path' is not a recording option; did you mean 'ignore_pa"),
        ({"ignore_paths": "$.a"}, "ignore_paths: give a list of JSON paths, not '\\$.a'"),
        ({"ignore_paths": [7]}, "ignore_paths: a JSON path is a text, not 7"),
        ({"redact_paths": ["$.a["]}, r"redact_paths: '\$.a\[' is not a JSON path from '\[' on"),
        ({"redact": "name"}, "redact: give a list of functions from text to text, not 'name'"),
        ({"redact": ["name"]}, "redact: give a function from text to text, or several, not 'name'"),
        ({"redact_headers": [b"x"]}, "redact_headers: the name of a header is a text, not b'x'"),
        ({"match_on": ["paht"]}, "match_on: 'paht' is neither .*; did you mean 'path'"),
        ({"match_on": [3]}, "match_on: 3 is neither .*; known are method, path, query, body"),
        ({"timing": "slow"}, "timing: is 'slow'; give 'instant' or 'recorded'"),
        ({"timing": []}, "timing: is"),
        ({"speed": 0}, "speed: is 0; give a number above 0"),
        ({"speed": True}, "speed: is True"),
        ({"rechunk": "byte"}, "rechunk: is 'byte'; give 'bytes', 'whole', 'inside-characters'"),
        ({"rechunk": 0}, "rechunk: is 0"),
        ({"rechunk": ["a"]}, "rechunk: is"),
        ({"repeats": "yes"}, "repeats: is 'yes'; give True or False"),
        ({"clock": None}, r"clock: is None; give an object with time\(\) and async sleep"),
    ],
)
def test_wrong_options(options: Any, message: str) -> None:
    """One line names the option, what is wrong, and what to write."""
    with pytest.raises(InvalidFieldError, match=f"^here: {message}") as caught:
        RecordingConfig().extended(options, "here")
    assert "\n" not in str(caught.value)


def test_misspelt_keyword() -> None:
    """The servers name a keyword that they do not know."""
    wrong: Any = {"redct": str}
    with pytest.raises(InvalidFieldError, match="'redct' is not a recording option; did you mean"):
        ReplayServer(**wrong)


def test_the_dictionary_has_the_fields_of_the_configuration() -> None:
    """What a type checker takes is what is checked."""
    assert set(RecordingOptions.__annotations__) == set(RecordingConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("old", "new"),
    [("Tape", "Cassette"), ("RecordTape", "RecordCassette"), ("ReplayTape", "ReplayCassette")],
)
def test_old_names_of_classes(old: str, new: str) -> None:
    """They still work, and say what to write."""
    with pytest.warns(DeprecationWarning, match=f"{old} is deprecated; write {new}"):
        assert getattr(recording, old) is getattr(recording, new)


def test_old_names_of_attributes(
    record: Callable[..., str], whole: Whole, path: Path, ask: Ask
) -> None:
    """They still work, and say what to write."""
    record(whole(b"{}"))
    with ReplayServer() as player:
        ask(player.root_url)
        with player.cassette(path) as cassette:
            ask(player.root_url, {"n": 2})
    with pytest.warns(DeprecationWarning, match="misses is deprecated; write unhandled"):
        assert cassette.misses == cassette.unhandled != []
    with pytest.warns(DeprecationWarning, match="strays is deprecated; write without_cassette"):
        assert player.strays == player.without_cassette != []
