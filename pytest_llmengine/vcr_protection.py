"""Cassettes that vcrpy itself writes: without the keys of engines, and matched by their bodies.

vcrpy writes every header of a request and compares no bodies, unless it is told otherwise. The
plugin tells it for ``@pytest.mark.vcr``; programs that use vcrpy directly call `protect`. Nothing
heavy is imported here, because the plugin uses this module in projects without engines too.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from vcr import VCR
    from vcr.request import Request as VcrRequest

    Hook = Callable[[Any], Any]

# What every request of an engine carries, unless a project configures another value.
_USER_AGENT = "llmengine"
# An attribute of vcrpy's request, which keeps it in its own copies.
_MARK = "_is_of_engine"


def protect(vcr: VCR) -> VCR:
    """Let a VCR keep no key of an engine, and compare the bodies of engines' requests.

    Keys are known by their value, so they are removed wherever they are. Requests of other clients
    are compared as before. So are all requests if the project gives a ``match_on`` of its own.
    """
    merged, unchanged = vcr.get_merged_config, type(vcr)().match_on

    def get_merged_config(**options: Any) -> dict[str, Any]:
        config: dict[str, Any] = merged(**options)
        config["before_record_request"] = _request_hook(config["before_record_request"])
        config["before_record_response"] = _response_hook(config["before_record_response"])
        if tuple(options.get("match_on", vcr.match_on)) == tuple(unchanged):
            config["match_on"] = [*config["match_on"], same_body_if_of_engine]
        return config

    vcr.get_merged_config = get_merged_config
    return vcr


def _request_hook(hook: Hook) -> Hook:
    """The hook for requests, followed by the removal of keys."""

    def before_record_request(request: VcrRequest) -> VcrRequest | None:
        of_engine = _is_of_engine(request)
        kept = hook(request)
        if kept is None or _secrets() is None:
            return kept
        kept = copy.copy(kept)
        kept.uri, kept.headers = _without_keys(kept.uri), _without_keys(dict(kept.headers))
        if isinstance(kept.body, bytes):
            kept.body = _without_keys(kept.body)
        setattr(kept, _MARK, of_engine)
        return kept

    return before_record_request


def _response_hook(hook: Hook) -> Hook:
    """The hook for responses, followed by the removal of keys."""
    return lambda response: _without_keys(hook(response))


def same_body_if_of_engine(new: VcrRequest, recorded: VcrRequest) -> None:
    """A matcher of vcrpy: raises AssertionError if an engine sends another body than recorded."""
    from vcr import matchers  # noqa: PLC0415 - imported when used

    if getattr(new, _MARK, False):
        matchers.body(new, recorded)


def _is_of_engine(request: VcrRequest) -> bool:
    """Whether an engine sends this request: by its user agent, or because it carries its key."""
    headers = dict(request.headers)
    agents = (str(value) for name, value in headers.items() if name.lower() == "user-agent")
    named = any(agent.startswith(_USER_AGENT) for agent in agents)
    return named or getattr(request, _MARK, False) or _without_keys(headers) != headers


def _secrets() -> Any:
    """The module that knows the keys, if anything has imported it: without it, there are none."""
    return sys.modules.get("llmengine.types.secrets")


def _without_keys(value: Any) -> Any:
    """The value without keys: a text, bytes, or a list or dictionary of them.

    Engines hold their keys as `Secret`, which tells them apart from other texts.
    """
    secrets = _secrets()
    if secrets is None:
        return value
    if isinstance(value, secrets.Secret):
        return value.shown
    if isinstance(value, dict):
        return {name: _without_keys(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_keys(item) for item in value]
    if isinstance(value, bytes):
        return _without_keys(value.decode("utf-8", "surrogateescape")).encode(
            "utf-8", "surrogateescape"
        )
    return secrets.scrub(value) if isinstance(value, str) else value
