"""What is sent and when: the scheduled times of requests, and their prompts.

Both are drawn before the run and depend only on the seed. So the times do not depend on how fast
the server answers ("open loop"), and two servers can be given the same load.
"""

from __future__ import annotations

import random
from enum import StrEnum
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING

from llmengine.batch.format import BadLine, read_entries
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.types.request import Prompt


class Arrivals(StrEnum):
    """How the times between two requests are chosen.

    With ``poisson``, requests come independently of each other, as those of many users do. With
    ``constant``, the times between them are equal.
    """

    POISSON = "poisson"
    CONSTANT = "constant"


def arrival_times(rate: float, seconds: float, arrivals: Arrivals, seed: str) -> list[float]:
    """The times of requests at a rate per second, in seconds from the start."""
    if arrivals is Arrivals.CONSTANT:
        return [n / rate for n in range(ceil(rate * seconds)) if n / rate < seconds]
    chance = random.Random(f"{seed} {rate}")  # noqa: S311  # nosec B311 - repeatable
    times: list[float] = []
    now = chance.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += chance.expovariate(rate)
    return times


class PromptLength(StrEnum):
    """The length of the built-in prompts."""

    SHORT = "short"
    MEDIUM = "medium"
    LONG = "long"


WORDS = {PromptLength.SHORT: 20, PromptLength.MEDIUM: 200, PromptLength.LONG: 1000}
"""So many words have prompts of each length, besides the instruction."""

_VOCABULARY = """
apple bridge candle desert engine forest garden harbour island journey kitchen ladder market needle
ocean paper quarry river silver table umbrella valley window yellow anchor bottle castle doctor
evening farmer gravel hammer insect jacket kettle letter mirror number orange pencil quiet rocket
summer tunnel uncle violin winter morning blanket carpet dragon eagle feather guitar honey
""".split()  # noqa: SIM905 - a list of so many strings is hard to read


def built_in_prompts(length: PromptLength, seed: int) -> Iterator[Prompt]:
    """Prompts of random words without end.

    They differ from their first word on, so that a server that keeps the beginnings of prompts
    computes each of them.
    """
    chance = random.Random(f"prompts {seed}")  # noqa: S311  # nosec B311 - repeatable on purpose
    while True:
        words = " ".join(chance.choices(_VOCABULARY, k=WORDS[length]))
        yield f"{chance.getrandbits(48):012x}: write a long story with these words. {words}"


def prompts_of_file(path: Path) -> Iterator[Prompt]:
    """The messages of the chats in a file in OpenAI's batch format, over and over again.

    Raises InvalidRequestError, which names the line, if the file cannot be used.
    """
    found: list[Prompt] = []
    for entry in read_entries(path):
        where = f"{path}, line {entry.line}"
        if isinstance(entry, BadLine):
            raise InvalidRequestError(f"{where}: {entry.problem}")
        messages = entry.body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequestError(f"{where}: {entry.url} has no messages; only chats are sent")
        found.append(messages)
    if not found:
        raise InvalidRequestError(f"{path}: there are no requests in the file")
    return cycle(found)
