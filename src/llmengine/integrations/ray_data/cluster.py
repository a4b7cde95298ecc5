"""The one place that calls Ray: parts go out to a pool of actors and come back asked."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llmengine.integrations.ray_data.part_asker import PartAsker
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from llmengine.integrations.ray_data.parts import AskedPart, Part


def need_ray() -> None:
    """Raise ConfigError that says how to get Ray Data where it is not installed."""
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ConfigError("Ray Data is missing; run: pip install 'pytest-llmengine[ray]'")


def on_actors(
    parts: Iterable[Part], asker: Mapping[str, Any], actors: int, options: Mapping[str, Any]
) -> Iterator[AskedPart]:
    """The parts in the order in which the actors finish them.

    ``asker`` holds the arguments of PartAsker, ``options`` those of ``Dataset.map``.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional
    import ray  # noqa: PLC0415 - optional

    # One block a part, put into Ray's store as it is read, so that no input is too long.
    blocks = [ray.put(pa.table({"part": [pickle.dumps(part)]})) for part in parts]
    if not blocks:
        return
    dataset = ray.data.from_arrow_refs(blocks).map(
        PartAsker,
        fn_constructor_kwargs=asker,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(blocks))),
        **options,
    )
    for row in dataset.iter_rows():
        yield pickle.loads(row["part"])  # nosec B301  # noqa: S301 - from our own actors
