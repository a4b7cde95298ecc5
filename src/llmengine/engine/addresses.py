"""Addresses as people write them, in one normal form."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

from llmengine.types.errors import ConfigError, detached
from llmengine.types.secrets import secret_address


def normal_endpoint(endpoint: str, *, default_port: int | None = None) -> str:
    """An endpoint with a scheme and without a trailing slash; user and query string are kept.

    OLLAMA_HOST may lack scheme, host and port, and may be the wildcard address that a server binds
    to but no client can call. Raises ConfigError for what is not an address. A password in it is
    not shown by the repr of the result, and not by the error.
    """
    endpoint = secret_address(endpoint)
    try:
        return secret_address(_normal(endpoint, default_port))
    except ConfigError as error:
        wrong = detached(error)
    raise wrong  # from here, because the frames below hold the address as plain text


def _normal(endpoint: str, default_port: int | None) -> str:
    text = f"127.0.0.1{endpoint}" if endpoint.startswith(":") else endpoint
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        if "@" in endpoint:  # it quotes what it takes for a port, which may be of a password
            raise ConfigError(_no_address(endpoint)) from None
        msg = f"endpoint {endpoint!r}: {error}; write it like http://host:port"
        raise ConfigError(msg) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigError(_no_address(endpoint))
    if "://" not in endpoint and port is None:
        port = default_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    where = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    netloc = f"{user}{where}" if port is None else f"{user}{where}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), parts.query, ""))


def plain(endpoint: str) -> str:
    """An endpoint without user, password and query string, as it may be shown and extended."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def with_query(url: str, query: str) -> str:
    """A URL with a query string that goes after its own."""
    if not query:
        return url
    return f"{url}&{query}" if "?" in url else f"{url}?{query}"


def basic_auth(endpoint: str) -> tuple[str, str] | None:
    """User and password of an endpoint, None where it has none."""
    parts = urlsplit(endpoint)
    if "@" not in parts.netloc:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def base_of(endpoint: str) -> str:
    """The OpenAI-style base URL: ``/v1`` is added where the endpoint has no path of its own."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path else secret_address(urlunsplit(parts._replace(path="/v1")))


def root_of(endpoint: str) -> str:
    """The server's root: the endpoint without ``/v1`` at the end of its path."""
    parts = urlsplit(endpoint)
    return secret_address(urlunsplit(parts._replace(path=parts.path.removesuffix("/v1"))))


def _no_address(endpoint: str) -> str:
    """The message about an endpoint, without what stands where a user and password would."""
    scheme, mark, rest = endpoint.rpartition("://")
    _, at, host = rest.rpartition("@")
    encode = " and percent-encode the user and the password in it" if at else ""
    shown = f"{scheme}{mark}{host.partition('?')[0]}"
    return f"endpoint {shown!r} is no HTTP address; write it like http://host:port{encode}"
