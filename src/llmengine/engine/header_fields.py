"""Header fields from a configuration: what cannot be sent is refused, and never shown."""

from __future__ import annotations

import re
from base64 import b64encode

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import Secret, register

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def checked_key(engine: str, key: str | None) -> str | None:
    """The key without blanks around it, which a file or a variable may have left there.

    Raises ConfigError for one that no header can carry: a line break in it would begin a header
    of its own.
    """
    key = (key or "").strip()
    if _CONTROL.search(key) or not key.isascii():
        raise ConfigError(
            f"engine {engine!r}: api_key: it holds a line break or another character that no key "
            "has; look at where it comes from"
        )
    return key or None


def checked_header(engine: str, name: str, value: str) -> None:
    """Raise ConfigError for a header that cannot be sent as one."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"engine {engine!r}: headers: {name!r} is not the name of a header")
    if _CONTROL.search(value):
        raise ConfigError(
            f"engine {engine!r}: headers: the value of {name!r} holds a line break or another "
            "control character; write it in one line"
        )


def basic(user: str, password: str) -> Secret:
    """The value of Authorization for a user and a password, both kept out of every text."""
    value = b64encode(f"{user}:{password}".encode()).decode()
    for secret in (password, value):
        register(secret)
    return Secret(f"Basic {value}")
