"""The demo model: a classifier of handwritten digits, the images behind it, and the script that trained it.

`data` makes the two splits, `net` is the architecture, `train` trains it and writes the ONNX file. ATTRIBUTION.md says
where the images come from.
"""

from pathlib import Path

__all__ = ["MODEL", "TEST", "TRAIN"]

MODEL = Path(__file__).with_name("digits.onnx")
"""The trained classifier: `input` (batch, 1, 8, 8), pixels / 255 -> `output` (batch, 10), logits."""
TRAIN = Path(__file__).with_name("digits_train.npz")
"""1,297 labelled images: `images` uint8 (N, 8, 8, 1), `labels` int64 (N,)."""
TEST = Path(__file__).with_name("digits_test.npz")
"""500 labelled images that training never saw, in the same format."""
