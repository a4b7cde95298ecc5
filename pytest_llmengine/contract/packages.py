"""Packages that some checks drive, and that an installation may lack."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Self


@dataclass(frozen=True, slots=True)
class Package:
    """A client library from a version on; the extra of ours that brings it has its name."""

    name: str
    since: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The package in a text such as ``dspy>=3.4``; raises ValueError for any other."""
        name, found, since = text.partition(">=")
        if not name or not found:
            raise ValueError(f"{text!r} is not a name and a version such as dspy>=3.4")
        return cls(name, _release(since))

    def __str__(self) -> str:
        major, minor = self.since
        return f"{self.name}>={major}.{minor}"

    @property
    def installed(self) -> str:
        """Which release is here, such as ``dspy-3.4``: what it sends is the same within one."""
        major, minor = _release(version(self.name))
        return f"{self.name}-{major}.{minor}"

    @property
    def missing(self) -> str:
        """Why checks cannot drive it here and how to get it, "" where they can."""
        install = f"pip install 'pytest-llmengine[{self.name}]'"
        try:
            here = version(self.name)
        except PackageNotFoundError:
            return f"{self} is not installed: {install}"
        if _release(here) < self.since:
            return f"{self.name} {here} is installed, and this drives {self}: {install}"
        return ""


def _release(text: str) -> tuple[int, int]:
    """The first two numbers of a version."""
    major, minor = (int(part) for part in text.split(".")[:2])
    return major, minor


DSPY = Package("dspy", (3, 1))
