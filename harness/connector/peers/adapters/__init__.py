"""What a peer lacks to run here; loaded by vLLM, in its processes, and by nobody else."""
