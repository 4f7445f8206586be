"""First-order importance: how much the outputs move, to first order, when a unit is no longer read.

Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), eq. 8: the square of the sum of
gradient times value over a unit. Where this departs from the paper:

1. Their loss needs labels, and its gradient says nothing of a net that is right and sure. Here the loss is the outputs
   themselves, weighted with random signs: its mean square over the signs is the squared change of all outputs, which is
   what the slim net is to keep. (It is the diagonal of the Gauss-Newton matrix that Theis et al., "Faster gaze
   prediction with dense networks and Fisher pruning", 2018, estimate from labels.)
2. The values are those of the weights that read the unit, not of those that make it: that covers what lies in between
   (BatchNormalization, Relu, a residual sum), and every reader of a shared stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ...graph.group import ChannelAnalysis, ChannelGroup, Role, Slot
from .activations import Feeds, as_feeds, batches, fixed_batch, sample_count
from .raw_outputs import with_raw_outputs

__all__ = ["first_order_effects"]

_BATCH = 32


def first_order_effects(
    model: onnx.ModelProto,
    analysis: ChannelAnalysis,
    images: np.ndarray | Feeds,
    *,
    samples: int = 256,
    draws: int = 4,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Mean squared change of the outputs when a unit goes, to first order: group -> one number a unit.

    Every output counts relative to its variance. Groups whose readers have no weights that torch trains are left out.

    Args:
        model: what `load` returned.
        images: preprocessed samples, `n x ...`, or one array an input by name.
        samples: how many of them are used.
        draws: of random signs for each batch.

    Raises:
        DataError: data that does not fit the model's inputs.
        ModelError: an operator that torch lacks.
    """
    import torch

    from ...graph import to_torch

    rng = np.random.default_rng(seed)
    feeds = as_feeds(model, images)
    order = rng.permutation(sample_count(feeds))[:samples]
    feeds = {name: array[order] if array.ndim else array for name, array in feeds.items()}
    module = to_torch(with_raw_outputs(model))
    weights = {
        name: tensor
        for name, tensor in module.initializers.items()
        if isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point()
    }
    slots = {group.name: found for group in analysis.groups if (found := _read_by(group, weights))}
    wanted = sorted({slot.tensor for found in slots.values() for slot in found})
    effects = {name: np.zeros(analysis.group(name).size) for name in slots}
    scales: list[float] = []
    seen = 0
    for batch in batches(feeds, fixed_batch(model) or _BATCH):
        if seen and sample_count(batch) < (fixed_batch(model) or 1):
            break  # the rest of a batch that the graph fixes
        outputs = module({name: torch.from_numpy(array) for name, array in batch.items()})
        floats = [out for out in (outputs if isinstance(outputs, tuple) else (outputs,)) if out.requires_grad]
        scales = scales or [float(out.detach().double().std(correction=0)) or 1.0 for out in floats]
        for draw in range(draws):
            loss = sum(
                (out * torch.from_numpy(rng.choice(np.float32([-1, 1]), size=tuple(out.shape))).to(out.dtype)).sum()
                / (scale * out[0].numel() ** 0.5)
                for out, scale in zip(floats, scales, strict=True)
            )
            gradients = torch.autograd.grad(
                loss, [weights[name] for name in wanted], retain_graph=draw + 1 < draws, allow_unused=True
            )
            products = {
                name: (weights[name].detach() * gradient).double().numpy()
                for name, gradient in zip(wanted, gradients, strict=True)
                if gradient is not None
            }
            for name, found in slots.items():
                effects[name] += _change(found, products, len(effects[name])) ** 2
        seen += sample_count(batch)
    return {name: total / (seen * draws) for name, total in effects.items()}


def _read_by(group: ChannelGroup, weights: dict[str, object]) -> list[Slot]:
    """Where the group's units are read; where they are made, if nothing that can be differentiated reads them."""
    for role in (Role.CONSUMER, Role.PRODUCER):
        found = [slot for slot in group.slots if slot.role is role and slot.tensor in weights]
        if found:
            return found
    return []


def _change(slots: Sequence[Slot], products: dict[str, np.ndarray], units: int) -> np.ndarray:
    """Sum of gradient times weight over what belongs to each unit, with its sign."""
    change = np.zeros(units)
    for slot in slots:
        if slot.tensor in products:
            product = products[slot.tensor]
            sums = np.moveaxis(product, slot.axis, 0).reshape(product.shape[slot.axis], -1).sum(axis=1)
            change += [sums[list(at)].sum() for at in slot.positions]
    return change
