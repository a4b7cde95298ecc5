"""Write the shipped reports of real servers by replaying their recordings.

python tools/known_reports.py            # write all of them
python tools/known_reports.py vllm       # write those of one server
python tools/known_reports.py --check    # exit with 1 and list those that are not fresh

To ship the report of another server, record it into cassettes/ and add a row to SERVERS.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.registry import EXTENDED, select
from pytest_llmengine.reports import CheckRecord, ContractReport
from pytest_llmengine.reports.json import to_object
from pytest_llmengine.reports.known import FOLDER, SUFFIX
from pytest_llmengine.reports.model import header_of
from pytest_llmengine.targets import Mode, Settings, judge, open_session

if TYPE_CHECKING:
    from collections.abc import Iterator

CASSETTES = Path(__file__).parent.parent / "cassettes"


@dataclass(frozen=True, slots=True)
class Server:
    """A recorded server: the engine that replays it, and the folder of its recordings."""

    engine: str
    cassettes: Path = CASSETTES

    @property
    def settings(self) -> Settings:
        """The settings of the replay."""
        return Settings(engines=(self.engine,), mode=Mode.REPLAY, cassettes=self.cassettes)


# The name in `llmengine report known:NAME`.
SERVERS = {
    "llama.cpp": Server("embedded"),
    "vllm": Server("vllm_api"),
}


def digest(server: Server) -> str:
    """A digest of the recordings and the profile that a report is made from."""
    found = hashlib.sha256(shipped_profiles().get(server.engine, "").encode())
    folder = server.cassettes / server.engine
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(path.relative_to(folder).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def make(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a server's report, and its content, which is the same for the same recordings.

    Rules that drive a client library are left out, because they depend on what is installed.
    """
    server = SERVERS[name]
    with open_session(server.engine, server.settings) as session:
        header = header_of(session, EXTENDED)
        provenance = session.provenance
        checks = [check for check in select(tier=EXTENDED) if check.driver is None]
        records = tuple(_timeless(CheckRecord.of(judge(check, session))) for check in checks)
    header = replace(header, name=name, date=f"{provenance.recorded_at}T00:00:00Z")
    measured = tuple(record for record in records if record.outcome is not Outcome.UNRECORDED)
    version = provenance.version or provenance.recorded_at
    content = to_object(ContractReport(header, measured)) | {"made_from": digest(server)}
    return FOLDER / name / f"{version}{SUFFIX}", content


def _timeless(record: CheckRecord) -> CheckRecord:
    """The record without the times of the replay, and without the replayer's date."""
    exchanges = tuple(
        {
            **exchange,
            "seconds": 0.0,
            "response_headers": {
                k: v for k, v in exchange["response_headers"].items() if k != "date"
            },
        }
        for exchange in record.exchanges
    )
    return replace(record, seconds=0.0, exchanges=exchanges)


def write(name: str) -> None:
    """Write the report of a server."""
    path, content = make(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> dict[str, Any]:
    """The content of a report's file."""
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return content


def outdated() -> list[str]:
    """The servers whose recordings or profile have changed since their reports were written."""
    return [
        name
        for name, server in SERVERS.items()
        if digest(server) not in {read(path)["made_from"] for path in _files(name)}
    ]


def _files(name: str) -> Iterator[Path]:
    return (FOLDER / name).glob(f"*{SUFFIX}")


def stale() -> list[str]:
    """The servers whose reports differ from what a replay gives now."""
    found = []
    for name in SERVERS:
        path, content = make(name)
        if not path.exists() or read(path) != json.loads(json.dumps(content)):
            found.append(name)
    return found


def main(arguments: list[str]) -> int:
    """Write the reports, or check them."""
    if arguments == ["--check"]:
        names = stale()
        if names:
            sys.stderr.write(f"not fresh: {', '.join(names)}; run python tools/known_reports.py\n")
        return 1 if names else 0
    for name in arguments or SERVERS:
        write(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
