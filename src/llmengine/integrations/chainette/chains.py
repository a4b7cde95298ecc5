"""Loads Chainette's YAML chains with Chainette and runs them on our engines."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from llmengine.engine.files import read_yaml
from llmengine.integrations.chainette import (
    SkippedItem,
    SkippedItemsWarning,
    collect_skipped,
    install,
)
from llmengine.pipeline.files import names_objects
from llmengine.pipeline.run_folder import RunFolder
from llmengine.types.errors import ConfigError, LLMEngineError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from chainette import Chain
    from pydantic import BaseModel

    from llmengine.engine.engine import EngineConfig


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The result of a run: its folder, the number of inputs, and the items that it skipped."""

    folder: Path
    items: int
    skipped: list[SkippedItem]

    @property
    def answered(self) -> int:
        """The number of items that every step answered."""
        return self.items - len({item.row_id for item in self.skipped})

    @property
    def exit_status(self) -> int:
        """0 if nothing was skipped, else 1."""
        return 1 if self.skipped else 0


def is_chain_file(path: str | os.PathLike[str]) -> bool:
    """Whether a YAML file is a Chainette chain; raises ConfigError if it cannot be read."""
    return names_objects(read_yaml(Path(path), "a pipeline"))


def load_chain(
    path: str | os.PathLike[str],
    symbols_module: str | None = None,
    engine: EngineConfig | None = None,
) -> Chain:
    """Load a chain file as Chainette's ``Chain`` on our engines; see `install` for ``engine``.

    The names in the file are ``package.module:name``, or names in ``symbols_module``. Raises
    ConfigError that says which part of the file cannot be loaded.
    """
    try:
        install(engine)
    except ConfigError as error:
        msg = f"{path}: its steps are names of objects, so it is a chain of Chainette: {error}"
        raise ConfigError(msg) from error
    from chainette.yaml_loader import load_chain as load  # noqa: PLC0415 - Chainette is optional

    symbols: Mapping[str, object] = {}
    if symbols_module is not None:
        with _loading(f"{path}: the module {symbols_module!r}"):
            symbols = vars(import_module(symbols_module))
    with _loading(str(path)):
        return load(path, symbols=symbols)


def run_chain(
    chain: Chain, rows: Iterable[tuple[str, Mapping[str, object]]], out: str | os.PathLike[str]
) -> ChainReport:
    """Run a Chainette chain over rows and write the results to a new folder below `out`.

    The first item of each row says in messages where the row is from. The folder holds what
    Chainette writes and the file of skipped items. Raises ConfigError if there are no rows, and
    ConfigError that names the row if the first step does not accept it.
    """
    from chainette.engine.broker import EngineBroker  # noqa: PLC0415 - Chainette is optional

    model = _input_model(chain)
    inputs = [_input_of(model, fields, where) for where, fields in rows]
    if not inputs:
        raise ConfigError("there are no inputs; give at least one")
    folder = RunFolder.create(out, chain.name).path
    with collect_skipped() as skipped, warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore", SkippedItemsWarning)  # the report lists them
        try:
            chain.run(inputs, output_dir=folder)
        finally:
            EngineBroker.flush(force=True)
    return ChainReport(folder, len(inputs), skipped)


def _input_model(chain: Chain) -> type[BaseModel] | None:
    """The input model of the first node; None if it does not declare one."""
    first = chain.steps[0]
    while isinstance(first, list) or hasattr(first, "steps"):
        first = first[0] if isinstance(first, list) else first.steps[0]
    return getattr(first, "input_model", None)


def _input_of(
    model: type[BaseModel] | None, fields: Mapping[str, object], where: str
) -> BaseModel | Mapping[str, object]:
    if model is None:
        return fields
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or model.__name__
        raise ConfigError(f"{where}: is not a {model.__name__}: {place}: {first['msg']}") from error


@contextmanager
def _loading(where: str) -> Iterator[None]:
    """Name the place in the error if the user's Python code fails while it is loaded."""
    try:
        yield
    except LLMEngineError:
        raise
    except Exception as error:
        msg = f"{where}: cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error
