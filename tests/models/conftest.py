from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest


@pytest.fixture
def run_onnx() -> Callable[[Path, np.ndarray], list[np.ndarray]]:
    """Run a model with one input in onnxruntime, on one thread."""

    def run(path: Path, batch: np.ndarray) -> list[np.ndarray]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: batch})

    return run
