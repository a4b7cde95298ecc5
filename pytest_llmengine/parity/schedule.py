"""When each prompt is asked: groups of prompts, which are asked one after the other.

An answer may depend on the prompts that are computed together with it. So prompts are divided into
groups, which stay the same in every pass over the prompts and on both sides. A pass asks one group
after the other, in random order, and each with a random order of its prompts and a random number of
them at once. Then the answers to a group in one pass may depend on each other, but not on those to
another group, and all passes have the same distribution. This is what permutation tests need.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from pytest_llmengine.parity.prompts import ParityPrompt

BATCH = 8
"""How many prompts are sent at once at most, unless the user gives another number."""

_FEWEST_GROUPS = 16


def groups_of(prompts: Sequence[ParityPrompt], batch: int) -> tuple[int, ...]:
    """The group of each prompt; prompts of a group are of one kind.

    Groups have at most ``batch`` prompts. They are smaller if there would be less than 16 of them,
    since a test with few groups finds little.
    """
    largest = max(1, min(batch, len(prompts) // _FEWEST_GROUPS))
    by_kind: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_kind.setdefault(prompt.kind, []).append(place)
    groups, number = [0] * len(prompts), 0
    for places in by_kind.values():
        parts = ceil(len(places) / largest)
        for nth, place in enumerate(places):
            groups[place] = number + nth * parts // len(places)
        number += parts
    return tuple(groups)


def places_by_group(groups: Sequence[int]) -> dict[int, list[int]]:
    """The places of the prompts of each group."""
    found: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        found.setdefault(group, []).append(place)
    return found


def turns(groups: Sequence[int], chance: random.Random) -> Iterator[tuple[int, Sequence[int]]]:
    """One pass over the prompts: how many are sent at once, and the places of a whole group."""
    by_group = list(places_by_group(groups).values())
    chance.shuffle(by_group)
    for places in by_group:
        chance.shuffle(places)
        yield chance.choice(_numbers_at_once(len(places))), places


def _numbers_at_once(size: int) -> list[int]:
    """How many prompts of a group may be sent at once: powers of two, and all of them."""
    return [*(2**n for n in range(size.bit_length()) if 2**n < size), size]
