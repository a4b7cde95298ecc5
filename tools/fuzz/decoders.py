"""Feed mutated answers to every decoder until one breaks a promise, or the time is over.

``python tools/fuzz/decoders.py 3600`` runs for an hour; ``nox -s fuzz -- 3600`` installs what it
needs. The corpus is kept in ``.fuzz/corpus`` and an input that breaks a promise in ``.fuzz``;
``python tools/fuzz/decoders.py .fuzz/crash-...`` reads that one input again.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import atheris
from pydantic_core import from_json

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

with atheris.instrument_imports(include=["llmengine.dialects"]):
    from fuzz.promises import (
        DIALECTS,
        JUNK,
        REQUESTS,
        check_cuts,
        check_failure,
        junk_text,
        places,
        replaced,
        whole,
    )
    from fuzz.seeds import real_answers

_FOLDER = ROOT / ".fuzz"
_HEAD = 3  # bytes in front of a body: which decoder, which request, which cuts
_NAMES = list(DIALECTS)
_STATUSES = (204, 301, 400, 404, 422, 429, 500, 503)
_LIMITS = ("-max_len=65536", "-rss_limit_mb=2048", "-timeout=20")


def hold(data: bytes) -> None:
    """Check the promises of the decoder that the first bytes select, for the other bytes."""
    if len(data) < _HEAD:
        return
    which, how, cut = data[:_HEAD]
    body, request = data[_HEAD:], REQUESTS[how % len(REQUESTS)]
    kind, dialect = which % 3, DIALECTS[_NAMES[which // 3 % len(_NAMES)]]
    if kind == 0:
        whole(dialect, request, body)
    elif kind == 1:
        chance = random.Random(cut)  # noqa: S311 - not a secret
        check_cuts(dialect, request, body, [chance.randrange(len(body) + 1) for _ in range(cut)])
    else:
        wait = body[:40].decode("latin-1")
        check_failure(_STATUSES[cut % len(_STATUSES)], {"retry-after": wait, "date": wait}, body)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change bytes as libFuzzer does, or one value of the JSON in one line."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    if len(data) <= _HEAD or chance.random() < 0.4:  # noqa: PLR2004 - a share of the inputs
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    lines = data[_HEAD:].split(b"\n")
    place = chance.randrange(len(lines))
    head, brace, rest = lines[place].partition(b"{")
    try:
        value = from_json(brace + rest)
    except ValueError:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    else:
        junk = replaced(value, chance.choice(places(value)), chance.choice(JUNK))
        lines[place] = head + junk_text(junk).encode()
    return (data[:_HEAD] + b"\n".join(lines))[:max_size]


def _seed(corpus: Path) -> None:
    """Write the recorded answers into the corpus, each for the decoder that reads it."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, answer in enumerate(real_answers()):
        which = 3 * _NAMES.index(answer.dialect) + int(answer.is_streamed)
        seed = bytes([which, number % len(REQUESTS), number % 20]) + answer.body
        (corpus / f"seed-{number}").write_bytes(seed)


def main() -> None:
    """Fuzz for the given number of seconds, or read one input again."""
    given = sys.argv[1] if len(sys.argv) > 1 else "300"
    arguments = [sys.argv[0], *_LIMITS, f"-artifact_prefix={_FOLDER}/"]
    if given.isdigit():
        _seed(_FOLDER / "corpus")
        arguments += [f"-max_total_time={given}", str(_FOLDER / "corpus")]
    else:
        arguments.append(given)
    atheris.Setup(arguments, hold, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
