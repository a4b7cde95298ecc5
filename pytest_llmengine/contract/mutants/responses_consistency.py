"""Mutants of resp consistency."""

from __future__ import annotations

from pytest_llmengine.contract.mutants.hooks import mutated
from pytest_llmengine.contract.mutants.registry import mutant

WHOLE, STREAM = "POST /responses", "POST /responses stream"
LOGPROBS = "item.content.[].logprobs"
TOP = "output.[].content.[].logprobs.[].top_logprobs"

# The rule; the kind of answer, the kind of event and the path; and what is done to the value.
_BROKEN = (
    ("resp.stream.one_response", STREAM, "response.created", "response.tools", "the first twice"),
    ("resp.stream.one_response", STREAM, "response.in_progress", "response.store", "as boolean"),
    ("resp.stream.one_item", STREAM, "response.output_item.added", "item.role", "another"),
    ("resp.stream.one_item", STREAM, "response.output_text.done", "output_index", "one more"),
    ("resp.stream.one_item", STREAM, "response.output_text.delta", "logprobs", "empty"),
    ("resp.stream.one_item", STREAM, "response.content_part.done", "part.text", "lower case"),
    ("resp.stream.one_item", STREAM, "response.output_text.delta", "", "first event dropped"),
    ("resp.stream.one_item", STREAM, "response.output_item.done", "sequence_number", "one more"),
    ("resp.stream.one_item", STREAM, "response.output_item.done", LOGPROBS, "without the last"),
    ("resp.stream.one_item", STREAM, "response.output_item.done", "item.summary", "empty"),
    ("resp.stream.same_output.text", STREAM, "response.completed", "response.output", "empty"),
    ("resp.stream.same_output.logprobs", WHOLE, "", "output.[].content.[].text", "first half"),
    ("resp.stream.same_output.call", WHOLE, "", "output.[].arguments", "another"),
    ("resp.stream.same_output.reasoning", WHOLE, "", "output.[].content.[].text", "twice"),
    ("resp.logprobs.alternatives", WHOLE, "", f"{TOP}.[].bytes", "reversed"),
    ("resp.logprobs.alternatives", WHOLE, "", TOP, "without the first"),
)
for _name, _kind, _part, _path, _operator in _BROKEN:
    mutant(_name, mutated(_kind, _part, _path, _operator))
