"""Every fault that the matrix tries, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bodies import BODIES
from .connections import CONNECTIONS
from .encodings import ENCODINGS
from .framing import FRAMING
from .headers import HEADERS
from .statuses import STATUSES
from .streams import STREAMS

if TYPE_CHECKING:
    from ..fault import Fault

KINDS: dict[str, tuple[Fault, ...]] = {
    "Connections": CONNECTIONS,
    "Framing": FRAMING,
    "Status lines and headers": HEADERS,
    "Statuses": STATUSES,
    "Encodings": ENCODINGS,
    "Bodies": BODIES,
    "Streams": STREAMS,
}
FAULTS: dict[str, Fault] = {fault.name: fault for kind in KINDS.values() for fault in kind}
