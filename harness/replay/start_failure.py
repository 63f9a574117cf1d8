"""Why vLLM did not start, or ended. Pure.

Its engine is a process of its own: the exception that reaches us says "see root cause above", and the cause is in the log.
"""

import re

from pydantic import ValidationError

_ERROR = re.compile(r"^(?:\([^)]*\) (?:ERROR .*?\] )?)?(?:[\w.]*(?:Error|Exception)|[\w.]+: error): (.+)$", re.MULTILINE)
_WORKER = re.compile(r"Worker failed with error ['\"](.*)['\"], please check the stack trace")
_DIED = re.compile(r"Worker proc (\S+) died unexpectedly \(exit code: (-?\d+)\)")
_ELSEWHERE = "root cause above"
_FIXES = {
    "Not enough allowed NUMA nodes": "set VLLM_CPU_OMP_THREADS_BIND to the cores of each rank, as 0|1 for two ranks",
}
"""What to do about a cause that vLLM tells without it."""


def start_failure(error: BaseException, log: str) -> str:
    """One line: what ``error`` says, or where that is no cause, the last error in ``log`` (of this start alone) that is one."""
    text = _first_of(error) if isinstance(error, ValidationError) else str(error).strip()
    said = text.splitlines()[0] if text else type(error).__name__
    if _ELSEWHERE not in said:
        return _with_fix(said)
    return last_cause(log) or said


def _first_of(error: ValidationError) -> str:
    """What is wrong; the first line of such an error only counts."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{where}: {message}" if where else message


def last_cause(log: str) -> str:
    """The last error in ``log`` that is a cause; empty where there is none."""
    causes = [cause for cause in _ERROR.findall(log) if _ELSEWHERE not in cause]
    if not causes:
        return ""
    inner = _WORKER.search(causes[-1])
    return _with_fix(inner[1] if inner else str(causes[-1]).strip())


def end_cause(log: str) -> str:
    """Why a vLLM that had started is gone, as its log says; empty where that does not."""
    died = _DIED.findall(log)
    if not died:
        return last_cause(log)
    name, code = died[-1]
    if code == "-9":
        return f"{name} was killed by signal 9, as Linux does where memory runs out; give vLLM and its connector less of it"
    return f"{name} was killed by signal {code[1:]}" if code.startswith("-") else f"{name} ended with exit code {code}"


def _with_fix(cause: str) -> str:
    for part, fix in _FIXES.items():
        if part in cause:
            return f"{cause.rstrip('. ')}; {fix}"
    return cause
