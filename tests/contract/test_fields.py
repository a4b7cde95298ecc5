"""Every field of the create requests is noticed by a check, or excluded with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import Behaviour, MockServer
from llmengine.mock import specification as spec
from pytest_llmengine.contract.fields import (
    EXCLUDED,
    FieldClosure,
    measure_fields,
    request_fields,
)
from pytest_llmengine.contract.registry import catalogue

if TYPE_CHECKING:
    from llmengine.mock import ReceivedRequest

FIELDS = {str(field): field for field in request_fields()}


@pytest.fixture(scope="module")
def closure() -> FieldClosure:
    """What all checks notice."""
    return measure_fields(list(catalogue().values()))


def test_every_field_is_noticed_or_excluded(closure: FieldClosure) -> None:
    """A server that drops a field fails a check, or no client can tell."""
    assert list(map(str, closure.open)) == []


def test_no_field_is_excluded_that_a_check_notices(closure: FieldClosure) -> None:
    """A reason that says that nothing is visible is true."""
    assert [f"{f} ({closure.noticed_by[f]})" for f in closure.stale] == []


def test_every_exclusion_is_of_a_field(closure: FieldClosure) -> None:
    """The table has no pattern for a field that does not exist, and no empty reason."""
    reasons = {field.why_excluded for field in FIELDS.values()}
    assert set(EXCLUDED) <= reasons
    assert all(why.endswith(".") for why in EXCLUDED)


@pytest.mark.parametrize(
    "route", ["/chat/completions", "/completions", "/embeddings", "/responses"]
)
def test_the_list_has_every_field_of_a_request(route: str) -> None:
    """Each field of the specification is listed, whole and streamed."""
    listed = {(f.path, f.case) for f in FIELDS.values() if f.route == route}
    fields = spec.request_fields(f"POST {route}")
    for name in fields:
        assert (name, "whole") in listed or name.startswith("stream")
        assert (name, "stream") in listed or "stream" not in fields


@pytest.mark.parametrize(
    "name",
    [
        "/chat/completions logprobs (n > 1)",
        "/chat/completions messages[].content[image_url] (whole)",
        "/chat/completions stream_options.include_usage (stream)",
        "/chat/completions tool_choice[allowed_tools] (stream)",
        "/chat/completions tools[custom] (whole)",
        "/chat/completions tools[function].function.strict (stream)",
        "/responses include[message.output_text.logprobs] (whole)",
        "/responses input[function_call_output] (whole)",
        "/responses text.format[json_schema].schema (stream)",
        "/responses tools[web_search] (whole)",
    ],
)
def test_the_list_has_parts_of_fields(name: str) -> None:
    """The parts of messages, tools, formats and options are fields of their own."""
    assert name in FIELDS


AUDIO = {"voice": "alloy", "format": "wav"}
TOOLS = [
    {"type": "function", "function": {"name": "f", "strict": True}},
    {"type": "custom", "custom": {"name": "c"}},
]


@pytest.mark.parametrize(
    ("name", "body", "left"),
    [
        ("temperature (whole)", {"temperature": 1}, {}),
        ("temperature (stream)", {"temperature": 1}, {"temperature": 1}),
        ("temperature (whole)", {"stream": True, "temperature": 1}, {"temperature": 1}),
        ("logprobs (n > 1)", {"n": 2, "logprobs": True}, {}),
        ("logprobs (n > 1)", {"n": 1, "logprobs": True}, {"logprobs": True}),
        ("tools[custom] (whole)", {"tools": TOOLS}, {"tools": TOOLS[:1]}),
        ("tools[custom] (whole)", {"tools": TOOLS[1:]}, {}),
        (
            "tools[function].function.strict (whole)",
            {"tools": TOOLS[:1]},
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        (
            "tool_choice[allowed_tools] (whole)",
            {"tools": TOOLS[:1], "tool_choice": "none"},
            {"tools": TOOLS[:1], "tool_choice": "none"},
        ),
        (
            "tool_choice[none] (whole)",
            {"tools": TOOLS[:1], "tool_choice": "none"},
            {"tools": TOOLS[:1]},
        ),
    ],
)
def test_a_server_drops_the_field_alone(
    name: str, body: dict[str, Any], left: dict[str, Any]
) -> None:
    """The request is as it was sent, without the field, and only in the case of the field."""
    found: list[dict[str, Any]] = []
    server = FIELDS[f"/chat/completions {name}"].server()

    def request(body: dict[str, Any], call: ReceivedRequest) -> dict[str, Any]:
        found.append(server.request(body, call))
        return found[-1]

    _chat(replace(server, request=request), body)
    kept = {"model", "messages", "n", "stream"}
    assert {k: v for k, v in found[0].items() if k not in kept} == left


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("temperature (whole)", {"temperature": 3}, 400),
        ("verbosity (whole)", {"verbosity": "loud"}, 400),
        ("web_search_options (whole)", {"web_search_options": {}}, 200),
        ("web_search_options (whole)", {"web_search_options": 5}, 400),
        ("web_search_options (whole)", {"web_search_options": {}, "audio": AUDIO}, 400),
        ("tools[custom] (whole)", {"tools": TOOLS[1:]}, 200),
    ],
)
def test_a_server_drops_only_what_is_valid(name: str, body: dict[str, Any], status: int) -> None:
    """It accepts the field although the mock does not play it, and refuses all else as the mock."""
    assert _chat(FIELDS[f"/chat/completions {name}"].server(), body) == status


def _chat(server: Behaviour, body: dict[str, Any]) -> int:
    messages = [{"role": "user", "content": "Hi"}]
    with MockServer(behaviour=server) as mock:
        sent = {"model": "mock", "messages": messages, **body}
        return httpx.post(f"{mock.base_url}/chat/completions", json=sent).status_code
