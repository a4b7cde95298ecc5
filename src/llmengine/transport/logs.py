"""Log records of HTTP clients without keys, also at DEBUG and with OPENAI_LOG=debug."""

from __future__ import annotations

import logging
import threading
from typing import Any

from llmengine.types.secrets import mask_logins, scrub

_PACKAGES = frozenset(
    {"aiohttp", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "openai", "urllib3"}
)
_plain = logging.Formatter()
_lock = threading.Lock()
_installed = False


def scrub_logs() -> None:
    """Scrub every record of the HTTP clients under us, whoever handles it; once per process.

    httpx writes the address with its password, and the SDK masks two headers by their name: a key
    in another header, in the body or in an answer would be written out. It is done where records
    are made, because filters are held by one logger each, and httpcore makes its loggers late.
    """
    global _installed  # noqa: PLW0603 - one factory per process
    with _lock:
        if _installed:
            return
        _installed = True
        make = logging.getLogRecordFactory()

        def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make(*args, **kwargs)
            if record.name.partition(".")[0] in _PACKAGES:
                _scrub(record)
            return record

        logging.setLogRecordFactory(made)


def _scrub(record: logging.LogRecord) -> None:
    text = record.getMessage()
    clean = mask_logins(scrub(text))
    if clean != text:
        record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        record.exc_text = mask_logins(scrub(_plain.formatException(record.exc_info)))
