"""What the tests of this project and of engines, stores and workloads elsewhere build on."""

import pytest

# So that a failing assert of a suite shows its values, as in a test file. Has to come before the import.
pytest.register_assert_rewrite(
    "harness.testing.engine_loads",
    "harness.testing.engines",
    "harness.testing.fault_matrix",
    "harness.testing.small_kv",
    "harness.testing.stores",
    "harness.testing.workloads",
)
