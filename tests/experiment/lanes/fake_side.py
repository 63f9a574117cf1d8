"""A real worker (harness.experiment.lanes.worker) over the engine that computes nothing: a program of its own."""

import sys
from typing import Any, cast

from fake_engine import FakeVllm

from harness.experiment import session
from harness.experiment.lanes.worker import main

if __name__ == "__main__":
    cast(Any, session).InProcessEngine = FakeVllm()
    sys.exit(main())
