"""The lint of cassettes: what it finds, and that it never shows a key."""

from __future__ import annotations

import base64
import json
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import yaml

from pytest_llmengine.recording.lint import LintLimits, lint

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-proj-a1B2c3D4e5F6g7H8i9J0k1L2"
NO_LIMITS = LintLimits(max_age=0, max_size=0)


def write(
    path: Path, *exchanges: tuple[str, str], uri: str = "http://x/v1/chat", **headers: str
) -> None:
    """Write a cassette as vcrpy does, with these bodies of requests and answers."""
    path.parent.mkdir(exist_ok=True, parents=True)
    interactions = [
        {
            "request": {
                "method": "POST",
                "uri": uri,
                "body": request,
                "headers": {name: [value] for name, value in headers.items()},
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": {"content-type": ["application/json"]},
                "body": {"string": answer},
            },
        }
        for request, answer in exchanges
    ]
    path.write_text(yaml.safe_dump({"version": 1, "interactions": interactions}))


@pytest.mark.parametrize(
    "spelt",
    [
        KEY,
        quote(KEY.replace("sk-", "sk%2d", 1), safe="%"),
        json.dumps(KEY).replace("-", "\\u002d")[1:-1],
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        KEY.encode().hex(),
    ],
    ids=["plain", "percent", "json", "base64", "hex"],
)
def test_keys_by_their_format(tmp_path: Path, spelt: str) -> None:
    """A key of a known format is found however it is written, and is not in the finding."""
    write(tmp_path / "a.yaml", (f"before {spelt} after", "{}"))

    (finding,) = lint(tmp_path, NO_LIMITS)

    assert (finding.kind, "the body of the request of exchange 1" in finding.what) == (
        "secret",
        True,
    )
    assert "OpenAI" in finding.what
    assert KEY not in str(finding.to_dict())


def test_keys_by_their_name(tmp_path: Path) -> None:
    """What vcrpy keeps: a header, a parameter and a field with the name of a key."""
    path = tmp_path / "a.yaml"
    write(
        path,
        ('{"api_key": "short-one"}', "{}"),
        uri="http://x/v1?key=abc",
        authorization="Bearer x",
    )

    places = {finding.what.partition(" is in ")[2] for finding in lint(path, NO_LIMITS)}

    assert places == {
        "the address of exchange 1",
        "the header authorization of the request of exchange 1",
        "the body of the request of exchange 1",
    }


def test_texts_about_keys_are_no_findings(tmp_path: Path) -> None:
    """Placeholders, ids and pictures are not taken for keys."""
    picture = base64.b64encode(bytes(range(256)) * 8).decode()
    body = json.dumps(
        {"id": "chatcmpl-0a1b2c3d4e5f6a7b8c9d0e1f", "image": picture, "a": "sk-local"}
    )
    write(tmp_path / "a.yaml", (body, '{"api_key": "[redacted]", "hash": "' + "ab12" * 16 + '"}'))

    assert lint(tmp_path, NO_LIMITS) == []


def test_age_size_duplicates_and_broken_files(tmp_path: Path) -> None:
    """Each finding says what it found and what to do."""
    write(
        tmp_path / "twice.yaml",
        ('{"n": 1, "m": 2}', "{}"),
        ('{"m": 2, "n": 1.0}', "{}"),
        ("{}", "x" * 900),
    )
    old = "version: 1\nmetadata: {llmengine: {recorded_at: '2026-01-01'}}\ninteractions: []\n"
    (tmp_path / "old.yaml").write_text(old)
    (tmp_path / "broken.yaml").write_text("version: [")

    found = lint(tmp_path, LintLimits(max_age=10, max_size=1000, today=date(2026, 1, 12)))

    assert [(one.kind, one.path.rpartition("/")[2]) for one in found] == [
        ("broken", "broken.yaml"),
        ("stale", "old.yaml"),
        ("duplicated", "twice.yaml"),
        ("oversized", "twice.yaml"),
    ]
    assert "recorded 11 days ago" in found[1].what
    assert "exchange 2, POST /v1/chat, repeats 1" in found[2].what
    assert "902 of them in exchange 3" in found[3].what


def test_unfinished_recordings(tmp_path: Path) -> None:
    """What a killed recorder has left is named, with what to do about it."""
    write(tmp_path / "mine" / "a.yaml", ('{"n": 1}', "{}"))
    write(tmp_path / "mine" / "a.yaml.part", ('{"n": 2}', "{}"))
    (found,) = lint(tmp_path, NO_LIMITS)
    assert (found.kind, found.path) == ("unfinished", str(tmp_path / "mine" / "a.yaml.part"))
    assert "rename it to a.yaml" in found.advice
