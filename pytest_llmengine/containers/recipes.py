"""How the server of a backend is run in a container: its image, port, command and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODELS = "/models"
"""The folder in every container that keeps its models; it suits images with any user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image of this kind of server expects; another image must expect the same.

    ``image`` is pinned, so that two runs test the same server. ``port`` is the one that it listens
    on inside the container. ``volume`` is the Docker volume that is mounted at MODELS; a variable
    of ``environment`` tells the server to keep its models there. ``model`` is the default, a small
    one. ``command`` follows the image's entry point. ``model_flag`` is the server's option for its
    model; a server without one gets the model by its own API, after it has started. ``needs_gpu``
    says that ``image`` does not start without a GPU.
    """

    image: str
    port: int
    volume: str
    environment: Mapping[str, str]
    model: str
    command: tuple[str, ...] = ()
    model_flag: str | None = None
    needs_gpu: bool = False

    def command_for(self, model: str, args: Sequence[str]) -> tuple[str, ...]:
        """The container's command for a model, with further arguments of the server."""
        of_model = () if self.model_flag is None else (self.model_flag, model)
        return (*self.command, *of_model, *args)


_RECIPES = {
    "ollama_api": Recipe(
        image="ollama/ollama:0.32.15",
        port=11434,
        volume="llmengine-ollama",
        # Pruning, a second server on the volume would delete what the first one is downloading.
        environment={"OLLAMA_MODELS": MODELS, "OLLAMA_NOPRUNE": "1"},
        model="smollm2:135m",
        command=("serve",),
    ),
    "vllm_api": Recipe(
        image="vllm/vllm-openai:v0.32.0",
        port=8000,
        volume="llmengine-huggingface",
        environment={"HF_HOME": MODELS},
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        # Understood by images that run `vllm serve` and by older ones alike.
        model_flag="--model",
        needs_gpu=True,
    ),
}

CONTAINED = tuple(_RECIPES)  # the backends that can be run in a container


def recipe_of(backend: str) -> Recipe | None:
    """How a backend's server is run, or None where it is not run in containers."""
    return _RECIPES.get(backend)
