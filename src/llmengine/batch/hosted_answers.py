"""The answers of a hosted batch: its output file and its error file, matched with its requests."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from llmengine.batch.hosted_batch import ENDED
from llmengine.batch.jsonl import json_object
from llmengine.batch.report import ERRORS_KEPT
from llmengine.batch.request import BatchAnswer
from llmengine.batch.validation import refuse_incomplete, usage_of
from llmengine.dialects.common import unexpected
from llmengine.dialects.errors import failure
from llmengine.dialects.fields import quote
from llmengine.telemetry.usage import Spending
from llmengine.transport.base import HTTPReply
from llmengine.types.errors import AnswerTooLargeError, CallError
from llmengine.types.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

    from llmengine.batch.format import BatchRequest
    from llmengine.batch.hosted_batch import HostedBatch
    from llmengine.batch.hosted_shards import Shard
    from llmengine.engine.engine import Engine

    Answered = tuple[BatchRequest, BatchAnswer]

_OK = 200
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class UnusableLineError(ValueError):
    """A line of a file of results cannot be used; the message says why."""


class HostedAnswers:
    """Reads the files of an ended batch; every request of the shard gets one answer.

    ``problems`` says which lines cannot be used: those that are not results, or are too long for
    the engine's ``limits.body_bytes``, those of an unknown ``custom_id``, and all lines but the
    first for a request. The first few are quoted, and the others are counted.
    """

    def __init__(self, shard: Shard, batch: HostedBatch, engine: Engine) -> None:
        self._batch = batch
        self._engine = engine
        self._shard = shard
        self._problems: list[str] = []
        self._unused = 0
        self._line_of: dict[str, tuple[int, int]] = {}  # offset in the file, line in the input
        offset = 0
        with shard.path.open("rb") as file:
            for request in shard.requests():
                self._line_of[request.custom_id] = offset, request.line
                offset += len(file.readline())
        self._answered: set[str] = set()

    @property
    def problems(self) -> list[str]:
        """What is wrong with lines of the files that were read."""
        more = self._unused - len(self._problems)
        if not more:
            return self._problems
        return [*self._problems, f"batch {self._batch.id}: {more} more lines cannot be used"]

    def read(self, path: Path, file_id: str) -> Iterator[Answered]:
        """The answers in a downloaded file; ``file_id`` is its id on the server."""
        limits = self._engine.config.limits
        with path.open("rb") as file, self._shard.path.open("rb") as sent:
            for number, raw in enumerate(_lines(file, limits.body_bytes), start=1):
                try:
                    limits.hold("body_bytes", len(raw))
                    limits.hold_values(raw)
                    value = self._result(raw)
                except (AnswerTooLargeError, UnusableLineError) as error:
                    self._note(f"batch {self._batch.id}, line {number} of {file_id}: {error}")
                    continue
                if value is not None:
                    custom_id = str(value["custom_id"])
                    self._answered.add(custom_id)
                    request = self._request(custom_id, sent)
                    yield request, self._answer(value, raw, request)

    def missing(self) -> Iterator[Answered]:
        """The requests for which the files had no line, each with an error that says why."""
        batch = self._batch
        code = f"batch_{batch.status}"
        message = f"batch {batch.id} was {batch.status} before this request was answered"
        if batch.status == "failed":
            message = f"batch {batch.id} failed: {batch.problem}"
        elif batch.status not in ENDED or batch.status == "completed":
            code = "missing_answer"
            message = f"batch {batch.id} is {batch.status}, but has no result for this request"
        with self._shard.path.open("rb") as sent:
            for custom_id in self._line_of:
                if custom_id not in self._answered:
                    error = CallError(message, code=code)
                    answer = BatchAnswer(engine=self._engine, error=error)
                    yield self._request(custom_id, sent), answer

    def _result(self, raw: bytes) -> Mapping[str, object] | None:
        """The result in a line; None for an empty line. Raises UnusableLineError."""
        if not raw.strip():
            return None
        # Another encoding than UTF-8 has null bytes, and would be read too.
        value = None if b"\0" in raw else json_object(raw)
        custom_id = None if value is None else value.get("custom_id")
        if not isinstance(custom_id, str):
            raise UnusableLineError(f"it is not the result of a request: {quote(raw)}")
        if custom_id not in self._line_of:
            raise UnusableLineError(f"custom_id {quote(custom_id)!r} is not one of this batch")
        if custom_id in self._answered:
            raise UnusableLineError(f"custom_id {quote(custom_id)!r} has a line already")
        return value

    def _request(self, custom_id: str, sent: BufferedReader) -> BatchRequest:
        """The request with this id, from the file that was sent."""
        offset, line = self._line_of[custom_id]
        sent.seek(offset)
        return self._shard.read(sent.readline(), line)

    def _note(self, problem: str) -> None:
        self._unused += 1
        if len(self._problems) < ERRORS_KEPT:
            self._problems.append(printable(problem))

    def _answer(
        self, value: Mapping[str, object], raw: bytes, request: BatchRequest
    ) -> BatchAnswer:
        """The answer in one line, checked like an answer that the server sent to us."""
        answer = BatchAnswer(attempts=1, engine=self._engine)
        response, error = value.get("response"), value.get("error")
        if isinstance(response, dict):
            status, sent_id = response.get("status_code"), response.get("request_id")
            headers = {"x-request-id": sent_id} if isinstance(sent_id, str) else {}
            body = _body_of(raw)
            try:
                if type(status) is not int:
                    raise unexpected("a result without response.status_code", raw)
                answer.reply, answer.is_json = HTTPReply(status, headers, body), True
                self._check(status, response.get("body"), body, request, answer)
            except CallError as failed:
                answer.error = failed
        if answer.error is None and (answer.reply is None or error is not None):
            answer.error = _reported(error)
        return answer

    def _check(
        self, status: int, data: object, body: bytes, request: BatchRequest, answer: BatchAnswer
    ) -> None:
        """Raise the CallError for an answer that is an error or is not complete."""
        if status != _OK:
            raise failure(status, {}, body)
        if not isinstance(data, dict):
            raise unexpected("the answer is not a JSON object", body)
        usage = usage_of(data)
        cost = currency = None
        # Listed prices are not those of batches, so only a configured price counts.
        tariff = self._engine.backend.tariff if self._engine.config.price is not None else None
        if tariff is not None and tariff.per_second is None and usage is not None:
            cost, currency = tariff.cost([usage], 0, 0.0), tariff.currency
        answer.spent = Spending(usage, cost, currency)
        refuse_incomplete(data, request, body)


def _lines(file: BufferedReader, limit: int | None) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than the limit, a little more than the limit."""
    if limit is None:
        yield from file
        return
    while raw := file.readline(limit + 1):
        yield raw
        while len(raw) > limit and not raw.endswith(b"\n"):
            raw = file.readline(limit + 1)


def _reported(error: object) -> CallError:
    """The error in a line."""
    fields = error if isinstance(error, dict) else {}
    code, message = fields.get("code"), fields.get("message")
    text = message if isinstance(message, str) else ""
    if not text:
        text = "the server gave no reason" if fields else "the result has no response and no error"
    return CallError(text, code=code if isinstance(code, str) and code else None)


def _body_of(raw: bytes) -> bytes:
    """The text of ``response.body`` in a line, unchanged; ``null`` if there is none."""
    text = raw.decode("utf-8-sig")
    start, _ = _members(text, _skip(text, 0))["response"]
    start, end = _members(text, start).get("body", (0, 0))
    return text[start:end].encode() or b"null"


def _members(text: str, start: int) -> dict[str, tuple[int, int]]:
    """Where the value of each key of an object begins and ends; the JSON is known to be valid."""
    found: dict[str, tuple[int, int]] = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, at = _decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # after the colon
        _, end = _decode(text, at)
        found[key] = at, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    """The place after white space."""
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
