"""The conformance suite for both engines, in each way in which they can be set."""

import pytest
import torch

from harness.engines.chunkwise import Chunkwise
from harness.engines.layerwise import Layerwise
from harness.testing.engines import EngineTests


class TestChunkwise(EngineTests):
    engine = Chunkwise


class TestChunkwisePool(EngineTests):
    engine = Chunkwise
    options = {"pool": 3}


class TestChunkwiseBatched(EngineTests):
    engine = Chunkwise
    options = {"pool": "default", "batch": 2}


class TestChunkwiseStaged(EngineTests):
    engine = Chunkwise
    options = {"pool": 2, "staged": True}


class TestLayerwise(EngineTests):
    engine = Layerwise


class TestLayerwiseOneByOne(EngineTests):
    engine = Layerwise
    options = {"depth": 1, "readers": 1}


class TestLayerwiseInGroups(EngineTests):
    engine = Layerwise
    options = {"groups": "4", "batch": 3, "depth": 2}


class TestLayerwiseLoop(EngineTests):
    engine = Layerwise
    options = {"loops": 1}


class TestLayerwiseLoops(EngineTests):
    engine = Layerwise
    options = {"loops": 2, "readers": 5, "groups": "2", "staged": True}


class TestChunkwiseOnALateDevice(EngineTests):
    engine = Chunkwise
    options = {"pool": 3}
    device = "late"


class TestLayerwiseOnALateDevice(EngineTests):
    engine = Layerwise
    device = "late"


class TestLayerwiseLoopOnALateDevice(EngineTests):
    engine = Layerwise
    options = {"loops": 1, "groups": "2"}
    device = "late"


needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]


class TestChunkwiseOnCuda(EngineTests):
    pytestmark = needs_cuda
    engine = Chunkwise
    options = {"pool": 3}
    device = "cuda"


class TestLayerwiseOnCuda(EngineTests):
    pytestmark = needs_cuda
    engine = Layerwise
    device = "cuda"


class TestLayerwiseLoopOnCuda(EngineTests):
    pytestmark = needs_cuda
    engine = Layerwise
    options = {"loops": 1, "groups": "2"}
    device = "cuda"
