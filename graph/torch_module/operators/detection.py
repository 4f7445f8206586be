"""Reading feature maps at computed places, and choosing boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..node import Node
from ..registry import Kernel, operator

_MODES = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic", "bicubic": "bicubic"}


@operator("GridSample")
def grid_sample(node: Node) -> Kernel:
    """Over two or three axes."""
    mode, padding = _MODES[node.get("mode", "linear")], node.get("padding_mode", "zeros")
    align = bool(node.get("align_corners", 0))
    return lambda x, grid: functional.grid_sample(x, grid, mode, padding, align)


@operator("RoiAlign")
def roi_align(node: Node) -> Kernel:
    """The mean of samples in every cell of every region."""
    from torchvision.ops import roi_align as align

    if node.get("mode", "avg") != "avg":
        node.refuse("takes the largest of the samples (mode max)")
    size = node.get("output_height", 1), node.get("output_width", 1)
    scale, samples = node.get("spatial_scale", 1.0), node.get("sampling_ratio", 0)
    usual = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    half = node.get("coordinate_transformation_mode", usual) == "half_pixel"

    def run(x: Tensor, regions: Tensor, images: Tensor) -> Tensor:
        boxes = torch.cat([images.to(regions.dtype).reshape(-1, 1), regions], 1)
        return align(x, boxes, size, scale, samples or -1, half)

    return run


@operator("NonMaxSuppression", host=(2, 3, 4))
def non_max_suppression(node: Node) -> Kernel:
    """(image, class, box) of the boxes that stay, the best of every class first."""
    from torchvision.ops import nms

    centred = node.get("center_point_box", 0)

    def corners(boxes: Tensor) -> Tensor:
        if centred:  # x, y, width, height
            middle, half = boxes[..., :2], boxes[..., 2:] / 2
            return torch.cat([middle - half, middle + half], -1)
        first, second = boxes[..., :2], boxes[..., 2:]
        return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)

    def run(boxes: Tensor, scores: Tensor, *limits: Tensor | None) -> Tensor:
        most, overlap, least = [None if t is None else t.item() for t in (*limits, None, None, None)[:3]]
        found = []
        for image, own in enumerate(corners(boxes.detach())):
            for kind, points in enumerate(scores.detach()[image]):
                places = torch.arange(len(points), device=points.device)
                if least is not None:
                    places = torch.nonzero(points > least).reshape(-1)
                chosen = places[nms(own[places], points[places], overlap or 0.0)][: int(most or 0)]
                head = chosen.new_tensor([image, kind]).expand(len(chosen), 2)
                found.append(torch.cat([head, chosen.reshape(-1, 1)], 1))
        return torch.cat(found) if found else torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)

    return run
