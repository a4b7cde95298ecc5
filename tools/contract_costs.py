"""Measure what each check of the contract costs on the mock server, and write the numbers.

    python tools/contract_costs.py

writes ``pytest_llmengine/contract/costs.json`` and prints the table of tiers for docs/contract.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract.costs import Cost
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import Check, Tier, catalogue
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Target

if TYPE_CHECKING:
    from llmengine.mock.behaviour import RawReply, ReceivedRequest

FILE = Path(__file__).parent.parent / "pytest_llmengine" / "contract" / "costs.json"
KEY = "sk-contract-costs"
BYTES_PER_TOKEN = 4  # for answers without a usage


class Meter:
    """Counts the requests of a server, with their bytes and tokens."""

    def __init__(self) -> None:
        self.requests = self.bytes = self.tokens = 0

    def count(self, reply: RawReply, call: ReceivedRequest) -> RawReply:
        """Count one request and its answer."""
        body = b"".join(reply.chunks)
        self.requests += 1
        self.bytes += len(call.body) + len(body)
        self.tokens += _tokens(body) or (len(call.body) + len(body)) // BYTES_PER_TOKEN
        return reply


def _tokens(body: bytes) -> int:
    """The total of the last usage in a body; 0 if there is none."""
    _, found, rest = body.rpartition(b'"total_tokens":')
    digits = rest.lstrip()[:12].split(b"}")[0].split(b",")[0]
    return int(digits) if found and digits.strip().isdigit() else 0


def measure(check: Check) -> Cost:
    """Run a check on the mock and return its cost."""
    meter = Meter()
    behaviour = Behaviour("metered", wire=meter.count)
    with (
        MockServer(behaviour=behaviour, api_key=KEY) as server,
        Target(server.base_url, server.model, api_key=KEY) as target,
    ):
        run_check(check, target, Profile("mock"))
    return Cost(meter.requests, meter.bytes, meter.tokens)


def main() -> None:
    """Measure, write and print."""
    checks = list(catalogue().values())
    old = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    costs = {c.id: old.get(c.id, (0, 0, 0)) if c.missing else measure(c) for c in checks}
    lines = (f"{json.dumps(id_)}: {json.dumps(list(cost))}" for id_, cost in costs.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    sys.stdout.write("| tier | checks | requests | MB | tokens |\n|---|---|---|---|---|\n")
    for tier in Tier:
        rows = [costs[c.id] for c in checks if c.tier <= tier]
        total = Cost(*(sum(column) for column in zip(*rows, strict=True)))
        sys.stdout.write(
            f"| {tier.name.lower()} | {len(rows)} | {total.requests:,} | "
            f"{total.bytes / 1e6:,.2f} | {total.tokens:,} |\n"
        )


if __name__ == "__main__":
    main()
