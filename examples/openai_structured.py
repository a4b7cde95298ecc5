"""Get a structured answer from OpenAI: a nested pydantic model instead of text.

If OPENAI_API_KEY is set, this calls OpenAI (model: OPENAI_MODEL, else gpt-4.1-mini) and costs a
fraction of a cent. Otherwise it calls the mock server of this package.

    pip install 'pytest-llmengine[openai]'
    python examples/openai_structured.py
"""

import os
from typing import Literal

from pydantic import BaseModel, Field

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import MockServer, Script


class Ingredient(BaseModel):
    """An ingredient and its amount."""

    name: str
    grams: int = Field(gt=0)


class Recipe(BaseModel):
    """A recipe that fits one pan."""

    title: str
    difficulty: Literal["easy", "fair", "hard"]
    ingredients: list[Ingredient]
    tip: str | None = None


QUESTION = "A recipe for pancakes with at most four ingredients."
MOCKED = Recipe(
    title="Pancakes",
    difficulty="easy",
    ingredients=[Ingredient(name="flour", grams=250), Ingredient(name="milk", grams=400)],
)


def ask(config: EngineConfig) -> None:
    """Print the recipe, the step of structured output that gave it, and its tokens."""
    (output,) = config.engine.generate(
        QUESTION, SamplingParams(max_tokens=800), output_model=Recipe
    )
    recipe: Recipe = output.parsed
    print(f"{recipe.title} ({recipe.difficulty})")
    for ingredient in recipe.ingredients:
        print(f"  {ingredient.grams:5d} g {ingredient.name}")
    print(f"asked by {output.schema_strategy}, {output.usage.total_tokens} tokens")


def main() -> None:
    """Call OpenAI, or the mock server if there is no key."""
    if os.environ.get("OPENAI_API_KEY"):
        model = os.environ.get("OPENAI_MODEL", "gpt-4.1-mini")
        config = EngineConfig(backend="openai", model=model)
        print(f"live: {config.engine.base_url}, {model}")
        ask(config)
        return
    print("mock: no OPENAI_API_KEY is set, so the mock server answers")
    with MockServer(model="gpt-mock", script=Script([MOCKED.model_dump_json()])) as server:
        # Other servers than OpenAI's get a probe first; the mock server enforces schemas anyway.
        ask(
            EngineConfig(
                backend="openai",
                model="gpt-mock",
                endpoint=server.base_url,
                structured="json_schema",
            )
        )


if __name__ == "__main__":
    main()
