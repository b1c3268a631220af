"""An ONNX model of plain layers as a PyTorch module, for tools that quantize PyTorch modules."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional


class Padded(nn.Module):
    """A layer that pads unevenly, `[left, right, top, bottom]`."""

    def __init__(self, sides, value, layer):
        super().__init__()
        self.pad = nn.ConstantPad2d(sides, value)
        self.layer = layer

    def forward(self, x):
        return self.layer(self.pad(x))


def attributes(node):
    """By name, lists as tuples."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def with_padding(pads, value, make):
    """`make(padding)` with the padding of a node, even or not."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    if (top, left) == (bottom, right):
        return make((top, left))
    return Padded([left, right, top, bottom], value, make((0, 0)))


class FromOnnx(nn.Module):
    """Convolutions, dense layers, poolings and sums, by the names of their weights; the softmax at the end is left out."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.steps, self.output = [], graph.output[0].name
        self.input = graph.input[0].name
        for node in graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type in ("Softmax", "Identity"):
                self.steps.append((lambda x: x, [node.input[0]], node.output[0]))
            else:
                self.steps.append(self.step(node))
        del self.constants

    def module(self, node, layer):
        """The name that the layer is found by: tools put others in its place."""
        name = (node.name or node.output[0]).replace("/", "_").replace(".", "_").replace(":", "_")
        self.add_module(name, layer)
        return name

    def affine(self, node, layer, weight, bias):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.array(weight)))
            if bias is not None:
                layer.bias.copy_(torch.from_numpy(np.array(bias).reshape(-1)))
        return layer

    def step(self, node):
        own, read = attributes(node), [n for n in node.input if n not in self.constants]
        given = [self.constants[n] for n in node.input if n in self.constants]
        match node.op_type:
            case "Conv":
                weight, bias = given[0], given[1] if len(given) > 1 else None
                out, inner, *kernel = weight.shape
                groups = own.get("group", 1)

                def make(padding):
                    conv = nn.Conv2d(inner * groups, out, kernel, own.get("strides", 1), padding, own.get("dilations", 1),
                                     groups, bias is not None)
                    return self.affine(node, conv, weight, bias)

                work = self.module(node, with_padding(own.get("pads"), 0.0, make))
            case "Gemm" | "MatMul":
                weight = given[0] if own.get("transB") else given[0].T
                bias = given[1] if len(given) > 1 else None
                dense = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
                work = self.module(node, self.affine(node, dense, weight, bias))
            case "Relu":
                work = self.module(node, nn.ReLU())
            case "Clip" if [float(x) for x in given] == [0.0, 6.0]:
                work = self.module(node, nn.ReLU6())
            case "Add" if not given:
                work = torch.add
            case "MaxPool":
                kernel, stride = own["kernel_shape"], own["strides"]
                work = self.module(node, with_padding(own.get("pads"), float("-inf"), lambda p: nn.MaxPool2d(kernel, stride, p)))
            case "AveragePool" if not any(own.get("pads", [])):
                work = self.module(node, nn.AvgPool2d(own["kernel_shape"], own["strides"]))
            case "GlobalAveragePool":
                work = self.module(node, nn.AdaptiveAvgPool2d(1))
            case "Flatten" | "Reshape":
                work = lambda x: torch.flatten(x, 1)
            case "Transpose":
                order = list(own["perm"])
                work = lambda x: x.permute(order)
            case "Pad":
                pads = [int(p) for p in given[0]]
                rank = len(pads) // 2
                sides = [pads[i + k * rank] for i in reversed(range(rank)) for k in (0, 1)]
                work = lambda x: functional.pad(x, sides)
            case other:
                raise ValueError(f"{other} {node.name} is not known here")
        return work, read, node.output[0]

    def forward(self, x):
        values = {self.input: x}
        for work, read, made in self.steps:
            layer = getattr(self, work) if isinstance(work, str) else work
            values[made] = layer(*[values[n] for n in read])
        return values[self.output]
