"""What DSPy reads when it is imported, set before any of these tests does."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="dspy-"))
os.environ.setdefault("DSP_CACHEBOOL", "false")
