"""An analysis of your own: TTFT quantiles per arm, paired ratios, one picture.

    python examples/own_analysis.py results/NAME picture.png

docs/results.md has the columns. For a verdict with intervals use `ttft report` or `ttft gate`.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import MaxNLocator

from harness.results import Measurement, load


def quantiles(run: Measurement) -> pd.DataFrame:
    """TTFT in milliseconds: one row per arm."""
    by_arm = run.counted.groupby("arm")["ttft_s"]
    return by_arm.quantile(pd.Series([0.5, 0.9, 0.95])).unstack().mul(1e3).rename(columns=lambda share: f"p{100 * share:g}")


def paired_ratios(run: Measurement, base: str) -> pd.DataFrame:
    """Median TTFT of each run over that of ``base`` in the same round: one row per round, one column per arm.

    The machine drifts; within a round it hardly does, so ratios are kept and milliseconds are not.
    """
    medians = run.counted.groupby(["round", "arm"])["ttft_s"].median().unstack()
    return medians.div(medians[base], axis=0).drop(columns=base)


def picture(ratios: pd.DataFrame, base: str, file: Path) -> None:
    """One point per round and arm; below 1 is faster than ``base``."""
    figure, axes = plt.subplots(layout="constrained")
    for arm, values in ratios.items():
        axes.plot(ratios.index.astype(int), values, "o-", label=str(arm))
    axes.axhline(1, color="grey")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="round", ylabel=f"median TTFT / {base}'s", ylim=(0, None))
    axes.legend()
    figure.savefig(file)
    plt.close(figure)


def main(folder: str, file: str) -> None:
    run = load(folder, spans=False)
    base = str(run.meta["arms"][0]["name"])
    ratios = paired_ratios(run, base)
    print(f"TTFT, ms\n{quantiles(run).round(1)}\n")
    print(f"TTFT / {base}'s, over {len(ratios)} rounds\n{ratios.describe().loc[['50%', 'min', 'max']].round(3)}")
    picture(ratios, base, Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
