"""Joint training and pruning: a net is trained from scratch while an agent learns which of its channels to keep.

After Ganjdanesh, Gao and Huang, "Jointly Training and Pruning CNNs via Learnable Agent Guidance and Alignment" (CVPR
2024, arXiv 2403.19490; "RLAL" below), with latency in place of FLOPs and groups of coupled channels in place of layers.
docs/training.md says what is the paper's and what is ours.

| file | what it is about |
| --- | --- |
| training | the story on one page: a net and labelled images go in, a slim ONNX file comes out |
| settings, schedule | every hyper-parameter with its source; what happens in which epoch |
| traced | the net as the graph sees it, and as a torch module that trains |
| offer | widths on the device's steps, the table corrected once, what a plan takes |
| masks | the net without some of its channels, while they are still there |
| alignment | the regulariser that draws the weights to the chosen channels |
| judge | the reward: BatchNormalization re-estimated under a mask, accuracy on held-out images |
| representation | what the agent knows of the epoch: embeddings, a recurrent net, a decoder of rewards |
| policy | the agent (soft actor-critic, or a random control) with that representation |
| weights | one epoch of the weights, in one process or several (`compressor.parallel`) |
| trainer | the loop |
| checkpoint, progress, logs, facts | going on after a kill; what is shown, logged and reported |

Importing the training imports torch: it is fetched when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from .training import Trained, train

__all__ = ["Settings", "Trained", "train"]


def __getattr__(name: str) -> object:
    if name in ("Trained", "train"):
        from . import training

        return getattr(training, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
