"""The contract: rules for LLM servers, each written as a function that checks a target."""
