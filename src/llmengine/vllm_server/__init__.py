"""What vLLM's server has beyond chat: its tokenizer, and words that it takes and ignores."""
