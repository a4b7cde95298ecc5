"""API keys and other secrets: how they are recognised, hidden in reprs and masked in texts.

A key is recognised in three ways: it was registered with `register`, so that `scrub` finds its
value in any text; its name is one that holds keys (`is_secret_name`); or it is a `Secret`, whose
repr does not show it.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex
from urllib.parse import quote, unquote, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


MASK = "[redacted]"

# ---- masking keys in texts

_lock = threading.Lock()
# Longest first, so that a key that contains another key is masked whole. The tuple is replaced
# and never changed, so that readers need no lock.
_known: tuple[str, ...] = ()

# Placeholder keys for servers without authentication; masking these words would garble texts.
_PUBLIC = frozenset({"EMPTY", "none", "None", "ollama", "dummy", "test", "mock", "unused"})
_MIN_LENGTH = 4
# The encodings of a shorter key are so short that they may occur by chance.
_MIN_ENCODED = 8
# A shorter value under the name of a key may be a word (``X-Auth: on``) that occurs in answers.
_MIN_LEARNED = 8


def register(secret: str) -> None:
    """Remember a key, so that `scrub` removes it from all texts, also in encoded form.

    Placeholders and keys of fewer than 4 characters are not remembered, because they are parts of
    common words.
    """
    global _known  # noqa: PLW0603 - one register per process
    secret = str(secret)
    if len(secret) < _MIN_LENGTH or secret in _PUBLIC or secret in _known:
        return
    with _lock:
        _known = tuple(sorted({*_known, *_spellings(secret)}, key=len, reverse=True))


def learn(key: str) -> None:
    """Register a value that has the name of a key, unless it is so short that it may be a word."""
    if len(key) >= _MIN_LEARNED:
        register(key)


def _spellings(secret: str) -> set[str]:
    """The key as it is, URL-encoded (hex digits in either case), in JSON, base64 and hex."""
    escaped = {quote(secret, safe=""), quote(secret)}
    lower = {re.sub("%..", lambda code: code[0].lower(), text) for text in escaped}
    in_json = {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    plain = {secret, secret.replace("/", r"\/")} | escaped | lower | in_json
    data = secret.encode("utf-8", "surrogatepass")
    if len(data) < _MIN_ENCODED:
        return plain
    return plain | _base64(data) | {data.hex(), data.hex().upper()}


def _base64(data: bytes) -> set[str]:
    """The key in base64, alone or inside a longer text such as ``user:KEY``.

    Base64 encodes three bytes at a time, so the text before the key shifts it in one of three
    ways. The characters that depend on the text before or after the key are left out.
    """
    found = set()
    for before in range(3):
        first, end = (0, 2, 3)[before], (before + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(before) + data).decode()[first:end])
    return found


def scrub(text: str) -> str:
    """The text with every registered key replaced by ``[redacted]``."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


# ---- keys as values


class Secret(str):
    """Text that is sent as it is, but whose repr (in frames, logs, reports) is that of `shown`.

    ``str()`` and string methods give the plain text, because that is what goes to the server.
    """

    __slots__ = ("shown",)
    shown: str

    def __new__(cls, text: str, shown: str = MASK) -> Self:
        """The same text with another repr."""
        self = super().__new__(cls, text)
        self.shown = shown
        return self

    def __repr__(self) -> str:
        return repr(self.shown)

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        """A part of a secret is a Secret too: some tools shorten a long text before its repr."""
        return Secret(super().__getitem__(key), self.shown)

    def __reduce__(self) -> tuple[object, ...]:
        return (Secret, (str(self), self.shown))


def as_shown(value: object) -> object:
    """A copy of nested dicts and lists with each Secret replaced by its `shown` text."""
    if isinstance(value, dict):
        return {name: as_shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_shown(item) for item in value]
    return value.shown if isinstance(value, Secret) else value


def holds_secret(value: object) -> bool:
    """Whether there is a Secret in nested dicts and lists."""
    if isinstance(value, dict):
        return any(map(holds_secret, value.values()))
    return any(map(holds_secret, value)) if isinstance(value, list) else isinstance(value, Secret)


# ---- names that hold keys

Where = Literal["field", "pair", "header"]

# Ends of names, in lower case and without separators: ``x-api-key``, ``openaiApiKey``.
_FIELDS = (
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "authkey",
    "authorization",
    "authtoken",
    "bearertoken",
    "credential",
    "credentials",
    "idtoken",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "refreshtoken",
    "secret",
    "secretkey",
    "securitytoken",
    "sessiontoken",
    "subscriptionkey",
)
# For query parameters, forms and headers only. In a JSON body, "token" and "key" are often not
# secret: tokens of a model, keys of a cache.
_PAIRS = (*_FIELDS, "auth", "jwt", "key", "pwd", "sig", "signature", "token")
_HEADERS = (*_PAIRS, "cookie", "session")
_ENDS: dict[Where, tuple[str, ...]] = {"field": _FIELDS, "pair": _PAIRS, "header": _HEADERS}
_SEPARATORS = str.maketrans("", "", "-_. ")

# Headers that never hold a key. The value of any other header is not shown.
_OPEN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
# If the name of a header does not suggest a key, only a value that looks random is taken for one.
# Otherwise a short word, such as the name of a team, would be masked in answers.
_RANDOM = re.compile(r"(?=\D*\d)(?=[^A-Za-z]*[A-Za-z])\S{20,}")
# Prefix with which litellm refers to a key in an environment variable.
_REFERENCE = "os.environ/"


def is_secret_name(name: str, where: Where = "field") -> bool:
    """Whether the value with that name is a key.

    ``where`` is "field" for JSON and configuration, "pair" for query parameters and form fields,
    and "header" for headers.
    """
    return name.lower().translate(_SEPARATORS).endswith(_ENDS[where])


def secret_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, with each value that may be a key as a Secret."""
    return {n: v if n.lower() in _OPEN_HEADERS else Secret(v) for n, v in headers.items()}


def learn_headers(headers: Mapping[str, str]) -> None:
    """Register the keys in the headers, so that `scrub` masks them."""
    for name, value in headers.items():
        if is_secret_name(name, "header"):
            for key in keys_in(name, value):
                learn(key)
        elif name.lower() not in _OPEN_HEADERS and _RANDOM.fullmatch(value):
            learn(value)


def keys_in(name: str, value: str) -> list[str]:
    """The keys in the value of a header: without the scheme, and one per cookie."""
    if name.lower() in {"cookie", "set-cookie"}:
        return [cookie.partition("=")[2].strip() for cookie in value.split(";")]
    scheme, _, key = value.rpartition(" ")
    if scheme.lower() != "basic":
        return [key]
    try:
        login = base64.b64decode(key, validate=True).decode()
    except ValueError:
        return [key]
    return [key, login.partition(":")[2]]


# ---- addresses and nested data

# The password may hold an "@", so the login ends at the last "@" before the host.
_LOGIN = re.compile(r"(?:^|(?<=://))[^/?#\s]*@")
_LOGIN_IN_TEXT = re.compile(r"(?<=://)[^/?#\s]*@")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+$")
# Ends of names of fields whose value may be an address without its scheme.
_ADDRESSES = ("endpoint", "api_base", "host", "url")
_PAIR = re.compile(r"(?P<before>^|[?&;])(?P<name>[^=&;?#\s]+)=(?P<value>[^&;#\s]+)")


def secret_address(address: str) -> str:
    """The address; as a Secret, and with its keys registered, if it holds a password or a key."""
    masked = _LOGIN.sub(_masked_login, address)
    path, mark, query = masked.partition("?")
    masked = path + mark + mask_pairs(query, learn)
    return address if masked == address else Secret(address, masked)


def _masked_login(found: re.Match[str]) -> str:
    user, _, password = found[0][:-1].partition(":")
    for key in {password or user, unquote(password or user)}:
        learn(key)
    return f"{MASK}@"


def mask_logins(text: str) -> str:
    """The text with the logins of all addresses in it masked."""
    return _LOGIN_IN_TEXT.sub(f"{MASK}@", text) if "@" in text else text


def secret_query(query: str) -> str:
    """The query or form; as a Secret if it holds a key."""
    masked = mask_pairs(query)
    return query if masked == query else Secret(query, masked)


def mask_pairs(text: str, learn: Callable[[str], None] | None = None) -> str:
    """A query or a form with the values of secret names masked; `learn` is called with each."""

    def masked(found: re.Match[str]) -> str:
        if not is_secret_name(unquote(found["name"]), "pair"):
            return found[0]
        if learn is not None:
            learn(found["value"])
            learn(unquote_plus(found["value"]))
        return f"{found['before']}{found['name']}={MASK}"

    return _PAIR.sub(masked, text)


def conceal(value: Any, name: str = "") -> Any:
    """A copy of nested dicts and lists in which every key is a Secret and registered.

    A key is recognised by its name; the values in ``headers`` are treated as `secret_headers` does.
    """
    if isinstance(value, dict):
        if name.endswith("headers") and all(isinstance(v, str) for v in value.values()):
            learn_headers(value)
            return secret_headers(value)
        return {inner: conceal(item, str(inner)) for inner, item in value.items()}
    if isinstance(value, list):
        return [conceal(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if is_secret_name(name) and not value.startswith(_REFERENCE):
        learn(value)
        return Secret(value)
    is_address = name.lower().endswith(_ADDRESSES) or _ADDRESS.match(value) is not None
    return secret_address(value) if is_address else value
