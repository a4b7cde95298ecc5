"""Removal of keys from the log records of HTTP clients, also at DEBUG and OPENAI_LOG=debug."""

from __future__ import annotations

import logging
import threading

from llmengine.types.secrets import mask_logins, scrub

_PACKAGES = frozenset(
    {"aiohttp", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "openai", "urllib3"}
)
_plain = logging.Formatter()
_lock = threading.Lock()
_installed = False


def scrub_logs() -> None:
    """Scrub every log record of the HTTP clients, for all handlers; installed once per process.

    httpx logs addresses with their passwords. The OpenAI SDK masks only two headers by name, so a
    key in another header, in the body or in an answer would be logged. The records are scrubbed
    in the record factory, because a filter belongs to one logger, and httpcore creates its
    loggers late.
    """
    global _installed  # noqa: PLW0603 - one factory per process
    with _lock:
        if _installed:
            return
        _installed = True
        make = logging.getLogRecordFactory()

        def make_clean(*args: object, **kwargs: object) -> logging.LogRecord:
            record = make(*args, **kwargs)
            if record.name.partition(".")[0] in _PACKAGES:
                _scrub(record)
            return record

        logging.setLogRecordFactory(make_clean)


def _scrub(record: logging.LogRecord) -> None:
    text = record.getMessage()
    clean = mask_logins(scrub(text))
    if clean != text:
        record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        record.exc_text = mask_logins(scrub(_plain.formatException(record.exc_info)))
