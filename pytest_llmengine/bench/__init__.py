"""What a run costs: latencies and throughput of a server at several rates of requests."""
