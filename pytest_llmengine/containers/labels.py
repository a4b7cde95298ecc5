"""The Docker labels of the containers and volumes that this package makes."""

from __future__ import annotations

ENGINE = "llmengine.engine"
MODEL = "llmengine.model"
FINGERPRINT = "llmengine.fingerprint"
# A container with this label runs until it is stopped by name; one without it belongs to a run.
KEPT = "llmengine.kept"
YES = "1"
CACHE = "llmengine.cache"  # on the volumes of the models that containers have downloaded
RUN = "llmengine.run"
HOST = "llmengine.owner.host"
BOOT = "llmengine.owner.boot"
PID = "llmengine.owner.pid"
STARTED = "llmengine.owner.started"
