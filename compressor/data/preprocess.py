"""From pixels of 0..255 to what the model was trained on: one multiplication and one addition a channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...errors import InputError

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """`pixel * factor + shift`, for pixels of 0..255; made by `parse` from the flags that users give."""

    factor: tuple[float, ...] = (1 / 255,)
    """One number, or one a channel."""
    shift: tuple[float, ...] = (0.0,)
    flags: str = ""
    """The flags that asked for this, for messages; empty for the default x/255."""

    @classmethod
    def parse(
        cls,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        scale: float | None = None,
        offset: float | None = None,
    ) -> Self:
        """`(x/255 - mean) / std`, or `x * scale + offset`, or x/255 when nothing is given.

        Args:
            mean, std: per channel, on 0..1; std is 1 when only mean is given, mean is 0 when only std is.
            scale, offset: on 0..255; scale is 1 when only offset is given.

        Raises:
            InputError: both pairs are given, lengths differ, a number is not finite, std or scale is zero, or a
                mean is on 0..255.
        """
        by_moments = mean is not None or std is not None
        by_scale = scale is not None or offset is not None
        if by_moments and by_scale:
            raise InputError("--mean/--std and --scale/--offset exclude each other: give one pair")
        if by_scale:
            factor = 1.0 if scale is None else scale
            shift = 0.0 if offset is None else offset
            if not (math.isfinite(factor) and math.isfinite(shift)) or factor == 0:
                raise InputError(f"--scale {factor} --offset {shift}: both must be finite, and the scale not zero")
            return cls((float(factor),), (float(shift),), "--scale/--offset")
        if not by_moments:
            return cls()
        mean = mean if mean is not None else (0.0,) * len(std or ())
        std = std if std is not None else (1.0,) * len(mean)
        if len(mean) != len(std):
            raise InputError(f"--mean has {len(mean)} numbers and --std has {len(std)}: give one a channel to each")
        if not all(math.isfinite(m) for m in mean):
            raise InputError(f"--mean {_join(mean)}: every number must be finite")
        if any(abs(m) > 1 for m in mean):
            raise InputError(
                f"--mean {_join(mean)}: pixels are divided by 255 first; divide the mean (and --std) by 255 as well"
            )
        if not all(math.isfinite(s) and s > 0 for s in std):
            raise InputError(f"--std {_join(std)}: every number must be finite and above zero")
        factor = tuple(1 / (255 * s) for s in std)
        return cls(factor, tuple(-m / s for m, s in zip(mean, std, strict=True)), "--mean/--std")

    def check_channels(self, channels: int) -> None:
        """
        Raises:
            InputError: the flags give a number of values that fits neither one nor `channels` channels.
        """
        if len(self.factor) not in (1, channels):
            raise InputError(
                f"{self.flags} gives {len(self.factor)} numbers, but the images have {channels} channel(s)"
            )

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """float32 of the shape of `pixels`, which are numbers of 0..255 with the channels on the last axis."""
        factor, shift = np.asarray(self.factor, np.float32), np.asarray(self.shift, np.float32)
        return pixels.astype(np.float32) * factor + shift

    def __str__(self) -> str:
        return f"x*({_join(self.factor)}) + ({_join(self.shift)}) on 0..255"


def _join(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.6g}" for number in numbers)
