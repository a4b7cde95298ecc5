"""What the rules cite."""

from __future__ import annotations

import pytest

from pytest_llmengine.contract.sources import citations

GITHUB = "https://github.com"
DOCS = "https://platform.openai.com/docs"
RFC = "https://www.rfc-editor.org/rfc"
READ = "read 2026-11-21"
OPENAPI = f"{GITHUB}/openai/openai-openapi/blob/f85dbe2/openapi.yaml"


@pytest.mark.parametrize(
    ("source", "link", "revision"),
    [
        ("openai-openapi: Error.code", f"{OPENAPI}#L38249", "f85dbe2"),
        ("openai-openapi: GET /models/{model}: 404", f"{OPENAPI}#L8811", "f85dbe2"),
        ("OpenAI docs: guides/error-codes: 404", f"{DOCS}/guides/error-codes", READ),
        ("RFC 9110 15.5.6: 405", f"{RFC}/rfc9110#section-15.5.6", "RFC 9110"),
        ("vllm-project/vllm#25054: seen", f"{GITHUB}/vllm-project/vllm/issues/25054", READ),
        ("vllm 0.20.2: docs/a.md", f"{GITHUB}/vllm-project/vllm/blob/v0.20.2/docs/a.md", "0.20.2"),
        ("llama.cpp b1: a.cpp", f"{GITHUB}/ggml-org/llama.cpp/blob/b1/a.cpp", "b1"),
        ("a/b-c main: README.md: why", f"{GITHUB}/a/b-c/blob/main/README.md", "main"),
        ("CWE-209: messages", "https://cwe.mitre.org/data/definitions/209.html", READ),
    ],
)  # fmt: skip
def test_a_citation_has_a_link_and_a_revision(source: str, link: str, revision: str) -> None:
    """The link leads to the place in the document, and the revision is the one that was read."""
    (citation,) = citations(source)
    assert citation == (source, link, revision)


def test_citations_are_joined_by_semicolons() -> None:
    """A rule may rest on several documents."""
    assert [c.text for c in citations("RFC 9110 8.4: read it; a/b#1")] == [
        "RFC 9110 8.4: read it",
        "a/b#1",
    ]


@pytest.mark.parametrize("source", ["clients do so", "RFC 9110", "openai-openapi: NoSuchSchema.x"])
def test_a_citation_without_a_place_is_an_error(source: str) -> None:
    """A source of a shipped rule must lead somewhere."""
    with pytest.raises(ValueError, match=r"known document|has no"):
        citations(source)
