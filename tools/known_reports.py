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
from typing import Any

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import shipped_profiles
from pytest_llmengine.contract.registry import EXTENDED, select
from pytest_llmengine.reports import CheckRecord, ContractReport
from pytest_llmengine.reports.json import to_object
from pytest_llmengine.reports.known import FOLDER, SUFFIX
from pytest_llmengine.reports.model import header_of
from pytest_llmengine.targets import Mode, Settings, judge, open_session

CASSETTES = Path(__file__).parent.parent / "cassettes"
ENGINES = CASSETTES / "engines.yaml"


@dataclass(frozen=True, slots=True)
class Server:
    """A recorded server, in one version.

    ``name`` is that of `llmengine report known:NAME`; servers that differ only in their versions
    share it. ``engine`` replays the recordings in the folder, or the ``.zip`` file, with its name;
    it may be of the engines file ``config``. ``version`` is for servers that do not say it.
    ``profile`` is by default that of the engine's name.
    """

    name: str
    engine: str
    version: str = ""
    profile: str = ""
    config: Path | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the replay."""
        return Settings(
            engines=(self.engine,), mode=Mode.REPLAY, cassettes=CASSETTES, config=self.config
        )

    @property
    def digest(self) -> str:
        """A digest of the recordings and the profile that a report is made from."""
        profile = shipped_profiles().get(self.profile or self.engine, "")
        found = hashlib.sha256(profile.encode())
        recordings = sorted((CASSETTES / self.engine).rglob("*.yaml"))
        for path in recordings or [CASSETTES / f"{self.engine}.zip"]:
            found.update(path.relative_to(CASSETTES).as_posix().encode())
            found.update(path.read_bytes())
        return found.hexdigest()


SERVERS = (
    Server("dasllama", "dasllama-0.6.6", "0.6.6"),
    Server("litellm", "litellm-1.106.12"),
    Server("llama.cpp", "llama.cpp-b8672", "b8672"),
    Server("llama.cpp", "llama.cpp-b10229", "b10229"),
    Server("llama.cpp", "embedded"),
    Server("llama-cpp-python", "llama-cpp-python-0.3.36", "0.3.36"),
    Server("lm-proxy", "lm-proxy-3.3.2", "3.3.2"),
    Server("ollama", "ollama_api"),
    Server("ollama-think", "ollama_think", "0.32.15", "ollama_api", ENGINES),
    Server("ollama-tools", "ollama_tools", "0.32.15", "ollama_api", ENGINES),
    Server("portkey", "portkey-1.15.2", "1.15.2"),
    Server("transformers", "transformers-5.24.0", "5.24.0"),
    Server("vllm", "vllm-0.29.0", "0.29.0"),
    Server("vllm", "vllm_api"),
)


def make(server: Server) -> tuple[Path, dict[str, Any]]:
    """The file of a server's report, and its content, which is the same for the same recordings.

    Rules that drive a client library are left out, because they depend on what is installed.
    """
    with open_session(server.engine, server.settings) as session:
        header = header_of(session, EXTENDED)
        known = session.provenance
        checks = [check for check in select(tier=EXTENDED) if check.driver is None]
        records = tuple(_timeless(CheckRecord.of(judge(check, session))) for check in checks)
    known = replace(known, version=server.version or known.version)
    measured = tuple(record for record in records if record.outcome is not Outcome.UNRECORDED)
    whole = sum(record.tier == header.tier for record in measured) > len(records) / 2
    header = replace(
        header,
        name=server.name,
        version=known.version,
        describe=f"replayed from {known.describe()}",
        date=f"{known.recorded_at}T00:00:00Z",
        tier=header.tier if whole else "core",  # which may have a group of the tier extended, too
    )
    content = to_object(ContractReport(header, measured)) | {"made_from": server.digest}
    return FOLDER / server.name / f"{known.version}{SUFFIX}", content


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


def write(server: Server) -> None:
    """Write the report of a server."""
    path, content = make(server)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> dict[str, Any]:
    """The content of a report's file."""
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return content


def outdated() -> list[str]:
    """The engines whose recordings or profile have changed since their reports were written."""
    digests = {read(path)["made_from"] for path in FOLDER.glob(f"*/*{SUFFIX}")}
    return [server.engine for server in SERVERS if server.digest not in digests]


def stale() -> list[str]:
    """The engines whose reports differ from what a replay gives now."""
    found = []
    for server in SERVERS:
        path, content = make(server)
        if not path.exists() or read(path) != json.loads(json.dumps(content)):
            found.append(server.engine)
    return found


def main(arguments: list[str]) -> int:
    """Write the reports, or check them."""
    if arguments == ["--check"]:
        engines = stale()
        if engines:
            sys.stderr.write(f"not fresh: {', '.join(engines)}; run tools/known_reports.py\n")
        return 1 if engines else 0
    if unknown := set(arguments) - {server.name for server in SERVERS}:
        sys.stderr.write(f"no row of SERVERS has the name {', '.join(sorted(unknown))}\n")
        return 2
    for server in SERVERS:
        if not arguments or server.name in arguments:
            write(server)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
