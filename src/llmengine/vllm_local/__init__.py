"""``vllm.LLM`` in this process. One thread owns it, and every call goes through that thread."""
