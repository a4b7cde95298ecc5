"""Drivers: objects by which checks send their requests through a client library."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target


@dataclass(frozen=True, slots=True)
class Package:
    """A client library with its minimum version, and the command that installs it."""

    name: str
    since: tuple[int, int]
    install: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``openai>=2.1``; raises ValueError for another form."""
        name, found, since = text.partition(">=")
        if not name or not found:
            raise ValueError(f"{text!r} is not a name and a version such as openai>=2.1")
        return cls(name, _release(since))

    def __str__(self) -> str:
        major, minor = self.since
        return f"{self.name}>={major}.{minor}"

    @property
    def installed(self) -> str:
        """The installed release, such as ``openai-2.1``; patch versions share their recordings."""
        major, minor = _release(version(self.name))
        return f"{self.name}-{major}.{minor}"

    @property
    def missing(self) -> str:
        """Why it cannot be used here and how to install it; "" if it can be used."""
        install = self.install or f"pip install '{self}'"
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


class Driver:
    """Sends the requests of a check by other means than raw HTTP, such as a client library.

    A check that names a subclass is called with an instance of it in place of the target. The
    instance is made from the target for one check, and closed after it. The requests must go to the
    target's ``base_url``: a recorder or replayer may listen there.

    ``package`` is a client library that the driver needs; without it the checks are unmeasured.
    """

    package: ClassVar[Package | None] = None

    def __init__(self, target: Target) -> None:
        self.target = target

    @classmethod
    def missing(cls) -> str:
        """Why the driver cannot be used in this installation; "" if it can."""
        return cls.package.missing if cls.package else ""

    @classmethod
    def recordings(cls) -> str:
        """The name of the subfolder for its recordings; "" for the folder of the engine.

        The default is the installed release of ``package``, because another release may send other
        requests. Then a check without a recording is unmeasured: there may be a recording of
        another release.
        """
        return cls.package.installed if cls.package else ""

    def close(self) -> None:
        """Close what the driver has opened; called after the check, also if the check failed."""
