"""Field closure: whether the checks notice a server that accepts a field and drops it.

The fields are those of the four create requests in OpenAI's specification. Each is dropped from
whole requests, from streamed ones, and from requests for several choices, one server per case.
"""

from __future__ import annotations

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import count
from typing import TYPE_CHECKING, Any

from llmengine.mock import rules
from llmengine.mock import specification as spec
from llmengine.mock.behaviour import Behaviour
from llmengine.mock.json_fields import integer, items, mapping, text
from llmengine.mock.rules import ModelLimits
from llmengine.mock.server import DEFAULT_CONTEXT
from pytest_llmengine.contract.coverage import reference_server
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.runner import run_check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.registry import Check

WHOLE, STREAM, SEVERAL = "whole", "stream", "n > 1"
REQUESTS = {
    "/chat/completions": "CreateChatCompletionRequest",
    "/completions": "CreateCompletionRequest",
    "/embeddings": "CreateEmbeddingRequest",
    "/responses": "CreateResponse",
}
# The fields whose parts are fields of their own. A path goes into every item of an array with [],
# and into the items of one type with its name.
OPENED = {
    "/chat/completions": """
        messages[] messages[].content[] response_format response_format[json_schema].json_schema
        stream_options tool_choice tool_choice[allowed_tools].allowed_tools tools[]
        tools[custom].custom tools[function].function
        """,
    "/completions": "stream_options",
    "/embeddings": "",
    "/responses": """
        include[] input[] input[message].content[] reasoning stream_options text text.format
        text.format[json_schema] tool_choice tool_choice[allowed_tools] tools[] tools[function]
        """,
}
# The fields that act on each choice. The others act on the request as a whole, whatever n is.
OF_EACH_CHOICE = frozenset(
    """
    echo logit_bias logprobs max_completion_tokens max_tokens response_format seed stop temperature
    tool_choice tools top_logprobs
    """.split()  # noqa: SIM905 - a list of names
)

# Why no check has to notice a field; * stands for anything.
EXCLUDED = {
    "It marks the user for the provider's own monitoring, and no answer shows it.": """
        /chat/completions safety_identifier (*)
        /chat/completions user (*)
        /completions user (*)
        /embeddings user (*)
        """,
    "It changes the speed and the price of later requests, and no single answer shows it.": """
        /chat/completions prompt_cache_key (*)
        /chat/completions prompt_cache_options (*)
        /chat/completions prompt_cache_retention (*)
        """,
    "It is the default, so an answer without it is the same.": """
        * response_format[text] (*)
        * text.format[text] (*)
        * tool_choice[auto] (*)
        """,
    "It is deprecated, and its replacement is in this list.": """
        * messages[].function_call (*)
        * reasoning.generate_summary (*)
        """,
    "It is a name or a hint for the model, which may answer in the same way without it.": """
        * messages[].name (*)
        * response_format[json_schema].json_schema.description (*)
        * response_format[json_schema].json_schema.name (*)
        * text.format[json_schema].description (*)
        """,
    "It is part of a custom tool, which is noticed as a whole.": """
        * tool_choice[custom] (*)
        /chat/completions tools[custom].custom.format (stream)
        /chat/completions tools[custom].custom.description (*)
        /responses input[custom_tool_call*] (*)
        """,
    "It is about audio, and modalities, which asks for audio, is noticed.": """
        /chat/completions audio (*)
        /chat/completions messages[].audio (*)
        """,
    "It names the call of a result, and most chat templates show results without it.": """
        /chat/completions messages[].tool_call_id (*)
        """,
    "It is the model's own reasoning, which most chat templates leave out of later prompts.": """
        /responses input[reasoning] (*)
        """,
    "OpenAI refuses it: the best of several answers cannot be streamed.": """
        /completions best_of (stream)
        """,
    "It belongs to a tool that OpenAI hosts; the tool itself is noticed.": """
        /responses include[code_interpreter_call.outputs] (*)
        /responses include[computer_call_output.output.image_url] (*)
        /responses include[file_search_call.results] (*)
        /responses include[message.input_image.image_url] (*)
        /responses include[web_search_call.* (*)
        /responses input[additional_tools] (*)
        /responses input[apply_patch_call*] (*)
        /responses input[code_interpreter_call] (*)
        /responses input[computer_call*] (*)
        /responses input[file_search_call] (*)
        /responses input[image_generation_call] (*)
        /responses input[local_shell_call*] (*)
        /responses input[mcp_*] (*)
        /responses input[program*] (*)
        /responses input[shell_call*] (*)
        /responses input[tool_search_*] (*)
        /responses input[web_search_call] (*)
        /responses tool_choice[apply_patch] (*)
        /responses tool_choice[code_interpreter] (*)
        /responses tool_choice[computer*] (*)
        /responses tool_choice[file_search] (*)
        /responses tool_choice[image_generation] (*)
        /responses tool_choice[mcp] (*)
        /responses tool_choice[programmatic_tool_calling] (*)
        /responses tool_choice[shell] (*)
        /responses tool_choice[web_search_preview*] (*)
        /responses tools[function].allowed_callers (*)
        /responses tools[function].defer_loading (*)
        /responses tools[function].output_schema (*)
        """,
    "It is about long conversations that OpenAI compacts.": """
        /responses context_management (*)
        /responses input[compaction*] (*)
        """,
    "It says how a hosted model reasons, and no answer shows it.": """
        /responses reasoning.context (*)
        /responses reasoning.mode (*)
        """,
}


# The rules that refuse what the mock does not play. A server that drops a field of that kind does
# not have them, while it has all others.
_REFUSING = frozenset(
    name
    for name in rules.names()
    if name.endswith((".not_played", "tools.shape", ".moderation", ".prompt"))
)
_OF_BODIES = frozenset(rule.name for table in rules.BY_ROUTE.values() for rule in table)
_LIMITS = ModelLimits(frozenset({"mock"}), DEFAULT_CONTEXT)
_seeds = count()  # without the client's seed, a server takes its own


@dataclass(frozen=True, slots=True)
class RequestField:
    """A field of a create request, in whole requests, in streamed ones or with several choices."""

    route: str
    path: str
    case: str

    def __str__(self) -> str:
        return f"{self.route} {self.path} ({self.case})"

    @property
    def why_excluded(self) -> str:
        """Why no check has to notice it; "" if one has to."""
        return next((why for pattern, why in _excluded() if pattern.fullmatch(str(self))), "")

    @property
    def _steps(self) -> list[str]:
        """The parts of the path; a type in brackets may have dots too."""
        return re.split(r"\.(?![^\[]*\])", self.path)

    def is_in(self, call: ReceivedRequest) -> bool:
        """Whether a request has the field."""
        return self._concerns(call) and _drop(copy.deepcopy(call.json), self._steps)

    def server(self) -> Behaviour:
        """A server that accepts the field, and answers as if it were not there."""
        return Behaviour(f"without {self}", without_rules=_OF_BODIES, request=self._dropped)

    def _dropped(self, body: JSON, call: ReceivedRequest) -> JSON:
        if not self.is_in(call):
            rules.enforce(call.path, body, _LIMITS)
            return body
        if self.path == "model":
            body["model"] = "mock"
        rules.enforce(call.path, body, _LIMITS, _REFUSING)
        _drop(body, self._steps)
        if self.path == "seed":
            body["seed"] = next(_seeds)
        rules.enforce(call.path, body, _LIMITS, _OF_BODIES - _REFUSING)
        return body

    def _concerns(self, call: ReceivedRequest) -> bool:
        if call.path != f"/v1{self.route}" or not isinstance(call.json, dict):
            return False
        if self.case == SEVERAL:
            return (integer(call.json.get("n")) or 1) > 1
        return (call.json.get("stream") is True) is (self.case == STREAM)


def _drop(value: object, path: Sequence[str]) -> bool:
    """Remove what is at the path from a JSON value; whether there was anything to remove."""
    first, *rest = path
    name, _, kind = first.partition("[")
    kind = kind.rstrip("]")
    if not isinstance(value, dict) or value.get(name) is None:
        return False
    inner = value[name]
    if rest:
        found = inner if isinstance(inner, list) else [inner]
        return sum(_drop(item, rest) for item in found if _is_kind(item, kind)) > 0
    if not kind or not isinstance(inner, list):
        return _is_kind(inner, kind) and value.pop(name) is not None
    value[name] = [item for item in inner if not _is_kind(item, kind)]
    if not value[name]:
        del value[name]
    return len(value.get(name, ())) < len(inner)


def _is_kind(item: object, kind: str) -> bool:
    return not kind or kind in (item, mapping(item).get("type", "message"))


@cache
def _excluded() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.escape(line.strip()).replace(r"\*", ".*")), why)
        for why, lines in EXCLUDED.items()
        for line in lines.strip().splitlines()
    ]


# ---- the list of fields


def request_fields() -> list[RequestField]:
    """Every field of the create requests, in each case in which it can be sent."""
    return [
        RequestField(route, path, case)
        for route, schema in REQUESTS.items()
        for path in _paths(route, schema)
        for case in _cases(route, path)
    ]


def _cases(route: str, path: str) -> list[str]:
    has = spec.request_fields(f"POST {route}")
    name = path.partition(".")[0].partition("[")[0]
    if name.startswith("stream"):
        return [STREAM]
    streamed = [STREAM] if "stream" in has else []
    several = [SEVERAL] if "n" in has and path in OF_EACH_CHOICE else []
    return [WHOLE, *streamed, *several]


def _paths(route: str, schema: str) -> Iterator[str]:
    yield from spec.request_fields(f"POST {route}")
    for path in OPENED[route].split():
        found = _schemas_at(schema, path)
        kinds = list(dict.fromkeys(kind for one in found for kind in _kinds(one)))
        if len(kinds) > 1:
            yield from (f"{path.removesuffix('[]')}[{kind}]" for kind in kinds)
            continue
        names = dict.fromkeys(name for one in found for name in spec.properties(one))
        yield from (f"{path}.{name}" for name in names if name != "type")


def _schemas_at(schema: str, path: str) -> list[spec.Schema]:
    """The schemas at a path in which a step may name the type of the items or of the object."""
    found: list[spec.Schema] = [{"$ref": f"#/$defs/{schema}"}]
    for step in path.split("."):
        name, bracket, kind = step.partition("[")
        inner = [spec.properties(one)[name] for one in found if name in spec.properties(one)]
        found = [one for schema in inner for one in spec.alternatives(schema)]
        if bracket:
            arrays = [mapping(one["items"]) for one in found if "items" in one]
            listed = [one for schema in arrays for one in spec.alternatives(schema)]
            kind = kind.rstrip("]")
            found = [one for one in listed or found if not kind or kind in _kinds(one)]
    return found


def _kinds(schema: spec.Schema) -> list[str]:
    """The types of which an object may be by its schema, or the strings that are allowed."""
    named = spec.alternatives(mapping(spec.properties(schema).get("type")))
    found = [kind for one in named for kind in items(one.get("enum"))]
    return [text(kind) for kind in found or items(schema.get("enum"))]


# ---- the measurement


@dataclass(frozen=True, slots=True)
class FieldClosure:
    """What the checks notice: for each field the id of a check, or "" if none does."""

    noticed_by: Mapping[RequestField, str]

    @property
    def open(self) -> list[RequestField]:
        """The fields that no check notices and that are not excluded."""
        return [f for f, check in self.noticed_by.items() if not check and not f.why_excluded]

    @property
    def stale(self) -> list[RequestField]:
        """The fields that are excluded although a check notices them."""
        return [f for f, check in self.noticed_by.items() if check and f.why_excluded]

    @property
    def complete(self) -> bool:
        """Whether each field is either noticed or excluded."""
        return not self.open and not self.stale

    def to_dict(self) -> dict[str, Any]:
        """The counts, and each field with the check that notices it or the reason without."""
        rows = [_row(f, check) for f, check in self.noticed_by.items()]
        return {
            "total": len(rows),
            "noticed": sum("check" in row for row in rows),
            "excluded": sum("excluded" in row for row in rows),
            "list": rows,
        }

    def lines(self) -> list[str]:
        """The same as text: the counts, then each field that is not noticed."""
        counts = self.to_dict()
        reasons: dict[str, list[str]] = {}
        for one, check in self.noticed_by.items():
            if not check and one.why_excluded:
                reasons.setdefault(one.why_excluded, []).append(str(one))
        summary = (
            f"{counts['total']} fields of requests: {counts['noticed']} are noticed, "
            f"{counts['excluded']} are excluded"
        )
        return [
            summary,
            *(f"not noticed: {one}" for one in self.open),
            *(f"noticed by {self.noticed_by[one]}, but excluded: {one}" for one in self.stale),
            *(f"excluded: {why}: {', '.join(found)}" for why, found in reasons.items()),
        ]


def _row(one: RequestField, check: str) -> dict[str, str]:
    row = {"request": one.route, "field": one.path, "case": one.case}
    if check:
        return {**row, "check": check}
    return {**row, "excluded": one.why_excluded} if one.why_excluded else row


def measure_fields(checks: Sequence[Check]) -> FieldClosure:
    """Drop each field in turn, and run the checks that send it until one notices.

    Only checks that need no other package and no quiet machine take part.
    """
    fit = [c for c in checks if not (c.driver or c.alone or c.heavy)]
    with ThreadPoolExecutor(_THREADS) as pool:
        sent = dict(zip(fit, pool.map(_sent_by, fit), strict=True))
        fields = request_fields()
        return FieldClosure(
            dict(zip(fields, pool.map(partial(_noticing, sent), fields), strict=True))
        )


_THREADS = 4


def _sent_by(check: Check) -> list[ReceivedRequest]:
    """The requests of a check that passes on the reference."""
    with reference_server() as (server, target):
        passed = run_check(check, target, Profile("mock")).outcome is Outcome.PASS
        return list(server.calls) if passed else []


def _noticing(sent: Mapping[Check, Sequence[ReceivedRequest]], one: RequestField) -> str:
    """The id of the first check that notices that the field is dropped; "" if there is none."""
    candidates = [c for c, calls in sent.items() if any(map(one.is_in, calls))]
    name = one.path.rpartition(".")[2].partition("[")[0]
    candidates.sort(key=lambda c: (name not in c.id, len(sent[c])))
    for check in candidates:
        with reference_server(one.server()) as (_, target):
            found = run_check(check, target, Profile("mock"))
        if found.outcome in {Outcome.FAIL, Outcome.IGNORED}:
            return check.id
    return ""
