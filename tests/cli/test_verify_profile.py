"""`llmengine verify --write-profile`, and the servers that it recognises."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import Behaviour, MockServer, RawReply
from pytest_llmengine.contract.mutants.registry import mutants
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.targets.recognition import SERVERS, KnownServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from llmengine.mock import ReceivedRequest

RULE, IGNORED, KEPT = "chat.basic.required_fields", "chat.stop.max4", "chat.basic.object_const"
CHECKS = [arg for rule in (RULE, IGNORED, KEPT) for arg in ("--check", rule)]


def broken(check: str) -> Behaviour:
    """A server that breaks the rule of that check."""
    return next(m.behaviour for m in mutants() if m.check == check)


def test_a_written_profile_accepts_what_was_seen_and_no_more(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """The same server passes with it; one that changed in any rule fails."""
    profile = tmp_path / "mine.toml"
    with MockServer(behaviour=broken(RULE)) as server:
        url = ("verify", "--url", server.root_url, *CHECKS)
        first = llmengine(*url, "--write-profile", profile)
        again = llmengine(*url, "--profile", profile)
    with MockServer() as server:
        mended = llmengine("verify", "--url", server.root_url, *CHECKS, "--profile", profile)
    with MockServer(behaviour=broken(KEPT)) as server:
        other = llmengine("verify", "--url", server.root_url, *CHECKS, "--profile", profile)
    assert (first.status, again.status, mended.status, other.status) == (1, 0, 1, 1)
    assert f"written to {profile}; broken rules in it: 1; use it by --profile" in first.out
    assert "1 deviates; all accepted" in again.out
    assert "the deviation of openai_compatible" in " ".join(mended.out.split())
    assert f"  fail       {KEPT}" in other.out
    text = profile.read_text("utf-8")
    (row,) = tomllib.loads(text)["deviation"]
    assert (row["check"], row["outcome"], row["reason"]) == (RULE, "fail", "missing: id")
    assert "# The rule: A chat completion has id, object, created, model and choices." in text
    assert "# > POST /chat/completions {" in text
    assert "# < 200 {" in text


def test_a_profile_is_brought_up_to_date(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Old deviations are removed and new ones added; those of checks that did not run stay."""
    profile = tmp_path / "mine.toml"
    rows = "".join(
        f'[[deviation]]\ncheck = "{rule}"\noutcome = "fail"\nversion = "1"\nreason = "my words"\n'
        for rule in (KEPT, RULE, "models.list.shape")
    )
    profile.write_text(f'engine = "mine"\ncapabilities = ["streaming"]\n{rows}', encoding="utf-8")
    both = ("--profile", profile, "--write-profile", profile)
    with MockServer(behaviour=broken(RULE)) as server:
        llmengine("verify", "--url", server.root_url, *CHECKS, *both)
        again = llmengine("verify", "--url", server.root_url, *CHECKS, "--profile", profile)
    written = tomllib.loads(profile.read_text("utf-8"))
    assert again.status == 0
    assert (written["engine"], written["capabilities"]) == ("mine", ["streaming"])
    assert {row["check"]: row["reason"] for row in written["deviation"]} == {
        RULE: "my words",
        "models.list.shape": "my words",
    }


def test_no_profile_is_written_over_another(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """An existing file is refused before any request, and so is a file of another type."""
    there = tmp_path / "mine.toml"
    there.write_text("# by hand\n", encoding="utf-8")
    for path, words in (
        (there, "the file exists"),
        (tmp_path / "mine.txt", "must end in .toml"),
        (tmp_path / "none" / "mine.toml", "there is no directory"),
    ):
        ran = llmengine("verify", "--engine", "mock", "--write-profile", path)
        assert (ran.status, ran.out) == (2, "")
        assert words in ran.err
    assert there.read_text("utf-8") == "# by hand\n"


def test_what_a_server_says_cannot_break_the_file(
    llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """Line breaks, control characters and quotes of an answer stay in a comment or text."""
    evil = '\n[[deviation]]\nreason = """\x07\x1b[31m\\\ud83e'

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if not call.path.endswith("/chat/completions"):
            return reply
        body = json.dumps({"object": evil, "created": evil}).encode()
        return RawReply(200, {"content-type": "application/json"}, [body, b"\xff\x00"])

    profile = tmp_path / "mine.toml"
    with MockServer(behaviour=Behaviour("evil", wire=wire)) as server:
        url = ("verify", "--url", server.root_url, *CHECKS)
        llmengine(*url, "--write-profile", profile)
        again = llmengine(*url, "--profile", profile)
    assert again.status == 0
    assert len(tomllib.loads(profile.read_text("utf-8"))["deviation"]) == 3


def _like(server: KnownServer, sign: str) -> Behaviour:
    """A server with one sign of a program, and none of the mock's own."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if server.route and sign == "route" and call.path == server.route[0]:
            body = json.dumps({server.route[1]: "x"}).encode()
            return RawReply(200, {"content-type": "application/json"}, [body])
        if not call.path.startswith("/v1/"):
            return RawReply(404, {}, [b"no"])
        if server.header and sign == "header":
            reply.headers[server.header[0]] = server.header[1] or "1.2.3"
        body = json.loads(b"".join(reply.chunks))
        for row in body.get("data", ()):
            row["owned_by"] = server.owned_by if sign == "owned_by" else "somebody"
        body["system_fingerprint"] = server.fingerprint if sign == "fingerprint" else "fp_0"
        headers = {k: v for k, v in reply.headers.items() if k.lower() != "content-length"}
        return RawReply(reply.status, headers, [json.dumps(body).encode()])

    return Behaviour(f"{server.name} by {sign}", wire=wire)


SIGNS = [
    pytest.param(server, sign, id=f"{server.name} by {sign}")
    for server in SERVERS
    for sign in ("header", "owned_by", "fingerprint", "route")
    if getattr(server, sign) is not None
]


@pytest.mark.parametrize(("server", "sign"), SIGNS)
def test_a_server_is_recognised_by_each_of_its_signs(
    llmengine: Callable[..., Any], server: KnownServer, sign: str
) -> None:
    """The first line has its name, and standard error has advice on a profile."""
    with MockServer(behaviour=_like(server, sign)) as mock:
        ran = llmengine("verify", "--url", mock.root_url, "--check", KEPT)
    version = {"LiteLLM by header": " 1.2.3", "Ollama by route": " x"}.get(
        f"{server.name} by {sign}", ""
    )
    assert ran.out.startswith(f"live at {mock.base_url}, {server.name}{version} (mock)\n")
    if server.backend in shipped_profiles():
        assert f"The server looks like {server.name}: --engine {server.backend} " in ran.err
    elif server.name != "mock":
        assert f"The server looks like {server.name}, for which no profile is shipped" in ran.err
        assert "--write-profile FILE" in ran.err


def test_a_server_without_a_sign_is_not_guessed(llmengine: Callable[..., Any]) -> None:
    """An unknown program keeps the backend's name, and there is no advice."""
    with MockServer(behaviour=_like(KnownServer(name="?"), "none")) as mock:
        ran = llmengine("verify", "--url", mock.root_url, "--check", KEPT)
    assert ran.out.startswith(f"live at {mock.base_url}, openai_compatible (mock)\n")
    assert "looks like" not in ran.err
