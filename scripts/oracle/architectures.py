#!/usr/bin/env python3
"""Per-node values, in f64, of architectures as torchvision and timm build them, for tests/suite/network/architectures.rs.

  architectures.py                writes tests/fixtures/architectures.json: every architecture at a small input
  architectures.py --full FOLDER  the same at 224, 160 and 225 pixels, with the checkpoints as safetensors;
                                  compare with: cargo run --release --example compare_architectures -- FOLDER

Needs torch, torchvision, timm and numpy (and safetensors for --full). Weights and inputs follow from parameter names
by FNV-1a and splitmix64, so that the tests make the same numbers without storing them. A node's value is the one
after its batch norm and activation; a residual sum is the node `<block>.add`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional

from export_onnx import uniform

FIXTURE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "architectures.json"
CLASSES = 7


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def parameter(name, shape):
    """He-scaled kernels, batch norms near the identity, all exact in float32."""
    u = uniform(fnv1a(name), int(np.prod(shape))).astype(np.float64).reshape(shape)
    if name.endswith("running_var"):
        value = 1 + 0.5 * u
    elif len(shape) > 1:
        value = u * np.sqrt(6 / np.prod(shape[1:]))
    elif name.endswith(".weight"):
        value = 0.9 + 0.2 * u
    else:
        value = 0.1 * u
    return torch.from_numpy(value.astype(np.float32))


class Copy(nn.Module):
    """Option A: every second pixel, the channels in the middle of twice as many."""

    def forward(self, x):
        quarter = x.shape[1] // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, option):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu1, self.relu = nn.ReLU(), nn.ReLU()
        if stride == 1:
            self.shortcut = nn.Identity()
        elif option == "a":
            self.shortcut = Copy()
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2."""

    def __init__(self, layers, option):
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        channels = 16
        for stage in range(3):
            blocks, outputs = [], 16 << stage
            for block in range((layers - 2) // 6):
                blocks.append(CifarBlock(channels, outputs, 2 if stage > 0 and block == 0 else 1, option))
                channels = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool, self.linear = nn.AdaptiveAvgPool2d(1), nn.Linear(64, CLASSES)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(torch.flatten(x, 1))


def resnet_v1(name):
    """The stride in the first 1x1 convolution, as in the paper."""
    model = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    for module in model.modules():
        if isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return model


def architectures():
    """Model name here, library's module, input side for the small fixture."""
    import timm

    tv = torchvision.models
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2",
                 "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"):
        yield name, lambda name=name: getattr(tv, name)(weights=None, num_classes=CLASSES), 33
    for name in ("resnet50", "resnet101", "resnet152"):
        yield f"{name}_v1", lambda name=name: resnet_v1(name), 33
    for suffix, width in (("", 1.0), ("_0.75", 0.75), ("_1.4", 1.4)):
        yield f"mobilenet_v2{suffix}", lambda width=width: tv.mobilenet_v2(weights=None, num_classes=CLASSES, width_mult=width), 65
    for name, theirs in (("mobilenet_v2", "mobilenetv2_100"), ("mobilenet_v2_1.4", "mobilenetv2_140"),
                         ("mobilenet_v1", "mobilenetv1_100"), ("mobilenet_v1_1.25", "mobilenetv1_125")):
        yield name, lambda theirs=theirs: timm.create_model(theirs, num_classes=CLASSES), 65
    for i in range(5):
        for name in (f"tf_efficientnet_lite{i}", f"efficientnet_lite{i}"):
            yield name, lambda name=name: timm.create_model(name, num_classes=CLASSES), 65 + i
    for layers in (20, 110):
        yield f"cifar_resnet{layers}", lambda layers=layers: CifarResNet(layers, "a"), 32
    yield "cifar_resnet20_b", lambda: CifarResNet(20, "b"), 32


class Trace:
    """Values of the nodes of one forward pass, by the names that the checkpoint gives their convolutions."""

    def __init__(self, model):
        self.values = {}
        self.conv = None  # name of the convolution whose output is on its way
        self.fresh = None  # (name, tensor, version) of the last batch norm's output
        self.pool = "avgpool" if hasattr(model, "avgpool") else "pool"
        self.handles = [m.register_forward_hook(self.hook(n, m)) for n, m in model.named_modules()]
        self.handles += [m.register_forward_pre_hook(self.before(n)) for n, m in model.named_modules()
                         if isinstance(m, (nn.ReLU, nn.ReLU6))]

    def before(self, name):
        def hook(module, inputs):
            # An activation of what a batch norm has just made belongs to that node; any other follows a sum.
            if self.fresh and self.fresh[1] is inputs[0] and self.fresh[2] == inputs[0]._version:
                module.node = self.fresh[0]
            else:
                module.node = f"{name.rpartition('.')[0]}.add"
        return hook

    def hook(self, name, module):
        def hook(module, inputs, output):
            if isinstance(module, nn.Conv2d):
                self.conv = name
            elif isinstance(module, nn.BatchNorm2d):
                self.record(self.conv, output)
                self.fresh = (self.conv, output, output._version)
            elif isinstance(module, (nn.ReLU, nn.ReLU6)):
                # timm keeps the activation inside its batch norms, which then record themselves.
                if not name.endswith(".act"):
                    self.record(module.node, output)
            elif isinstance(module, nn.Linear):
                self.record(self.pool, inputs[0])
                self.record(name, output)
            elif isinstance(module, (nn.MaxPool2d, Copy)):
                self.record(name, output)
            elif getattr(module, "use_res_connect", False) or getattr(module, "has_skip", False):
                self.record(f"{name}.add", output)
        return hook

    def record(self, name, value):
        self.values[name] = value[0].detach().numpy().ravel().copy()


def build(make):
    model = make().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(parameter(name, tuple(tensor.shape)))
    return model


def golden(model, side):
    """Norm, largest magnitude, first, middle and last value of every node."""
    x = torch.from_numpy(uniform(fnv1a("input"), 3 * side * side).astype(np.float64).reshape(1, 3, side, side))
    model = model.double()
    trace = Trace(model)
    with torch.no_grad():
        model(x)
    for handle in trace.handles:
        handle.remove()
    short = lambda v: float(f"{v:.9g}")
    return {name: [short(np.sqrt((y**2).sum())), short(np.abs(y).max()), short(y[0]), short(y[len(y) // 2]), short(y[-1])]
            for name, y in trace.values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path, metavar="FOLDER")
    folder = parser.parse_args().full
    lines = []
    for number, (name, make, side) in enumerate(architectures()):
        model = build(make)
        if folder is None:
            lines.append(json.dumps({"model": name, "side": side, "nodes": golden(model, side)}, separators=(",", ":")))
            continue
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{number:02}_{name}"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, f"{stem}.safetensors")
        runs = [{"model": name, "side": side, "nodes": golden(model, side)} for side in (224, 160, 225)]
        Path(f"{stem}.json").write_text(json.dumps(runs))
        print(stem)
    if folder is None:
        FIXTURE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
