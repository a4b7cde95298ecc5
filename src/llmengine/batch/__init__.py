"""Files of requests in OpenAI's batch format, asked through any engine."""
