"""Checks that an answer was stored, and that it names its service tier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import content
from pytest_llmengine.contract.facts import fields_dropped
from pytest_llmengine.contract.outcomes import Ignored, expect, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.contract.target import Target


def stored(target: Target, name: object, text: str) -> dict[str, Any]:
    """The stored answer with this id and text; the check ends as ignored if there is none."""
    path = f"/chat/completions/{name}"
    reply = target.get(path)
    if not reply.ok:
        raise Ignored(
            f"store was accepted, and the answer {quote(name)} cannot be retrieved: "
            f"{quote(reply.text)}",
            fact=fields_dropped("/chat/completions"),
        )
    body = reply.object()
    expect(content(body) == text, f"the stored text is {quote(content(body))}, not {quote(text)}")
    target.send("DELETE", path)
    return body


def tier_of(*parts: Mapping[str, Any]) -> None:
    """Expect the default service tier in an answer, or in a chunk of a stream."""
    tiers = [part["service_tier"] for part in parts if part.get("service_tier")]
    if not tiers:
        raise Ignored(
            "service_tier was accepted, and the answer does not name its tier",
            fact=fields_dropped("/chat/completions"),
        )
    others = [tier for tier in tiers if tier != "default"]
    expect(not others, f"the service_tier default is answered with {quote(others)}")
