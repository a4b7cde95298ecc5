"""What the commands of ``llmengine cassettes`` print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from llmengine.types.secrets import scrub
from pytest_llmengine.cli.options import print_rows, stdout
from pytest_llmengine.contract.outcomes import shortened
from pytest_llmengine.recording.comparison import NOT_COMPARED, counts_of, summary_of
from pytest_llmengine.recording.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_llmengine.recording.cassette_file import CassetteFile, RecordedExchange
    from pytest_llmengine.recording.comparison import Comparison
    from pytest_llmengine.recording.difference import CassetteDifference
    from pytest_llmengine.recording.lint import LintFinding

_LONGEST_TEXT = 1000
_MOST_CHANGES = 5


def print_comparisons(comparisons: Sequence[Comparison], *, every: bool, as_json: bool) -> None:
    """Print the comparisons with a live server as a table, or as JSON."""
    if as_json:
        _print_json(
            {"counts": counts_of(comparisons), "exchanges": [c.to_dict() for c in comparisons]}
        )
        return
    _print_comparison_rows(comparisons, every=every)
    typer.echo(summary_of(comparisons))


def print_difference(found: CassetteDifference, *, every: bool, as_json: bool) -> None:
    """Print the difference of two sets of recordings as a table, or as JSON."""
    if as_json:
        _print_json({"counts": counts_of(found.compared), **found.to_dict()})
        return
    _print_comparison_rows(found.compared, every=every)
    for what, places in (("before", found.only_before), ("after", found.only_after)):
        for place in places:
            stdout().print(f"only {what}: {place}")
    typer.echo(f"in both: {summary_of(found.compared)}")


def print_findings(findings: Sequence[LintFinding], place: Path, *, as_json: bool) -> None:
    """Print the findings of a lint as a table, or as JSON."""
    if as_json:
        _print_json({"findings": [finding.to_dict() for finding in findings]})
        return
    if findings:
        rows = [[one.kind, _shown(one.path, place), one.what, one.advice] for one in findings]
        print_rows(("kind", "cassette", "what", "what to do"), rows, prose=True)
    typer.echo(f"{place}: {_number(len(findings), 'finding')}")


def print_transcripts(
    shown: Sequence[tuple[CassetteFile, RecordedExchange]], *, full: bool, as_json: bool
) -> None:
    """Print the exchanges of recordings as transcripts, or as JSON."""
    if as_json:
        _print_json([{"path": str(f.path), **Transcript.of(one).to_dict()} for f, one in shown])
        return
    console, last = stdout(), None
    for file, exchange in shown:
        if file is not last:
            console.print(f"{file.path}: {file.provenance.describe()}", soft_wrap=True)
            last = file
        console.print(_rendered(Transcript.of(exchange), full=full), soft_wrap=True)


def _rendered(transcript: Transcript, *, full: bool) -> str:
    rows = list(_lines(transcript))
    width = max(len(name) for name, _ in rows)
    lines = ["", f"{transcript.number}  {transcript.title}"]
    for name, text in rows:
        shown = text if full else shortened(text, _LONGEST_TEXT)
        first, *rest = shown.splitlines() or [""]
        lines.append(f"   {name:{width}}  {first}")
        lines += (f"{'':{width + 5}}{line}" for line in rest)
    return "\n".join(lines)


def _lines(transcript: Transcript) -> Iterator[tuple[str, str]]:
    """The rows of a transcript: who or what, and the text."""
    if transcript.model:
        yield "model", transcript.model
    if transcript.tools:
        yield "tools", ", ".join(transcript.tools)
    for turn in transcript.turns:
        yield turn.role, turn.text
    for part in transcript.parts:
        text = f"{part.name}({part.text})" if part.kind == "tool_call" else part.text
        yield _PART_NAMES.get(part.kind, part.kind), text
    if not transcript.parts:
        yield "answer", "(empty)"
    yield "ended", _ending(transcript)
    yield "timing", _timing(transcript)


_PART_NAMES = {"text": "answer", "tool_call": "tool call"}


def _ending(transcript: Transcript) -> str:
    facts = [f"status {transcript.status}", *transcript.finish_reasons]
    counts = ((transcript.tokens_in, "in"), (transcript.tokens_out, "out"))
    facts += [f"{_number(count, 'token')} {way}" for count, way in counts if count is not None]
    if transcript.cut:
        facts.append(f"cut: the {transcript.cut} closed the connection")
    return ", ".join(facts)


def _timing(transcript: Transcript) -> str:
    line = transcript.timing
    if line.head is None:
        return "no answer arrived"
    facts = [f"headers after {line.head} ms"]
    if line.first_content is not None:
        facts.append(f"first content after {line.first_content} ms")
    facts.append(f"end after {line.last} ms; {_number(line.chunks, 'chunk')}")
    if transcript.streamed:
        facts.append(f"{_number(line.events, 'event')}, longest pause {line.longest_pause} ms")
    return ", ".join(facts)


def _print_comparison_rows(comparisons: Sequence[Comparison], *, every: bool) -> None:
    shown = [one for one in comparisons if every or not one.is_unchanged]
    if shown:
        rows = [
            [one.place, one.title, one.tier or NOT_COMPARED, _chunks(one), _what(one)]
            for one in shown
        ]
        print_rows(("cassette", "request", "result", "chunks", "what changed"), rows, prose=True)


def _what(comparison: Comparison) -> str:
    shown = list(comparison.changes[:_MOST_CHANGES])
    if len(comparison.changes) > _MOST_CHANGES:
        shown.append(f"{len(comparison.changes) - _MOST_CHANGES} more, which --json has")
    return comparison.reason or "\n".join(shown)


def _chunks(comparison: Comparison) -> str:
    """The numbers of chunks, if they differ."""
    before, after = comparison.chunks or (0, 0)
    return "" if before == after else f"{before} -> {after}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _shown(path: str, place: Path) -> str:
    """The path without the folder, which is the same for all."""
    return path.removeprefix(f"{place}/")


def _print_json(value: Any) -> None:
    typer.echo(scrub(json.dumps(value, indent=2, ensure_ascii=False)))
