"""The contract: rules that an LLM server keeps or breaks, each a plain function of a target."""
