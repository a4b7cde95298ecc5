"""DSPy 2.4's own client of OpenAI-compatible servers, kept from asking the wrong one."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Self

import dspy
import openai

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine

_NO_KEY = "EMPTY"  # the SDK refuses to send nothing
_HEADER = "X-LLMEngine-Server"


class NativeOpenAI(dspy.OpenAI):  # type: ignore[misc]  # dspy has no types
    """``dspy.OpenAI`` at one server.

    It sets the address of the whole process: the one that was made last decides where all of them
    ask. This one says so instead of asking another's server. Its cache does not look at the
    address, so that goes along in a header, which the cache does look at.
    """

    def __init__(self, engine: Engine, **arguments: Any) -> None:
        # Without the slash the SDK would replace the last part of the path.
        self.address = f"{engine.base_url}/"
        headers = {_HEADER: engine.root_url} | arguments.pop("extra_headers", {})
        super().__init__(
            engine.model,
            api_key=engine.api_key or _NO_KEY,
            api_base=self.address,
            model_type="chat",
            extra_headers=headers,
            **arguments,
        )

    def basic_request(self, prompt: str, **kwargs: Any) -> Any:
        """Ask, if the process still asks this server."""
        if str(openai.base_url) != self.address:
            raise ConfigError(
                f"another dspy.OpenAI has turned this process to {openai.base_url}, so that this "
                f"one would not ask {self.address}; DSPy 2.4 keeps one address a process: use "
                "to_lm(), which keeps its own"
            )
        return super().basic_request(prompt, **kwargs)

    def copy(self, **kwargs: Any) -> Self:
        """A copy with other parameters, at the same server."""
        twin = copy(self)
        twin.kwargs = self.kwargs | kwargs
        twin.history = []
        return twin

    def __json__(self) -> str:
        """What `module.save` writes of it: nothing, so that a loaded program asks the settings."""
        return "null"
