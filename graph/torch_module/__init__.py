"""ONNX to torch, and back: a module for inference, gradients and training, whose parameters carry the graph's names.

| file | what it is about |
| --- | --- |
| registry, operators/ | operator -> what torch computes; `operator` registers one |
| node | what a translator sees of a node |
| builder, program | a graph as a list of steps; where values lie and how long they live |
| module, naming, trainable | the module; where it holds initializers, and which of them train |
| stored | weights that the file holds as integers |
| batch | graphs of a fixed batch that run on any |
| write | values back into the graph |

Importing this package imports torch; `ortrim.graph` does it when one of its two functions is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Collection

import onnx

from ..load import ensure_loaded
from .module import OnnxModule
from .node import Node
from .registry import Context, Kernel, names, operator
from .write import write_back

__all__ = ["Context", "Kernel", "Node", "OnnxModule", "names", "operator", "to_torch", "write_back"]


def to_torch(source: str | os.PathLike[str] | onnx.ModelProto, *, parameters: Collection[str] = ()) -> OnnxModule:
    """A torch module that computes what the graph does; it is in evaluation mode.

    Args:
        parameters: initializers of floats that are parameters too, although nothing in the graph tells: a class token
            looks like any constant.

    Raises:
        ModelError: as `load`; or an operator or type without a counterpart in torch, named in one line.
    """
    return OnnxModule(ensure_loaded(source), parameters).eval()
