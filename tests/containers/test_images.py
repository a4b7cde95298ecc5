"""Images pulled from a registry on loopback, which is a few lines long."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pytest_llmengine.containers.docker import ContainerError, image_named, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient

    from conftest import Connection, RawServer, Request

pytestmark = pytest.mark.docker

TAG = "1"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    """One image behind the API of a registry; without its layer a pull starts and fails."""

    blobs: dict[str, bytes]
    manifest: bytes
    layer: str

    def __call__(self, request: Request, connection: Connection) -> None:
        """Answer one request."""
        *_, kind, name = request.path.split("/")
        manifests = {TAG: self.manifest, _digest(self.manifest): self.manifest}
        body = manifests.get(name) if kind == "manifests" else self.blobs.get(name)
        if request.path == "/v2/":
            connection.reply({})
        elif body is None:
            connection.reply({"errors": [{"code": "BLOB_UNKNOWN"}]}, status=404)
        else:
            head = {"Content-Type": _MANIFEST, "Docker-Content-Digest": _digest(body)}
            shown = b"" if request.method == "HEAD" else body
            connection.head(200, head | {"Content-Length": str(len(body))})
            connection.send(shown)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(data: bytes, media_type: str) -> dict[str, Any]:
    media = f"application/vnd.docker.{media_type}"
    return {"mediaType": media, "size": len(data), "digest": _digest(data)}


@pytest.fixture
def registry() -> Registry:
    """An image of one layer, an empty tar that no other pull has fetched."""
    tar = bytes(10240)
    layer = gzip.compress(tar)
    rootfs = {"type": "layers", "diff_ids": [_digest(tar)]}
    facts = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
    config = json.dumps(facts | {"author": uuid4().hex}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(config, "container.image.v1+json"),
        "layers": [_blob(layer, "image.rootfs.diff.tar.gzip")],
    }
    blobs = {_digest(config): config, _digest(layer): layer}
    return Registry(blobs, json.dumps(manifest).encode(), _digest(layer))


@pytest.fixture
def name(
    client: DockerClient, registry: Registry, raw_server: Callable[[Any], RawServer]
) -> Iterator[str]:
    """The image's name in that registry; the image is removed after the test."""
    server = raw_server(registry)
    yield f"{server.url.removeprefix('http://')}/tests/empty:{TAG}"
    for image in client.images.list(filters={"reference": "127.0.0.1:*/tests/empty"}):
        client.images.remove(image.id, force=True)


def test_image_is_pulled_once_with_progress(client: DockerClient, name: str) -> None:
    """A pull reports its bytes; a local image is not pulled again."""
    told: list[tuple[str, int, int]] = []

    pulled = image_named(client, name, lambda *progress: told.append(progress))
    again = image_named(client, name, lambda *progress: pytest.fail(str(progress)))

    assert again.id == pulled.id
    assert {what for what, *_ in told} == {f"pulling image {name}"}


def test_pull_that_breaks_off_is_an_error(
    client: DockerClient, registry: Registry, name: str
) -> None:
    """An error line in the stream of a started pull is noticed."""
    del registry.blobs[registry.layer]

    with pytest.raises(ContainerError, match="cannot be pulled") as raised:
        image_named(client, name, silent)

    assert name in str(raised.value)


def test_unknown_image_is_refused_at_once(client: DockerClient, name: str) -> None:
    """The error quotes the registry; nothing is retried."""
    unknown = name.replace(f":{TAG}", ":2")

    with pytest.raises(ContainerError) as raised:
        image_named(client, unknown, silent)

    assert f"the image {unknown} is not on this machine and cannot be pulled" in str(raised.value)
