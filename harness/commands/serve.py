"""``ttft serve``: vLLM's OpenAI-compatible server with our connector and all arms of an experiment."""

import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from harness.commands.measuring import end_as_by_ctrl_c
from harness.commands.options import Arms, DryRun, Dtype, Model, Named, Settings, Store
from harness.commands.terminal import console
from harness.core.errors import RunError, SetupError, UsageError
from harness.core.renamed import store_note

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment.plan import Setting
    from harness.replay.in_process import EngineSettings

LOG = "server.log"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
STORE = "TTFT_STORE"
"""The environment variable that holds the store's URL for the server's processes."""


def serve(
    experiment: Named = "default",
    arm: Arms = None,
    store: Store = None,
    workload: Annotated[str | None, typer.Option(help="workload spec; its longest prompt must fit")] = None,
    model: Model = None,
    dtype: Dtype = None,
    setting: Settings = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 8000,
    out: Annotated[
        Path | None, typer.Option(help="folder of the log and the span log; must be new [default: results/<time>-serve]")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Serve all arms of an experiment until Ctrl-C or SIGTERM (exit 0); 2 if the server does not start, or dies."""
    from harness.experiment.dotted import experiment_of
    from harness.experiment.plan import settle
    from harness.experiment.session import engine_settings
    from harness.experiment.settings import given_settings, read_experiment
    from harness.replay.server.about import SPAN_LOG
    from harness.replay.server.arguments import api_server_command

    flags: dict[str, Any] = {"arms": arm or None, "store": store, "workload": workload, "model": model, "dtype": dtype}
    asked = experiment_of(read_experiment(experiment), flags, given_settings(setting or []))
    if note := store_note(asked.store):
        typer.echo(note, err=True)
    settled = settle(asked)
    settled.without_peers("ttft serve")
    if settled.experiment.target:
        raise UsageError("ttft serve starts the server itself; remove target, and give it to ttft compare")
    folder = out or Path("results") / f"{datetime.now():%Y%m%d-%H%M%S}-serve"
    if folder.exists() and any(folder.iterdir()):
        raise SetupError(f"{folder} is not empty; give another --out")
    settings = served(engine_settings(settled, settled.dtype, folder / SPAN_LOG, save=True))
    command = api_server_command(settings, host, port, settled.model.name)
    if dry_run:
        typer.echo(shlex.join(command))
        return
    _serve(settled, folder, command, host, port)


def served(settings: "EngineSettings") -> "EngineSettings":
    """The settings as a server needs them: no secret on the command line."""
    from dataclasses import replace

    from harness.core.text import redact

    if redact(settings.connector["store"]) == settings.connector["store"]:
        return settings
    return replace(settings, connector={**settings.connector, "store": f"${STORE}"})


def _serve(setting: "Setting", folder: Path, command: list[str], host: str, port: int) -> None:
    from harness.replay.server.process import check_free, running
    from harness.replay.start_failure import last_cause

    check_free(host, port)
    environment = _prepared(setting, folder)
    log = folder / LOG
    end_as_by_ctrl_c()
    say = console()
    say.print(f"Starting vLLM; its log is {escape(str(log))}", soft_wrap=True)
    if host not in LOOPBACK and not environment.get("VLLM_API_KEY"):
        say.print(f"Whoever reaches {host}:{port} can use this server; set TTFT_API_KEY to ask for a key", soft_wrap=True)
    try:
        with running(command, environment, log) as server:
            if not server.until_ready(host, port):
                reason = (
                    last_cause(log.read_text(encoding="utf-8", errors="replace")) or f"it ended with exit code {server.code()}"
                )
                raise SetupError(f"vLLM did not start with model {setting.model.name}: {reason}; its log is {log}")
            _tell(setting, say, host, port)
            code = server.until_ended()
        raise RunError(f"the server ended by itself (exit code {code}); its log is {log}")
    except KeyboardInterrupt:
        say.print("Stopped; what was saved stays in the store.")


def _prepared(setting: "Setting", folder: Path) -> dict[str, str]:
    """The folder with what the server says of itself, and the server's environment."""
    from harness.core.machine import boot_id
    from harness.core.text import redact
    from harness.experiment import record as environment
    from harness.replay.server.about import SPAN_LOG, VARIABLE, About
    from harness.replay.target_url import KEYS

    experiment = setting.experiment
    about = About(
        store=redact(experiment.store),
        arms=setting.served_arms,
        chunk_tokens=experiment.chunk_tokens,
        layout=experiment.layout,
        max_model_len=setting.max_model_len,
        folder=str(folder.resolve()),
        boot=boot_id(),
        versions=environment.versions(),
        machine=environment.machine(),
        binding=environment.binding(),
    )
    (folder / SPAN_LOG).mkdir(parents=True, exist_ok=True)
    about.write(folder)
    # As for vLLM in this process: no fork under the clients of stores, and no usage report.
    told = {"VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    told |= {**setting.model.environment, **os.environ, VARIABLE: about.folder}
    told[STORE] = experiment.store
    if key := os.environ.get(KEYS[0]):
        told.setdefault("VLLM_API_KEY", key)
    return told


def _tell(setting: "Setting", say: "Console", host: str, port: int) -> None:
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say.print(f"Serving {setting.model.name} at {place} with {', '.join(setting.served_arms)}", soft_wrap=True, markup=False)
    say.print(
        f"Measure it from another terminal: ttft compare --target {place}, with the same settings. Ctrl-C ends it.",
        soft_wrap=True,
    )
