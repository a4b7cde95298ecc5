"""Who answers at an address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A server as it describes itself; what it does not tell is None.

    ``version`` is the server program's. ``model`` is the name it answers to: the engine's, or the
    only one that is served where the engine has none. ``models`` are all names that it lists.
    ``root`` is what the name stands for, such as a folder or a hub's name. ``max_model_len`` is
    the context in tokens. ``model_digest`` is a hash of the weights. Two answers can be compared
    when the fingerprints of their servers are equal but for ``url``.
    """

    url: str
    version: str | None = None
    model: str | None = None
    models: tuple[str, ...] | None = None
    root: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None
    model_digest: str | None = None
