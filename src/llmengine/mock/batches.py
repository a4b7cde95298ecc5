"""The Batch API: create, retrieve, list and cancel batches of requests in uploaded files."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.mock import rules
from llmengine.mock.batch_store import ENDED, BatchLine, StoredBatch
from llmengine.mock.chat import chat_completion
from llmengine.mock.completions import text_completion
from llmengine.mock.embeddings import create_embeddings
from llmengine.mock.files import find_file, page, store_file
from llmengine.mock.json_fields import mapping, text
from llmengine.mock.responses import create_response
from llmengine.mock.wire import ApiError, JSONAnswer, encode, new_id, openai_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer

_ENDPOINTS: Mapping[str, Callable[[Body, Service], MockAnswer]] = {
    "/v1/chat/completions": chat_completion,
    "/v1/completions": text_completion,
    "/v1/embeddings": create_embeddings,
    "/v1/responses": create_response,
}
_WINDOW = "24h"
_DAY = 86_400
_MOST_LINES = 50_000
# The field that says when a batch reached a state; each batch has all of them.
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


def create_batch(body: Body, service: Service) -> MockAnswer:
    """Answer every line of a file; how far the batch is depends on the server's clock."""
    endpoint, window = text(body.get("endpoint")), text(body.get("completion_window"))
    if endpoint not in _ENDPOINTS:
        message = f"Invalid value: '{endpoint}'. Supported values are: {', '.join(_ENDPOINTS)}."
        raise ApiError(message, param="endpoint", code="invalid_value")
    if window != _WINDOW:
        message = f"Invalid value: '{window}'. Supported values are: '{_WINDOW}'."
        raise ApiError(message, param="completion_window", code="invalid_value")
    file = find_file(service, text(body.get("input_file_id")))
    created_at = int(time.time())
    lines, problems = _read_lines(file.content, endpoint)
    if service.batch_schedule.failure is not None:
        problems = [_problem("invalid_request", service.batch_schedule.failure, None)]
    batch = StoredBatch(
        {
            "id": new_id("batch_"),
            "object": "batch",
            "endpoint": endpoint,
            "input_file_id": file.id,
            "completion_window": window,
            "created_at": created_at,
            "expires_at": created_at + _DAY,
            "metadata": mapping(body.get("metadata")) or None,
        },
        service.batch_schedule,
        service.clock.now,
        created_at,
        [] if problems else _answers(lines, service),
        problems,
    )
    service.batches[batch.body["id"]] = batch
    return JSONAnswer(_shown(batch, service, is_new=True))


def retrieve_batch(query: Body, service: Service, batch_id: str) -> MockAnswer:
    """Return a batch in its present state."""
    return JSONAnswer(_shown(_find(service, batch_id), service))


def list_batches(query: Body, service: Service) -> MockAnswer:
    """List the batches, the newest first."""
    batches = [_shown(batch, service) for batch in service.batches.values()]
    return JSONAnswer(page(batches, query))


def cancel_batch(query: Body, service: Service, batch_id: str) -> MockAnswer:
    """Cancel a batch; the answers that it has by then are kept."""
    batch = _find(service, batch_id)
    status = batch.status(service.clock.now)
    if status in ENDED:
        raise ApiError(f"Cannot cancel a batch with status '{status}'.", status=409)
    if batch.cancelled is None:
        batch.cancelled = service.clock.now
    return JSONAnswer(_shown(batch, service, is_new=True))


def _find(service: Service, batch_id: str) -> StoredBatch:
    if batch_id not in service.batches:
        raise ApiError(f"No batch found with id '{batch_id}'.", status=404)
    return service.batches[batch_id]


def _shown(batch: StoredBatch, service: Service, *, is_new: bool = False) -> JSON:
    """The batch object of the API.

    The first answer never shows the end of a batch, because a service does not wait for it.
    """
    now = service.clock.now
    status = batch.status(now)
    if is_new and status in ENDED:
        status = "validating" if batch.cancelled is None else "cancelling"
    done = batch.done(now)
    if status in ENDED and not batch.files:
        batch.files = _make_files(batch, done, status, service)
    times: JSON = {f"{name}_at": None for name in _TIMES}
    if f"{status}_at" in times:
        times[f"{status}_at"] = batch.created_at + round(max(0.0, now - batch.began))
    errors = {"object": "list", "data": list(batch.problems)} if status == "failed" else None
    answered = sum(line.ok for line in done)
    failed = len(batch.lines) - answered if status == "expired" else len(done) - answered
    counts = {"total": len(batch.lines), "completed": answered, "failed": failed}
    no_files: JSON = {"output_file_id": None, "error_file_id": None}
    return {
        **batch.body,
        "status": status,
        "errors": errors,
        **times,
        **no_files,
        **batch.files,
        "request_counts": counts,
    }


def _make_files(
    batch: StoredBatch, done: Sequence[BatchLine], status: str, service: Service
) -> JSON:
    """The ids of a file with the answers and of one with the errors; a file may be missing.

    The lines are in another order than those of the input, which a service does not promise.
    """
    answers = [line.result for line in reversed(done) if line.ok]
    errors = [line.result for line in reversed(done) if not line.ok]
    if status == "expired":
        message = "This request could not be executed before the completion window expired."
        expired = {"code": "batch_expired", "message": message}
        left = batch.lines[len(done) :]
        errors += [_result(line.custom_id, None, expired) for line in left]
    files: JSON = {}
    for field, rows in (("output_file_id", answers), ("error_file_id", errors)):
        if rows:
            name = f"{batch.body['id']}_{field.partition('_')[0]}.jsonl"
            content = b"".join(encode(row) + b"\n" for row in rows)
            files[field] = store_file(service, name, "batch_output", content).id
    return files


# ---- the lines of the input


def _read_lines(content: bytes, endpoint: str) -> tuple[list[Body], list[JSON]]:
    """The lines of an input file, and the errors of its validation."""
    lines: list[Body] = []
    problems: list[JSON] = []
    seen: set[str] = set()
    models: set[str] = set()
    for number, raw in enumerate(content.splitlines(), start=1):
        try:
            line = mapping(json.loads(raw))
        except ValueError:
            line = {}
        body, custom_id = line.get("body"), text(line.get("custom_id"))
        if not isinstance(body, dict) or not custom_id or line.get("method") != "POST":
            problems.append(_problem("invalid_json_line", "This line is not a request.", number))
            continue
        models.add(text(body.get("model")))
        if line.get("url") != endpoint:
            message = "The URL provided for this request does not match the batch endpoint."
            problems.append(_problem("mismatched_endpoint", message, number))
        elif custom_id in seen:
            message = f"The custom_id '{custom_id}' is used by another request of this batch."
            problems.append(_problem("duplicate_custom_id", message, number))
        seen.add(custom_id)
        lines.append(line)
    if len(models) > 1:
        message = "The provided model does not match that of the other requests."
        problems.append(_problem("mismatched_model", message, None))
    if not lines and not problems:
        problems.append(_problem("empty_file", "The input file has no requests.", None))
    if len(lines) > _MOST_LINES:
        message = f"The input file has more than {_MOST_LINES} requests."
        problems.append(_problem("too_many_requests", message, None))
    return lines, problems


def _problem(code: str, message: str, line: int | None) -> JSON:
    return {"code": code, "message": message, "param": None, "line": line}


def _answers(lines: Iterable[Body], service: Service) -> list[BatchLine]:
    call = service.received
    try:
        return [_answer(line, service) for line in lines]
    finally:
        service.received = call
        service.expectations.fault = None  # a fault of a line does not disturb this reply


def _answer(line: Body, service: Service) -> BatchLine:
    """The result of one line, which is answered as the same request to its route would be."""
    url, custom_id, body = text(line["url"]), text(line["custom_id"]), mapping(line["body"])
    service.received = replace(
        service.received, method="POST", path=url, query="", body=encode(body), json=body
    )
    try:
        rules.enforce(url, body, service.limits, service.behaviour.without_rules)
        answer = _ENDPOINTS[url](body, service)
        if not isinstance(answer, JSONAnswer):
            raise ApiError("A batch cannot stream its answers.", param="stream")
        status, content = 200, dict(answer.body)
    except ApiError as error:
        status, content = error.status, openai_envelope(error)
    response = {"status_code": status, "request_id": new_id("req_"), "body": content}
    return BatchLine(custom_id, _result(custom_id, response, None), ok=status == 200)


def _result(custom_id: str, response: JSON | None, error: JSON | None) -> JSON:
    return {
        "id": new_id("batch_req_"),
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
