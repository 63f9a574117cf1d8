"""Made-up request rows in memory, with a known truth: for tests and simulations of statistics and gates."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.results import REQUEST_COLUMNS


def make_frame(
    ratios: Mapping[str, float],
    pairs: int = 8,
    prompts: int = 12,
    run_noise: float = 0.02,
    request_noise: float = 0.05,
    drift: float = 0.0,
    seed: int = 0,
    base_s: float = 0.25,
) -> pd.DataFrame:
    """Rows of ``results.Run.requests``: arm ``name`` takes ``ratios[name]`` times ``base_s`` seconds, and noise.

    The noises are standard deviations of logs, between runs and between requests of a run; prompts differ
    by a factor of their own that all runs share. ``drift`` is the log change from first to last run.
    Arms alternate A B B A. Hits and digests are those of a sound run.
    """
    generator = np.random.default_rng(seed)
    names = list(ratios)
    arms = [arm for pair in range(pairs) for arm in (names if pair % 2 == 0 else names[::-1])]
    runs = len(arms)
    level = run_noise * generator.standard_normal(runs) + drift * np.arange(runs) / max(runs - 1, 1)
    of_prompt = 0.2 * generator.standard_normal(prompts)
    logs = level[:, None] + of_prompt + request_noise * generator.standard_normal((runs, prompts))
    ttft = base_s * np.array([ratios[arm] for arm in arms])[:, None] * np.exp(logs)
    run = np.repeat(np.arange(runs), prompts)
    position = np.tile(np.arange(prompts), runs)
    ids = np.array([f"p{number}" for number in range(prompts)], dtype=object)
    known = {
        "run": run,
        "round": run // len(names),
        "position": position,
        "arm": np.array(arms, dtype=object)[run],
        "prompt": ids[position],
        "cache_state": "primed",
        "page_cache": "warm",
        "prompt_tokens": 1024,
        "expected_hit_tokens": 768,
        "hit_tokens": 768,
        "planned_s": 0.3 * position,
        "sent_s": 0.3 * position + 0.001,
        "ttft_s": ttft.ravel(),
        "output_tokens": 1,
        "output_digest": ids[position],
        "kv_digest": ids[position],
    }
    rows = pd.DataFrame(known, index=range(runs * prompts))
    empty = [name for name in REQUEST_COLUMNS if name not in rows]
    return rows.assign(**dict.fromkeys(empty, np.nan)).astype(dict(REQUEST_COLUMNS))[list(REQUEST_COLUMNS)]
