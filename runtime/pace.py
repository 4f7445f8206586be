"""How fast the machine is at the moment, told by one small convolution that runs beside whatever is measured.

CPU time leaves out what other processes take of a core, but not that they use the other half of a physical core, its
caches and its memory: a layer then takes up to half as long again, for seconds on end, and no repetition within those
seconds shows it. The reference shows it at once. (Measured at a load of 3 on two cores: half of its blocks within 1 %
of each other, a quarter slower by more than 11 %, a tenth by more than 26 %, in stretches of about half a second. Of
figures taken without it, one in eight was off by 7 % or more, up to twice too high.)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

import numpy as np

from .interleave import Runner
from .layers import LayerShape

__all__ = ["REFERENCE", "Pace"]

REFERENCE = LayerShape("Conv", 32, 32, (16, 16), kernel=(3, 3), pads=(1, 1, 1, 1))
_UNDISTURBED = 0.1  # the quantile that stands for a quiet machine: below it are only the clock's rounding errors
_REMEMBERED = 4000
_FIRST_BLOCKS = 200
_BLOCK_MS = 0.5
_BURST = 10
_BETWEEN_S = 0.04  # so that the first blocks span a second: longer than most disturbances
_DISTURBED = 0.03  # slower than quiet by more than that is not the reference's own scatter
_PATIENCE_S = 30.0


class Pace:
    """The level of the reference when nothing disturbs it, and the unit that figures are given in.

    Args:
        runner: the reference, open and warm.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)
        self.patience_s = _PATIENCE_S
        """What may be spent on waiting for a quiet machine, in all: one whose clock was turned down never is."""
        for block in range(_FIRST_BLOCKS):
            if block % _BURST == 0:
                time.sleep(_BETWEEN_S)
            self.note([runner.block(_BLOCK_MS).mean_ms])
        self.unit_ms = self.quiet_ms
        """What the reference takes at the pace that figures are given in: that of earlier ones, once it is set."""

    def note(self, reference_ms: Iterable[float]) -> None:
        """Learn from blocks of the reference."""
        self._seen.extend(reference_ms)

    @property
    def quiet_ms(self) -> float:
        """Milliseconds of the reference when nothing disturbs it."""
        return float(np.quantile(self._seen, _UNDISTURBED))

    @property
    def limit_ms(self) -> float:
        """More than this, and the reference was disturbed: measured by the best that is known, of now and of before."""
        return (1 + _DISTURBED) * min(self.quiet_ms, self.unit_ms)
