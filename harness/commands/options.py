"""Options that several commands take, each with one help text: types of their parameters."""

from pathlib import Path
from typing import Annotated

import typer


def _experiments() -> list[str]:
    """For the shell's completion."""
    from harness.experiment.settings import named_experiments

    return sorted(named_experiments())


Named = Annotated[
    str, typer.Argument(help="name of an experiment (ttft list experiments) or a TOML file", autocompletion=_experiments)
]
Arms = Annotated[
    list[str] | None,
    typer.Option(help="engine spec, e.g. layerwise:depth=4, or target:URL,name=a; give several; the first is the base"),
]
Store = Annotated[str | None, typer.Option(help="URL of the store, e.g. file:///tmp/kv")]
Workload = Annotated[str | None, typer.Option(help="workload spec, e.g. shared_prefix:prefix=4096,suffix=128")]
Pairs = Annotated[int | None, typer.Option(help="rounds; a round is one run of every arm")]
Model = Annotated[str | None, typer.Option(help="builtin[:option=value], a local folder, or a hub name")]
Dtype = Annotated[str | None, typer.Option(help="auto, bfloat16, float16 or float32")]
CacheState = Annotated[str | None, typer.Option(help="primed or natural")]
PageCache = Annotated[str | None, typer.Option(help="warm or dropped")]
Concurrency = Annotated[int | None, typer.Option(help="concurrent requests")]
Target = Annotated[
    str | None, typer.Option(help="http://HOST:PORT of a running server (ttft serve); its key is the variable TTFT_API_KEY")
]
SpanLog = Annotated[Path | None, typer.Option(help="folder of the target's span log, if it is not found by itself")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="any other setting, KEY=VALUE, also workload.OPTION=VALUE (ttft list settings)"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON only (docs/json.md); all else goes to stderr")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")]
