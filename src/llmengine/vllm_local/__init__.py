"""``vllm.LLM`` in this process: one thread owns it, and every call goes through that thread."""
