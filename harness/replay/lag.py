"""Whether a run's times are those that were asked for: an open loop's schedule kept, no token held back. Pure."""

from collections.abc import Sequence

import numpy as np

LATE = 0.95
"""The quantile of the lag that is judged: one request in twenty may be later."""
LAG_SHARE = 0.10
"""It may reach this share of the median TTFT ..."""
LAG_S = 0.001
"""... or a millisecond, whichever is more."""


def allowed_lag_s(median_ttft_s: float) -> float:
    """What the judged quantile of the lag may reach, in seconds."""
    return max(LAG_S, LAG_SHARE * median_ttft_s)


def lag_reason(lags_s: Sequence[float], ttfts_s: Sequence[float]) -> str:
    """Empty where the schedule was kept; else why the run does not count. Seconds, one entry a request."""
    if not len(lags_s) or not len(ttfts_s):
        return ""
    lag, allowed = float(np.quantile(lags_s, LATE)), allowed_lag_s(float(np.median(ttfts_s)))
    if lag <= allowed:
        return ""
    return (
        f"the schedule lagged: a twentieth of the requests left over {1e3 * lag:.0f} ms late "
        f"({1e3 * allowed:.0f} ms are allowed), so the load was not the planned one; lower the rate"
    )


HELD_BACK_SHARE = 0.10
"""So much of the median TTFT may the first token wait on its way in the median request ..."""
HELD_BACK_S = 0.005
"""... or so long, whichever is more: a client that is busy now and then spoils no comparison."""


def held_back_reason(held_back_s: Sequence[float], ttfts_s: Sequence[float]) -> str:
    """Empty if first tokens came when they were made; else why the run does not count. Seconds, one entry per request."""
    if not len(held_back_s) or not len(ttfts_s):
        return ""
    held, ttft = float(np.median(held_back_s)), float(np.median(ttfts_s))
    if held <= max(HELD_BACK_S, HELD_BACK_SHARE * ttft):
        return ""
    old = f"the first token was {1e3 * held:.0f} ms old when it came" if np.isfinite(held) else "all tokens came at once"
    return (
        f"tokens are held back between server and client: in the median request {old}, so TTFT is not known; "
        "take away the proxy or its buffering, or give client and server more processors"
    )
