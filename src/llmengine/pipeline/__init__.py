"""Steps in a chain over many records, with a folder that keeps what each run did.

`Step` and `Chain` say what to ask, `run` and `resume` do it, `load_pipeline` reads it from YAML.
"""

from llmengine.pipeline.chain import Chain
from llmengine.pipeline.files import Pipeline, load_pipeline
from llmengine.pipeline.records import Record, read_records, to_records
from llmengine.pipeline.reporting import Report
from llmengine.pipeline.running import StepProgress, resume, run
from llmengine.pipeline.step import Step

__all__ = [
    "Chain",
    "Pipeline",
    "Record",
    "Report",
    "Step",
    "StepProgress",
    "load_pipeline",
    "read_records",
    "resume",
    "run",
    "to_records",
]
