"""A real worker (harness.experiment.lanes.worker) over the engine that computes nothing: a program of its own."""

import sys
from pathlib import Path
from typing import Any, cast

from harness.experiment import session
from harness.experiment.lanes.worker import main

sys.path.append(str(Path(__file__).parents[2] / "support"))
from fake_engine import FakeVllm

if __name__ == "__main__":
    cast(Any, session).InProcessEngine = FakeVllm()
    sys.exit(main())
