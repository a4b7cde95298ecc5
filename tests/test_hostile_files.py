"""Files that users get from others load, or raise one error of this library that names the file."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmengine import LLMEngineError, load_engines
from pytest_llmengine.contract.profile import read_profile
from pytest_llmengine.drift import load as load_drift_baseline
from pytest_llmengine.parity import load as load_baseline
from pytest_llmengine.parity.prompts import read_prompts
from pytest_llmengine.recording import ReplayServer
from pytest_llmengine.reports.contract_page import contract_page
from pytest_llmengine.reports.json import read_report
from pytest_llmengine.reports.page import to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


_replayer = ReplayServer()


@pytest.fixture(scope="module", autouse=True)
def _replaying() -> Iterator[None]:
    """One replayer for all cassettes."""
    with _replayer:
        yield


def load_cassette(path: Path) -> object:
    """A cassette as a replay opens it."""
    with _replayer.cassette(path) as tape:
        return tape.provenance.describe(), tape.unused


def load_report(path: Path) -> object:
    """A report as `llmengine report` reads and prints it."""
    return to_markdown(contract_page(read_report(path)))


def as_json(value: Any) -> str:
    """JSON, which is YAML too."""
    return json.dumps(value)


def as_toml(value: Any) -> str:
    """TOML with everything but the first keys on one line each; null has no spelling."""
    if not isinstance(value, dict):
        return f"value = {_inline(value)}"
    return "\n".join(f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps("" if value is None else value)


def as_lines(value: Any) -> str:
    """JSON Lines of a list."""
    return "".join(
        f"{json.dumps(row)}\n" for row in (value if isinstance(value, list) else [value])
    )


ENGINES = [{"name": "a", "backend": "openai_compatible", "model": "m", "timeouts": {"total": 3}}]
PROFILE = {
    "engine": "mine",
    "capabilities": ["streaming"],
    "deviation": [{"check": "a.b", "outcome": "fail", "version": "1", "reason": "so"}],
}
CASSETTE = {
    "version": 1,
    "metadata": {"llmengine": {"engine": "e", "upstream": "http://127.0.0.1/v1"}},
    "interactions": [
        {
            "request": {
                "method": "POST",
                "uri": "http://127.0.0.1/v1/chat/completions",
                "body": '{"a": 1}',
                "headers": {"content-type": ["application/json"]},
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": {"content-type": ["application/json"]},
                "body": {"string": "{}"},
                "llmengine": {"head_ms": 1, "sizes": [2], "at_ms": [1]},
            },
        }
    ],
}
CHECK = {
    "id": "a.b", "group": "a", "level": "quirk", "tier": "core", "outcome": "fail",
    "reason": "so", "accepted": False, "seconds": 1.0, "exchanges": [{"method": "GET"}],
}  # fmt: skip
REPORT = {
    "schema_version": 1,
    "provenance": {
        "engine": "e", "version": "1", "model": "m", "mode": "live", "describe": "d",
        "tier": "core", "date": "2026-01-01", "tool_version": "0",
    },
    "checks": [CHECK],
}  # fmt: skip
BASELINE = [
    {
        "format": "llmengine-parity", "version": 2, "name": "n", "date": "d", "tool_version": "0",
        "facts": {"engine": "e"}, "batch": 1,
        "prompts": {"count": 1, "digest": "sha256:0"},
    },
    {
        "prompt": {"id": "a", "kind": "k", "messages": [{"role": "user"}], "max_tokens": 1},
        "answer": {"id": "a", "text": "t", "tokens": [["t", -1.0, [["t", -1.0]]]]},
        "group": 0, "again": [{"text": "u", "tokens": None}],
    },
]  # fmt: skip
DRIFT = [
    {
        "format": "llmengine-drift", "version": 1, "date": "d", "tool_version": "0",
        "facts": {"name": "n", "backend": "mock"}, "unit": "round", "self_test": 1.0,
        "probe": {"tier": "text", "sampling": {"top_k": 0}, "prompts": [{"text": "a"}]},
    },
    {
        "rounds": [
            {"load": 1, "time": "t", "answers": [{"prompt": 0, "text": "t", "top": {"t": -1.0}}]}
        ],
    },
]  # fmt: skip
PROMPTS = [{"id": "a", "messages": [{"role": "user", "content": "hi"}]}]


@dataclass(frozen=True)
class Kind:
    """One kind of file: an example, how it is written and how it is read."""

    file: str
    example: Any
    write: Callable[[Any], str]
    load: Callable[[Path], object]


KINDS = [
    Kind("engines.yaml", ENGINES, as_json, load_engines),
    Kind("profile.toml", PROFILE, as_toml, read_profile),
    Kind("cassette.yaml", CASSETTE, as_json, load_cassette),
    Kind("report.json", REPORT, as_json, load_report),
    Kind("side.jsonl", BASELINE, as_lines, load_baseline),
    Kind("side.jsonl.gz", BASELINE, as_lines, load_baseline),
    Kind("drift.jsonl", DRIFT, as_lines, load_drift_baseline),
    Kind("prompts.jsonl", PROMPTS, as_lines, read_prompts),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
YAML_KINDS = [kind for kind in KINDS if kind.file.endswith(".yaml")]
each_yaml = pytest.mark.parametrize("kind", YAML_KINDS, ids=lambda kind: kind.file)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3)
)
SOME = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """The value with a part replaced, left out or doubled."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 4)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(changed(value[place])), *value[place:]][
            draw(st.integers(0, 1)) :
        ]
    return draw(VALUES)


def loads_or_says_why(kind: Kind, folder: Path, data: bytes) -> None:
    """The promise of this module: the file loads, or one error names it."""
    path = folder / kind.file
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    said = ""
    try:
        kind.load(path)
    except LLMEngineError as error:
        said = str(error)
    assert not said or path.name in said


@each_kind
@given(data=st.binary())
@SOME
def test_any_bytes(kind: Kind, tmp_path: Path, data: bytes) -> None:
    """Bytes of any kind."""
    loads_or_says_why(kind, tmp_path, data)


@given(data=st.binary())
@SOME
def test_any_bytes_in_place_of_gzip(tmp_path: Path, data: bytes) -> None:
    """A file with a name for compressed data that has other data, or only a part."""
    path = tmp_path / "side.jsonl.gz"
    for content in (data, gzip.compress(b"{}")[: len(data)] + data):
        path.write_bytes(content)
        with pytest.raises(LLMEngineError, match=r"side\.jsonl\.gz"):
            load_baseline(path)


@each_kind
@given(value=VALUES)
@SOME
def test_any_value(kind: Kind, tmp_path: Path, value: Any) -> None:
    """A document of the right format with any contents."""
    loads_or_says_why(kind, tmp_path, kind.write(value).encode("utf-8", "replace"))


@each_kind
@given(data=st.data())
@SOME
def test_an_example_that_was_changed(kind: Kind, tmp_path: Path, data: st.DataObject) -> None:
    """A good file with a part replaced, left out or doubled."""
    value = data.draw(changed(kind.example))
    loads_or_says_why(kind, tmp_path, kind.write(value).encode("utf-8", "replace"))


@each_yaml
@given(text=st.text(alphabet="ab&*<>!|-[]{}:,? \n'\"#%@=01.~", max_size=60))
@SOME
def test_any_yaml(kind: Kind, tmp_path: Path, text: str) -> None:
    """Any combination of YAML's special characters, alone and in a cassette's metadata."""
    loads_or_says_why(kind, tmp_path, text.encode())
    loads_or_says_why(kind, tmp_path, f"interactions: []\nmetadata: {text}".encode())


ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)
METADATA = "interactions: []\nversion: 1\nmetadata:\n  llmengine:\n"


def _indented(text: str) -> str:
    return METADATA + "".join(f"    {line}\n" for line in text.splitlines())


BOMBS = {
    "aliases.yaml": (ALIASES, "more than 1,000,000 values"),
    "merges.yaml": (MERGES, "more than 1,000,000 values"),
    "metadata.yaml": (_indented(ALIASES), "more than 1,000,000 values"),
    "cycle.yaml": ("- &a [*a]\n", "is used inside its own value"),
    "long.yaml": ("- a\n" * 2_000_000, "more than 1,000,000 values"),
    "deep.yaml": ("[" * 100_000, "nest"),
    "date.yaml": ("a: 2026-13-45\n", "month"),
    "deep.json": ("[" * 100_000, "nested too deeply"),
    "long.json": ("[" + "{}," * 5_000_000 + "0]", "more than 4,000,000 values"),
    "number.json": ("9" * 5_000, "digits"),
    "deep.toml": ("a = " + "[" * 100_000, "nested too deeply"),
    "wide.jsonl": ("[[],[],[],[],[],[],[],[]]\n" * 700_000, "more than 4,000,000 values"),
    "bomb.jsonl.gz": (gzip.compress(bytes(200_000_000)), "more than 67,108,864 bytes"),
    "large.jsonl": (b" " * 70_000_000, "more than 67,108,864 bytes"),
}
_MEMORY = 2 * 1024**3
_LOAD = """
import sys
from pathlib import Path
from llmengine.engine.files import load_engines
from llmengine.types.errors import LLMEngineError
from pytest_llmengine.contract.profile import read_profile
from pytest_llmengine.parity.side import load
from pytest_llmengine.recording import ReplayServer
from pytest_llmengine.reports.json import read_report

def cassette(path):
    with ReplayServer() as server, server.cassette(path) as tape:
        print(tape.provenance)

readers = {
    ".yaml": (load_engines, cassette), ".json": (read_report,), ".toml": (read_profile,),
    ".jsonl": (load,), ".gz": (load,),
}
path = Path(sys.argv[1])
for read in readers[path.suffix]:
    try:
        read(path)
    except LLMEngineError as error:
        print(error)
    else:
        print("was read")
"""


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_fill_the_memory(name: str, tmp_path: Path) -> None:
    """Small files that become large, and large ones, are an error of one line, within 2 GiB."""
    content, words = BOMBS[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=_bound_memory,
    )
    lines = ran.stdout.splitlines()
    assert lines
    for line in lines:
        assert name in line
        assert words in line
