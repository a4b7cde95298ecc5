"""Addresses as people write them, in one normal form."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from llmengine.values.errors import ConfigError, detached
from llmengine.values.secrets import secret_address


def normal_endpoint(endpoint: str, *, default_port: int | None = None) -> str:
    """An endpoint with a scheme and without a trailing slash.

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
        msg = f"endpoint {endpoint!r}: {error}; write it like http://host:port"
        raise ConfigError(msg) from error
    if parts.scheme not in {"http", "https"} or not host:
        msg = f"endpoint {endpoint!r} is no HTTP address; write it like http://host:port"
        raise ConfigError(msg)
    if "://" not in endpoint and port is None:
        port = default_port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    where = f"[{host}]" if ":" in host else host
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    netloc = f"{user}{where}" if port is None else f"{user}{where}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def base_of(endpoint: str) -> str:
    """The OpenAI-style base URL: ``/v1`` is added where the endpoint has no path of its own."""
    return endpoint if urlsplit(endpoint).path else secret_address(f"{endpoint}/v1")


def root_of(endpoint: str) -> str:
    """The server's root: the endpoint without a closing ``/v1``."""
    return secret_address(endpoint.removesuffix("/v1"))
