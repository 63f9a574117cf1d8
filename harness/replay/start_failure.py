"""Why vLLM did not start. Pure.

Its engine is a process of its own: the exception that reaches us says "see root cause above", and the cause is in the log.
"""

import re

_ERROR = re.compile(r"^(?:\([^)]*\) (?:ERROR .*?\] )?)?(?:[\w.]*(?:Error|Exception)|[\w.]+: error): (.+)$", re.MULTILINE)
_WORKER = re.compile(r"Worker failed with error ['\"](.*)['\"], please check the stack trace")
_ELSEWHERE = "root cause above"


def start_failure(error: BaseException, log: str) -> str:
    """One line: what ``error`` says, or where that is no cause, the last error in ``log`` (of this start alone) that is one."""
    text = str(error).strip()
    said = text.splitlines()[0] if text else type(error).__name__
    if _ELSEWHERE not in said:
        return said
    return last_cause(log) or said


def last_cause(log: str) -> str:
    """The last error in ``log`` that is a cause; empty where there is none."""
    causes = [cause for cause in _ERROR.findall(log) if _ELSEWHERE not in cause]
    if not causes:
        return ""
    inner = _WORKER.search(causes[-1])
    return inner[1] if inner else str(causes[-1]).strip()
