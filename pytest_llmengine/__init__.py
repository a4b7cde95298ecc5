"""The pytest plugin and contract-test harness for LLM servers."""
