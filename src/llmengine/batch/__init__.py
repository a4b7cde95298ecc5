"""Files of requests in OpenAI's batch format, sent through any engine."""
