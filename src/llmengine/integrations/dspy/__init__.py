"""DSPy 2.4.9 to 3.x over an engine; `dspy` itself is imported when the first LM is made."""

from llmengine.integrations.dspy.generation import Generation, installed_version

__all__ = ["Generation", "installed_version"]
