"""Engines inside Ray Data, which does all of the distribution.

`EngineMapper` is the class for ``Dataset.map_batches``; `run_batch` asks a batch file on many
actors and resumes. Ray itself is imported by `run_batch` alone.
"""

from llmengine.integrations.ray_data.batch import run_batch
from llmengine.integrations.ray_data.mapper import EngineMapper

__all__ = ["EngineMapper", "run_batch"]
