"""DSPy 2.4 keeps settings by thread id, and Python gives ids of ended threads to new ones."""

from __future__ import annotations

import threading


def purge_dead_threads() -> int:
    """Forget the settings of threads that have ended; how many there were.

    Without it a new thread that is given an old id runs with the language model that was
    configured then. Call it before starting threads, on 2.4; later DSPys have no such list.
    """
    import dspy  # noqa: PLC0415 - only where it is used

    stacks = getattr(dspy.settings, "stack_by_thread", {})
    alive = {thread.ident for thread in threading.enumerate()}
    dead = [ident for ident in list(stacks) if ident not in alive]
    for ident in dead:
        stacks.pop(ident, None)
    return len(dead)
