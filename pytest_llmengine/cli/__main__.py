"""``python -m pytest_llmengine.cli`` is the ``llmengine`` command."""

from __future__ import annotations

import sys

from pytest_llmengine.cli.app import main

sys.exit(main())
