"""The worker that the environment or a .env file describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    ConfigError,
    ContextLengthError,
    EngineConfig,
    OpenAICompatibleWorker,
    TruncatedError,
    get_worker,
)
from llmengine.mock import Behaviour, MockServer, Script
from llmengine.worker import EngineWorker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock import ReceivedRequest
    from llmengine.mock.behaviour import JSON

pytestmark = pytest.mark.usefixtures("clean_folder")

NEMOTRON = "nvidia/nemotron-3-8b-instruct"


@pytest.fixture
def mock() -> Iterator[MockServer]:
    """A server in place of Ollama."""
    with MockServer(model="qwen2.5:3b-instruct") as server:
        yield server


@pytest.mark.parametrize("suffix", ["", "/v1"])
@pytest.mark.parametrize(
    ("use_openai_api", "path"), [(True, "/v1/chat/completions"), (False, "/api/chat")]
)
def test_documents_development_configuration(
    mock: MockServer, env_file: Any, suffix: str, use_openai_api: bool, path: str
) -> None:
    """USE_OLLAMA, OLLAMA_API_URL and OLLAMA_MODEL in a .env file are enough."""
    url = mock.root_url + suffix
    env_file(USE_OLLAMA="true", OLLAMA_API_URL=url, OLLAMA_MODEL="qwen2.5:3b-instruct")
    mock.play(Script(replies=["test"]))

    worker = get_worker(use_openai_api=use_openai_api)

    assert worker.generate("prompt") == "test"
    assert [call.path for call in mock.calls] == [path]
    assert isinstance(worker, OpenAICompatibleWorker) == use_openai_api


@pytest.mark.parametrize("use_openai_api", [True, False])
def test_a_prompt_that_ollama_cuts_is_an_error(env_file: Any, use_openai_api: bool) -> None:
    """On either route the backend is Ollama's: a prompt that was cut is noticed."""

    def cut(body: JSON, call: ReceivedRequest) -> JSON:
        body |= {"prompt_eval_count": 100} if "done" in body else {}
        return body | (
            {"usage": {**body["usage"], "prompt_tokens": 100}} if "usage" in body else {}
        )

    with MockServer(behaviour=Behaviour("cutting", reply=cut)) as server:
        env_file(OLLAMA_API_URL=server.root_url, OLLAMA_MODEL="mock")
        worker = get_worker(use_ollama=True, use_openai_api=use_openai_api)

        with pytest.raises(ContextLengthError, match="100 tokens were read"):
            worker.generate("word " * 400)


@pytest.mark.parametrize(("use_ollama", "backend"), [(True, "ollama_api"), (False, "vllm_api")])
def test_backend_is_that_of_the_server(env_file: Any, use_ollama: bool, backend: str) -> None:
    """The worker's engine is of the server's own backend."""
    env_file(OLLAMA_MODEL="q", NEMOTRON_API_URL="https://n.koyeb.app")

    assert get_worker(use_ollama=use_ollama).engine.config.backend == backend


@pytest.mark.parametrize("use_ollama", ["false", None])
def test_documents_production_configuration(env_file: Any, use_ollama: str | None) -> None:
    """Without Ollama it is Nemotron, with its own name, cold start and key."""
    flag = {"USE_OLLAMA": use_ollama} if use_ollama else {}
    env_file(**flag, NEMOTRON_API_URL="https://n.koyeb.app", NEMOTRON_API_KEY="koyeb-key")

    worker = get_worker()

    assert isinstance(worker, OpenAICompatibleWorker)
    assert (worker.api_url, worker.model_name) == ("https://n.koyeb.app/v1", NEMOTRON)
    assert worker.engine.api_key == "koyeb-key"
    assert worker.engine.config.cold_start == 300


def test_nemotron_that_sleeps_is_waited_for(
    raw_server: Any, chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first prompt to a sleeping server is answered."""
    sleepy = iter([503, 503])

    def handler(request: Any, connection: Any) -> None:
        status = next(sleepy, 200)
        connection.reply(chat("awake") if request.method == "POST" else {}, status=status)

    server = raw_server(handler)
    monkeypatch.setenv("NEMOTRON_API_URL", server.url)
    monkeypatch.setenv("NEMOTRON_MODEL", "other")

    assert get_worker(use_ollama=False).generate("hi") == "awake"
    assert [r.method for r in server.requests] == ["GET", "GET", "GET", "POST"]
    assert server.requests[-1].json["model"] == "other"


def test_argument_goes_over_the_variable(mock: MockServer, env_file: Any) -> None:
    """The argument use_ollama takes precedence over USE_OLLAMA."""
    env_file(USE_OLLAMA="false", OLLAMA_API_URL=mock.root_url, OLLAMA_MODEL=mock.model)

    assert get_worker(use_ollama=True).generate("Hello")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"USE_OLLAMA": "true"}, "OLLAMA_MODEL is not set"),
        ({}, "NEMOTRON_API_URL is not set"),
        ({"USE_OLLAMA": "perhaps"}, "USE_OLLAMA is 'perhaps'; write true or false"),
    ],
)
def test_missing_variable_is_named(env_file: Any, variables: dict[str, str], message: str) -> None:
    """The error names the missing variable."""
    env_file(**variables)

    with pytest.raises(ConfigError, match=message):
        get_worker()


def test_key_of_openai_stays_at_home(env_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's OpenAI key goes neither to Ollama nor to Nemotron."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-developer")
    env_file(OLLAMA_MODEL="q", NEMOTRON_API_URL="https://n.koyeb.app")

    for use_ollama in (True, False):
        assert get_worker(use_ollama=use_ollama).engine.api_key is None


def test_worker_over_a_real_model(embedded: EngineConfig) -> None:
    """The embedded engine answers through the facade, as text and as JSON."""
    engine = embedded.engine

    text = EngineWorker(engine).generate("Say hello.", temperature=0, max_tokens=12)
    over_http = OpenAICompatibleWorker(engine.root_url, "smollm2-135m")

    assert text.strip()
    assert over_http.generate("Say hello.", temperature=0, max_tokens=12) == text
    question = "Answer with JSON: your name."
    try:
        answer = over_http.generate(question, temperature=0, max_tokens=100, json_mode=True)
    except TruncatedError as error:  # this small model does not always end its object
        answer = error.partial.outputs[0].text if error.partial else ""
    assert answer.startswith("{")
