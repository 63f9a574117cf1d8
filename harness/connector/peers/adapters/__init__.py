"""What a peer lacks to run here; only vLLM loads it, in its processes."""
