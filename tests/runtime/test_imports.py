from __future__ import annotations

import subprocess
import sys


def test_runtime_imports_neither_torch_nor_other_rooms():
    code = (
        "import sys, ortrim.runtime;"
        "names = ('torch', 'torchvision', 'ortrim.graph', 'ortrim.compressor', 'ortrim.models', 'onnx_graphsurgeon');"
        "print([name for name in names if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
