"""Real graphs against onnxruntime, where the data are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ortrim.graph import load, to_torch, write_back
from ortrim.graph.run import example_inputs, run_as_written

MODELS = Path(__file__).parents[4] / "shared" / "data" / "models"
FILES = sorted(MODELS.glob("*/*.onnx"))
SIZES = {"yunet_s_dynamic": 64, "ppocr_mobile_v2_det": 64}
"""What free sizes become where 2 is too small."""
COARSE = {
    "squeezenet_fp16": "float16 in torch, float32 inside onnxruntime",
    "yolox_nano_416": "both are as far from float64",
    "yunet_n_320": "onnxruntime's Sigmoid of large negative numbers",
    "yunet_s_dynamic": "onnxruntime's Sigmoid of large negative numbers",
    "ppocr_mobile_v2_det": "onnxruntime's Sigmoid of large negative numbers is 0",
}
"""Why the last digits of an output differ; what counts for these is the difference to an output of about 1."""


@pytest.mark.skipif(not FILES, reason=f"there are no shared models: {MODELS}")
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_real_graph(path):
    model = load(path)
    inputs = example_inputs(model, free=SIZES.get(path.stem, 2))
    if path.stem == "silero_vad":  # the sampling rate chooses a branch
        inputs = {"input": example_inputs(model, free=512)["input"][:1], "sr": np.array(16000)}
        inputs["state"] = np.zeros((2, 1, 128), np.float32)
    module = to_torch(model)
    with torch.no_grad():
        found = module({name: torch.from_numpy(value) for name, value in inputs.items()})
    found = found if isinstance(found, tuple) else (found,)
    for ours, theirs in zip(found, run_as_written(model, inputs).values(), strict=True):
        scale = 10 if path.stem in COARSE else np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * float(scale))
    assert write_back(model, module).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )
