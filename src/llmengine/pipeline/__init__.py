"""Chains of steps over many records, with a folder that keeps what each run did.

`Step` and `Chain` say what to ask, `run` and `resume` run it, `load_pipeline` reads it from YAML.
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
