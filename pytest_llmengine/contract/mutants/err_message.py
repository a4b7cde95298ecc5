"""Mutants of err.message."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import put
from pytest_llmengine.contract.mutants.registry import mutant

for message in (
    '{"error": {"message": "No.", "code": 400}}',
    "Error code: 400 - {'error': {'message': 'No.'}}",
    "json: cannot unmarshal string into Go struct field Request.temperature of type float64",
    "java.lang.IllegalArgumentException: No.",
    "openai.BadRequestError: No.",
    "[json.exception.type_error.302] type must be number, but is string",
    "called `Result::unwrap()` on an `Err` value",
    "No. (/srv/app/chat.py)",
):
    mutant("err.message.in_words", Behaviour(message[:40], error=put(message, "error", "message")))
