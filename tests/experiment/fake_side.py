"""A real worker (harness.ab.worker) over the engine that computes nothing. A program of its own, started by a driver."""

import sys
from typing import Any, cast

from fake_engine import FakeVllm

from harness.ab.worker import main
from harness.experiment import session

if __name__ == "__main__":
    cast(Any, session).InProcessEngine = FakeVllm()
    sys.exit(main())
