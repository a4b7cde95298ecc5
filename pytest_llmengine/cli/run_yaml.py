"""``llmengine run-yaml``: run the steps of a YAML file for every record."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llmengine.pipeline import Pipeline, Record


def run_yaml(  # noqa: PLR0913 - one option each
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The pipeline (YAML).")],
    *,
    engine: Annotated[
        str | None,
        typer.Option(help="Run every step on this engine of the files, or on this backend."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="An engines file; its engines replace those of the pipeline."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--input", help="Records (JSON Lines) that replace the pipeline's inputs."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The folder in which the run's folder is created.")
    ] = Path("runs"),
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The largest number of records.")] = None,
    symbols_module: Annotated[
        str | None,
        typer.Option(help="For a chain of Chainette: the module that defines its steps."),
    ] = None,
) -> None:
    """Run the steps of a pipeline for every record, and write the results to a new folder.

    The file is a pipeline, or a chain of Chainette, which Chainette runs on llmengine's engines.

    Exit status: 0 if all records are answered, 1 if some failed, 2 if a file is wrong.
    """
    from llmengine import pipeline as pipelines
    from llmengine.integrations.chainette.chains import is_chain_file
    from pytest_llmengine.cli.options import stderr, stdout
    from pytest_llmengine.cli.pipeline_run import (
        close_engines,
        fetch_models,
        print_report,
        run_progress,
        with_engine,
    )

    if resume is not None and (inputs is not None or limit is not None):
        raise typer.BadParameter("a resumed run has its own inputs; leave out --input and --limit")
    sys.path.insert(0, "")  # package.module:Class is searched in the working directory too
    if is_chain_file(file):
        if resume is not None:
            raise typer.BadParameter(f"{file} is a chain of Chainette, which cannot be resumed")
        raise typer.Exit(_run_chain(file, engine, config, inputs, out, limit, symbols_module))
    if symbols_module is not None:
        raise typer.BadParameter(
            f"--symbols-module is for a chain of Chainette; {file} is a pipeline"
        )
    pipeline = with_engine(pipelines.load_pipeline(file), engine, config)
    records = _records(pipeline, inputs)[:limit] if resume is None else []
    fetch_models(pipeline)
    with run_progress(stderr()) as watch:
        report = (
            pipelines.run(pipeline.chain, records, pipeline.engines, out=out, watch=watch)
            if resume is None
            else pipelines.resume(resume, pipeline.chain, pipeline.engines, watch=watch)
        )
    close_engines(pipeline)
    print_report(report, pipeline.chain, stdout())
    raise typer.Exit(report.exit_status)


def _run_chain(  # noqa: PLR0913, PLR0917 - the options of the command
    file: Path,
    engine: str | None,
    config: Path | None,
    inputs: Path | None,
    out: Path,
    limit: int | None,
    symbols_module: str | None,
) -> int:
    """Run a chain of Chainette; returns the exit status."""
    from llmengine.engine.files import load_engines
    from llmengine.integrations.chainette import chains, register_engine
    from llmengine.pipeline.step import read_objects
    from pytest_llmengine.cli.options import stdout
    from pytest_llmengine.cli.pipeline_run import engine_named, print_chain_report
    from pytest_llmengine.cli.progress import fetch_model

    if inputs is None:
        raise typer.BadParameter(
            f"{file} is a chain of Chainette, which has no inputs; add --input"
        )
    engines = {} if config is None else load_engines(config)
    chosen = None if engine is None else engine_named(engine, engines)
    chain = chains.load_chain(file, symbols_module, chosen)
    if chosen is not None:
        fetch_model(chosen)
    else:
        for engine_config in engines.values():
            register_engine(engine_config)
    report = chains.run_chain(chain, islice(read_objects(inputs), limit), out)
    print_chain_report(report, stdout())
    return report.exit_status


def _records(pipeline: Pipeline, file: Path | None) -> list[Record]:
    from llmengine.pipeline import read_records

    return pipeline.records() if file is None else read_records(file)
