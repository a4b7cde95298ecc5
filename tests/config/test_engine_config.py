"""EngineConfig: fields, names, keys and the engine that it makes."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from llmengine import ConfigError, EngineConfig, InvalidFieldError, SamplingParams, Timeouts


@pytest.mark.parametrize("alias", ["endpoint", "base_url", "api_base", "host"])
def test_endpoint_has_the_names_people_expect(alias: str) -> None:
    """Every spelling of the field sets ``endpoint``."""
    config = EngineConfig(
        backend="openai_compatible", model="m", **{alias: "http://localhost:1/v1"}
    )

    assert config.endpoint == "http://localhost:1/v1"


def test_unnamed_engine_is_named_after_its_backend() -> None:
    """A configuration without a name has that of its backend."""
    assert EngineConfig(backend="vllm_api", model="m").name == "vllm_api"


def test_unknown_field_is_refused() -> None:
    """An unknown field is a mistake."""
    with pytest.raises(InvalidFieldError, match="temprature"):
        EngineConfig(backend="vllm_api", model="m", temprature=1)


def test_wrong_fields_are_one_line_without_values() -> None:
    """Every mistake suggests the right field, and a misplaced key is not shown."""
    with pytest.raises(InvalidFieldError) as caught:
        EngineConfig(name="mine", backend="mock", api_kee="sk-very-secret", max_retries=-1)

    assert str(caught.value) == (
        "engine 'mine': model: is missing; "
        "engine 'mine': max_retries: Input should be greater than or equal to 0; "
        "engine 'mine': api_kee: is not a field of an engine; did you mean 'api_key'?"
    )
    assert isinstance(caught.value, (ConfigError, ValueError, TypeError))
    assert caught.value.__cause__ is None


def test_fields_are_given_by_name() -> None:
    """Fields have no order."""
    with pytest.raises(InvalidFieldError, match=r"by name, such as EngineConfig\(backend="):
        EngineConfig("mock", "m")  # type: ignore[call-arg]


def test_pydantic_reports_a_nested_configuration() -> None:
    """In a model of the user, pydantic collects the mistakes as for any model."""

    class Settings(BaseModel):
        engine: EngineConfig

    with pytest.raises(ValidationError, match=r"engine\.modle"):
        Settings.model_validate({"engine": {"backend": "mock", "modle": "m"}})
    with pytest.raises(ValidationError, match="modle"):
        EngineConfig.model_validate({"backend": "mock", "modle": "m"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5, Timeouts(total=5)),
        ({"gap": 2, "total": None}, Timeouts(gap=2, total=None)),
        (Timeouts(connect=1), Timeouts(connect=1)),
    ],
)
def test_timeout_is_a_total_or_clocks(given: object, expected: Timeouts) -> None:
    """A number is the total; a mapping sets the clocks that it names."""
    assert EngineConfig(backend="mock", model="m", timeout=given).timeout == expected


@pytest.mark.parametrize("given", [0, -1, "soon", True, {"read": 5}])
def test_wrong_timeout_is_refused(given: object) -> None:
    """A clock is a number of seconds above zero, under a known name."""
    with pytest.raises(InvalidFieldError, match=r"timeout|clock"):
        EngineConfig(backend="mock", model="m", timeout=given)


def test_enable_reasoning_is_deprecated() -> None:
    """The older name still works, with a warning."""
    with pytest.warns(DeprecationWarning, match="write reasoning"):
        config = EngineConfig(backend="vllm_api", model="m", enable_reasoning=True)

    assert config.reasoning is True


def test_key_is_in_no_text_of_the_configuration() -> None:
    """Neither the repr nor a dump shows the key."""
    config = EngineConfig(backend="vllm_api", model="m", api_key="sk-very-secret")

    assert "very-secret" not in repr(config) + str(config.model_dump()) + config.model_dump_json()
    assert config.resolve_key() == "sk-very-secret"


@pytest.mark.parametrize("spelling", [{"api_key_env": "A_KEY"}, {"api_key": "os.environ/A_KEY"}])
def test_key_comes_from_the_environment(
    spelling: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both spellings of a variable are read when the key is needed."""
    monkeypatch.setenv("A_KEY", "sk-from-environment")

    config = EngineConfig(backend="vllm_api", model="m", **spelling)

    assert config.resolve_key() == "sk-from-environment"


def test_missing_key_variable_names_engine_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes when the engine is made."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    config = EngineConfig(name="gpt", backend="vllm_api", model="m", api_key_env="NO_SUCH_KEY")

    with pytest.raises(ConfigError, match=r"engine 'gpt': api_key_env: .*NO_SUCH_KEY.*export"):
        _ = config.engine


def test_unknown_backend_lists_the_known_ones() -> None:
    """An unknown backend is a clear error."""
    with pytest.raises(ConfigError, match=r"unknown backend 'vlm'.*vllm_api"):
        _ = EngineConfig(backend="vlm", model="m").engine


def test_engine_is_made_once_per_configuration() -> None:
    """The same configuration gives the same engine; a changed copy gives another."""
    config = EngineConfig(backend="vllm_api", model="m")

    assert config.engine is config.engine
    moved = config.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    assert moved.engine is not config.engine
    assert moved.engine.root_url == "http://127.0.0.1:9"


def test_configuration_pickles_without_its_engine() -> None:
    """Another process gets only the values."""
    config = EngineConfig(
        backend="vllm_api", model="m", api_key="sk-pickled-key", sampling={"temperature": 0}
    )
    _ = config.engine

    copy = pickle.loads(pickle.dumps(config))

    assert copy == config
    assert copy.sampling == SamplingParams(temperature=0)
    assert copy.resolve_key() == "sk-pickled-key"


@pytest.mark.parametrize("deep", [deepcopy, lambda c: c.model_copy(deep=True)])
def test_deep_copy_has_its_own_engine(deep: Any) -> None:
    """Also after the engine of the original was made."""
    config = EngineConfig(backend="vllm_api", model="m", api_key="sk-copied-key")
    made = config.engine

    copied = deep(config)

    assert copied == config
    assert copied.resolve_key() == "sk-copied-key"
    assert copied.engine is not made
    assert copied.engine.config is copied
    assert deepcopy(made).config == config
