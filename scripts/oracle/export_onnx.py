#!/usr/bin/env python3
"""ONNX models with ONNX Runtime's value of every tensor, for tests/suite/network/onnx.rs.

  export_onnx.py                        writes tests/fixtures/onnx: small models, one golden file
  export_onnx.py --golden M.onnx G.json the golden of one model, e.g. datasets/opennsfw/open-nsfw.onnx
  export_onnx.py --full FOLDER          torchvision models in full size with random weights, and their goldens;
                                        compare with: cargo run --release --example compare_onnx -- FOLDER
                                        --exporter dynamo or torchscript for one of them, --models A B ... for some

Needs torch, torchvision, onnx, onnxruntime and numpy. Inputs and weights follow from a counter by splitmix64, so
that the tests make the same numbers without storing them. Graph optimizations are off: every tensor keeps its name.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "onnx"
VALUES = 16
EXPORTERS = ("torchscript", "dynamo")
LARGEST = 300 * 1024


def uniform(seed, count):
    """`count` numbers in [-1, 1), exact in float32: the top 24 bits of splitmix64's outputs."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def channels_last(model):
    """True when what reads the input turns NHWC into NCHW before the first operation on maps."""
    read = {i.name for i in model.graph.input}
    for node in model.graph.node:
        if not read & set(node.input) or node.op_type in ("Shape", "Size"):
            continue
        if node.op_type == "Transpose":
            return list(node.attribute[0].ints) == [0, 3, 1, 2]
        if node.op_type not in ("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Pad", "Neg", "Relu", "Clip", "Max", "Min"):
            return False
        read |= set(node.output)
    return False


def golden(model, folder=None, seed=1, side=224):
    """Shape, norms and 16 evenly spaced values of every tensor, for the counter-made input in NCHW order."""
    model = onnx.shape_inference.infer_shapes(model)
    names = [o.name for o in model.graph.output]
    for node in model.graph.node:
        if node.op_type in ("Constant", "Shape"):
            continue
        made = node.output if node.op_type == "Split" else node.output[:1]
        for name in made:
            if name not in names:
                model.graph.output.append(helper.make_empty_tensor_value_info(name))
                names.append(name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if folder is None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    else:
        path = Path(folder) / "with_outputs.onnx"
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        path.unlink()
    source = session.get_inputs()[0]
    defaults = [1, side, side, 3] if channels_last(model) else [1, 3, side, side]
    shape = [d if isinstance(d, int) and d > 0 else defaults[i] for i, d in enumerate(source.shape)]
    if channels_last(model):
        n, h, w, c = shape
        x = uniform(seed, n * c * h * w).reshape(n, c, h, w).transpose(0, 2, 3, 1).copy()
    else:
        x = uniform(seed, int(np.prod(shape))).reshape(shape)
    tensors = {}
    for name, y in zip(names, session.run(names, {source.name: x})):
        if y.dtype != np.float32:
            continue
        flat = y.astype(np.float64).ravel()
        at = [i * (flat.size - 1) // (VALUES - 1) for i in range(VALUES)] if flat.size >= VALUES else range(flat.size)
        tensors[name] = {
            "dims": list(y.shape),
            "l2": float(np.sqrt((flat**2).sum())),
            "max_abs": float(np.abs(flat).max()),
            "values": [float(np.float32(flat[i])) for i in at],
        }
    return {"seed": seed, "tensors": tensors}


# --- hand-made graphs, one per corner of an operator ---


class Graph:
    """Collects nodes; weights come from the counter, scaled to keep activations near 1."""

    def __init__(self, shape, opset=17, name="x"):
        self.nodes, self.initializers, self.opset, self.seed = [], [], opset, 100
        self.input = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        self.count = 0

    def weight(self, *dims, positive=False):
        self.seed += 1
        fan = max(1, int(np.prod(dims[1:]))) if len(dims) > 1 else 1
        values = uniform(self.seed, int(np.prod(dims))).reshape(dims) * np.float32(np.sqrt(3 / fan))
        return self.constant(np.abs(values) + np.float32(0.25) if positive else values)

    def constant(self, array, name=None):
        name = name or f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, dtype=np.int64))

    def add(self, op, *inputs, name=None, **attributes):
        self.count += 1
        output = f"{op.lower()}{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name or "", **attributes))
        return output

    def split(self, x, outputs, *inputs, **attributes):
        self.count += 1
        names = [f"split{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node("Split", [x, *inputs], names, **attributes))
        return names

    def norm(self, x, channels, **attributes):
        w = [self.weight(channels), self.weight(channels), self.weight(channels), self.weight(channels, positive=True)]
        return self.add("BatchNormalization", x, *w, **attributes)

    def model(self, *outputs):
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, "corner", [self.input], infos, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="corner")
        model.ir_version = 10 if self.opset > 20 else 8
        model = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(model)
        return model


def corners():
    g = Graph(["N", 4, 9, 11])
    x = g.add("Conv", "x", g.weight(6, 2, 3, 2), g.weight(6), group=2, pads=[0, 1, 2, 1], strides=[2, 1], dilations=[1, 2])
    x = g.add("Relu", x)
    x = g.add("Conv", x, g.weight(6, 1, 3, 3), group=6, auto_pad="SAME_UPPER", strides=[2, 2])
    x = g.add("Conv", x, g.weight(5, 6, 2, 2), g.weight(5), auto_pad="SAME_LOWER")
    x = g.add("Conv", x, g.weight(4, 5, 1, 3), auto_pad="VALID", name="last_conv")
    yield "conv", g.model(x)

    g = Graph([1, 3, 13, 12])
    x = g.add("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    y = g.add("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[0, 0, 1, 1])
    z = g.add("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 3], auto_pad="SAME_UPPER")
    p = [g.add("GlobalMaxPool", v) for v in (x, y, z)]
    a = g.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b = g.add("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2], count_include_pad=1)
    c = g.add("AveragePool", "x", kernel_shape=[3, 2], strides=[3, 3], ceil_mode=1)
    d = g.add("AveragePool", "x", kernel_shape=[13, 12])
    p += [g.add("GlobalAveragePool", v) for v in (a, b, c)] + [d]
    yield "pooling", g.model(g.add("Flatten", g.add("Concat", *p, axis=1)))

    g = Graph(["N", 2, 3, 4])
    x = g.add("Flatten", "x", axis=-3)
    x = g.add("Gemm", x, g.weight(10, 24), g.weight(10), transB=1, alpha=0.5, beta=2.0)
    x = g.norm(g.add("Relu", g.norm(x, 10)), 10)
    x = g.add("Gemm", x, g.weight(10, 7), g.weight(1, 7))
    x = g.add("Add", g.add("MatMul", x, g.weight(7, 5)), g.weight(5))
    x = g.add("Mul", x, g.constant(np.float32(0.75)))
    yield "dense", g.model(g.add("Softmax", x, axis=1))

    # Pre-activation: batch norms that no convolution precedes, a sum read twice.
    g = Graph(["N", 3, 8, 8])
    x = g.add("Conv", "x", g.weight(4, 3, 3, 3), pads=[1, 1, 1, 1])
    for _ in range(2):
        y = g.add("Relu", g.norm(x, 4))
        y = g.add("Conv", y, g.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
        y = g.add("Relu", g.norm(y, 4, epsilon=1e-3))
        y = g.add("Conv", y, g.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
        x = g.add("Add", x, y)
    y = g.add("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6)))
    x = g.add("Sum", x, y, y)
    x = g.add("ReduceMean", g.add("Relu", g.norm(x, 4)), axes=[-1, -2], keepdims=0)
    yield "preactivation", g.model(g.add("Gemm", x, g.weight(5, 4), transB=1))

    # As TensorFlow exports: NHWC input scaled in the graph, zero padding apart, classifier over NHWC order.
    g = Graph(["unk", 10, 16, 3])
    x = g.add("Sub", g.add("Mul", "x", g.constant(np.float32(0.5))), g.constant(np.array([0.1, -0.2, 0.3], np.float32)))
    x = g.add("Transpose", x, perm=[0, 3, 1, 2])
    x = g.add("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 2, 0), mode="constant")
    x = g.add("Relu", g.norm(g.add("Conv", x, g.weight(4, 3, 3, 3), strides=[2, 2]), 4))
    x = g.add("Pad", x, g.ints(0, 0, 0, 0, 0, 0, 1, 1))
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    x = g.add("Transpose", x, perm=[0, 2, 3, 1])
    x = g.add("Add", g.add("MatMul", x, g.weight(4, 6)), g.weight(6))
    x = g.add("Dropout", g.add("Relu", x))
    x = g.add("Reshape", x, g.ints(-1, 72))
    x = g.add("Add", g.add("MatMul", x, g.weight(72, 5)), g.weight(1, 5))
    yield "channels_last", g.model(g.add("Identity", g.add("Softmax", x)))

    # Shapes worked out in the graph, as PyTorch exports x.view(x.size(0), -1); a constant behind a node.
    g = Graph(["batch", 3, 6, 6])
    w = g.add("Identity", g.weight(4, 3, 3, 3))
    x = g.add("Conv", "x", w)
    batch = g.add("Unsqueeze", g.add("Gather", g.add("Shape", x), g.constant(np.array(0, np.int64))), g.ints(0))
    target = g.add("Concat", batch, g.ints(-1), axis=0)
    x = g.add("Reshape", x, target)
    y = g.add("Transpose", g.weight(3, 64), perm=[1, 0])
    x = g.add("MatMul", x, y)
    x = g.add("Squeeze", g.add("Unsqueeze", x, g.ints(2, 3)), g.ints(-1, -2))
    yield "shapes", g.model(g.add("Div", g.add("Sub", g.constant(np.float32(1)), x), g.weight(3, positive=True)))

    # The oldest operator set: limits, axes and pads as attributes.
    g = Graph([1, 3, 7, 7], opset=7)
    x = g.add("Clip", g.add("Conv", "x", g.weight(4, 3, 3, 3), name="stem"), min=0.0, max=6.0)
    x = g.add("Pad", x, pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant", value=0.0)
    x = g.add("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2])
    x = g.add("ReduceMean", x, axes=[2, 3])
    x = g.add("Squeeze", x, axes=[2, 3])
    x = g.add("Dropout", x, ratio=0.5)
    yield "opset7", g.model(g.add("Gemm", x, g.weight(4, 2), g.weight(2)))

    # The newest: axes as inputs.
    g = Graph([2, 3, 7, 7], opset=22)
    x = g.add("Clip", g.add("Conv", "x", g.weight(4, 3, 3, 3)), g.constant(np.float32(0)))
    x = g.add("Pad", x, g.ints(1, 0, 1, 2), "", g.ints(2, -1), mode="constant")
    x = g.add("Conv", x, g.weight(4, 4, 3, 3))
    x = g.add("ReduceMean", x, g.ints(2, 3), keepdims=1)
    yield "opset22", g.model(g.add("Flatten", x))

    # The image comes as NHWC, padded before it is turned; channels of one, reshaped.
    g = Graph(["N", 9, 8, 3])
    x = g.add("Pad", g.add("Sub", "x", g.weight(3)), g.ints(0, 2, 1, 0, 0, 1, 2, 0))
    x = g.add("Conv", g.add("Transpose", x, perm=[0, 3, 1, 2]), g.weight(4, 3, 3, 3), strides=[2, 2])
    yield "channels_last_padded", g.model(g.add("GlobalAveragePool", g.add("Relu", x)))
    g = Graph(["N", 7, 6, 1])
    x = g.add("Conv", g.add("Reshape", "x", g.ints(-1, 1, 7, 6)), g.weight(4, 1, 3, 3))
    yield "channels_last_grey", g.model(g.add("Sigmoid", g.add("Flatten", g.add("Neg", x))))

    # Weights worked out in the graph, in several types and with a division of integers.
    g = Graph(["N", 3, 8, 8])
    w = g.add("Cast", g.constant((uniform(7, 108) * 127).astype(np.int8).reshape(4, 3, 3, 3)), to=TensorProto.FLOAT)
    w = g.add("Mul", g.add("Sub", w, g.add("ReduceMean", w, axes=[1, 2, 3])), g.weight(4, 1, 1, 1, positive=True))
    x = g.add("Conv", "x", g.add("Div", w, g.constant(np.float32(64))))
    d = g.add("Cast", g.add("Sqrt", g.add("Cast", g.weight(4, positive=True), to=TensorProto.DOUBLE)), to=TensorProto.FLOAT)
    x = g.add("BatchNormalization", x, d, g.weight(4), g.add("Neg", g.weight(4)), g.add("Where", g.constant(np.array([1, 0, 0, 1], bool)), d, d))
    half = g.add("Div", g.add("Sub", g.add("Gather", g.add("Shape", x), g.constant(np.array(2, np.int64))), g.ints(11)), g.ints(2))
    zero = g.add("Sub", half, g.add("Range", *(g.constant(np.array(i, np.int64)) for i in (-2, -1, 1))))
    pads = g.add("Concat", zero, zero, g.ints(1, 2), zero, zero, g.ints(2, 1), axis=0)
    x = g.add("Conv", g.add("Pad", x, pads), g.add("Expand", g.weight(2, 4, 1, 3), g.ints(2, 4, 3, 3)))
    w = g.add("Slice", g.add("Tile", g.weight(3, 4), g.ints(2, 1)), g.ints(4), g.ints(0), g.ints(0), g.ints(-2))
    w = g.add("Transpose", g.add("Concat", w, g.add("Max", w, g.constant(np.float32(0.25))), axis=1), perm=[1, 0])
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    x = g.add("Gemm", x, g.add("Reshape", w, g.ints(2, -1)))
    yield "folded", g.model(x)

    # Channels taken apart, shuffled and joined, in both layouts.
    g = Graph(["N", 8, 6, 5])
    a, b, c = g.split(g.add("Conv", "x", g.weight(12, 8, 3, 3)), 3, g.ints(2, 4, 6), axis=1)
    b = g.add("Reshape", g.add("Transpose", g.add("Reshape", b, g.ints(-1, 2, 2, 12)), perm=[0, 2, 1, 3]), g.ints(-1, 4, 4, 3))
    c = g.add("Transpose", g.add("Reshape", g.add("Relu", c), g.ints(0, 2, 3, 4, 3)), perm=[0, 2, 1, 3, 4])
    c = g.add("Reshape", c, g.ints(-1, 6, 4, 3))
    d = g.add("Slice", c, g.ints(-3), g.ints(9), g.ints(1), g.ints(1))
    e = g.add("Slice", c, g.ints(0, 0), g.ints(9, -1), g.ints(2, 1), g.ints(1, 2))
    f = g.add("Gather", c, g.ints(1, 4), axis=1)
    x = g.add("Relu", g.norm(g.add("Concat", b, f, d, a, e, axis=-3), 14))
    x = g.add("Transpose", x, perm=[0, 2, 3, 1])
    x = g.add("Transpose", g.add("Reshape", x, g.ints(-1, 4, 3, 7, 2)), perm=[0, 1, 2, 4, 3])
    p, q = g.split(g.add("Reshape", x, g.ints(-1, 4, 3, 14)), 2, axis=3)
    x = g.add("Add", g.add("MatMul", g.add("Mul", p, g.weight(7)), g.weight(7, 7)), q)
    yield "channels", g.model(g.add("Gemm", g.add("Flatten", x), g.weight(84, 5)))

    # Measured without bounds: smooth activations, squeeze-and-excite in both layouts, response norms.
    g = Graph(["N", 3, 8, 7])
    x = g.add("HardSwish", g.add("Conv", "x", g.weight(6, 3, 3, 3)))
    s = g.add("Relu", g.add("Conv", g.add("GlobalAveragePool", x), g.weight(4, 6, 1, 1), g.weight(4)))
    s = g.add("HardSigmoid", g.add("Conv", s, g.weight(6, 4, 1, 1)), alpha=1 / 6, beta=0.5)
    x = g.norm(g.add("Conv", g.add("Mul", s, x), g.weight(6, 6, 3, 3)), 6)
    x = g.add("Mul", x, g.add("Sigmoid", x))
    x = g.add("Transpose", x, perm=[0, 2, 3, 1])
    s = g.add("Sigmoid", g.add("MatMul", g.add("ReduceMean", x, axes=[1, 2]), g.weight(6, 6)))
    x = g.add("HardSigmoid", g.add("Mul", x, s))
    yield "smooth", g.model(g.add("Gemm", g.add("Flatten", x), g.weight(72, 5)))
    g = Graph(["N", 3, 6, 6])
    x = g.add("LRN", g.add("Conv", "x", g.weight(8, 3, 3, 3)), size=5, alpha=0.5, beta=0.6, bias=1.25)
    x = g.add("MaxPool", g.add("Relu", x), kernel_shape=[2, 2])
    yield "response_norm", g.model(g.add("Flatten", g.add("LRN", x, size=3)))

    # Padding that a max pool does not see: copies of what its windows reach, and the least number.
    g = Graph(["N", 4, 15, 14])
    x = g.add("Pad", "x", g.ints(0, 0, 1, 0, 0, 0, 0, 2), mode="edge")
    x = g.add("MaxPool", x, kernel_shape=[3, 3])
    x = g.add("Conv", x, g.weight(5, 4, 2, 2))
    x = g.add("MaxPool", g.add("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 1, 0), mode="reflect"), kernel_shape=[4, 3], pads=[1, 0, 1, 2])
    x = g.add("Pad", x, g.ints(0, 0, 1, 0, 0, 0, 0, 1), g.constant(np.float32(-np.inf)))
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.add("Pad", g.add("Relu", g.add("Neg", x)), g.ints(0, 0, 0, 1, 0, 0, 1, 0), mode="edge")
    yield "padded_pools", g.model(g.add("Flatten", g.add("MaxPool", x, kernel_shape=[2, 2])))

    for kind, dtype in [("float16", np.float16), ("double", np.float64), ("field", np.float32)]:
        # Weights of other types, turned to floats by the graph; or not in raw bytes.
        g = Graph(["N", 2, 5, 5])
        w = g.weight(3, 2, 3, 3)
        array = numpy_helper.to_array(g.initializers.pop()).astype(dtype)
        if kind == "field":
            g.initializers.append(helper.make_tensor(w, TensorProto.FLOAT, array.shape, array.ravel().tolist()))
        else:
            w = g.add("Cast", g.constant(array, "stored"), to=TensorProto.FLOAT)
        yield f"weights_{kind}", g.model(g.add("Flatten", g.add("Conv", "x", w)))


# --- torchvision's modules, narrowed ---


def torch_models():
    import torch
    import torchvision.models as tv
    from torch import nn
    from torchvision.models.googlenet import Inception
    from torchvision.models.regnet import BlockParams, RegNet
    from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1
    from torchvision.models.squeezenet import Fire

    def shortcut(i, o, s):
        return nn.Sequential(conv1x1(i, o, s), nn.BatchNorm2d(o))

    stem = [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    yield "resnet", 33, nn.Sequential(
        *stem,
        BasicBlock(8, 8),
        BasicBlock(8, 16, 2, shortcut(8, 16, 2)),
        Bottleneck(16, 8, 2, shortcut(16, 32, 2), groups=4, base_width=32),
        Bottleneck(32, 8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    setting = [[1, 8, 1, 1], [6, 12, 2, 2], [3, 16, 2, 2]]
    yield "mobilenet_v2", 32, tv.MobileNetV2(num_classes=5, width_mult=0.5, inverted_residual_setting=setting, round_nearest=4)
    vgg = tv.VGG(tv.vgg.make_layers([4, "M", 8, 8, "M"], batch_norm=True), num_classes=10, init_weights=False)
    vgg.classifier = nn.Sequential(nn.Linear(8 * 49, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 10))
    yield "vgg", 28, vgg
    yield "googlenet", 30, nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Inception(8, 4, 4, 6, 2, 4, 4),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Inception(18, 4, 4, 6, 2, 4, 4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(18, 10),
    )
    yield "squeezenet", 30, nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(8, 4, 8, 8),
        Fire(16, 4, 8, 8),
        nn.Conv2d(16, 10, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    )
    v3 = tv.mobilenetv3.InvertedResidualConfig
    blocks = [
        v3(8, 3, 8, 8, True, "RE", 2, 1, 0.5),
        v3(8, 3, 16, 12, False, "RE", 2, 1, 0.5),
        v3(12, 5, 24, 12, True, "HS", 1, 1, 0.5),
    ]
    yield "mobilenet_v3", 33, tv.MobileNetV3(blocks, 16, num_classes=5)
    shuffle = tv.ShuffleNetV2([2, 1, 1], [8, 16, 32, 32, 24], num_classes=6)
    yield "shufflenet", 33, shuffle
    params = BlockParams.from_init_params(depth=4, w_0=8, w_a=8.0, w_m=2.0, group_width=4)
    yield "regnet", 33, RegNet(params, num_classes=10, stem_width=8)


def full_models(wanted):
    import torchvision.models as tv

    names = (
        "resnet18 resnet50 resnext50_32x4d mobilenet_v2 vgg11_bn googlenet squeezenet1_1 regnet_x_400mf densenet121 "
        "inception_v3 mnasnet1_0 shufflenet_v2_x1_0 alexnet mobilenet_v3_small efficientnet_b0"
    )
    for name in wanted or names.split():
        options = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        yield name, 299 if name == "inception_v3" else 224, getattr(tv, name)(weights=None, **options)


def fill(module):
    """He-scaled weights and plausible batch-norm statistics from the counter."""
    import torch

    with torch.no_grad():
        for number, (name, tensor) in enumerate(module.state_dict().items()):
            if not tensor.is_floating_point():
                continue
            u = torch.from_numpy(uniform(1000 + number, tensor.numel())).reshape(tensor.shape)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.5 * u)
            elif tensor.dim() == 1 and name.endswith("weight"):
                tensor.copy_(0.7 + 0.2 * u)
            elif tensor.dim() == 1:
                tensor.copy_(0.1 * u)
            else:
                tensor.copy_(u * (6 / max(1, tensor[0].numel())) ** 0.5)
    return module.eval()


def export(module, side, path, exporter):
    import torch

    fill(module)
    x = torch.zeros(1, 3, side, side)
    if exporter == "torchscript":
        torch.onnx.export(module, (x,), path, input_names=["input"], output_names=["logits"], dynamo=False,
                          opset_version=17, dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})
    else:
        torch.onnx.export(module, (x,), path, input_names=["input"], output_names=["logits"], dynamo=True,
                          external_data=False, verbose=False)


def without_remarks(model):
    """Drops source locations and other remarks, which hold paths of the exporting machine."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info):
        part.ClearField("doc_string")
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    del model.functions[:]
    return model


def write(folder, name, model, goldens):
    path = folder / f"{name}.onnx"
    model = without_remarks(model)
    path.write_bytes(model.SerializeToString())
    if path.stat().st_size > LARGEST:
        sys.exit(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")
    goldens[name] = golden(model)
    # Padding with minus infinity is no value to compare.
    tensors = goldens[name]["tensors"]
    goldens[name]["tensors"] = {key: t for key, t in tensors.items() if np.isfinite(t["max_abs"])}


def fixtures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    goldens = {}
    for name, model in corners():
        write(folder, name, model, goldens)
    for exporter in EXPORTERS:
        for name, side, module in torch_models():
            path = folder / f"{name}_{exporter}.onnx"
            export(module, side, path, exporter)
            write(folder, path.stem, onnx.load(path), goldens)
    # One model again with its weights in another file.
    for stale in folder.glob("external*"):
        stale.unlink()
    model = onnx.load(folder / "resnet_torchscript.onnx")
    onnx.save(model, folder / "external.onnx", save_as_external_data=True, location="external.weights", size_threshold=64)
    goldens["external"] = goldens["resnet_torchscript"]
    # Files that no exporter here writes.
    for path in sorted(folder.glob("reported_*.onnx")):
        goldens[path.stem] = golden(onnx.load(path))
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(goldens[name])}" for name in goldens)
    (folder / "goldens.json").write_text("{\n" + text + "\n}\n")


def full(folder, exporters, models):
    folder.mkdir(parents=True, exist_ok=True)
    for exporter in exporters:
        for name, side, module in full_models(models):
            path = folder / f"{name}_{exporter}.onnx"
            export(module, side, path, exporter)
            (folder / f"{path.stem}.json").write_text(json.dumps(golden(onnx.load(path), folder)))
            print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path, metavar="FOLDER")
    parser.add_argument("--exporter", choices=EXPORTERS)
    parser.add_argument("--models", nargs="+", metavar="NAME")
    parser.add_argument("--golden", nargs=2, type=Path, metavar=("MODEL", "JSON"))
    arguments = parser.parse_args()
    if arguments.golden:
        model, out = arguments.golden
        out.write_text(json.dumps(golden(onnx.load(model))) + "\n")
    elif arguments.full:
        full(arguments.full, [arguments.exporter] if arguments.exporter else EXPORTERS, arguments.models)
    else:
        fixtures(FIXTURES)


if __name__ == "__main__":
    main()
