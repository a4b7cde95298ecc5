"""No key is written to disk, in any form or place."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from llmengine.types.secrets import register
from pytest_llmengine.recording import Provenance, RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from tests.recording.conftest import Ask, ChunksOf, RawUpstream, StreamOf, Whole

KEY = 'sk-live/4f"9+c2=e7a1'


@pytest.fixture
def secret() -> str:
    """A key with every character that some encoding changes."""
    register(KEY)
    return KEY


@pytest.fixture
def recorded(upstream: RawUpstream, path: Path, ask: Ask) -> Callable[..., str]:
    """Records one exchange and returns the text of the file."""

    def record(*script: bytes, options: dict[str, Any] | None = None, **call: Any) -> str:
        upstream.will_send(*script)
        with RecordServer(upstream.url, **(options or {})) as recorder, recorder.cassette(path):
            ask(recorder.root_url, **call)
        return path.read_text()

    return record


def test_a_key_is_taken_out_of_every_place(
    recorded: Callable[..., str], whole: Whole, secret: str
) -> None:
    """Body, URL, response header and reason, plain, percent-encoded and inside JSON."""
    encoded = quote(secret, safe="")
    text = recorded(
        whole(
            f"{secret} {encoded} {encoded.lower()} {json.dumps(secret)}".encode(),
            headers=f"X-Echo: {secret}\r\n",
        ),
        body={"prompt": f"my key is {secret}"},
        path=f"/v1/{encoded}/chat?q={encoded}",
    )
    assert "live" not in text
    assert text.count("redacted") >= 8


def test_a_key_that_only_the_client_knows_is_taken_out_of_the_echo(
    recorded: Callable[..., str], whole: Whole
) -> None:
    """A key in the request's header need not be registered."""
    text = recorded(
        whole(b"wrong key sk-only-the-client-has-it"),
        headers={"Authorization": "Bearer sk-only-the-client-has-it"},
    )
    assert "only-the-client" not in text
    assert "wrong key [redacted]" in text


def test_a_placeholder_key_does_not_garble_the_texts(
    recorded: Callable[..., str], whole: Whole
) -> None:
    """A short word as key is not a secret, and stays in the answer."""
    text = recorded(whole(b"unused words"), headers={"Authorization": "Bearer unused"})
    assert "unused words" in text


@pytest.mark.parametrize(
    "name",
    ["Authorization", "api-key", "x-api-key", "Cookie", "OpenAI-Organization", "X-Stainless-Os"],
)
def test_request_headers_are_kept_by_name_only(
    recorded: Callable[..., str], whole: Whole, name: str
) -> None:
    """Only the headers that distinguish requests are kept."""
    text = recorded(whole(b"{}"), headers={name: "tell-nobody-about-this"})
    assert "tell-nobody" not in text
    assert name.lower() not in text.lower()


@pytest.mark.parametrize("name", ["Set-Cookie", "OpenAI-Organization", "Date", "Server-Timing"])
def test_response_headers_are_dropped_by_name(
    recorded: Callable[..., str], whole: Whole, name: str
) -> None:
    """Headers about the client, or that change on every run, are dropped."""
    text = recorded(whole(b"{}", headers=f"{name}: tell-nobody-about-this\r\n"))
    assert "tell-nobody" not in text


@pytest.mark.parametrize("name", ["X-Amz-Security-Token", "X-Session", "Cookie"])
def test_any_header_with_the_name_of_a_key_is_learned(
    recorded: Callable[..., str], whole: Whole, name: str
) -> None:
    """If a server repeats its value, that is removed, in base64 too."""
    value = f"{name.lower()}-1234567"
    in_base64 = b64encode(value.encode()).decode()
    sent = f"id={value}; theme=dark" if name == "Cookie" else value
    text = recorded(whole(f"{value} {in_base64}".encode()), headers={name: sent})
    assert value not in text
    assert in_base64 not in text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", '{"apiKey": "f1eld-of-the-body", "model": "m"}'),
        ("application/json", '{"auth": {"client_secret": "f1eld-of-the-body"}, "max_tokens": 5}'),
        ("application/json", r'{"text": "{\"password\": \"f1eld-of-the-body\"}"}'),
        ("application/x-www-form-urlencoded", "grant=x&client_secret=f1eld-of-the-body&model=m"),
        (
            "multipart/form-data; boundary=b",
            '--b\r\nContent-Disposition: form-data; name="api_key"\r\n\r\nf1eld-of-the-body\r\n',
        ),
    ],
)
def test_fields_with_the_name_of_a_key_go(
    recorded: Callable[..., str], whole: Whole, kind: str, body: str, path: Path, ask: Ask
) -> None:
    """In requests and answers with every kind of body, and in a replay."""
    answer = whole(b'{"access_token": "t0ken-of-the-answer", "token": "Hello"} f1eld-of-the-body')
    sent = {"content": body.encode(), "headers": {"Content-Type": kind}}
    text = recorded(answer, **sent)
    assert "f1eld" not in text
    assert "t0ken" not in text
    assert '"token": "Hello"' in text
    sent["content"] = body.replace("f1eld-of-the-body", "another-key").encode()
    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url, **sent).status_code == 200


def test_a_key_in_a_query_parameter_goes_by_its_name(
    recorded: Callable[..., str], whole: Whole, ask: Ask, path: Path
) -> None:
    """Some services take the key in the URL; its value does not matter for a match."""
    text = recorded(whole(b"{}"), path="/v1/chat?key=AIza-secret&alt=sse")
    assert "AIza" not in text
    assert "alt=sse" in text
    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url, path="/v1/chat?alt=sse&key=other").status_code == 200


def test_a_key_split_over_two_chunks(
    upstream: RawUpstream, stream_of: StreamOf, path: Path, chunks_of: ChunksOf, secret: str
) -> None:
    """The joined body is redacted, and the boundary inside the key moves to its end."""
    middle = len(secret) // 2
    data = secret.encode()
    upstream.will_send(
        *stream_of(b"data: one\n\n", b"data: <" + data[:middle], data[middle:] + b">\n\n", b"end")
    )
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        chunks_of(recorder.root_url)
    assert "live" not in path.read_text()
    with ReplayServer() as player, player.cassette(path):
        played = chunks_of(player.root_url)
    assert played == [b"data: one\n\n", b"data: <[redacted]", b">\n\n", b"end"]


def test_a_chunk_that_was_all_key_is_dropped(
    upstream: RawUpstream, stream_of: StreamOf, path: Path, chunks_of: ChunksOf, secret: str
) -> None:
    """Chunks of one byte inside a key are empty afterwards."""
    upstream.will_send(*stream_of(b"<", *(bytes([byte]) for byte in secret.encode()), b">"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        chunks_of(recorder.root_url)
    with ReplayServer() as player, player.cassette(path):
        assert chunks_of(player.root_url) == [b"<", b"[redacted]", b">"]


def test_several_keys_in_one_line_keep_the_length_true(
    recorded: Callable[..., str], whole: Whole, secret: str, path: Path, ask: Ask
) -> None:
    """Content-Length is that of the redacted body."""
    recorded(whole(f"{secret} and {secret}".encode()))
    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url).text == "[redacted] and [redacted]"


def test_a_key_in_a_cut_body_keeps_the_missing_bytes_missing(
    upstream: RawUpstream, whole: Whole, path: Path, client: httpx.Client, secret: str
) -> None:
    """A cut Content-Length changes by the size of the redaction."""
    upstream.will_send(whole(f"{secret} and more".encode())[:-4])
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path),
        pytest.raises(Exception, match=r"incomplete|peer closed"),
    ):
        client.get(recorder.root_url)
    with (
        ReplayServer() as player,
        player.cassette(path),
        pytest.raises(Exception, match=r"received 15 bytes, expected 19"),
    ):
        client.get(player.root_url)


def test_a_hook_takes_out_more(
    recorded: Callable[..., str], whole: Whole, path: Path, ask: Ask
) -> None:
    """The user's function gets texts, in recording and in replay."""

    def no_names(text: str) -> str:
        return re.sub("Ada|Bob", "somebody", text)

    text = recorded(whole(b"Dear Ada"), options={"redact": no_names}, body={"prompt": "I am Bob"})
    assert "Dear somebody" in text
    assert "I am somebody" in text
    with ReplayServer(redact=no_names) as player, player.cassette(path):
        assert ask(player.root_url, {"prompt": "I am Ada"}).status_code == 200


def test_a_hook_that_fails_is_a_miss_and_not_a_leak(
    upstream: RawUpstream, path: Path, ask: Ask
) -> None:
    """An exchange that cannot be redacted is not kept, and the run fails."""

    def broken(text: str) -> str:
        raise LookupError("no such rule")

    with RecordServer(upstream.url, redact=broken) as recorder, recorder.cassette(path) as tape:
        answer = ask(recorder.root_url)
    assert answer.status_code == 500
    assert "no such rule" in tape.unhandled[0]
    assert not path.exists()


def test_binary_bodies_are_searched_too(
    recorded: Callable[..., str], whole: Whole, secret: str, path: Path, ask: Ask
) -> None:
    """Bytes that are not UTF-8 are base64 in the file, without their keys."""
    body = b"\xff\xfe" + secret.encode() + b"\x00\x80"
    text = recorded(whole(body))
    assert "!!binary" in text
    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url).content == b"\xff\xfe[redacted]\x00\x80"


def test_compressed_bodies_are_kept_in_plain(
    recorded: Callable[..., str], whole: Whole, secret: str, path: Path, ask: Ask
) -> None:
    """Gzip cannot hide a key in either direction; the client of the replay gets plain text."""
    text = recorded(
        whole(gzip.compress(f"echo {secret}".encode()), headers="Content-Encoding: gzip\r\n"),
        content=gzip.compress(json.dumps({"prompt": secret}).encode()),
        headers={"Content-Encoding": "gzip"},
    )
    assert "echo [redacted]" in text
    assert '{"prompt": "[redacted]"}' in text
    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url, {"prompt": secret}).text == "echo [redacted]"


def test_a_body_that_cannot_be_read_is_not_kept(
    upstream: RawUpstream, whole: Whole, path: Path, client: httpx.Client
) -> None:
    """A body in an encoding that was not asked for is a miss."""
    upstream.will_send(whole(b"?", headers="Content-Encoding: rot13\r\n"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path) as tape:
        client.get(recorder.root_url)
    assert "'rot13'" in tape.unhandled[0]
    assert not path.exists()


def test_a_miss_shows_no_key(
    recorded: Callable[..., str], whole: Whole, secret: str, path: Path, ask: Ask
) -> None:
    """The difference is made from redacted requests."""
    recorded(whole(b"{}"))
    with ReplayServer() as player, player.cassette(path) as tape:
        ask(player.root_url, {"prompt": secret}, f"/v1/{quote(secret, safe='')}")
    assert "live" not in tape.unhandled[0]
    assert tape.unhandled[0].count("[redacted]") >= 2


def test_provenance_is_searched_too(
    recorded: Callable[..., str], whole: Whole, secret: str
) -> None:
    """A key in a digest or an address is redacted too."""
    text = recorded(whole(b"{}"), options={"provenance": Provenance(engine=f"x {secret}")})
    assert "engine: x [redacted]" in text
