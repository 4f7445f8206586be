"""Mixed precision: training and scoring in less than float32, where the hardware is faster at it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["MixedPrecision"]


class MixedPrecision:
    """What one device computes in; weights and their gradients stay float32.

    bfloat16 where there is hardware for it: half as fast again on a CPU, more on a GPU. Older GPUs have float16 only,
    whose gradients vanish unless the loss is scaled up (Micikevicius et al., Mixed Precision Training, ICLR 2018,
    section 3.2).
    """

    def __init__(self, device: torch.device, *, enabled: bool = True) -> None:
        """
        Args:
            enabled: False is float32 on any device.
        """
        self._kind = device.type
        self.dtype = _fastest(device) if enabled else torch.float32
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    @property
    def in_matrix_units(self) -> bool:
        """Whether a CPU multiplies in this precision by its matrix units (AMX), several times as fast as in float32."""
        units = self._kind == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
        return bool(units) and self.dtype == torch.bfloat16

    def __call__(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self._kind, dtype=self.dtype)

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer, clip: float | None = None) -> None:
        """Move the optimizer's parameters down the gradient of the loss.

        Args:
            clip: the most that the norm of all gradients together may be; where it is no number, nothing moves.
        """
        optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if clip is not None:
            self._scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
            if not self._scaler.is_enabled() and not norm.isfinite():  # the scaler looks for itself
                return
        self._scaler.step(optimizer)
        self._scaler.update()


def _fastest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32
