"""A side that answers now: asking it, and measuring how far it is from itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_llmengine.parity.asking import ask
from pytest_llmengine.parity.looking import facts_of
from pytest_llmengine.parity.noise import noise_floor
from pytest_llmengine.parity.side import Side
from pytest_llmengine.reports.model import tool_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.prompt import Prompt
    from pytest_llmengine.targets import Session

BATCH = 16
"""How many prompts are under way at once where nothing else is said."""


class Live:
    """An open engine in the place of one side.

    ``stated`` are facts that a person gives; ``watch`` is told what is under way.
    """

    def __init__(
        self,
        session: Session,
        stated: Iterable[str] = (),
        batch: int = BATCH,
        watch: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = session.name
        self.engine = session.engine
        self.facts = facts_of(session).with_stated(stated)
        self.batch = batch
        self.watch = watch

    def measure(self, prompts: Sequence[Prompt], *, noise: bool) -> Side:
        """The engine's answers; with ``noise``, also how far it is from itself."""

        def asked(what: str, some: Sequence[Prompt], batch: int) -> list[Answer]:
            label = f"{self.name}, {what}"

            def tell(done: int) -> None:
                self.watch(f"{label}: {done} of {len(some)}")

            return ask(self.engine, some, batch, tell)

        answers = asked("answers", prompts, self.batch)
        return Side(
            name=self.name,
            facts=self.facts,
            prompts=tuple(prompts),
            answers=tuple(answers),
            noise=noise_floor(prompts, answers, self.batch, asked) if noise else (),
            batch=self.batch,
            date=datetime.now(UTC).date().isoformat(),
            tool_version=tool_version(),
        )
