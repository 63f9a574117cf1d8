"""Which way of fetching stored KV cache gives the user the lowest time to first token (TTFT)?

The same stored KV, fetched by two engines, timed by one clock:
workload -> replay -> vLLM -> connector -> engine -> store.
"""

__version__ = "0.1.0"
