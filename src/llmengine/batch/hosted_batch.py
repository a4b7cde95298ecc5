"""A batch of OpenAI's Batch API, as a server reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.dialects.common import unexpected
from llmengine.dialects.fields import quote
from llmengine.types.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The states that OpenAI names: those in which a batch goes on, and those in which it has ended.
UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class HostedBatch:
    """A batch on a server, as the server reported it last.

    ``status`` is in lower case, since some services write it in capitals. ``total``,
    ``completed`` and ``failed`` count the lines; they are 0 while the server has not counted them.
    ``output_file`` and ``error_file`` are the ids of the files with the results. ``problem`` is
    the server's reason for a batch that failed, or "".
    """

    id: str
    status: str
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file: str | None = None
    error_file: str | None = None
    problem: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the batch does not change any more.

        A batch in a state that OpenAI does not name has ended if it has a file of results and the
        server has counted all its lines.
        """
        if self.is_known:
            return self.status in ENDED
        is_counted = 0 < self.total <= self.completed + self.failed
        return is_counted and (self.output_file or self.error_file) is not None

    @property
    def is_known(self) -> bool:
        """Whether OpenAI names this state."""
        return self.status in UNDER_WAY or self.status in ENDED


def read_hosted_batch(data: Mapping[str, object], body: bytes) -> HostedBatch:
    """The batch in a JSON object; ``body`` is the text of the whole answer, for the error."""
    counts = data.get("request_counts")
    total, completed, failed = (
        _count(counts.get(name)) if isinstance(counts, dict) else 0
        for name in ("total", "completed", "failed")
    )
    status = printable(quote(required_name(data, "status", body))).lower()
    return HostedBatch(
        required_name(data, "id", body),
        status,
        total,
        completed,
        failed,
        _file(data.get("output_file_id")),
        _file(data.get("error_file_id")),
        _problem(data.get("errors")) if status == "failed" else "",
    )


def required_name(data: Mapping[str, object], name: str, body: bytes) -> str:
    """The text in a field of an object of the Batch API, which must not be empty."""
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise unexpected(f"an object of the Batch API without {name}", body)
    return value


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _file(value: object) -> str | None:
    # Azure writes "" if there is no file.
    return value if isinstance(value, str) and value else None


def _problem(errors: object) -> str:
    """The messages of a batch that failed, each once."""
    texts = dict.fromkeys(_messages(errors))
    return printable(quote("; ".join(texts))) if texts else "the server gave no reason"


def _messages(errors: object) -> Iterator[str]:
    # OpenAI has a list of errors in `data`; Novita has a text.
    if isinstance(errors, str) and errors:
        yield errors
    rows = errors.get("data") if isinstance(errors, dict) else None
    for row in rows if isinstance(rows, list) else ():
        message = row.get("message") if isinstance(row, dict) else None
        if isinstance(message, str) and message:
            yield message
