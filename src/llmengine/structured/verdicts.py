"""What this process has learnt of servers: which step of the ladder they can be trusted with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from llmengine.structured.ladder import Step
    from llmengine.structured.shape import Shape
    from llmengine.types.outputs import Usage

Field = Literal["response_format", "structured_outputs"]


@dataclass(frozen=True, slots=True)
class Server:
    """What a verdict holds for: one route, one model, one field, one way of reasoning.

    ``field`` is what the server is asked with: OpenAI's, or vLLM's own for regex and the like.
    ``extra`` is the configuration's ``extra_body`` as JSON, for reasoning is often set there. The
    server's version is not in it: asking for it would cost every batch a request, and an answer is
    validated whatever the verdict.
    """

    url: str
    model: str
    field: Field = "response_format"
    reasoning: bool | str | None = None
    extra: str = "{}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the ladder starts at a server, why, and what it cost to find out.

    ``enforced`` is None where the probe got no answer that shows it.
    """

    first: Step
    enforced: bool | None
    reason: str
    requests: int = 0
    usage: Usage | None = None


_verdicts: dict[Server, Verdict] = {}
_refused: set[tuple[Server, Step, str]] = set()


def verdicts() -> dict[Server, Verdict]:
    """Every verdict so far, with the requests and tokens that the probes cost."""
    return dict(_verdicts)


def verdict_on(server: Server) -> Verdict | None:
    """The verdict on a server, if it was probed."""
    return _verdicts.get(server)


def learn(server: Server, verdict: Verdict) -> None:
    """Keep a verdict for the life of the process."""
    _verdicts[server] = verdict


def learn_refusal(server: Server, step: Step, shape: Shape) -> bool:
    """Keep that a server does not take the step; whether that is news.

    A server may refuse one schema and take others, so ``json_schema`` is refused for a shape.
    """
    known = len(_refused)
    _refused.add(_refusal(server, step, shape))
    return len(_refused) > known


def refuses(server: Server, step: Step, shape: Shape) -> bool:
    """Whether the server is known not to take the step."""
    return bool(_refused) and _refusal(server, step, shape) in _refused


def forget() -> None:
    """Forget everything, for servers that have changed behind their address."""
    _verdicts.clear()
    _refused.clear()


def _refusal(server: Server, step: Step, shape: Shape) -> tuple[Server, Step, str]:
    return (server, step, shape.text if step == "json_schema" else "")
