#!/usr/bin/env python3
"""Holds what the program says of quantized models against ONNX Runtime.

  quantized_check.py check FOLDER PROGRAM IMAGES [MODEL/FILE...]   every FOLDER/MODEL/FILE.onnx that quantized_onnx.py (and
                                                  quantized_tools.py) made beside FOLDER/MODEL/MODEL.onnx: a line of
                                                  docs/quantizers.md each
  quantized_check.py faults FOLDER PROGRAM IMAGES [MODEL/FILE...]  plants three faults in each, and tells where `diff` has them

`check` runs both models in ONNX Runtime without graph optimizations and takes the tensors that `diff` says it compared.
Columns: layers compared; what matched them; layers that the runtime was given the program's own input of (from `trace
--quantized`, on the full-precision graph); the largest share of a layer's values that are then not the runtime's, and by how
many steps; the largest relative difference of any layer's values when each goes its own way from the images; the largest
difference between the discrepancy of a layer (signal to noise, all images) that `diff` says and the one of the runtime's
values (of layers with a thousand values or more); images of the same class. Sums of another order decide a tie between two codes otherwise now and then: that is one
step, but travels on.
Needs numpy, onnx, onnxruntime, safetensors.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from quantized_onnx import as_read, run, traced

IMAGES = 2
# Decibels that the program's discrepancy of a layer may differ from the runtime's.
ROOM = 1.0
# Values of which one step is no tenth of a decibel.
ENOUGH = 1000
# Share of a layer's values that may be another step for a tie decided otherwise, and by how many steps: of 8 bits, where
# the runtime's QLinearAdd folds zero points into a float and a step of a sum may be in the layer's input; and of 16, whose
# steps are as small as sums of another order are apart.
TIES = {8: 5e-3, 16: 1.0}
STEPS = {8: 2.001, 16: 16.0}
# Operators that hand codes on.
MOVES = ["MaxPool", "Reshape", "Flatten", "Transpose", "Identity", "Squeeze", "Unsqueeze"]


def grids(model):
    """Scales and zero points of every tensor of codes, one or one for each channel."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    at = {"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6, "QLinearAdd": 6, "QGemm": 7, "QLinearConcat": 0,
          "QLinearGlobalAveragePool": 3, "QLinearAveragePool": 3, "QLinearSoftmax": 3}
    found = {}
    for node in model.graph.node:
        i = at.get(node.op_type)
        if i is not None and len(node.input) > i + 1 and node.input[i] in values:
            found[node.output[0]] = (values[node.input[i]].astype(np.float64), values[node.input[i + 1]].astype(np.int64))
        elif node.op_type in MOVES and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def along_channels(grid, y):
    """Scales and zero points as factors of a tensor `[N, C, ...]`."""
    return [x.reshape(-1) if x.size == 1 else x.reshape([1, -1] + [1] * (y.ndim - 2)) for x in grid]


def values(path, inputs, names):
    """The runtime's values of tensors over all inputs, codes as what they stand for."""
    model = onnx.load(path)
    grid = grids(model)
    images = [run(path, x, names) for x in inputs]
    out = {}
    for name in images[0]:
        y = np.concatenate([found[name] for found in images])
        if y.dtype != np.float32:
            scale, zero = along_channels(grid[name], y)
            y = (y.astype(np.float64) - zero) * scale
        out[name] = y.astype(np.float64)
    return out


def decibels(reference, other):
    noise = np.sum((other - reference) ** 2)
    return np.inf if noise == 0 else 10 * np.log10(np.sum(reference ** 2) / noise)


def program(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    return done.stdout, next((line for line in done.stderr.splitlines() if line.startswith("error")), "")


def check(path, float_path, executable, images):
    """A line: layers, what matched them, three agreements, a verdict."""
    told, error = program(executable, "diff", float_path, path, "--images", images, "--limit", IMAGES, "--backend", "cpu", "--json")
    if not told:
        return f"refused: {error}"
    told = json.loads(told)
    layers = told["layers"]
    matched = {}
    for layer in layers:
        matched[layer["matched_by"]] = matched.get(layer["matched_by"], 0) + 1
    with tempfile.TemporaryDirectory() as folder:
        x = traced(executable, float_path, images, IMAGES, Path(folder) / "float.safetensors")["input"]
        out = Path(folder) / "quantized.safetensors"
        _, error = program(executable, "trace", "--quiet", "--model", float_path.stem, "--weights", float_path, "--quantized", path,
                           "--images", images, "--limit", IMAGES, "--backend", "cpu", "--out", out)
        from safetensors.numpy import load_file
        ours = load_file(out) if out.exists() else {}
    ours = {name.split(".", 1)[1]: y.astype(np.float64) for name, y in ours.items() if name != "input"}
    a = values(float_path, as_read(onnx.load(float_path), x), [layer["tensors"][0] for layer in layers])
    b = values(path, as_read(onnx.load(path), x), [layer["tensors"][1] for layer in layers])
    model = onnx.load(path)
    grid, made = grids(model), {}
    apart, relative, share, steps, alone = [], [], [0.0], [0.0], 0
    for layer in layers:
        name, tensor = layer["layer"], layer["tensors"][1]
        first, second = a[layer["tensors"][0]], b[tensor]
        first = framed(first, second.shape)
        said = layer["accumulated"]["sqnr_db"]
        if first.size >= ENOUGH and said is not None:
            apart.append(abs(decibels(first, second) - said))
        own = framed(ours[name], second.shape) if name in ours else None
        if own is not None and own.size == second.size:
            made[tensor] = own.reshape(second.shape)
            relative.append(np.max(np.abs(made[tensor] - second)) / np.max(np.abs(second)))
    bits = 8
    for layer in layers:
        tensor = layer["tensors"][1]
        part = between(model, tensor, made)
        step = step_of(model, tensor, grid)
        if tensor not in made or part is None or step is None:
            continue
        alone += 1
        found = alone_values(part, tensor, made, grid)
        off = np.abs(found - made[tensor]) / along_channels([step[0]], found)[0]
        bits = max(bits, step[1])
        share.append(float(np.mean(off > 0.5)))
        steps.append(float(np.max(off)))
    names = [f"{count} by {by}" for by, count in sorted(matched.items(), key=lambda m: -m[1])]
    whole = told["layers_compared"] == told["layers_expected"] == len(made)
    good = whole and max(apart) <= ROOM and alone > 0 and max(share) <= TIES[bits] and max(steps) <= STEPS[bits]
    row = [f"{told['layers_compared']} of {told['layers_expected']}", ", ".join(names), str(alone), f"{max(share):.1e}",
           f"{max(steps):.1f}", f"{max(relative, default=np.nan):.1g}", f"{max(apart):.2f}",
           f"{told['top1_agree']} of {told['images']}", "agrees" if good else "APART " + error]
    return " | ".join(row)


def framed(y, shape):
    """Values among zeros, where a file pads a map before it is quantized: as much before as behind, or one less."""
    if y.ndim != 4 or len(shape) != 4 or y.shape[:2] != shape[:2]:
        return y
    more = [large - small for large, small in zip(shape[2:], y.shape[2:])]
    if min(more) < 0 or max(more) == 0:
        return y
    return np.pad(y, [(0, 0), (0, 0)] + [(extra // 2, extra - extra // 2) for extra in more])


def makers(model):
    return {output: node for node in model.graph.node for output in node.output}


def step_of(model, tensor, grid):
    """Step and bits of the grid that a tensor is on, as codes or as floats."""
    maker = makers(model).get(tensor)
    while maker is not None and maker.op_type in ("DequantizeLinear", "Reshape", "Flatten", "Relu", "Clip", "Identity", "Squeeze"):
        if maker.input[0] in grid:
            tensor = maker.input[0]
            break
        maker = makers(model).get(maker.input[0])
    if tensor not in grid:
        return None
    wide = {t.name: t.data_type for t in model.graph.initializer}
    zero = next((wide.get(n) for node in model.graph.node if tensor in node.output for n in node.input[2:3]), None)
    return grid[tensor][0], 16 if zero in (onnx.TensorProto.INT16, onnx.TensorProto.UINT16) else 8


def between(model, tensor, made):
    """The part of a model that makes a tensor from those that are known; none where it needs others than constants."""
    maker, constants = makers(model), {t.name: t for t in model.graph.initializer}
    nodes, inputs, kept, open_, seen = [], set(), [], [tensor], set()
    while open_:
        name = open_.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in constants:
            kept.append(constants[name])
        elif name in made and name != tensor:
            inputs.add(name)
        elif name in maker:
            if maker[name] not in nodes:
                nodes.append(maker[name])
            open_.extend(maker[name].input)
        else:
            return None
    order = {id(n): i for i, n in enumerate(model.graph.node)}
    nodes = sorted((n for n in model.graph.node if n in nodes), key=lambda n: order[id(n)])
    return (nodes, sorted(inputs), kept, model) if inputs else None


def alone_values(part, tensor, made, grid):
    """The runtime's values of a tensor from the program's values before it."""
    nodes, inputs, kept, model = part
    constants = {t.name: t for t in model.graph.initializer}
    feeds, infos = {}, []
    for name in inputs:
        x = made[name]
        if name in grid:
            zero = next(n for node in model.graph.node if name in node.output for n in node.input if n.endswith("zero_point") and n in constants)
            kind = numpy_helper.to_array(constants[zero]).dtype
            scale, zero = along_channels(grid[name], x)
            x = np.round(x / scale) + zero
            feeds[name] = x.astype(kind)
        else:
            feeds[name] = x.astype(np.float32)
        infos.append(onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype), None))
    out = [onnx.helper.make_empty_tensor_value_info(tensor)]
    graph = onnx.helper.make_graph(nodes, "part", infos, out, kept)
    small = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = len(next(iter(feeds.values())))
    results = [session.run([tensor], {n: v[i:i + 1] for n, v in feeds.items()})[0] for i in range(images)]
    y = np.concatenate(results).astype(np.float64)
    if tensor not in grid:
        return y
    scale, zero = along_channels(grid[tensor], y)
    return (y - zero) * scale


def weights_of(model, layer):
    """Names of the codes, scale and zero point of a layer's weights; no zero point where there is none."""
    if layer.op_type in ("QLinearConv",):
        return layer.input[3], layer.input[4], layer.input[5]
    maker = next((n for n in model.graph.node if layer.input[1] in n.output), None)
    while maker is not None and maker.op_type in ("Identity", "Transpose", "Reshape", "Cast"):
        maker = next((n for n in model.graph.node if maker.input[0] in n.output), None)
    if maker is None or maker.op_type not in ("DequantizeLinear", "Quant"):
        return None
    return maker.input[0], maker.input[1], maker.input[2] if len(maker.input) > 2 else None


def codes_of(model, layer):
    """The codes that a layer's values become; none where they are read as floats first."""
    if layer.op_type == "QLinearConv":
        return layer.output[0]
    tensor = layer.output[0]
    while True:
        readers = [n for n in model.graph.node if tensor in n.input]
        if len(readers) != 1 or readers[0].op_type not in ("Relu", "Clip", "QuantizeLinear"):
            return None
        tensor = readers[0].output[0]
        if readers[0].op_type == "QuantizeLinear":
            return tensor


def with_zero_off(model, codes):
    """Moves the zero point of a tensor of codes, where it is written and where it is read."""
    maker = makers(model)[codes]
    at = 2 if maker.op_type == "QuantizeLinear" else 7
    old = maker.input[at]
    zero = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == old)
    limits = np.iinfo(zero.dtype)
    off = (limits.max - limits.min) * 3 // 8
    wide = zero.astype(np.int64)
    moved = np.where(wide + off <= limits.max, wide + off, wide - off).astype(zero.dtype)
    model.graph.initializer.append(numpy_helper.from_array(moved, "zero_off"))
    maker.input[at] = "zero_off"
    open_ = [codes]
    while open_:
        name = open_.pop()
        for node in model.graph.node:
            for i, read in enumerate(node.input):
                if read != name:
                    continue
                if node.op_type in MOVES:
                    open_.append(node.output[0])
                elif len(node.input) > i + 2 and node.input[i + 2] == old:
                    node.input[i + 2] = "zero_off"


def planted(model, fault):
    """The name of the middle convolution after its scales are doubled, the zero point of its channel 1 or of its values is off."""
    layers = [n for n in model.graph.node if n.op_type in ("Conv", "QLinearConv") and weights_of(model, n)]
    if fault == "values":
        later = [n for n in layers[len(layers) // 2:] if codes_of(model, n)]
        if not later:
            return None
        with_zero_off(model, codes_of(model, later[0]))
        return later[0].name
    layer = layers[len(layers) // 2]
    codes, scale, _ = weights_of(model, layer)
    constants = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    if codes not in constants:
        # Quantized in the file: QuantizeLinear (and Clip) of float weights.
        maker = next(n for n in model.graph.node if codes in n.output)
        while maker.input[0] not in constants:
            maker = next(n for n in model.graph.node if maker.input[0] in n.output)
        codes = maker.input[0]
    name = scale if fault == "scale" else codes
    value = numpy_helper.to_array(constants[name]).copy()
    if fault == "scale":
        value = (value * 2).astype(value.dtype)
    elif value.dtype == np.float32:
        value[1] += 0.3 * np.abs(value).max()
    else:
        # A zero point that is off by n is codes that are off by -n; models of one zero point have none of a channel's own.
        limits = np.iinfo(value.dtype)
        off = (limits.max - limits.min) // 6
        value[1] = np.clip(value[1].astype(np.int64) - off, limits.min, limits.max).astype(value.dtype)
    constants[name].CopyFrom(numpy_helper.from_array(value, constants[name].name))
    return layer.name


def row_of(name, first, wrong, executable, images):
    """The row of a layer in `diff FIRST WRONG`, from 1; the error where there is none."""
    told, error = program(executable, "diff", first, wrong, "--images", images, "--limit", 1, "--backend", "cpu", "--json")
    if not told:
        return error
    plain = lambda text: text.removesuffix("_quant").removesuffix("_quantized")
    layers = json.loads(told)["layers"]
    return next((i for i, x in enumerate(layers, 1) if plain(name) in (plain(x["other"]), plain(x["layer"]))), "none")


def faults(path, float_path, executable, images):
    """Rows of three faults beside the full-precision model; beside the sound file too where another layer is worse than the fault."""
    row = []
    for fault in ("scale", "zero", "values"):
        model = onnx.load(path)
        name = planted(model, fault)
        if name is None:
            row.append("none")
            continue
        with tempfile.TemporaryDirectory() as folder:
            wrong = Path(folder) / "wrong.onnx"
            onnx.save(model, wrong)
            rank = row_of(name, float_path, wrong, executable, images)
            row.append(f"row {rank}" if rank == 1 else f"row {rank}, row {row_of(name, path, wrong, executable, images)} of the sound file's")
    return " | ".join(row)


def main():
    match sys.argv[1:]:
        case [("check" | "faults") as what, folder, executable, images, *only]:
            for path in sorted(Path(folder).glob("*/*.onnx")):
                name = f"{path.parent.name}/{path.stem}"
                if path.stem == path.parent.name or (only and name not in only):
                    continue
                one = check if what == "check" else faults
                try:
                    line = one(path, path.parent / f"{path.parent.name}.onnx", executable, images)
                except Exception as error:  # One model that fails is a line, not an end.
                    line = f"FAILED {type(error).__name__} {str(error)[:300]}"
                print(f"| {path.parent.name} | {path.stem} | {line} |", flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
