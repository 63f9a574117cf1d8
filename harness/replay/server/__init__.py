"""A vLLM server that carries our connector: what it tells its clients, how it is started and ended."""
