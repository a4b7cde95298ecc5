"""The labels by which our containers, and nobody else's, are known."""

from __future__ import annotations

ENGINE = "llmengine.engine"
MODEL = "llmengine.model"
FINGERPRINT = "llmengine.fingerprint"
KEPT = "llmengine.kept"  # stays until it is stopped by name; one without it belongs to a run
YES = "1"
CACHE = "llmengine.cache"  # of a volume: the models that containers have downloaded
RUN = "llmengine.run"
HOST = "llmengine.owner.host"
BOOT = "llmengine.owner.boot"
PID = "llmengine.owner.pid"
STARTED = "llmengine.owner.started"
