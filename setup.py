"""Install the four rooms (and the error tree they share) under one import name, `ortrim`.

The top-level folders keep short names, and bare `graph` or `models` would collide with half the projects that could
use the library; so `ortrim` is a namespace package (no `ortrim/__init__.py`) mapped onto them here.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
ROOMS = ("compressor", "errors", "graph", "models", "runtime")
# onnxruntime-gpu has builds for Linux and Windows on x86-64 only (markers know no "not": both halves are spelled out).
HAS_GPU_BUILD = "platform_machine in 'x86_64 AMD64' and sys_platform in 'linux win32'"
LACKS_GPU_BUILD = "platform_machine not in 'x86_64 AMD64' or sys_platform not in 'linux win32'"

# What `ortrim serve` needs beside numpy, onnx and onnxruntime. It runs without torch, but an extra can only add:
# on a board, pip install --no-deps ortrim, and numpy onnx onnxruntime click rich with these.
SERVE = ["starlette>=0.40", "uvicorn>=0.30"]
# What --agent bocr needs.
BO = ["botorch>=0.12", "scipy>=1.11"]
# What --ray needs.
RAY = ["ray>=2.40"]
# What `ortrim train --tensorboard` needs.
TENSORBOARD = ["tensorboard>=2.15"]


def packages() -> list[str]:
    """`ortrim.graph`, `ortrim.graph.rules`, ... for every room and the packages inside it."""
    inside = [f"{room}.{name}" for room in ROOMS for name in find_packages(str(ROOT / room))]
    return [f"ortrim.{name}" for name in sorted([*ROOMS, *inside])]


setup(
    name="ortrim",
    version="0.1.0",
    description="Compress ONNX models to a latency target, measured by onnxruntime on the device that counts",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=packages(),
    package_dir={f"ortrim.{room}": room for room in ROOMS},
    package_data={
        "ortrim.models": ["digits/*.npz", "digits/*.onnx", "digits/*.md"],
        "ortrim.compressor": ["report/*.jinja"],
    },
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "onnx>=1.17",
        "onnxscript>=0.5",  # torch.onnx.export's default exporter needs it
        "onnx-graphsurgeon>=0.5.8",
        "numpy>=1.26",
        "threadpoolctl>=3.1",
        "click>=8.1",
        f"onnxruntime-gpu>=1.20; {HAS_GPU_BUILD}",
        f"onnxruntime>=1.20; {LACKS_GPU_BUILD}",
        "gymnasium>=1.0",
        "rich>=13",
        "jinja2>=3.1",
        "pillow>=10",
        "filelock>=3.13",
    ],
    extras_require={
        "serve": SERVE,
        "bo": BO,
        "ray": RAY,
        "tensorboard": TENSORBOARD,
        "dev": [
            *SERVE,
            *BO,
            *RAY,
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.9",
        ],
    },
    entry_points={"console_scripts": ["ortrim = ortrim.compressor.cli:main"]},
)
