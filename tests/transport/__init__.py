"""HTTP transports: what each of them does with requests, answers and connections."""
