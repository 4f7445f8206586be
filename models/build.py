"""A net by name: `torchvision:NAME`, `ortrim:NAME` or `package.module:factory` -> a module and the shape it takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from ..errors import InputError
from .foreign import refusing
from .registry import FACTORIES
from .weights import load_weights

__all__ = ["Net", "build"]

Factory = Callable[..., nn.Module]

DEFAULT_SIZE = (224, 224)
CLIP_LENGTH = 16
"""Frames that torchvision's video nets are shown."""

# torchvision's families that do not map one batch of images to tensors, and what stands in the way
UNTRACEABLE = {
    "detection": "detection nets take a list of images of different sizes",
    "optical_flow": "optical flow nets take two images",
    "quantization": "quantized modules cannot be exported; trace the float net and quantize the ONNX file",
}


@dataclass(frozen=True)
class Net:
    """A module in eval mode and the shape of one input, without the batch."""

    spec: str
    module: nn.Module
    shape: tuple[int, ...]
    """(C, H, W), or (C, frames, H, W) for video."""


def build(spec: str, *, size: tuple[int, int] | None = None, weights: str | Path | None = None, seed: int = 0) -> Net:
    """The net that `spec` names, with random weights unless a file is given; nothing is downloaded.

    torchvision's googlenet and inception_v3 come without auxiliary heads and without their own input scaling: their
    published weights then want images with mean 0.5 and standard deviation 0.5.

    Args:
        spec: `torchvision:NAME`, `ortrim:NAME`, or `package.module:factory`: a callable without arguments, looked up on
            the import path and in the current folder.
        size: height and width of the images; left out, what the net was designed for: its `input_shape` where it has
            one, else torchvision's evaluation size, else 224x224.
        weights: a file with a state dict, as `torch.save` writes it.
        seed: of the random weights.

    Raises:
        InputError: no such net, its factory fails, or the weights do not fit it.
        ModelError: the weights file is missing or damaged.
    """
    source, colon, name = spec.partition(":")
    if not (source and colon and name):
        raise InputError(f"{spec!r} names no net: write torchvision:NAME, ortrim:NAME or package.module:factory")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if source == "ortrim":
            module = _pick(name, FACTORIES, "ortrim")()
            shape = _shape_of(module, size)
        elif source == "torchvision":
            module, shape = _from_torchvision(name, size)
        else:
            module = _from_factory(source, name, spec)
            shape = _shape_of(module, size)
    if weights is not None:
        load_weights(module, Path(weights))
    return Net(spec, module.eval(), shape)


def _pick(name: str, known: Mapping[str, Factory], where: str) -> Factory:
    """`known[name]`, or an error that lists the names most like it."""
    if name not in known:
        raise InputError(f"{where} has no net {name!r}; {_suggest(name, known)}")
    return known[name]


def _suggest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = get_close_matches(name, known, n=5, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are {', '.join(known[:12])}{' and others' if len(known) > 12 else ''}"


def _shape_of(module: nn.Module, size: tuple[int, int] | None) -> tuple[int, ...]:
    """What the module says of itself (`input_shape`), else as many channels as its first convolution reads."""
    own = getattr(module, "input_shape", None)
    if own is None:
        first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
        own = (first.in_channels if first is not None else 3, *DEFAULT_SIZE)
    return tuple(own) if size is None else (*tuple(own)[:-2], *size)


def _from_torchvision(name: str, size: tuple[int, int] | None) -> tuple[nn.Module, tuple[int, ...]]:
    builders = {known: torchvision.models.get_model_builder(known) for known in torchvision.models.list_models()}
    builder = _pick(name, builders, "torchvision")
    family = builder.__module__.removeprefix("torchvision.models.").split(".")
    if family[0] in UNTRACEABLE:
        raise InputError(f"torchvision:{name} cannot be traced: {UNTRACEABLE[family[0]]}")
    if size is None:
        size = _evaluation_size(name)
    options: dict[str, Any] = {"weights": None}
    match family:
        case ["segmentation", *_]:
            options["weights_backbone"] = None  # downloaded by default
        case ["googlenet"] | ["inception"]:
            options |= {"aux_logits": False, "transform_input": False, "init_weights": False}
        case ["vision_transformer"]:
            options["image_size"] = size[0]
        case ["maxvit"]:
            options["input_size"] = size
    with refusing(f"torchvision:{name} at {size[0]}x{size[1]}"):
        module = builder(**options)
    return module, (3, CLIP_LENGTH, *size) if family[0] == "video" else (3, *size)


def _evaluation_size(name: str) -> tuple[int, int]:
    """Height and width at which torchvision evaluates its own weights of this net."""
    preset = next(iter(torchvision.models.get_model_weights(name))).transforms.keywords
    size = preset.get("crop_size", preset.get("resize_size", DEFAULT_SIZE))
    return (size, size) if isinstance(size, int) else tuple(size)


def _from_factory(module_name: str, attribute: str, spec: str) -> nn.Module:
    with _current_folder_importable():
        with refusing(f"{spec}: cannot import {module_name!r}"):
            namespace = importlib.import_module(module_name)
        try:
            factory: Callable[[], object] = attrgetter(attribute)(namespace)
        except AttributeError:
            public = [name for name in vars(namespace) if not name.startswith("_")]
            raise InputError(f"{module_name} has no {attribute!r}; {_suggest(attribute, public)}") from None
        with refusing(f"{spec}: the factory failed", hint="it is called without arguments"):
            module = factory()
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec}: the factory must return a torch.nn.Module, got {type(module).__name__}")
    return module


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A console script, unlike `python -m`, does not look for modules where the user stands."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
