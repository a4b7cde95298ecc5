"""``llmengine cassettes``: look after the recordings of engines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pytest_llmengine.cli.options import (  # noqa: TC001 - typer reads the annotations
    HeaderOption,
    IgnorePathOption,
    NormalizeOption,
)

app = typer.Typer(help="Look after the recordings of engines.", no_args_is_help=True)

PlaceArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder of recordings, packed or not, or one file.")
]
JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VolatilePathOption = Annotated[
    list[str] | None,
    typer.Option(
        "--volatile-path",
        metavar="PATH",
        help="A JSON path in the bodies of answers that differs in each of them; repeatable.",
    ),
]


class FailTier(StrEnum):
    """The tiers of `AnswerTier` that a run can fail on."""

    VOLATILE = "volatile"
    SHAPE = "shape"
    OUTCOME = "outcome"
    DIFFERENT = "different"


class LintKind(StrEnum):
    """The kinds of `FindingKind`."""

    BROKEN = "broken"
    SECRET = "secret"  # noqa: S105 - a kind of finding
    STALE = "stale"
    UNUSED = "unused"
    DUPLICATED = "duplicated"
    OVERSIZED = "oversized"
    UNFINISHED = "unfinished"


@app.command()
def pack(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of recordings, such as cassettes/mine.")
    ],
) -> None:
    """Replace a folder of recordings by one zip file beside it, and print its path.

    A replay reads the file like the folder. The same recordings always give the same file.
    """
    from pytest_llmengine.recording import packed

    typer.echo(packed.pack(folder))


@app.command()
def unpack(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A packed file, such as cassettes/mine.zip.")
    ],
) -> None:
    """Replace a packed file by the folder of its recordings, and print the folder's path."""
    from pytest_llmengine.recording import packed

    typer.echo(packed.unpack(file))


@app.command()
def verify(  # noqa: PLR0913 - one option each
    place: PlaceArgument,
    *,
    engine: Annotated[
        str | None,
        typer.Option(
            help="A backend, or a name of the engines file.", show_default="the folder's name"
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", "--engine-url", help="The server's address.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "--engine-model", help="Ask for this model, not the recorded one."),
    ] = None,
    header: HeaderOption = None,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    volatile_path: VolatilePathOption = None,
    answer_timeout: Annotated[
        float, typer.Option(min=0.001, help="How many seconds one whole answer may take.")
    ] = 120,
    fail_on: Annotated[
        FailTier, typer.Option(help="Fail if answers agree only in this tier, or in a worse one.")
    ] = FailTier.DIFFERENT,
    every: Annotated[
        bool, typer.Option("--all", help="Also print the exchanges that did not change.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Send recorded requests to a live server, and print how its answers differ from the recorded.

    The key comes from the environment. Answers agree in one of five tiers: identical; volatile (but
    for ids, dates and times); shape (the same outcome and fields, other values); outcome (the same
    status, kind of answer and finish reason); different.

    Exit status: 0 no answer is as bad as --fail-on, 1 one is, 2 nothing could be compared.
    """
    from pytest_llmengine.cli.cassette_output import print_comparisons
    from pytest_llmengine.cli.cassette_verify import verify_live
    from pytest_llmengine.recording import RecordingConfig
    from pytest_llmengine.recording.comparison import AnswerTier
    from pytest_llmengine.targets.headers import parse_headers

    comparisons = verify_live(
        place,
        engine=engine,
        url=url,
        model=model,
        headers=parse_headers(header or ()),
        config=config,
        seconds=answer_timeout,
        recording=RecordingConfig().extended({"volatile_paths": volatile_path or []}),
    )
    print_comparisons(comparisons, every=every, as_json=as_json)
    if all(one.tier is None for one in comparisons):
        raise typer.Exit(2)
    raise typer.Exit(1 if any(one.is_as_bad_as(AnswerTier(fail_on)) for one in comparisons) else 0)


@app.command()
def diff(  # noqa: PLR0913 - one option each
    before: Annotated[Path, typer.Argument(metavar="A", help="A file or a folder of recordings.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The same, recorded later.")],
    *,
    volatile_path: VolatilePathOption = None,
    ignore_path: IgnorePathOption = None,
    normalize: NormalizeOption = None,
    fail_on: Annotated[
        FailTier, typer.Option(help="Fail if answers agree only in this tier, or in a worse one.")
    ] = FailTier.SHAPE,
    every: Annotated[
        bool, typer.Option("--all", help="Also print the exchanges that did not change.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Compare two files or folders of recordings, exchange by exchange.

    Exchanges belong together if their requests match as in a replay. The tiers are those of
    `llmengine cassettes verify`.

    Exit status: 1 if an answer is as bad as --fail-on, or if an exchange is in one of them only.
    """
    from pytest_llmengine.cli.cassette_output import print_difference
    from pytest_llmengine.recording import RecordingConfig, RecordingOptions
    from pytest_llmengine.recording.comparison import AnswerTier
    from pytest_llmengine.recording.difference import difference

    options: RecordingOptions = {
        "volatile_paths": volatile_path or [],
        "ignore_paths": ignore_path or [],
        "normalize": list(normalize or ()),
    }
    found = difference(before, after, RecordingConfig().extended(options))
    print_difference(found, every=every, as_json=as_json)
    worse = any(one.is_as_bad_as(AnswerTier(fail_on)) for one in found.compared)
    raise typer.Exit(1 if worse or found.only_before or found.only_after else 0)


@app.command()
def lint(  # noqa: PLR0913 - one option each
    place: PlaceArgument,
    *,
    max_age: Annotated[
        int, typer.Option(metavar="DAYS", min=0, help="When a recording is stale; 0: never.")
    ] = 180,
    max_size: Annotated[
        int, typer.Option(metavar="KB", min=0, help="When a file is oversized; 0: never.")
    ] = 500,
    played: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What a run of all tests has played, written by `pytest --engine-played=FILE`; "
            "without it, unused recordings are not looked for.",
        ),
    ] = None,
    ignore: Annotated[
        list[LintKind] | None, typer.Option(help="Leave out findings of this kind; repeatable.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The engines file (YAML), whose keys are looked for too.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Look for secrets in recordings, and for those that are stale, unused, duplicated or the like.

    Keys are found by their value, if an environment variable with the name of a key holds them, and
    by the formats of providers, also in base64, hex, percent-encoding and escaped in JSON.

    Exit status: 1 if there is a finding.
    """
    from pytest_llmengine.cli.cassette_output import print_findings
    from pytest_llmengine.recording.key_search import learn_environment
    from pytest_llmengine.recording.lint import FindingKind, LintLimits, read_played
    from pytest_llmengine.recording.lint import lint as find

    learn_environment()
    if config is not None:
        from llmengine.engine.files import load_engines

        load_engines(config)
    limits = LintLimits(max_age, max_size * 1000, read_played(played) if played else None)
    left_out = {FindingKind(one) for one in ignore or ()}
    findings = [one for one in find(place, limits) if one.kind not in left_out]
    print_findings(findings, place, as_json=as_json)
    raise typer.Exit(1 if findings else 0)


@app.command()
def show(
    place: PlaceArgument,
    *,
    exchange: Annotated[
        int | None, typer.Option(min=1, help="Only the exchange of this number.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Do not cut long texts.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Print what was said in recordings: prompts, answer, tool calls, usage and timing."""
    from pytest_llmengine.cli.cassette_output import print_transcripts
    from pytest_llmengine.recording.cassette_file import CassetteFile, cassette_files

    files = [CassetteFile.read(path) for path in cassette_files(place)]
    shown = [(f, one) for f in files for one in f.exchanges if exchange in {None, one.number}]
    if not shown and exchange is not None:
        count = sum(len(file.exchanges) for file in files)
        raise typer.BadParameter(f"{place} has {count} exchanges, and none has number {exchange}")
    print_transcripts(shown, full=full, as_json=as_json)
