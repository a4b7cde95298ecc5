"""The SDK's log records without keys, also with OPENAI_LOG=debug."""

from __future__ import annotations

import logging

from llmengine.values.secrets import scrub

_PACKAGES = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
_plain = logging.Formatter()


def scrub_logs() -> None:
    """Scrub every record of the SDK and of the HTTP client under it, whoever handles it.

    The SDK masks two headers by their name; a key in another header, in the body or in the
    address would be written out.
    """
    for name in [*_PACKAGES, *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in _PACKAGES:
            # A logger's filters do not see its children's records, so each logger gets one.
            logging.getLogger(name).addFilter(_scrub_record)


def _scrub_record(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    clean = scrub(text)
    if clean != text:
        record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        record.exc_text = scrub(_plain.formatException(record.exc_info))
    return True
