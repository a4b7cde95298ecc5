"""Which DSPy is installed, and what that means for its language models."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmengine.integrations.dspy import Generation, installed_version


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        ("2.4.9", Generation.LEGACY),
        ("2.5.0", Generation.FORWARD),
        ("3.1.2", Generation.FORWARD),
        ("3.4.0rc1", Generation.ENGINE),
        ("3.10.0", Generation.ENGINE),
        ("4.0", Generation.ENGINE),
    ],
)
def test_a_version_belongs_to_one_generation(version: str, generation: Generation) -> None:
    """Versions are compared as numbers."""
    assert Generation.of(version) is generation


def test_the_version_is_that_of_the_installed_package() -> None:
    """The version is in the metadata, under either name of the distribution."""
    dspy = pytest.importorskip("dspy", reason="DSPy is missing; run: nox -s dspy-latest")
    assert installed_version() == getattr(dspy, "__version__", "2.4.9")


def test_dspy_is_imported_when_the_first_model_is_made() -> None:
    """An import of the integration does not import DSPy, which is slow."""
    code = "import sys, llmengine.integrations.dspy; sys.exit('dspy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
