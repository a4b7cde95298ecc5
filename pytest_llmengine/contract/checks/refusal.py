"""Checks of refusal: what a server does not support is refused in words, and never dropped.

Each rule asks for something that many servers do not have, in a whole and in a streamed answer. A
server passes if the answer shows that it was understood, or if it refuses the request with a 4xx or
501 and a message. An answer as if the thing had not been asked for is ``ignored``.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import control, objects, pick
from pytest_llmengine.contract.facts import CUSTOM_DROPPED, FIELDS_DROPPED, TOOL_TYPES_DROPPED
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, fail, quote
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, Tier, check
from pytest_llmengine.contract.reply import refuses
from pytest_llmengine.contract.samples import CALL_TOKENS, WEATHER

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

JSON = dict[str, Any]
rule = partial(check, group="refusal", level=EXPECTED, since="2026-11-27")

ASK = "What is this? Answer in one word."


# ---- small files


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _png(size: int) -> bytes:
    """A red square."""
    rows = (b"\x00" + b"\xff\x00\x00" * size) * size
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _wav(samples: int) -> bytes:
    """Silence at 8 kHz."""
    size, rate = 2 * samples, 8000
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    header = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form
    return header + b"data" + struct.pack("<I", size) + bytes(size)


IMAGE = _data("image/png", _png(64))
FILE = {"filename": "note.txt", "file_data": _data("text/plain", b"The sea is green today.\n" * 8)}


# ---- what an answer shows


class Seen(NamedTuple):
    """What came: the keys of the answer and of its message, the output items, and the usage."""

    keys: Mapping[str, Any]
    items: list[JSON]
    prompt_tokens: int | None

    @property
    def says_nothing(self) -> bool:
        """Whether there is no text and no call, but reasoning at most."""
        kinds = {item.get("type") for item in self.items} - {"message", "reasoning"}
        parts = [part for item in self.items for part in item.get("content") or ()]
        return not (kinds or self.keys.get("content") or any(part.get("text") for part in parts))


def _chat(parts: list[JSON]) -> Seen:
    keys: JSON = {}
    calls: list[JSON] = []
    for part in parts:
        expect(not part.get("error"), f"an error in mid-stream: {quote(part.get('error'))}")
        for entry in objects(part, "choices")[:1]:
            said = entry.get("message") or entry.get("delta") or {}
            keys |= {k: v for k, v in {**part, **said}.items() if v}
            calls += said.get("tool_calls") or []
        keys |= {"usage": part["usage"]} if part.get("usage") else {}
    return Seen(keys, calls, _count(keys, "prompt_tokens"))


def _response(parts: list[JSON]) -> Seen:
    body = parts[-1].get("response", parts[-1])
    expect(not body.get("error"), f"an error in the response: {quote(body.get('error'))}")
    return Seen(body, objects(body, "output"), _count(body, "input_tokens"))


def _count(body: Mapping[str, Any], name: str) -> int | None:
    usage = body.get("usage")
    return pick(usage, int, name) if usage else None


Shows = Callable[[Seen, Seen], bool]
"""Whether an answer shows that something was understood; the second one is without it."""


def has(*keys: str) -> Shows:
    """One of these keys is there, and not empty."""
    return lambda seen, _: any(seen.keys.get(key) for key in keys)


def has_item(*kinds: str) -> Shows:
    """An item or a tool call of one of these types is there."""
    return lambda seen, _: any(item.get("type") in kinds for item in seen.items)


def in_prompt(seen: Seen, plain: Seen) -> bool:
    """The prompt has another number of tokens."""
    if seen.prompt_tokens is None or plain.prompt_tokens is None:
        raise Unmeasured("this answer cannot show it: it has no usage")
    return seen.prompt_tokens != plain.prompt_tokens


def either(*ways: Shows) -> Shows:
    """One of several ways."""
    return lambda seen, plain: any(way(seen, plain) for way in ways)


def predicted(seen: Seen, _: Seen) -> bool:
    """The usage counts tokens of the prediction."""
    details = (seen.keys.get("usage") or {}).get("completion_tokens_details") or {}
    return any(details.get(f"{kind}_prediction_tokens") for kind in ("accepted", "rejected"))


# ---- the rules about parts of a request


class Feature(NamedTuple):
    """A part of a request that a server may not support.

    ``requests`` are tried one by one. ``fact`` is the cause that several rows share.
    """

    what: str
    requests: tuple[JSON, ...]
    shows: Shows
    source: str
    breaks: str
    tier: Tier = EXTENDED
    fact: str = ""


def _part(part: JSON) -> JSON:
    content = [{"type": "text", "text": ASK}, part]
    return {"messages": [{"role": "user", "content": content}]}


def _tool(kind: str, **fields: Any) -> JSON:
    return {"tools": [{"type": kind, **fields}]}


FUNCTION = {k: v for k, v in WEATHER["function"].items() if k != "strict"}
CUSTOM = {"name": "note", "description": "Notes any text."}
OF_CHAT = "openai-openapi: CreateChatCompletionRequest"
CHAT_FEATURES = {
    "image": Feature(
        "an image",
        (_part({"type": "image_url", "image_url": {"url": IMAGE}}),),
        in_prompt,
        "openai-openapi: ChatCompletionRequestMessageContentPartImage",
        "A program that asks about an image gets an invented answer.",
        CORE,
    ),
    "audio_input": Feature(
        "a sound",
        (
            _part(
                {
                    "type": "input_audio",
                    "input_audio": {
                        "data": base64.b64encode(_wav(1600)).decode(),
                        "format": "wav",
                    },
                }
            ),
        ),
        in_prompt,
        "openai-openapi: ChatCompletionRequestMessageContentPartAudio",
        "A program that asks about a recording gets an invented answer.",
    ),
    "file": Feature(
        "a file",
        (_part({"type": "file", "file": FILE}),),
        in_prompt,
        "openai-openapi: ChatCompletionRequestMessageContentPartFile",
        "A program that asks about a document gets an invented answer.",
    ),
    "audio_output": Feature(
        "audio as output",
        (
            {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
            {"modalities": ["text", "audio"]},
        ),
        has("audio"),
        f"{OF_CHAT}.modalities; {OF_CHAT}.audio",
        "A voice application gets no sound, and nothing says why.",
        fact=FIELDS_DROPPED,
    ),
    "web_search": Feature(
        "a web search",
        ({"web_search_options": {}},),
        has("annotations"),
        f"{OF_CHAT}.web_search_options",
        "An answer that was to come from the web is made up.",
        fact=FIELDS_DROPPED,
    ),
    "prediction": Feature(
        "a predicted output",
        ({"prediction": {"type": "content", "content": ASK}},),
        predicted,
        f"{OF_CHAT}.prediction",
        "A program that sends a prediction for speed never learns that it has no use.",
        fact=FIELDS_DROPPED,
    ),
    "moderation": Feature(
        "a moderation",
        ({"moderation": {"model": "omni-moderation-latest"}},),
        has("moderation"),
        f"{OF_CHAT}.moderation",
        "A program that relies on the moderation of its answers shows them unchecked.",
        fact=FIELDS_DROPPED,
    ),
    "functions": Feature(
        "the deprecated functions",
        ({"functions": [FUNCTION]},),
        either(has("function_call"), in_prompt),
        f"{OF_CHAT}.functions",
        "An old client's functions are never called, and nothing says why.",
        fact=FIELDS_DROPPED,
    ),
    "function_call": Feature(
        "the deprecated function_call",
        ({"function_call": {"name": FUNCTION["name"]}},),
        has("function_call"),
        f"{OF_CHAT}.function_call",
        "An old client that forces a call gets prose instead.",
        fact=FIELDS_DROPPED,
    ),
    "custom_tool": Feature(
        "a custom tool",
        (
            {
                **_tool("custom", custom=CUSTOM),
                "tool_choice": "required",
                "max_tokens": CALL_TOKENS,
            },
        ),
        has_item("custom"),
        "openai-openapi: CustomToolChatCompletions",
        "An agent whose tools take free text never gets a call.",
        CORE,
        CUSTOM_DROPPED,
    ),
}


def _input(part: JSON) -> JSON:
    content = [{"type": "input_text", "text": ASK}, part]
    return {"input": [{"role": "user", "content": content}]}


MCP = {"server_label": "notes", "server_url": "https://mcp.invalid/", "require_approval": "never"}
SCREEN = {"display_width": 800, "display_height": 600, "environment": "linux"}
AUTO = {"container": {"type": "auto"}}
HOSTED = {
    "web_search": (
        _tool("web_search"),
        _tool("web_search_2025_08_26"),
        _tool("web_search_preview"),
        _tool("web_search_preview_2025_03_11"),
    ),
    "file_search": (_tool("file_search", vector_store_ids=["vs_unknown"]),),
    "code": (_tool("code_interpreter", **AUTO), _tool("programmatic_tool_calling")),
    "image": (_tool("image_generation"),),
    "mcp": (_tool("mcp", **MCP),),
    "computer": (_tool("computer"), _tool("computer_use_preview", **SCREEN)),
    "shell": (_tool("local_shell"), _tool("shell"), _tool("apply_patch")),
    "namespace": (
        _tool(
            "namespace", name="notes", description="Notes.", tools=[{"type": "custom", **CUSTOM}]
        ),
        _tool("tool_search"),
    ),
    "custom": (_tool("custom", **CUSTOM),),
}


def _hosted(seen: Seen, plain: Seen) -> bool:
    others = [i for i in seen.items if i.get("type") not in {"message", "reasoning"}]
    return bool(others) or in_prompt(seen, plain)


RESPONSE_FEATURES = {
    "resp.image": Feature(
        "an image",
        (_input({"type": "input_image", "image_url": IMAGE, "detail": "auto"}),),
        in_prompt,
        "openai-openapi: InputImageContent",
        "A program that asks about an image gets an invented answer.",
    ),
    "resp.file": Feature(
        "a file",
        (_input({"type": "input_file", **FILE}),),
        in_prompt,
        "openai-openapi: InputFileContent",
        "A program that asks about a document gets an invented answer.",
    ),
    "resp.moderation": Feature(
        "a moderation",
        ({"moderation": {"model": "omni-moderation-latest"}},),
        has("moderation"),
        "openai-openapi: CreateResponse.moderation",
        "A program that relies on the moderation of its answers shows them unchecked.",
        fact=FIELDS_DROPPED,
    ),
    "resp.prompt": Feature(
        "a stored prompt",
        ({"prompt": {"id": "pmpt_unknown"}},),
        in_prompt,
        "openai-openapi: CreateResponse.prompt",
        "A program whose instructions are stored at OpenAI gets answers without them.",
        fact=FIELDS_DROPPED,
    ),
    **{
        f"resp.tool_{name}": Feature(
            f"a tool of type {' or '.join(t['tools'][0]['type'] for t in tools)}",
            tools,
            _hosted,
            "openai-openapi: Tool",
            "An agent believes that it has a tool, and the model never hears of it.",
            fact=TOOL_TYPES_DROPPED,
        )
        for name, tools in HOSTED.items()
    },
}


CHAT = {"messages": [{"role": "user", "content": ASK}], "max_tokens": 16}
RESPONSE = {"input": ASK, "max_output_tokens": 16}


def _understood_or_refused(path: str, row: Feature, target: Target) -> None:
    """Send each request of a row, whole and streamed, after a request without the feature."""
    body, read = (CHAT, _chat) if path == "/chat/completions" else (RESPONSE, _response)
    body = {"model": target.model, "temperature": 0, **body}
    plain = read([target.post(path, body).success_or_refused()])
    for params in row.requests:
        for stream in (False, True):
            what = f"{row.what} in a {'streamed' if stream else 'whole'} answer"
            in_stream = {"stream": True, **_USAGE.get(path, {})} if stream else {}
            reply = target.post(path, {**body, **params, **in_stream})
            if not refused(reply, what):
                seen = read(reply.objects() if stream else [reply.success()])
                shown = row.shows(seen, plain)
                if not shown and seen.says_nothing:
                    raise Unmeasured("this model cannot show it: its answer is empty")
                reached = None not in {seen.prompt_tokens, plain.prompt_tokens} and in_prompt(
                    seen, plain
                )
                expect_effect(
                    shown,
                    f"{what} was accepted{' and changed the prompt' * reached}, and nothing in the "
                    "answer comes of it",
                    fact=_cause(path, row, reached=reached),
                )


def _cause(path: str, row: Feature, *, reached: bool) -> str:
    """Why a feature has no effect: what is dropped without being read is one cause per path.

    What ``reached`` the prompt was not dropped.
    """
    if reached:
        return f"{path}: {row.what} changes the prompt, and has no other effect"
    if row.fact in {FIELDS_DROPPED, TOOL_TYPES_DROPPED}:
        return f"{path}: {row.fact}"
    return row.fact or f"{path}: {row.what} is dropped"


_USAGE = {"/chat/completions": {"stream_options": {"include_usage": True}}}


def refused(reply: Reply, what: str, *, fact: str = "") -> bool:
    """Whether a request was refused with a message; the check fails if it was in another way.

    ``fact`` is the cause of a status that refuses nothing, if it is not the reply's own.
    """
    reply.expect_judged()
    if reply.ok:
        return False
    if not refuses(reply.status):
        shown = f"{what}: {reply.status} instead of 400: {quote(reply.text)}"
        fail(shown, fact=fact or reply.cause)
    expect(reply.error_message, f"{what}: a {reply.status} without a message")
    return True


for _path, _rows, _needs in (
    ("/chat/completions", CHAT_FEATURES, ()),
    ("/responses", RESPONSE_FEATURES, (Capability.RESPONSES,)),
):
    for _name, _row in _rows.items():
        rule(
            f"refusal.{_name}",
            tier=_row.tier,
            source=_row.source,
            needs=_needs,
            title=f"A request to {_path} with {_row.what} is answered, or refused with a message.",
            breaks=_row.breaks,
        )(partial(_understood_or_refused, _path, _row))


# ---- endpoints that many servers do not have


class OtherEndpoint(NamedTuple):
    """An endpoint of OpenAI's, a request for it, and a key of its answer."""

    method: str
    path: str
    body: JSON
    key: str


ENDPOINTS = {
    "assistants": OtherEndpoint("POST", "/assistants", {}, "object"),
    "audio": OtherEndpoint("POST", "/audio/speech", {"input": "Hi", "voice": "alloy"}, "audio"),
    "batches": OtherEndpoint("GET", "/batches", {}, "data"),
    "edits": OtherEndpoint("POST", "/edits", {"input": "Hi", "instruction": "Greet."}, "choices"),
    "files": OtherEndpoint("GET", "/files", {}, "data"),
    "fine_tuning": OtherEndpoint("GET", "/fine_tuning/jobs", {}, "data"),
    "images": OtherEndpoint("POST", "/images/generations", {"prompt": "The sea."}, "data"),
    "moderations": OtherEndpoint("POST", "/moderations", {"input": "Hi"}, "results"),
    "vector_stores": OtherEndpoint("GET", "/vector_stores", {}, "data"),
}


def _answers_or_refuses(row: OtherEndpoint, target: Target) -> None:
    """Expect the endpoint's answer, or any 4xx or 501; rules of err say how it is worded."""
    control(target)
    what = f"{row.method} {row.path}"
    body = {"model": target.model, **row.body}
    reply = target.get(row.path) if row.method == "GET" else target.post(row.path, body)
    reply.expect_judged()
    if reply.ok:
        is_sound = row.key == "audio" and reply.content_type.startswith("audio/")
        expect(is_sound or row.key in reply.object(), f"{what}: a 200 without {row.key!r}")
    elif not refuses(reply.status):
        fail(f"{what}: {reply.status} instead of 404: {quote(reply.text)}")


for _name, _endpoint in ENDPOINTS.items():
    rule(
        f"refusal.endpoint.{_name}",
        tier=EXTENDED,
        source="RFC 9110 15.5.5: 404 for what is not found; RFC 9110 15.6.2: 501",
        title=f"{_endpoint.method} {_endpoint.path} is answered, or refused with a 4xx or 501.",
        breaks="A client cannot tell that the server has no such endpoint, and retries it.",
    )(partial(_answers_or_refuses, _endpoint))
