"""The comparison of two sides inside a test, from the run's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity import Choices, Live, ParityError, Selection, choose, compare, load
from pytest_llmengine.parity.side import is_saved
from pytest_llmengine.parity.significance import ALPHA
from pytest_llmengine.plugin.options import (
    PARITY_ALPHA,
    PARITY_BASELINE,
    PARITY_CANDIDATE,
    PARITY_PROMPTS,
    chosen,
    given,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.parity import ParityReport, Side
    from pytest_llmengine.plugin.engines import EngineOpener
    from pytest_llmengine.plugin.options import Option

_loaded = pytest.StashKey[dict["Path", "Side"]]()


def kinds_of(config: pytest.Config) -> list[str]:
    """The kinds of prompts in this run; raises UsageError if a file or the rate is wrong."""
    chosen(config, PARITY_ALPHA)
    try:
        saved = [_saved(config, option) for option in (PARITY_BASELINE, PARITY_CANDIDATE)]
        known = next((side for side in saved if side is not None), None)
        prompts = choose(known, None, _selection(config))
    except ParityError as error:
        raise pytest.UsageError(str(error)) from error
    return list(dict.fromkeys(prompt.kind for prompt in prompts))


class Comparer:
    """Compares the run's baseline with its candidate, kind by kind.

    ``engine`` is the candidate if the options name none. Throughput is not measured here, because
    one kind has too few prompts for it; ``llmengine parity`` measures it. The tests of a run may be
    distributed over processes, so each has an equal share of the run's false-alarm rate.
    """

    def __init__(self, config: pytest.Config, opener: EngineOpener, engine: str) -> None:
        self._config = config
        self._open = opener
        self._engine = engine

    def __call__(self, kind: str) -> ParityReport:
        """The report on the prompts of one kind; the test fails if an engine cannot be opened."""
        baseline, candidate = self._side(PARITY_BASELINE), self._side(PARITY_CANDIDATE)
        prompts = choose(baseline, candidate, _selection(self._config, kind))
        rate = chosen(self._config, PARITY_ALPHA) or ALPHA
        alpha = rate / len(kinds_of(self._config))
        return compare(baseline, candidate, prompts, Choices(alpha=alpha, rounds=0))

    def _side(self, option: Option) -> Live | Side:
        saved = _saved(self._config, option)
        if saved is not None:
            return saved
        return Live(self._open(chosen(self._config, option) or self._engine))


def _selection(config: pytest.Config, *kinds: str) -> Selection:
    return Selection(file=chosen(config, PARITY_PROMPTS), kinds=kinds)


def _saved(config: pytest.Config, option: Option) -> Side | None:
    """The saved side that an option names, read once; None if the option names an engine."""
    name = chosen(config, option)
    if name is None or not is_saved(name):
        return None
    in_ini = given(config, option) is None and config.inipath is not None
    folder = config.rootpath if in_ini else config.invocation_params.dir
    loaded = config.stash.setdefault(_loaded, {})
    path = folder / name
    if path not in loaded:
        loaded[path] = load(path)
    return loaded[path]
