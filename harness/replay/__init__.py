"""Sending prompts to vLLM and timing what comes back."""
