"""Attention (operator set 23 and newer), and RotaryEmbedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator
from ..values import torch_type


@operator("Attention")
def attention(node: Node) -> Kernel:
    """softmax(scale Q K' + mask) V, on (batch, heads, tokens, size) or (batch, tokens, heads * size)."""
    q_heads, kv_heads = node.get("q_num_heads", None), node.get("kv_num_heads", None)
    scale, softcap, causal = node.get("scale", None), node.get("softcap", 0.0), bool(node.get("is_causal", 0))
    stage, precision = node.get("qk_matmul_output_mode", 0), node.get("softmax_precision", None)
    if node.has(6):
        node.refuse("takes the lengths of keys (nonpad_kv_seqlen)")
    if node.get("left_window_size", -1) != -1 or node.get("right_window_size", -1) != -1:
        node.refuse("sees a window of the keys")
    more = node.wants(3)

    def split(x: Tensor, heads: int) -> Tensor:
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def run(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor | None) -> Tensor | tuple[Tensor | None, ...]:
        mask, past_k, past_v = (*rest, None, None, None)[:3]
        flat = q.ndim == 3
        if flat:
            q, k, v = split(q, q_heads), split(k, kv_heads), split(v, kv_heads)
        if past_k is not None:
            k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        keys, values = k, v
        if k.shape[1] != q.shape[1]:
            times = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
        bias = _bias(q, k, mask, causal, 0 if past_k is None else past_k.shape[2])
        if not more and not softcap and precision is None and mask is None:  # no row can be hidden as a whole
            out = functional.scaled_dot_product_attention(q, k, v, bias, scale=scale)
            probe = None
        else:
            out, probe = explicit(q, k, v, bias)
        out = out.transpose(1, 2).flatten(2) if flat else out
        return out, keys, values, probe

    def explicit(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        root = math.sqrt(scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
        products = (q * root) @ (k * root).transpose(-1, -2)
        capped = softcap * torch.tanh(products / softcap) if softcap else products
        masked = capped if bias is None else capped + bias
        weights = torch.softmax(masked if precision is None else masked.to(torch_type(precision)), -1).to(q.dtype)
        # A row of which nothing is seen gives 0.
        weights = torch.where((masked == -math.inf).all(-1, keepdim=True), torch.zeros_like(weights), weights)
        return weights @ v, (products, capped, masked, weights)[stage]

    return run


def _bias(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, past: int) -> Tensor | None:
    """What is added to the products: -inf where nothing may be seen."""
    bias = None
    if mask is not None:
        bias = mask.to(q.dtype)
        if mask.dtype == torch.bool:
            bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, -math.inf)
        if bias.shape[-1] < k.shape[2]:
            bias = functional.pad(bias, [0, k.shape[2] - bias.shape[-1]], value=-math.inf)
    if causal:
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(past)
        hidden = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill(~seen, -math.inf)
        bias = hidden if bias is None else bias + hidden
    return bias


@operator("RotaryEmbedding")
def rotary_embedding(node: Node) -> Kernel:
    """The first `rotary_embedding_dim` channels of every head are turned in pairs."""
    heads, pairs, part = node.get("num_heads", 0), node.get("interleaved", 0), node.get("rotary_embedding_dim", 0)

    def run(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        flat = x.ndim == 3
        whole = x.reshape(*x.shape[:2], heads, -1) if flat else x.transpose(1, 2)  # (batch, tokens, heads, size)
        size = part or whole.shape[-1]
        turned, rest = whole[..., :size], whole[..., size:]
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos[..., : size // 2].unsqueeze(2), sin[..., : size // 2].unsqueeze(2)
        first, second = (turned[..., 0::2], turned[..., 1::2]) if pairs else turned.chunk(2, -1)
        real, imaginary = cos * first - sin * second, sin * first + cos * second
        out = torch.stack([real, imaginary], -1).flatten(-2) if pairs else torch.cat([real, imaginary], -1)
        out = torch.cat([out, rest], -1)
        return out.flatten(2) if flat else out.transpose(1, 2)

    return run
