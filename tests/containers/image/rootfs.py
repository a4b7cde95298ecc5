"""Writes the file system of the test image, as a tar, to standard output.

It has this Python with its standard library, the shared libraries that these need, and the mock
server with its packages, each at its place on this machine; so it needs no base image and no
registry.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("llmengine", "lazy_loader", "starlette", "uvicorn", "anyio", "sniffio", "h11", "idna",
            "click", "typing_extensions", "jsonschema", "jsonschema_specifications", "referencing",
            "rpds", "attr", "attrs")  # fmt: skip
UNUSED = {"test", "tests", "site-packages", "dist-packages", "idlelib", "ensurepip",
          "lib2to3", "tkinter", "turtledemo", "pydoc_data"}  # fmt: skip
APP = "app"


def main() -> None:
    """Write the tar."""
    python = Path(sys.executable).resolve()
    stdlib = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    packages = [located(package) for package in PACKAGES if find_spec(package)]
    extensions = [so for folder in stdlib for so in folder.glob("lib-dynload/*.so")]
    extensions += [so for folder in packages for so in folder.rglob("*.so")]
    needed = libraries([python, *extensions])
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as tar:
        for path in (python, *sorted(stdlib), *sorted(needed)):
            tar.add(path, filter=without_unused)
        for path in packages:
            tar.add(path, f"{APP}/{path.name}", filter=without_unused)
        tar.add(Path(__file__).with_name("serve.py"), f"{APP}/serve.py")


def located(package: str) -> Path:
    """The path of a package, or of a module that is a single file."""
    source = Path(str(find_spec(package).origin))
    return source.parent if source.name == "__init__.py" else source


def libraries(binaries: list[Path]) -> set[Path]:
    """The shared libraries that the dynamic linker finds for these files, and the linker."""
    listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    found = re.findall(r"(?:^\s|=> )\s*(/\S+) \(", listed.stdout, re.MULTILINE)
    return {Path(name) for name in found}


def without_unused(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what the mock server does not import."""
    return None if Path(member.name).name in UNUSED else member


main()
