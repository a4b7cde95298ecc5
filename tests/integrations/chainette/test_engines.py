"""Engines that are registered as in Chainette, and what arrives at the server."""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, EngineConfig
from llmengine.integrations.chainette import install, load_engines_from_yaml, register_engine
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydantic import BaseModel


def _asked(server: MockServer) -> list[Any]:
    """The questions that arrived at the server, without the probes."""
    return [c.json for c in server.calls if c.method == "POST" and "Answer briefly" in str(c.json)]


@pytest.mark.parametrize("backend", ["openai", "vllm_api", "ollama_api", "openai_compatible"])
def test_chain_runs_on_every_backend(
    chain: Callable[..., Any],
    server: MockServer,
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
    backend: str,
) -> None:
    """Chainette's own steps and chain call the server and write the answers to all items."""
    register_engine("main", backend=backend, model="mock", endpoint=server.root_url)

    chain(batch_size=2).run(questions, output_dir="out")

    assert [row["row_id"] for row in rows("answer")] == [0, 1, 2, 3]
    assert [row["row_id"] for row in rows("grade")] == [0, 1, 2, 3]
    first = _asked(server)[0]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert first["messages"][1]["content"] == "one"


def test_step_s_sampling_and_model_arrive(
    chain: Callable[..., Any], server: MockServer, questions: list[BaseModel]
) -> None:
    """The schema is sent as a schema, and only the sampling parameters that the step sets."""
    register_engine("main", backend="openai", model="mock", endpoint=server.root_url)

    chain().run(questions[:1], output_dir="out")

    (body,) = _asked(server)
    assert body["response_format"]["type"] == "json_schema"
    assert body["temperature"] == 0.0
    assert {"max_tokens", "max_completion_tokens", "top_p", "stop"} & set(body) == set()


def test_defaults_of_vllm_s_sampling_are_not_sent(
    chain: Callable[..., Any], server: MockServer, questions: list[BaseModel]
) -> None:
    """VLLM's own class has max_tokens=16, which would cut every answer."""

    @dataclass
    class VLLMSamplingParams:
        temperature: float = 1.0
        top_p: float = 1.0
        max_tokens: int = 16
        seed: int | None = None

    register_engine("main", backend="openai", model="mock", endpoint=server.root_url)

    chain(sampling=VLLMSamplingParams(top_p=0.5)).run(questions[:1], output_dir="out")

    (body,) = _asked(server)
    assert body["top_p"] == 0.5
    assert {"max_tokens", "max_completion_tokens", "temperature"} & set(body) == set()


def test_fields_that_change_nothing_are_named_in_a_warning(
    chainette: Any, server: MockServer
) -> None:
    """The call in Chainette's README works, and a warning names the fields without effect."""
    with pytest.warns(UserWarning, match="engine 'llama3'") as caught:
        entry = register_engine(
            name="llama3",
            model="mock",
            endpoint=server.root_url,
            dtype="bfloat16",
            gpu_memory_utilization=0.6,
            devices=[0],
            lazy=True,
        )

    assert [str(w.message) for w in caught] == [
        (
            "engine 'llama3': these fields have no effect: devices: unknown to Chainette and to "
            "llmengine; dtype, gpu_memory_utilization, lazy: for a vLLM server that Chainette "
            "starts, but it starts no server for this engine of backend 'vllm_api'"
        )
    ]
    assert caught[0].filename == __file__
    assert chainette.get_engine_config("llama3") is entry


def test_our_fields_are_taken(chainette: Any, server: MockServer) -> None:
    """Fields of EngineConfig work together with Chainette's, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = register_engine(
            "main",
            backend="openai_compatible",
            model="mock",
            base_url=server.root_url,
            max_concurrency=2,
            timeout=5,
            sampling={"max_tokens": 40},
            enable_reasoning=True,
            endpoint=None,
        )

    config = entry.engine.engine.config
    assert (config.max_concurrency, config.timeout.total, config.reasoning) == (2, 5, True)
    assert config.sampling.max_tokens == 40


def test_an_engine_config_of_ours(
    chain: Callable[..., Any],
    server: MockServer,
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
) -> None:
    """A configuration is registered as it is, under its own name."""
    config = EngineConfig(
        name="main", backend="openai_compatible", model="mock", endpoint=server.root_url
    )
    register_engine(config)

    chain().run(questions[:1], output_dir="out")

    assert len(rows("grade")) == 1
    with pytest.raises(
        ConfigError, match="engine 'main': model: put these fields into the EngineConfig"
    ):
        register_engine(config, model="other")


def test_key_reaches_the_server_and_no_text(
    chain: Callable[..., Any], questions: list[BaseModel], rows: Callable[[str], list[Any]]
) -> None:
    """Chainette's entry does not have the key, so it cannot show it."""
    with MockServer(api_key="sk-of-the-chain") as server:
        entry = register_engine(
            "main",
            backend="openai",
            model="mock",
            endpoint=server.root_url,
            api_key="sk-of-the-chain",
        )
        chain().run(questions[:1], output_dir="out")

    assert len(rows("grade")) == 1
    assert "sk-of-the-chain" not in f"{entry} {entry!r} {entry.to_dict()} {vars(entry)}"


def test_openai_s_variables(
    chain: Callable[..., Any],
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The backend "openai" is found by the variables of OpenAI's SDK, at the first call."""
    register_engine("main", backend="openai", model="mock")
    with MockServer(api_key="sk-of-the-environment") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
        chain().run(questions[:1], output_dir="out")

    assert len(rows("grade")) == 1


def test_openai_s_default_address_takes_openai_s_key(
    chainette: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's own address, configured or not, gets the key of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    for endpoint in (None, "https://api.openai.com/v1"):
        engine = register_engine("x", backend="openai", model="m", endpoint=endpoint).engine.engine
        assert engine.root_url == "https://api.openai.com"
        assert engine.api_key == "sk-of-the-environment"


def test_reasoning_is_kept_and_its_absence_is_not_text(
    chainette: Any, chain: Callable[..., Any], server: MockServer, questions: list[BaseModel]
) -> None:
    """Chainette puts str(reasoning) into the item's history if the attribute exists."""
    register_engine(
        "main",
        backend="vllm_api",
        model="mock",
        endpoint=server.root_url,
        max_concurrency=1,
        structured="json_schema",
    )
    server.play(Script([{"content": '{"answer": "1"}', "reasoning": "Easy."}, '{"answer": "2"}']))
    step = chain().steps[0]
    histories = [{"chain_input": q, "row_id": row} for row, q in enumerate(questions[:2])]

    _, after = step.execute(questions[:2], histories)

    assert [h.get("answer_reasoning") for h in after] == ["Easy.", None]
    assert [h["answer"].answer for h in after] == ["1", "2"]


def test_vllm_without_an_address_is_the_default_one(chainette: Any) -> None:
    """Without vLLM Chainette cannot start a server, so the entry has an address."""
    entry = register_engine("main", model="m")

    assert entry.backend == "vllm_api"
    assert entry.endpoint == "http://localhost:8000/v1"


@pytest.mark.parametrize("config", [True, False])
def test_vllm_at_an_address_is_not_started(
    chainette: Any, monkeypatch: pytest.MonkeyPatch, config: bool
) -> None:
    """A configured default address counts as an address, and so does one in an EngineConfig."""
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))  # installed, as far as we know
    if config:
        entry = register_engine(EngineConfig(name="main", backend="vllm_api", model="m"))
    else:
        entry = register_engine("main", model="m", endpoint="http://localhost:8000/v1")

    assert entry.endpoint == "http://localhost:8000/v1"


def test_server_that_chainette_starts(
    chainette: Any,
    chain: Callable[..., Any],
    server: MockServer,
    questions: list[BaseModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If vLLM is installed, Chainette starts it with its own fields and knows its address."""
    (tmp_path / "vllm.py").write_text("", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = register_engine("main", model="mock", dtype="bfloat16", port=8123)
    assert (entry.backend, entry.endpoint) == ("vllm_api", None)
    assert (entry.dtype, entry.port) == ("bfloat16", 8123)

    entry.endpoint = server.base_url  # what Chainette's process manager does once it is up
    step = chain().steps[0]
    outputs, _ = step.execute(questions[:1], [{"chain_input": questions[0], "row_id": 0}])

    assert len(outputs) == 1
    assert len(_asked(server)) == 1


def test_install_takes_chainette_s_own_call(
    chainette: Any,
    chain: Callable[..., Any],
    server: MockServer,
    questions: list[BaseModel],
    rows: Callable[[str], list[Any]],
) -> None:
    """A program that imports register_engine from any module of Chainette gets ours."""
    install()
    from chainette.engine.registry import register_engine as theirs  # noqa: PLC0415

    assert theirs is chainette.register_engine is register_engine
    chainette.register_engine("main", backend="openai", model="mock", endpoint=server.root_url)
    chain().run(questions, output_dir="out")

    assert len(rows("grade")) == 4


def test_one_engine_for_all(
    chainette: Any, chain: Callable[..., Any], questions: list[BaseModel], server: MockServer
) -> None:
    """The engine of `install` replaces every registered one, until the next `install`."""
    stands_in = EngineConfig(backend="openai_compatible", model="mock", endpoint=server.root_url)
    install(stands_in)
    chainette.register_engine("main", backend="openai", model="gpt-4.1-mini", api_key="sk-real")

    chain().run(questions[:1], output_dir="out")

    assert [c.json["model"] for c in server.calls if c.method == "POST"][-1] == "mock"
    install()
    with pytest.raises(ConfigError, match="backend: 'nonsense' is unknown"):
        chainette.register_engine("main", backend="nonsense", model="m")


def test_release_stops_what_the_engine_started(
    chainette: Any, chain: Callable[..., Any], questions: list[BaseModel]
) -> None:
    """A released engine is closed, and a new one is made for the next step."""
    entry = register_engine("main", backend="mock", model="mock")
    chain().run(questions[:1], output_dir="out")
    first = entry.engine.engine.server

    entry.release_engine()

    chain().run(questions[:1], output_dir="out")
    assert entry.engine.engine.server is not first
    entry.release_engine()


def test_registering_again_replaces(
    chain: Callable[..., Any], server: MockServer, questions: list[BaseModel]
) -> None:
    """The last registration of a name counts, also if the earlier engine was already used."""
    with MockServer() as other:
        register_engine("main", backend="openai", model="mock", endpoint=other.root_url)
        chain().run(questions[:1], output_dir="out")
    register_engine("main", backend="openai", model="mock", endpoint=server.root_url)

    chain().run(questions[1:2], output_dir="out")

    assert [body["messages"][1]["content"] for body in _asked(server)] == ["two"]


@pytest.mark.parametrize("heading", ["", "engines:\n"])
def test_engines_of_a_yaml_file(
    chainette: Any, server: MockServer, tmp_path: Path, heading: str
) -> None:
    """The list as in Chainette's code and the mapping as in its README are both accepted."""
    path = tmp_path / "engines.yml"
    path.write_text(
        f"{heading}- name: main\n  backend: openai\n  model: mock\n  endpoint: {server.root_url}\n",
        "utf-8",
    )

    load_engines_from_yaml(path)

    assert chainette.get_engine_config("main").engine.engine.root_url == server.root_url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("just words", "an engines file is a list of engines, or a mapping with one as 'engines'"),
        ("- backend: openai", "engine 1: is not a mapping with a name"),
        ("- {name: x, backend: openai}", r"engine 1 \(x\): model: is missing"),
    ],
)
def test_engines_file_that_is_wrong(chainette: Any, tmp_path: Path, text: str, said: str) -> None:
    """The error says in one line what is wrong."""
    path = tmp_path / "engines.yml"
    path.write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=said):
        load_engines_from_yaml(path)


def test_chainette_is_imported_at_first_use() -> None:
    """The package can be imported without Chainette, and does not import it by itself."""
    code = (
        "import sys, llmengine.integrations.chainette.chains; sys.exit('chainette' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)

    assert done.returncode == 0


@pytest.mark.skipif(find_spec("chainette") is not None, reason="Chainette is installed")
@pytest.mark.parametrize("call", [install, lambda: register_engine("x", model="m")])
def test_without_chainette(call: Callable[[], Any]) -> None:
    """The error says where to get Chainette."""
    with pytest.raises(ConfigError, match=r"chainette is not installed.*pip install \./chainette"):
        call()
