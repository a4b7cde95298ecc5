"""A backend of another package, as docs/backends.md shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig, InvalidRequestError, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"


def _block(language: str) -> str:
    """The first block of the page in that language."""
    found = re.search(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a package with one module and one entry point for a backend."""

    def install(module: str, entry: str) -> None:
        (tmp_path / "acme.py").write_text(module, "utf-8")
        info = tmp_path / "acme-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n", "utf-8")
        (info / "entry_points.txt").write_text(f"[llmengine.engines]\n{entry}\n", "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(__import__("sys").modules, "acme", raising=False)

    return install


def test_backend_of_the_documentation_is_complete(
    install: Any, raw_server: Any, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 40 lines have its address, its key, its build and its refusal."""
    module, entry = _block("python"), _block("toml").splitlines()[-1].replace('"', "")
    assert len(module.splitlines()) <= 40
    install(module, entry)

    def answer(request: Any, connection: Any) -> None:
        if request.path == "/build":
            connection.reply({"build": "7"})
        elif request.path == "/v1/models":
            connection.reply({"data": [{"id": "m"}]})
        else:
            connection.reply(chat("Hello."))

    server = raw_server(answer)
    monkeypatch.setenv("ACME_BASE_URL", server.url)
    monkeypatch.setenv("ACME_API_KEY", "key-of-acme")
    engine = EngineConfig(backend="acme", model="m", max_retries=0).engine

    (output,) = engine.generate("Say hello.")
    (refused,) = engine.results("Say hello.", SamplingParams(logit_bias={1: 1.0}))

    assert output.outputs[0].text == "Hello."
    assert engine.fingerprint().version == "7"
    assert isinstance(refused.error, InvalidRequestError)
    assert engine.backend.concurrency == 8
    assert {r.headers["authorization"] for r in server.requests} == {"Bearer key-of-acme"}
    assert len([r for r in server.requests if r.path.endswith("/chat/completions")]) == 1


def test_entry_point_that_is_not_a_backend_is_one_clear_error(install: Any) -> None:
    """The error names the package and says what to do."""
    install("class Acme:\n    pass\n", "acme = acme:Acme")

    with pytest.raises(ConfigError, match=r"'acme' is .*not a subclass of .*docs/backends\.md"):
        _ = EngineConfig(backend="acme", model="m").engine
