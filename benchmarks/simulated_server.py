"""Simulated servers for the drift tests, with the noise of real ones, and how they are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Values = "NDArray[np.float64]"

PROMPTS = 8
TOKENS = 4
GAP = 0.004  # nats between the two likeliest tokens of the first prompt, and more for each prompt
TRAFFIC = (0.8, 0.15, 0.05)  # of the replicas of a provider
LOAD_STEP = 0.05  # of the random walk of the load, from night to night
IN_FLIGHT = (1, 4, 16)  # requests in the rounds of a session, in turn


class Noise(NamedTuple):
    """How the log-probabilities of a server vary, in nats.

    ``answer`` is the size of heavy-tailed noise of each answer, ``round`` that of noise which a
    round shares, ``session`` that of noise which a session shares. ``load`` is the largest effect
    of the load, which drifts from night to night. ``batches`` is what it does to a round that is
    computed in one batch with other requests: never to one with one request in flight, and to
    others with the load as its chance. ``replicas`` is how much the replicas of a
    provider differ, one of which gives each answer (or, if it is ``sticky``, all answers of a
    session). ``bad`` is the share of sessions whose noise is twenty times as large.
    """

    answer: float = 0.0
    round: float = 0.0
    session: float = 0.0
    load: float = 0.0
    batches: float = 0.0
    replicas: float = 0.0
    sticky: bool = False
    bad: float = 0.0


NOISES = {
    "none": Noise(),
    "heavy-tailed": Noise(answer=0.01),
    "correlated": Noise(answer=0.002, round=0.01, session=0.01),
    "weakly correlated": Noise(answer=0.01, session=0.003),
    "drifting load": Noise(answer=0.002, load=0.05),
    "batches": Noise(batches=0.03),
    "replicas": Noise(answer=0.002, replicas=0.03),
    "sticky replicas": Noise(answer=0.002, replicas=0.03, sticky=True),
    "bad nights": Noise(answer=0.002, session=0.005, bad=0.03),
}


class SimulatedServer:
    """A server with this noise, and its own source of chance."""

    def __init__(self, noise: Noise, *seed: int) -> None:
        self.noise = noise
        self.chance = np.random.default_rng(seed)
        gaps = [(0.0, GAP * (n + 1), 2.0, 3.0) for n in range(PROMPTS)]
        self._values = -0.8 - np.array(gaps).ravel()
        size = len(self._values)
        self._signs = self.chance.choice((-1.0, 1.0), size)
        self._directions = self.chance.uniform(-1, 1, size)
        self._replicas = noise.replicas * self.chance.standard_normal((len(TRAFFIC), size))

    def sessions(self, loads: Values, rounds: int, shift: float | Values = 0.0) -> Values:
        """The log-probabilities by session, round, and token of a prompt.

        There is one session for each load. ``shift`` is the size of a change, or that of each
        session; each log-probability moves by it, with a sign of its own.
        """
        noise, normal, count = self.noise, self.chance.standard_normal, len(loads)
        size = len(self._values)
        shifts = np.broadcast_to(shift, count)[:, None] * self._signs
        effects = noise.load * loads[:, None] * self._directions
        values = (self._values + shifts + effects)[:, None, :].repeat(rounds, axis=1)
        if noise.session:
            bad = np.where(self.chance.random(count) < noise.bad, 20.0, 1.0)
            values += noise.session * bad[:, None, None] * normal((count, 1, size))
        if noise.round:
            values += noise.round * normal((count, rounds, 1))
        if noise.answer:
            # Student's t with two degrees of freedom has no variance.
            tails = self.chance.standard_exponential(values.shape) ** -0.5
            values += noise.answer * normal(values.shape) * tails
        if noise.batches:
            chances = loads[:, None] * (loads_in_flight(rounds) > 1)
            in_batch = self.chance.random((count, rounds)) < chances
            values += noise.batches * in_batch[..., None] * self._directions
        if noise.replicas:
            shape = (count, 1, 1) if noise.sticky else (count, rounds, PROMPTS)
            replica = self.chance.choice(len(TRAFFIC), shape, p=TRAFFIC)
            of_answers = np.broadcast_to(replica, (count, rounds, PROMPTS)).repeat(TOKENS, axis=2)
            values += np.take_along_axis(self._replicas[:, None, None, :], of_answers[None], 0)[0]
        return values

    def nightly_loads(self, nights: int) -> Values:
        """The load of each night: a slow random walk in the range from 0 to 1."""
        load, loads = 0.5, []
        for step in self.chance.normal(0, LOAD_STEP, nights):
            load = min(1.0, max(0.0, load + step))
            loads.append(load)
        return np.array(loads)

    def any_loads(self, sessions: int) -> Values:
        """A load for each session of a baseline, which is recorded under all of them."""
        return self.chance.random(sessions)


def loads_in_flight(rounds: int) -> NDArray[np.int64]:
    """How many requests are in flight in each round of a session."""
    return np.resize(IN_FLIGHT, rounds)


def texts(values: Values) -> NDArray[np.int64]:
    """The likeliest token of each prompt, instead of the log-probabilities of its tokens."""
    return values.reshape(*values.shape[:-1], PROMPTS, TOKENS).argmax(axis=-1)


class Evidence(NamedTuple):
    """What is compared: an array of a round's values, and the distance between two rounds.

    The distance also takes arrays of many rounds. The mean distance from many rounds is computed
    for all looks at once.
    """

    name: str
    values: Callable[[np.ndarray], np.ndarray]
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    mean_distance: Callable[[np.ndarray, np.ndarray], np.ndarray]


def _mean_of_logprobs(rounds: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """The mean distance of each look's rounds from all these rounds, from sums of sorted values."""
    count, total = len(rounds), np.zeros(looks.shape[:-1])
    for column in range(rounds.shape[1]):
        known, values = np.sort(rounds[:, column]), looks[..., column]
        below = np.searchsorted(known, values)
        sums = np.concatenate([[0.0], np.cumsum(known)])
        total += values * (2 * below - count) + sums[-1] - 2 * sums[below]
    return total / count


def _mean_of_texts(rounds: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """The same for texts, from their frequencies."""
    shares = np.array([(rounds == token).mean(0) for token in range(TOKENS)])
    return (1 - shares[looks, np.arange(rounds.shape[1])]).sum(-1)


LOGPROBS = Evidence(
    "logprobs",
    lambda values: values,
    lambda one, other: abs(one - other).sum(-1),
    _mean_of_logprobs,
)
TEXT = Evidence("text", texts, lambda one, other: (one != other).sum(-1), _mean_of_texts)
EVIDENCE = (LOGPROBS, TEXT)
