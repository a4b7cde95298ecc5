"""JSON paths: which values they find, in values and in texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmengine.recording.json_path import JSONPath, masked, without

DOCUMENT: dict[str, Any] = {
    "user": "ada",
    "messages": [{"role": "user", "at": 1}, {"role": "tool", "at": 2, "x-id": {"at": 3}}],
    "metadata": {"user": "bob", "empty": {}},
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("$.user", ["ada"]),
        ("user", ["ada"]),
        ("$['user']", ["ada"]),
        ("$.metadata.user", ["bob"]),
        ("$.messages[1].role", ["tool"]),
        ("$.messages[*].at", [1, 2]),
        ("$.messages.*.role", ["user", "tool"]),
        ('$.messages[1]["x-id"]', [{"at": 3}]),
        ("messages[1].x-id.at", [3]),
        ("$..at", [1, 2, 3]),
        ("$..user", ["ada", "bob"]),
        ("$.messages", [DOCUMENT["messages"]]),
        ("$.metadata.*", ["bob", {}]),
        ("$.nothing", []),
        ("$.user.name", []),
        ("$.messages.role", []),
    ],
)
def test_masked_values(path: str, values: list[Any]) -> None:
    """Only the values at the path are replaced."""
    text, mask = json.dumps(DOCUMENT), '"[gone]"'

    changed = masked(text, [JSONPath.parse(path)], mask)

    assert changed.count(mask) == len(values)
    for value in values:
        changed = changed.replace(mask, json.dumps(value), 1)
    assert changed == text


def test_layout_stays() -> None:
    """Spaces and line breaks outside the value do not change."""
    text = '{\n  "a" : [ 1, {"b":\t[\n2 ] } ]\n}\n'
    assert masked(text, [JSONPath.parse("$..b")], "?") == text.replace("[\n2 ]", "?")


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (
            'data: {"a": 1, "b": 2}\n\ndata: {"b": [3]}\n\ndata: [DONE]\n\n',
            'data: {"a": 1, "b": ?}\n\ndata: {"b": ?}\n\ndata: [DONE]\n\n',
        ),
        ('{"b": 1}\n{"b": 2}\n', '{"b": ?}\n{"b": ?}\n'),
        ('{"b": 1}{"b": 2} {"b": 3}', '{"b": ?}{"b": ?} {"b": ?}'),
        ('{"a": {"b": 1}, "b": "}"}', '{"a": {"b": 1}, "b": ?}'),
        ('{"a": "cut off", "b": "sec', '{"a": "cut off", "b": ?'),
        ('data: {"b": {"c": 1\n\n', 'data: {"b": ?'),
        ('data: {"a" 1}\n\ndata: {"b": 2}\n', 'data: {"a" 1}\n\ndata: {"b": ?}\n'),
        ("b: 1", "b: 1"),
        ("", ""),
        ('{"b": "\udce9\\u00e9\\""}', '{"b": ?}'),
    ],
)
def test_texts_of_several_documents(text: str, changed: str) -> None:
    """Events, lines and texts that are cut or not JSON."""
    assert masked(text, [JSONPath.parse("$.b")], "?") == changed


def test_several_paths_at_once() -> None:
    """A value inside a masked one is masked with it."""
    paths = [JSONPath.parse(path) for path in ("$.a.b", "$.a", "$.c")]
    assert masked('{"a": {"b": 1}, "c": 2, "d": 3}', paths, "?") == '{"a": ?, "c": ?, "d": 3}'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner),
)


@given(_VALUES, st.sampled_from(["$.a", "$..a", "$.*.b", "$[*]", "$..[1]", "$.a[0].b"]))
def test_text_and_value_agree(value: Any, path: str) -> None:
    """The text masks what the value leaves out."""
    parsed = JSONPath.parse(path)
    text = masked(json.dumps(value), [parsed], '"[gone]"')

    assert _without_masks(json.loads(text)) == without(value, [parsed])


def _without_masks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_masks(v) for k, v in value.items() if v != "[gone]"}
    if isinstance(value, list):
        return [_without_masks(v) for v in value if v != "[gone]"]
    return value


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "names no value"),
        ("$", "names no value"),
        ("$.a[-1]", r"is not a JSON path from '\[-1\]' on"),
        ("$.a[?(@.b)]", r"from '\[\?\(@\.b\)\]' on"),
        ("$.a b", "from ' b' on"),
    ],
)
def test_what_is_not_a_path(path: str, message: str) -> None:
    """The message shows the part that is wrong."""
    with pytest.raises(ValueError, match=message):
        JSONPath.parse(path)
