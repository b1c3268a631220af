#!/usr/bin/env python3
"""L1 path norms, in f64, of torchvision's architectures, for tests/suite/network/architectures.rs.

  path_norm.py  writes tests/fixtures/path_norms.json

The path norm is the sum of the outputs for an image of ones, through magnitudes: batch norms folded into
the convolutions, activations removed, every weight and bias replaced by its absolute value. `sum` has max pooling replaced by the sum
over its window, `max` keeps it. Parameters are those of architectures.py.
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from architectures import architectures, build

FIXTURE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "path_norms.json"
MODELS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "mobilenet_v2")


class SumPool(nn.Module):
    """Sum over the windows of a max pooling; padding adds nothing."""

    def __init__(self, pool):
        super().__init__()
        self.pool = nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding, count_include_pad=True)
        self.size = pool.kernel_size**2

    def forward(self, x):
        return self.pool(x) * self.size


def fold(model):
    """Batch norms into the convolution that comes right before them."""
    last = None
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            last = name
        elif isinstance(module, nn.BatchNorm2d):
            replace(model, last, fuse_conv_bn_eval(model.get_submodule(last), module))
            replace(model, name, nn.Identity())


def replace(model, name, module):
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def path_norm(model, side):
    with torch.no_grad():
        return model(torch.ones(1, 3, side, side, dtype=torch.float64)).sum().item()


def main():
    lines, seen = [], set()
    for name, make, side in architectures():
        if name not in MODELS or name in seen:
            continue
        seen.add(name)
        model = build(make).double()
        # Blocks apply convolutions and their batch norms in the order they are defined in, downsampling last.
        fold(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.abs_()
        for child, module in list(model.named_modules()):
            # Its cap has no place among paths; ReLU leaves sums of magnitudes alone.
            if isinstance(module, nn.ReLU6):
                replace(model, child, nn.Identity())
        value = {"model": name, "side": side, "max": path_norm(model, side)}
        for child, module in list(model.named_modules()):
            if isinstance(module, nn.MaxPool2d):
                replace(model, child, SumPool(module))
        value["sum"] = path_norm(model, side)
        lines.append(json.dumps(value))
        print(value)
    FIXTURE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
