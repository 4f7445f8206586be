"""LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Context, Kernel, operator

Activation = Callable[[Tensor], Tensor]
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULT = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""torch's order of the gates, as places in ONNX's: (i o f c) -> (i f c o), (z r h) -> (r z h)."""
_PLAIN: dict[str, Activation] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": functional.softsign,
    "softplus": functional.softplus,
}
_WITH_ALPHA: dict[str, tuple[float, float, Callable[[Tensor, float, float], Tensor]]] = {
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b),
    "leakyrelu": (0.01, 0.0, lambda x, a, b: functional.leaky_relu(x, a)),
    "thresholdedrelu": (1.0, 0.0, lambda x, a, b: functional.threshold(x, a, 0.0)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: a * torch.tanh(b * x)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: (a * x + b).clamp(0, 1)),
    "elu": (1.0, 0.0, lambda x, a, b: functional.elu(x, a)),
}


@dataclass(frozen=True)
class _Cell:
    """What one direction computes at a step."""

    kind: str
    activations: tuple[Activation, ...]
    clip: float
    before_reset: bool
    """GRU: the reset gate acts on what the recurrent weight gave."""
    coupled: bool
    """LSTM: the forget gate is 1 - input gate."""

    def act(self, place: int, x: Tensor) -> Tensor:
        return self.activations[place](x.clamp(-self.clip, self.clip) if self.clip else x)

    def step(self, made: Tensor, state: Sequence[Tensor], w: _Weights) -> tuple[Tensor, ...]:
        """`made`: (batch, gates * hidden), what the input weight and its bias gave."""
        h = state[0]
        if self.kind == "RNN":
            return (self.act(0, made + functional.linear(h, w.recurrent, w.recurrent_bias)),)
        return self._gru(made, h, w) if self.kind == "GRU" else self._lstm(made, h, state[1], w)

    def _gru(self, made: Tensor, h: Tensor, w: _Weights) -> tuple[Tensor]:
        size = h.shape[-1]
        both = made[:, : 2 * size] + functional.linear(h, w.recurrent[: 2 * size], w.recurrent_bias[: 2 * size])
        update, reset = self.act(0, both).chunk(2, -1)
        last, bias = w.recurrent[2 * size :], w.recurrent_bias[2 * size :]
        if self.before_reset:
            hidden = made[:, 2 * size :] + reset * functional.linear(h, last, bias)
        else:
            hidden = made[:, 2 * size :] + functional.linear(reset * h, last, bias)
        return ((1 - update) * self.act(1, hidden) + update * h,)

    def _lstm(self, made: Tensor, h: Tensor, c: Tensor, w: _Weights) -> tuple[Tensor, Tensor]:
        i, o, f, g = (made + functional.linear(h, w.recurrent, w.recurrent_bias)).chunk(4, -1)
        if w.peepholes is not None:
            see_i, see_o, see_f = w.peepholes.chunk(3, -1)
            i, f = i + see_i * c, f + see_f * c
        i = self.act(0, i)
        f = 1 - i if self.coupled else self.act(0, f)
        c = f * c + i * self.act(1, g)
        o = self.act(0, o + see_o * c if w.peepholes is not None else o)
        # onnxruntime does not clip the cell's own activation.
        return o * self.activations[2](c), c


@dataclass(frozen=True)
class _Weights:
    """Of one direction."""

    input: Tensor
    input_bias: Tensor
    recurrent: Tensor
    recurrent_bias: Tensor
    peepholes: Tensor | None


def _activation(name: str, alphas: list[float], betas: list[float]) -> Activation | None:
    """None for a name that is not known; takes its numbers from the front of the lists."""
    key = name.lower()
    if key in _PLAIN:
        return _PLAIN[key]
    if key not in _WITH_ALPHA:
        return None
    alpha, beta, function = _WITH_ALPHA[key]
    alpha = alphas.pop(0) if alphas else alpha
    if key in ("affine", "scaledtanh", "hardsigmoid"):
        beta = betas.pop(0) if betas else beta
    return lambda x: function(x, alpha, beta)


@operator("LSTM", "GRU", "RNN", context=True)
def recurrent(node: Node) -> Kernel:
    """X (steps, batch, inputs), or with `layout` 1 (batch, steps, inputs).

    torch's own layers where they compute the same, else step by step.
    """
    kind, direction = node.operator, node.get("direction", "forward")
    directions, layout = 2 if direction == "bidirectional" else 1, node.get("layout", 0)
    each = len(_DEFAULT[kind])
    names = [n.decode() if isinstance(n, bytes) else n for n in node.get("activations", [])]
    names = names or list(_DEFAULT[kind]) * directions
    alphas, betas = list(node.get("activation_alpha", [])), list(node.get("activation_beta", []))
    activations = [_activation(name, alphas, betas) for name in names]
    if None in activations:
        node.refuse(f"the activation {names[activations.index(None)]!r} is not known")
    cells = [
        _Cell(
            kind,
            tuple(activations[place * each : (place + 1) * each]),
            node.get("clip", 0.0),
            bool(node.get("linear_before_reset", 0)),
            bool(node.get("input_forget", 0)),
        )
        for place in range(directions)
    ]
    usual = names == list(_DEFAULT[kind]) * directions or (kind == "RNN" and names == ["Relu"] * directions)
    usual = usual and not cells[0].clip and not cells[0].coupled and (kind != "GRU" or cells[0].before_reset)
    usual = usual and not node.has(4) and not node.has(7)
    backwards = direction == "reverse"
    function = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_relu if names[0] == "Relu" else torch.rnn_tanh}

    def run(context: Context, x: Tensor, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        w, r, bias, lengths, h, c, peepholes = (*inputs, *(None,) * 7)[:7]
        x = x.transpose(0, 1) if layout else x
        hidden = r.shape[-1]
        zeros = x.new_zeros(directions, x.shape[1], hidden)
        state = [zeros if s is None else s.transpose(0, 1) if layout else s for s in (h, c)]
        state = state if kind == "LSTM" else state[:1]
        if bias is None:
            bias = r.new_zeros(directions, 2 * _GATES[kind] * hidden)
        if usual:
            y, last = _by_torch(function[kind], kind, x, (w, r, bias), state, context.training, backwards)
        else:
            weights = [_weights(place, w, r, bias, peepholes) for place in range(directions)]
            y, last = _by_steps(cells, x, weights, state, lengths, backwards)
        if layout:
            return (y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last))
        return (y, *last)

    return run


def _weights(place: int, w: Tensor, r: Tensor, bias: Tensor, peepholes: Tensor | None) -> _Weights:
    first, second = bias[place].chunk(2)
    return _Weights(w[place], first, r[place], second, None if peepholes is None else peepholes[place])


def _by_torch(
    function: Callable[..., tuple[Tensor, ...]],
    kind: str,
    x: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor],
    state: Sequence[Tensor],
    training: bool,
    backwards: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Y (steps, directions, batch, hidden) and the last states (directions, batch, hidden)."""
    w, r, bias = parameters
    directions, hidden = r.shape[0], r.shape[-1]
    flat = []
    for place in range(directions):
        for tensor in (w[place], r[place], *bias[place].chunk(2)):
            gates = tensor.chunk(_GATES[kind])
            flat.append(torch.cat([gates[gate] for gate in _ORDER[kind]]))
    start = tuple(state) if kind == "LSTM" else state[0]
    x = x.flip(0) if backwards else x
    y, *last = function(x, start, flat, True, 1, 0.0, training, directions == 2, False)
    y = y.reshape(*y.shape[:2], directions, hidden).transpose(1, 2)
    return y.flip(0) if backwards else y, last


def _by_steps(
    cells: Sequence[_Cell],
    x: Tensor,
    weights: Sequence[_Weights],
    state: Sequence[Tensor],
    lengths: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, list[Tensor]]:
    """As `_by_torch`. After the end of a sequence its outputs are 0 and its state stays."""
    outputs, finals = [], []
    for place, (cell, w) in enumerate(zip(cells, weights, strict=True)):
        now = [s[place] for s in state]
        made = functional.linear(x, w.input, w.input_bias)
        steps = range(len(x))
        found: list[Tensor] = []
        for step in reversed(steps) if backwards or place else steps:
            new = list(cell.step(made[step], now, w))
            out = new[0]
            if lengths is not None:
                alive = (step < lengths).reshape(-1, 1)
                new = [torch.where(alive, after, before) for after, before in zip(new, now, strict=True)]
                out = torch.where(alive, out, torch.zeros_like(out))
            now = new
            found.append(out)
        outputs.append(torch.stack(found[::-1] if backwards or place else found))
        finals.append(now)
    return torch.stack(outputs, 1), [torch.stack(parts) for parts in zip(*finals, strict=True)]
