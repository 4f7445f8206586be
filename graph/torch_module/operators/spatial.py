"""Windows over space: kernel, strides, dilations and padding, however a node writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ..node import Node

__all__ = ["Window", "pad_space", "window"]


@dataclass(frozen=True)
class Window:
    """How a convolution or a pool slides."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """All beginnings, then all ends, as ONNX writes them."""
    automatic: str
    """NOTSET, VALID, SAME_UPPER or SAME_LOWER."""
    ceil: bool

    @property
    def symmetric(self) -> bool:
        """Whether the padding is fixed, and the same at both ends."""
        half = len(self.pads) // 2
        return not self.automatic.startswith("SAME") and self.pads[:half] == self.pads[half:]

    def begins(self) -> tuple[int, ...]:
        return self.pads[: len(self.pads) // 2]

    def padding(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
        """Beginning and end of every axis, so that with rounding down the output has the size that ONNX gives it."""
        rank = len(sizes)
        found = []
        for axis, (size, width) in enumerate(zip(sizes, kernel, strict=True)):
            stride, reach = self.strides[axis], (width - 1) * self.dilations[axis] + 1
            if self.automatic.startswith("SAME"):
                missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
                small, large = missing // 2, missing - missing // 2
                found.append((small, large) if self.automatic == "SAME_UPPER" else (large, small))
                continue
            begin, end = self.pads[axis], self.pads[rank + axis]
            if self.ceil:
                count = -(-(size + begin + end - reach) // stride) + 1
                if (count - 1) * stride >= size + begin:  # no window may lie in the padding at the end alone
                    count -= 1
                end = (count - 1) * stride + reach - size - begin
            found.append((begin, end))
        return found


def window(node: Node, rank: int) -> Window:
    """The node's window over `rank` axes."""
    automatic = node.get("auto_pad", "NOTSET")
    fixed = automatic in ("NOTSET", "")
    return Window(
        strides=tuple(node.get("strides", [1] * rank)),
        dilations=tuple(node.get("dilations", [1] * rank)),
        pads=tuple(node.get("pads", [0] * 2 * rank)) if fixed else (0,) * 2 * rank,
        automatic=automatic,
        ceil=bool(node.get("ceil_mode", 0)),
    )


def pad_space(x: Tensor, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """`x` with its last axes padded (or cropped, where negative)."""
    flat = [entry for pair in reversed(padding) for entry in pair]
    return functional.pad(x, flat, value=value) if any(flat) else x
