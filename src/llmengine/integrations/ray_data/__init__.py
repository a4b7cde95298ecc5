"""Engines inside Ray Data, which distributes the work.

`EngineMapper` is the class for ``Dataset.map_batches``. `run_batch` runs a batch file on many
actors and can resume it. Only `run_batch` imports Ray.
"""

from llmengine.integrations.ray_data.batch import run_batch
from llmengine.integrations.ray_data.mapper import EngineMapper

__all__ = ["EngineMapper", "run_batch"]
