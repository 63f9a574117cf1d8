"""What stands in a run's folder: the versions, and the columns with their types and meanings."""

from collections.abc import Mapping

SCHEMA = (2, 1)
"""Major, minor. A new column is a minor version; a changed name or meaning is a major one, refused by older readers."""

RENAMED: Mapping[str, str] = {"pair": "round"}
"""Columns of schema 1, and what they are called since: all that differs, so files of schema 1 are read as well."""

REQUEST_COLUMNS: Mapping[str, str] = {
    "run": "Int64",  # number of the run, from 0, in time order
    "round": "Int64",  # number of the round that the run belongs to; one run of each arm makes a round
    "position": "Int64",  # place of the request in its run, from 0
    "arm": "string",  # the arm as the user wrote it
    "cache_state": "string",  # primed or natural
    "page_cache": "string",  # warm, dropped or unknown
    "prompt": "string",  # id in the data set
    "prompt_tokens": "Int64",
    "expected_hit_tokens": "Int64",  # what the workload implies for this arm
    "hit_tokens": "Int64",  # what vLLM reports as cached
    "planned_s": "float64",  # on the run's clock
    "sent_s": "float64",  # on the run's clock; minus planned_s it is the lag
    "ttft_s": "float64",  # at the client, from sending to the first token
    "server_ttft_s": "float64",  # vLLM's own first-token latency
    "queue_s": "float64",  # vLLM: from queued to first scheduled
    "lookup_s": "float64",  # asking the store what it holds, hashing included
    "load_s": "float64",  # from the first fetch to the last byte in place
    "stall_s": "float64",  # what the forward waited for loads
    "compute_s": "float64",  # from scheduled to first token, minus lookup_s and stall_s
    "tpot_s": "float64",  # time per output token after the first (schema 1.1)
    "itl_max_s": "float64",  # the longest gap between two outputs (schema 1.1)
    "e2e_s": "float64",  # to the last token
    "output_tokens": "Int64",
    "operations": "Int64",  # store calls of the retrieval
    "keys": "Int64",  # objects read in them
    "bytes": "Int64",  # bytes fetched
    "how": "string",  # how an arm that chooses loaded it, as an arm that always does that (schema 2.1)
    "why": "string",  # its reason (schema 2.1)
    "output_digest": "string",  # of the tokens
    "kv_digest": "string",  # of the sampled KV blocks
    "void": "string",  # why the row does not count
    "error": "string",  # what failed
}

RUN_COLUMNS: Mapping[str, str] = {
    "run": "Int64",  # as in requests
    "round": "Int64",  # as in requests
    "arm": "string",  # as in requests
    "started": "string",  # UTC, ISO 8601
    "done": "boolean",  # false: it was interrupted
    "void": "string",  # why the run does not count; empty if it does
}

SPAN_COLUMNS: Mapping[str, str] = {
    "run": "Int64",
    "request": "string",  # the prompt's id
    "layer": "Int64",  # -1: all layers
    "kind": "string",  # lookup, fetch, copy, wait, forward
    "start_s": "float64",  # time.perf_counter of the machine
    "end_s": "float64",
    "bytes": "Int64",
    "keys": "Int64",  # objects read in the store call
}
