"""The files API: upload, list, retrieve and delete files, and read their content."""

from __future__ import annotations

import time
from email import message_from_bytes
from email.policy import HTTP
from typing import TYPE_CHECKING, NamedTuple

from llmengine.mock.batch_store import StoredFile
from llmengine.mock.json_fields import text
from llmengine.mock.wire import ApiError, FileAnswer, JSONAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from llmengine.mock.json_fields import Body
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer

_PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})
_PAGE = 20


class _Part(NamedTuple):
    """One field of a form; ``filename`` is "" if the field is not a file."""

    filename: str
    content: bytes


def upload_file(query: Body, service: Service) -> MockAnswer:
    """Store the file of a form."""
    form = _read_form(service.received)
    purpose = form["purpose"].content.decode("utf-8", "replace") if "purpose" in form else ""
    if purpose not in _PURPOSES:
        message = f"'{purpose}' is not one of {sorted(_PURPOSES)} - 'purpose'"
        raise ApiError(message, param="purpose")
    if "file" not in form:
        raise ApiError("'file' is a required property", param="file")
    return JSONAnswer(
        store_file(service, form["file"].filename, purpose, form["file"].content).body
    )


def store_file(service: Service, name: str, purpose: str, content: bytes) -> StoredFile:
    """Keep a file under a new id."""
    file = StoredFile(new_id("file-"), name, purpose, content, int(time.time()))
    service.files[file.id] = file
    return file


def list_files(query: Body, service: Service) -> MockAnswer:
    """List the files, the newest first."""
    purpose = text(query.get("purpose"))
    files = [f.body for f in service.files.values() if purpose in ("", f.purpose)]
    return JSONAnswer(page(files, query))


def retrieve_file(query: Body, service: Service, file_id: str) -> MockAnswer:
    """Return what is known of a file."""
    return JSONAnswer(find_file(service, file_id).body)


def read_content(query: Body, service: Service, file_id: str) -> MockAnswer:
    """Return the bytes of a file."""
    return FileAnswer(find_file(service, file_id).content)


def delete_file(query: Body, service: Service, file_id: str) -> MockAnswer:
    """Delete a file."""
    del service.files[find_file(service, file_id).id]
    return JSONAnswer({"id": file_id, "object": "file", "deleted": True})


def find_file(service: Service, file_id: str) -> StoredFile:
    """The stored file; raises ApiError if there is none."""
    if file_id not in service.files:
        raise ApiError(f"No such File object: {file_id}", status=404, param="id")
    return service.files[file_id]


def page(rows: Sequence[JSON], query: Body) -> JSON:
    """One page of a list, the newest rows first, as the query asks for it."""
    found = list(reversed(rows))
    ids = [row["id"] for row in found]
    if (after := text(query.get("after"))) in ids:
        found = found[ids.index(after) + 1 :]
    given = text(query.get("limit"))
    size = int(given) if given.isdigit() else _PAGE
    shown = found[:size]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > len(shown),
    }


def _read_form(call: ReceivedRequest) -> dict[str, _Part]:
    """The fields of a request with a ``multipart/form-data`` body."""
    kind = call.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        message = f"Unsupported content type: '{kind}'. This API takes 'multipart/form-data'."
        raise ApiError(message, status=415, code="unsupported_content_type")
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + call.body, policy=HTTP)
    parts: dict[str, _Part] = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            parts[name] = _Part(part.get_filename() or "", content)
    return parts
