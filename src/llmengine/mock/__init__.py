"""The reference implementation of the contract: a deterministic LLM server on loopback."""
