"""The Docker labels of our containers and volumes; other containers do not have them."""

from __future__ import annotations

ENGINE = "llmengine.engine"
MODEL = "llmengine.model"
FINGERPRINT = "llmengine.fingerprint"
# A container with this label stays until it is stopped by name; one without it belongs to a run.
KEPT = "llmengine.kept"
YES = "1"
CACHE = "llmengine.cache"  # on volumes, which hold the models that containers have downloaded
RUN = "llmengine.run"
HOST = "llmengine.owner.host"
BOOT = "llmengine.owner.boot"
PID = "llmengine.owner.pid"
STARTED = "llmengine.owner.started"
