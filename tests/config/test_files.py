"""Engines files: what they may contain, and how a wrong one is reported."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from llmengine import ConfigError, LimiterConfig, load_engines

if TYPE_CHECKING:
    from pathlib import Path


def _write(folder: Path, text: str) -> Path:
    path = folder / "engines.yaml"
    path.write_text(text, "utf-8")
    return path


def test_file_gives_engines_by_name(tmp_path: Path) -> None:
    """A list of engines becomes a mapping in the order of the file."""
    path = _write(
        tmp_path,
        """
        - name: laptop
          backend: ollama_api
          model: qwen2.5:3b-instruct
          timeout: 30
        - name: koyeb
          backend: vllm_api
          model: nvidia/nemotron-3-8b-instruct
          base_url: https://example.invalid/v1
          sampling: {temperature: 0, max_tokens: 64}
        """,
    )

    engines = load_engines(path)

    assert list(engines) == ["laptop", "koyeb"]
    assert engines["laptop"].timeout.total == 30
    assert engines["koyeb"].endpoint == "https://example.invalid/v1"
    assert engines["koyeb"].sampling.max_tokens == 64


def test_engines_name_a_limiter_that_one_of_them_defines(tmp_path: Path) -> None:
    """They have an equal limiter, wherever in the file it is defined."""
    path = _write(
        tmp_path,
        """
        - {name: bulk, backend: vllm_api, model: m, limiter: gpu}
        - {name: chat, backend: vllm_api, model: m, limiter: {name: gpu, max_concurrency: auto}}
        """,
    )

    engines = load_engines(path)

    assert engines["bulk"].limiter == LimiterConfig(name="gpu", max_concurrency="auto")
    assert engines["chat"].limiter == engines["bulk"].limiter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "- {name: a, backend: vllm_api, model: m, limiter: gpu}",
            ["engine 1", "limiter", "no engine of this file defines 'gpu'"],
        ),
        (
            (
                "- {name: a, backend: vllm_api, model: m, limiter: {name: g, max_concurrency: 1}}\n"
                "- {name: b, backend: vllm_api, model: m, limiter: {name: g, max_concurrency: 2}}"
            ),
            ["engine 2", "limiter", "an earlier engine has 'g' with other limits"],
        ),
        ("- name: a\n  backend: vllm_api\n", ["engine 1 (a)", "model", "is missing"]),
        ("- {name: a, backend: nope, model: m}", ["engine 1 (a)", "backend", "'nope'", "vllm_api"]),
        (
            "- {name: a, backend: vllm_api, model: m, modle: x}",
            ["engine 1 (a)", "modle", "not a field"],
        ),
        (
            "- {name: a, backend: vllm_api, model: m, max_retries: many}",
            ["engine 1 (a)", "max_retries", "integer"],
        ),
        (
            "- {name: a, backend: vllm_api, model: m, sampling: {temperature: -1}}",
            ["engine 1 (a)", "sampling", "'temperature' is -1"],
        ),
        (
            "- {name: a, backend: mock, model: m}\n- {name: a, backend: mock, model: m}",
            ["engine 2", "name", "'a' is taken"],
        ),
        ("name: a", ["a list of engines", "a dict"]),
        ("", ["a list of engines", "nothing"]),
        ("- just words", ["engine 1", "a mapping", "a str"]),
        ("- [unclosed", ["not valid YAML", "line 1"]),
    ],
)
def test_wrong_file_names_file_engine_and_field(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    """One line says where the mistake is."""
    path = _write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load_engines(path)

    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert all(word in message for word in words), message


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    """The error names the path that does not exist."""
    with pytest.raises(ConfigError, match=r"engines\.yaml: cannot be read: No such file"):
        load_engines(tmp_path / "engines.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "- name: a\n  api_key: {key}: x",
        "- name: a\n  api_key: '{key}",
        "- api_key: *{key}",
        "- api_key: !{key} x",
        "- api_key: !!int {key}",
        "- api_key: !!timestamp {key}",
        "- &{key} a\n- &{key} b",
        "- [api_key: {key}",
        "{key}\n---\n- a",
        "- {{name: a, backend: b, model: m, api_key: {key}, wrong: 1}}",
    ],
)
def test_error_of_a_wrong_file_shows_no_key(tmp_path: Path, text: str) -> None:
    """The line with the mistake may have a key that is not registered yet."""
    key = f"k3y-{tmp_path.name}"
    path = _write(tmp_path, text.format(key=key))

    with pytest.raises(ConfigError) as caught:
        load_engines(path)

    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [line for line in told.format() if "test_files.py" not in line]
    assert key not in "".join(ours).replace(str(path), "")
