"""When the model is loaded, shared and released."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import llmengine
from llmengine import BatchError, ConfigError, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine

SHORT = SamplingParams(max_tokens=2)
ENDLESS = SamplingParams(max_tokens=10**6)
PATHS = [str(Path(llmengine.__file__).parents[1]), str(Path(__file__).parent / "stand_in")]

pytestmark = pytest.mark.usefixtures("stand_in")


def test_the_model_is_loaded_when_it_is_needed(engine: Engine, stand_in: Any) -> None:
    """An engine without calls loads nothing."""
    before = len(stand_in.loaded)
    engine.fingerprint()
    assert len(stand_in.loaded) == before
    engine.generate("a", SHORT)
    engine.generate("b", SHORT)
    assert len(stand_in.loaded) == before + 1


def test_engines_of_one_configuration_share_a_model(
    make_engine: Callable[..., Engine], stand_in: Any
) -> None:
    """The last one that is closed releases it."""
    first, second = make_engine(name="a", options={"seed": 1}), make_engine(options={"seed": 1})
    first.generate("x", SHORT)
    llm = stand_in.loaded[-1]
    second.generate("x", SHORT)
    assert stand_in.loaded[-1] is llm
    first.close()
    assert not llm.llm_engine.is_shut_down
    second.close()
    assert llm.llm_engine.is_shut_down


def test_other_options_are_another_model(make_engine: Callable[..., Engine], stand_in: Any) -> None:
    """The options reach vLLM."""
    make_engine(options={"dtype": "float32"}).generate("x", SHORT)
    first = stand_in.loaded[-1]
    make_engine(options={"dtype": "bfloat16"}).generate("x", SHORT)
    assert first.options == {"dtype": "float32"}
    assert stand_in.loaded[-1].options == {"dtype": "bfloat16"}


def test_after_close_it_is_loaded_again(engine: Engine, stand_in: Any) -> None:
    """A closed engine can be used."""
    engine.generate("x", SHORT)
    first = stand_in.loaded[-1]
    engine.close()
    engine.close()
    assert engine.generate("x", SHORT)[0].outputs[0].text == "one two "
    assert stand_in.loaded[-1] is not first


def test_calls_under_way_end_when_the_engine_is_closed(engine: Engine) -> None:
    """They fail, and load nothing again."""

    async def call_and_close() -> Any:
        call = asyncio.create_task(engine.aresults(["x"], ENDLESS))
        while not call.done():
            await asyncio.to_thread(engine.close)
        return (await call)[0]

    result = asyncio.run(call_and_close())
    assert result.attempts == 1
    assert "was closed" in str(result.error)


def test_a_call_while_it_is_closed_waits_for_another_model(engine: Engine, stand_in: Any) -> None:
    """Two models at once might not fit the device, and the call is not lost."""
    engine.generate("x", SHORT)
    core = stand_in.loaded[-1].llm_engine.engine_core
    begun, may_end = threading.Event(), threading.Event()
    core.shutdown = lambda: (begun.set(), may_end.wait(10))
    loaded = len(stand_in.loaded)
    with ThreadPoolExecutor() as threads:
        closing = threads.submit(engine.close)
        assert begun.wait(10)
        call = threads.submit(engine.results, "y", SHORT)
        time.sleep(0.05)
        assert len(stand_in.loaded) == loaded
        may_end.set()
        assert call.result(10)[0].ok
        closing.result(10)
    assert len(stand_in.loaded) == loaded + 1


def test_a_model_that_cannot_be_loaded_fails_every_prompt(
    make_engine: Callable[..., Engine],
) -> None:
    """The error is vLLM's; nothing is retried, and the next call loads again."""
    engine = make_engine(model="missing")
    for _ in range(2):
        results = engine.results(["a", "b"], SHORT)
        assert [type(r.error) for r in results] == [ConfigError, ConfigError]
        assert "cannot load model 'missing'" in str(results[0].error)
        assert "OSError: no such folder" in str(results[0].error)
    with pytest.raises(BatchError):
        engine.generate("a")
    with pytest.raises(ConfigError, match="no such folder"):
        list(engine.stream("a"))


def test_an_engine_is_pickled_by_its_configuration(engine: Engine) -> None:
    """A pickled engine holds no model and works."""
    engine.generate("x", SHORT)
    copy = pickle.loads(pickle.dumps(engine))
    assert copy.generate("x", SHORT)[0].outputs[0].text == "one two "
    copy.close()


def _run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, on the stand-in."""
    code = f"import sys; sys.path[:0] = {PATHS!r}\n{script}"
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


START = """
import os
from llmengine import EngineConfig, SamplingParams
engine = EngineConfig(backend="vllm_local", model="counting").engine
def ask():
    return engine.results("x", SamplingParams(max_tokens=2))[0]
def fork(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_a_fork_after_loading_gets_a_clear_error() -> None:
    """The child does not hang in threads that it lacks, and the parent goes on."""
    ran = _run(START + "ask(); fork(lambda: print(ask().error, flush=True)); print(ask().ok)")
    assert "forked from one that had loaded vLLM" in ran.stdout
    assert ran.stdout.endswith("True\n")


def test_a_fork_before_loading_loads_its_own() -> None:
    """An engine that was not used yet works in a child."""
    ran = _run(START + "fork(lambda: print(ask().ok, flush=True)); print(ask().ok)")
    assert ran.stdout == "True\nTrue\n"


def test_the_process_ends_while_a_call_is_under_way() -> None:
    """The model is released at exit, without output."""
    ran = _run(
        START + "answer = engine.stream('x', SamplingParams(max_tokens=10**6)); next(answer)\n"
        "import vllm, atexit\n"
        "print(vllm.LLM.loaded[-1].llm_engine.is_shut_down)\n"
        "keep = vllm.LLM.loaded[-1].llm_engine.engine_core\n"
        "shut_down = keep.shutdown\n"
        "keep.shutdown = lambda: (shut_down(), print('released', flush=True))\n"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "False\nreleased\n"
