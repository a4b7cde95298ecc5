"""The sources of the rules: what a rule cites, with a link and the revision that was read.

A source is one or more citations that are joined by ``; ``. A citation begins with the name of a
document and the place in it, such as ``RFC 9110 15.5.6``, ``vllm-project/vllm#25054`` for an issue,
or ``openai-openapi: CreateChatCompletionRequest.stop``. A remark may follow.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from llmengine.mock import specification

_READ = "read 2026-11-21"  # documents without a revision of their own


class Citation(NamedTuple):
    """One document that a rule rests on; ``text`` is the citation as the rule has it."""

    text: str
    link: str
    revision: str


class _Document(NamedTuple):
    """The form of a citation, and the templates of its link and its revision."""

    form: str
    link: str
    revision: str


_OPENAPI = r"openai-openapi: (?:(?:GET|POST|DELETE) )?(?P<name>/[\w/{}]*|\w+)"
_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
# Repositories that have a short name; their releases have tags with this prefix.
_SHORT = {
    "anthropic-sdk-python": ("anthropics/anthropic-sdk-python", "v"),
    "dspy": ("stanfordnlp/dspy", ""),
    "llama.cpp": ("ggml-org/llama.cpp", ""),
    "ollama": ("ollama/ollama", "v"),
    "openai-python": ("openai/openai-python", "v"),
    "vllm": ("vllm-project/vllm", "v"),
}
_FILE = r" (?P<version>[\w.-]+): (?P<path>[\w./-]+)"
_DOCUMENTS = (
    _Document(r"OpenAI docs: (?P<path>[\w/-]+)", "https://platform.openai.com/docs/{path}", _READ),
    _Document(r"anthropic-docs: (?P<path>[\w/-]+)", "https://docs.anthropic.com/en/{path}", _READ),
    _Document(
        r"RFC (?P<number>\d+) (?P<section>\d+(?:\.\d+)*)",
        "https://www.rfc-editor.org/rfc/rfc{number}#section-{section}",
        "RFC {number}",
    ),
    _Document(
        r"WHATWG HTML 9\.2",
        "https://html.spec.whatwg.org/multipage/server-sent-events.html",
        f"living standard, {_READ}",
    ),
    _Document(
        r"json-schema 2020-12: (?P<keyword>\S+)",
        "https://json-schema.org/draft/2020-12/json-schema-validation",
        "2020-12",
    ),
    _Document(
        r"CWE-(?P<number>\d+)", "https://cwe.mitre.org/data/definitions/{number}.html", _READ
    ),
    _Document(
        r"nginx: (?P<path>\w+)#(?P<anchor>\w+)",
        "https://nginx.org/en/docs/http/{path}.html#{anchor}",
        _READ,
    ),
    _Document(
        _REPOSITORY + r"#(?P<number>\d+)",
        "https://github.com/{repository}/issues/{number}",
        _READ,
    ),
    _Document(
        _REPOSITORY + _FILE, "https://github.com/{repository}/blob/{version}/{path}", "{version}"
    ),
    *(
        _Document(
            re.escape(name) + _FILE,
            f"https://github.com/{repository}/blob/{tag}{{version}}/{{path}}",
            "{version}",
        )
        for name, (repository, tag) in _SHORT.items()
    ),
)


def citations(source: str) -> list[Citation]:
    """The citations of a rule's source; raises ValueError for one of an unknown form."""
    return [_citation(text.strip()) for text in source.split("; ")]


def _citation(text: str) -> Citation:
    if match := re.match(_OPENAPI, text):
        return Citation(text, _openapi_link(match["name"], text), specification.REVISION[:7])
    for document in _DOCUMENTS:
        if match := re.match(document.form, text):
            parts = match.groupdict()
            return Citation(text, document.link.format(**parts), document.revision.format(**parts))
    raise ValueError(f"{text!r} does not begin with the name of a known document and a place in it")


def _openapi_link(name: str, text: str) -> str:
    try:
        return specification.link(name)
    except KeyError:
        raise ValueError(f"{text!r}: OpenAI's specification has no {name!r}") from None
