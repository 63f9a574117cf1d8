"""The experiment: prime, prove correct, warm up, replay in turns, append every sample at once."""
