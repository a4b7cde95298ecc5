"""Runs one fault against one backend in every call style, and checks the promises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llmengine
from llmengine import BatchError, EngineConfig, LLMEngineError, SamplingParams, Timeouts
from llmengine.transport.loop import background

from .fault import ANSWER, AS_IT_CAME, EMPTY, LONGER, SHORTER, STYLES, WRONG
from .server import FaultServer, text_for, true_answer
from .wires import RESPONSES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from llmengine import Engine, LLMOutput, Result

    from .fault import Backend, Fault

WATCHDOG = 60.0  # nothing is measured by it: it only makes a call that hangs fail the test
PATIENCE = 2 * WATCHDOG  # the total clock, if another one ends the call
LARGEST = 2**24  # bytes of an answer; an endless one reaches it sooner than the default
_LONGEST_MESSAGE = 4096
# The background loop, and its few threads that look up names, which end with it.
_THREADS = {"llmengine", "asyncio_"}
HIT = 1  # the index of the prompt that meets the fault


@dataclass(frozen=True)
class Ended:
    """How one prompt ended."""

    error: LLMEngineError | None
    attempts: int | None
    text: str = ""
    calls: int = 0
    partial: bool = False


@dataclass(frozen=True)
class Run:
    """One call style with one fault."""

    fault: Fault
    backend: Backend
    style: str
    engine: Engine
    server: FaultServer
    prompts: list[str]
    folder: Path


async def outcomes(
    fault: Fault, backend: Backend, folder: Path, patience: float = PATIENCE
) -> dict[str, str]:
    """The outcome of the fault in each call style, with that total clock.

    Raises AssertionError if a promise is not kept.
    """
    threads, tasks = set(threading.enumerate()), _tasks()
    async with FaultServer(true_answer, hits=lambda _: False) as good:
        config = {"backend": "openai_compatible", "model": "m", "max_retries": 0}
        other = EngineConfig(**config, endpoint=f"http://127.0.0.1:{good.port}/v1").engine
        runs = [_through(fault, backend, s, other, folder, patience) for s in STYLES]
        ended = await asyncio.gather(*runs, return_exceptions=True)
    for end in ended:
        if isinstance(end, BaseException):
            raise end
    await wait_until(lambda: _tasks() <= tasks, "tasks are left on the background loop")
    left = {thread.name.rstrip("0123456789") for thread in set(threading.enumerate()) - threads}
    assert left <= _THREADS, f"threads are left: {left}"
    return dict(zip(STYLES, ended, strict=True))


async def _through(
    fault: Fault, backend: Backend, style: str, other: Engine, folder: Path, patience: float
) -> str:
    others: list[str] = []

    async def meanwhile() -> None:
        async with asyncio.timeout(WATCHDOG):
            (output,) = await other.agenerate("ask-other-0")
        others.append(output.outputs[0].text)

    places = range(HIT if style == "stream" else 0, HIT + (1 if fault.everywhere else 2))
    prompts = [f"ask-{style}-{place}" for place in places]
    hit = f"ask-{style}-{HIT}"
    server = FaultServer(
        fault.script, lambda p: fault.everywhere or p == hit, fault.reads, meanwhile
    )
    async with server:
        with _port_of(server, fault) as port:
            engine = _engine(fault, backend, port, patience)
            run = Run(fault, backend, style, engine, server, prompts, folder)
            if not fault.listens:
                await meanwhile()
            try:
                async with asyncio.timeout(WATCHDOG):
                    ended = await _STYLES[style](run)
            except TimeoutError:
                raise AssertionError(f"{style} did not end") from None
        idle = engine.config.max_concurrency
        await wait_until(
            lambda: server.busy == 0 and server.open <= idle, "connections are left open"
        )
    assert len(ended) == len(prompts), f"{len(prompts)} prompts, {len(ended)} results"
    for prompt, end in zip(prompts, ended, strict=True):
        _check_promises(run, prompt, end)
    if fault.listens and not fault.reads:
        attempts = [end.attempts for end in ended]
        assert sum(filter(None, attempts)) == server.connections, (attempts, server.connections)
    asked = server.requests or server.connections
    assert others == [text_for("ask-other-0")] or not asked, "another engine had to wait"
    assert not server.cookies, f"cookies were sent back: {server.cookies}"
    assert not any("elsewhere" in path for path in server.elsewhere), "a redirect was followed"
    return _outcome(run, ended, prompts.index(hit))


def _engine(fault: Fault, backend: Backend, port: int, patience: float) -> Engine:
    fields: dict[str, Any] = {
        **backend.config,
        "model": "m",
        "endpoint": f"{fault.scheme}://127.0.0.1:{port}{backend.path}",
        "timeout": Timeouts(
            **{"connect": PATIENCE, "total": PATIENCE, fault.by_clock or "total": patience}
        ),
        "max_retries": 1,
        "retry_wait": 0.001,
        "limits": {"wire_bytes": LARGEST, "body_bytes": LARGEST},
        "max_concurrency": 3 if fault.everywhere else 1,
    }
    return EngineConfig(**fields).engine


@contextlib.contextmanager
def _port_of(server: FaultServer, fault: Fault) -> Any:
    """The server's port, or a port that refuses connections if the server does not listen."""
    if fault.listens:
        yield server.port
        return
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _check_promises(run: Run, prompt: str, end: Ended) -> None:
    """Check the promises about one prompt."""
    where = f"{run.style}: {prompt}"
    if end.error is not None:
        assert isinstance(end.error, LLMEngineError), f"{where}: {end.error!r} is not ours"
        words = str(end.error)
        assert "an unexpected error" not in words, f"{where}: {end.error.__cause__!r} is not ours"
        assert 0 < len(words) < _LONGEST_MESSAGE, f"{where}: {len(words)} characters of message"
    if end.attempts is not None and run.fault.reads and run.fault.listens:
        counted = run.server.requests[prompt]
        lost = end.attempts - counted if run.fault.unread else 0
        assert 0 <= lost <= 1, f"{where}: {lost} requests were not read"
        assert end.attempts == counted + lost, f"{where}: {end.attempts} attempts, {counted} seen"


def _outcome(run: Run, ended: list[Ended], place: int) -> str:
    """The outcome of the prompt that met the fault; the others are compared with the table here."""
    fault = run.fault
    found = [
        _words(run, end, prompt, hit=fault.everywhere or at == place)
        for at, (prompt, end) in enumerate(zip(run.prompts, ended, strict=True))
    ]
    if fault.everywhere:
        assert len(set(found)) == 1, f"{run.style}: {list(zip(found, ended, strict=True))}"
    else:
        ought = fault.outcome(run.backend, run.style, after=True)
        wanted = [*[ANSWER] * place, found[place], ought]
        assert found == wanted, f"{run.style}: {found}, not {wanted}: {ended}"
    return found[place]


def _words(run: Run, end: Ended, prompt: str, *, hit: bool) -> str:
    if end.error is None:
        return _words_for_answer(run, end, prompt, hit=hit)
    words = [type(end.error).__name__]
    words += ["retried"] if (end.attempts or 0) > 1 else []
    return " ".join([*words, "partial"] if end.partial else words)


def _words_for_answer(run: Run, end: Ended, prompt: str, *, hit: bool) -> str:
    text, calls = text_for(prompt), 0
    if hit:
        text, calls = run.fault.says(text), run.fault.calls
    if end.calls == calls and end.text == text:
        return ANSWER
    if hit and run.style == "batch":
        return AS_IT_CAME
    if hit and end.calls == calls:
        if end.text.startswith(text):
            return LONGER
        if text.startswith(end.text):
            return SHORTER if end.text else EMPTY
    return f"{WRONG}: {end.text!r} and {end.calls} tool calls"


# ---- the call styles


async def _generate(run: Run) -> list[Ended]:
    try:
        outputs = await run.engine.agenerate(run.prompts, _sampling(run))
    except BatchError as error:
        return [_of_result(result) for result in error.results]
    return [Ended(None, None, *_text_and_calls(output)) for output in outputs]


async def _results(run: Run) -> list[Ended]:
    results = await run.engine.aresults(run.prompts, _sampling(run))
    return [_of_result(result) for result in results]


async def _iter_results(run: Run) -> list[Ended]:
    found = run.engine.aiter_results(run.prompts, _sampling(run))
    return [_of_result(result) async for result in found]


async def _stream(run: Run) -> list[Ended]:
    return [await _one_stream(run, prompt) for prompt in run.prompts]


async def _one_stream(run: Run, prompt: str) -> Ended:
    text, calls = "", set()
    try:
        async for delta in run.engine.astream(prompt, _sampling(run)):
            text += delta.text if delta.index == 0 else ""
            calls |= {fragment.index for fragment in delta.tool_calls}
    except LLMEngineError as error:
        partial = getattr(error, "partial", None)
        if text:
            # The text that the reader got is in the partial answer too.
            assert partial is not None, f"{prompt}: no partial, but the reader got {text!r}"
            assert _text_and_calls(partial)[0].startswith(text), f"{prompt}: {partial} and {text!r}"
        return Ended(error, getattr(error, "attempts", 0), partial=_has_text(partial))
    return Ended(None, None, text, len(calls))


async def _batch(run: Run) -> list[Ended]:
    route = "/v1/responses" if run.backend.wire is RESPONSES else "/v1/chat/completions"
    lines = [
        {"custom_id": prompt, "method": "POST", "url": route, "body": _body(run, prompt)}
        for prompt in run.prompts
    ]
    path = run.folder / f"{run.style}.jsonl"
    report = await in_thread(lambda: llmengine.run_batch(lines, path, run.engine))
    read = list(llmengine.read_batch(path, lines))
    written = path.read_text("utf-8").splitlines()
    assert len(written) == len(lines), f"{len(lines)} requests, {len(written)} lines"
    assert [record["custom_id"] for record in read if record] == run.prompts
    progress = report.progress
    failed = sum(record["error"] is not None for record in read if record)
    assert (progress.answered, progress.failed) == (len(lines) - failed, failed)
    if run.fault.listens:
        seen = run.server.requests.total() if run.fault.reads else run.server.connections
        lost = progress.attempts - seen if run.fault.unread else 0
        assert progress.attempts == seen + lost, (
            f"{progress.attempts} attempts, the server saw {seen}"
        )
    return [_of_record(run, record) for record in read if record]


_STYLES: dict[str, Callable[[Run], Awaitable[list[Ended]]]] = {
    "generate": _generate,
    "results": _results,
    "iter_results": _iter_results,
    "stream": _stream,
    "batch": _batch,
}


def _sampling(run: Run) -> SamplingParams | None:
    return SamplingParams(**run.fault.sampling) if run.fault.sampling else None


def _body(run: Run, prompt: str) -> dict[str, Any]:
    said = {"input": prompt} if run.backend.wire is RESPONSES else None
    chat = {"messages": [{"role": "user", "content": prompt}]}
    return {"model": "m", **(said or chat), **run.fault.sampling}


def _of_result(result: Result) -> Ended:
    if result.error is not None:
        partial = getattr(result.error, "partial", None)
        return Ended(result.error, result.attempts, partial=_has_text(partial))
    assert result.output is not None
    return Ended(None, result.attempts, *_text_and_calls(result.output))


def _text_and_calls(output: LLMOutput) -> tuple[str, int]:
    first = output.outputs[0]
    return first.text, len(first.tool_calls)


def _has_text(partial: LLMOutput | None) -> bool:
    return partial is not None and any(o.text or o.tool_calls for o in partial.outputs)


def _of_record(run: Run, record: dict[str, Any]) -> Ended:
    error = record["error"]
    if error is not None:
        assert error["code"] in _ERRORS, f"{error} has a code that is not ours"
        return Ended(_ERRORS[error["code"]](error["message"]), error["llmengine"]["attempts"])
    body = record["response"]["body"]
    return Ended(None, None, *_text_and_calls_in(run, body))


def _text_and_calls_in(run: Run, body: Any) -> tuple[str, int]:
    """The text and the number of tool calls in a body as the server sent it."""
    try:
        if run.backend.wire is RESPONSES:
            items = body["output"]
            parts = [part for item in items for part in item.get("content") or ()]
            calls = sum(item["type"] == "function_call" for item in items)
            return "".join(part["text"] for part in parts), calls
        message = body["choices"][0]["message"]
        return message["content"] or "", len(message.get("tool_calls") or ())
    except (KeyError, IndexError, TypeError, AttributeError):
        return "?", 0


def _snake(name: str) -> str:
    spaced = "".join(f"_{c}" if c.isupper() else c for c in name.replace("API", "Api"))
    return spaced.lstrip("_").lower()


_ERRORS: dict[str, Callable[[str], LLMEngineError]] = {
    _snake(name): getattr(llmengine, name) for name in llmengine.__all__ if name.endswith("Error")
}
# Codes that come from the server.
_ERRORS |= {"insufficient_quota": llmengine.QuotaError, "500": llmengine.InternalServerError}


# ---- after a call


async def wait_until(holds: Callable[[], bool], complaint: str) -> None:
    """Wait until a condition holds for which there is no event."""
    try:
        async with asyncio.timeout(WATCHDOG):
            while not holds():  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(complaint) from None


def _tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks(background().loop)


async def in_thread(work: Callable[[], Any]) -> Any:
    """The return value of `work`, called in a thread that does not keep the process from ending."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    kept: list[Any] = []

    def run() -> None:
        try:
            kept.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            kept.append((None, error))
        loop.call_soon_threadsafe(done.set)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    await done.wait()
    thread.join()
    value, error = kept[0]
    if error is not None:
        raise error
    return value
