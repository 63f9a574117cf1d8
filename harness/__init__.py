"""Compare ways of fetching stored KV cache by the time to first token they give.

The same stored KV, fetched by two engines, timed by one clock:
workload -> replay -> vLLM -> connector -> engine -> store.
"""

__version__ = "0.1.0"
