"""Chains of steps over many records; each run writes its prompts and answers to a folder.

`Step` and `Chain` define the prompts, `run` and `resume` send them, and `load_pipeline` reads them
from a YAML file.
"""

from llmengine.pipeline.files import Pipeline, load_pipeline
from llmengine.pipeline.run import StepProgress, resume, run
from llmengine.pipeline.run_folder import RunReport
from llmengine.pipeline.step import Chain, Record, Step, read_records, to_records

__all__ = [
    "Chain",
    "Pipeline",
    "Record",
    "RunReport",
    "Step",
    "StepProgress",
    "load_pipeline",
    "read_records",
    "resume",
    "run",
    "to_records",
]
