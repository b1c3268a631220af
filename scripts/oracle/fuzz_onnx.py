#!/usr/bin/env python3
"""Random ONNX graphs with constant subgraphs, imported and compared with ONNX Runtime at every node.

  scripts/oracle/fuzz_onnx.py [COUNT] [FIRST_SEED]     2000 graphs of seeds 1, 2, ...; needs onnx, onnxruntime, numpy

Build the comparison first: cargo build --release --example compare_onnx. PROGRAMS in the environment names another
folder than target/release.

Every graph is a small classifier whose weights, limits, pads and reshape targets come out of random arithmetic on
constants and shapes. Wrong values and panics are failures (exit code 1, the graph is kept); refusals are counted by
reason. The same seed makes the same graph.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from common import PROGRAMS
from export_onnx import golden

COMPARE = PROGRAMS / "examples/compare_onnx"
BATCH = 250
F32, F64, F16, I64, I32 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32


class Builder:
    def __init__(self, seed):
        self.r = np.random.default_rng(seed)
        self.opset = int(self.r.choice([11, 12, 13, 14, 17, 18, 21]))
        self.nodes, self.initializers, self.count = [], [], 0
        self.images = self.pick("N", 1)

    def chance(self, p=0.5):
        return self.r.random() < p

    def pick(self, *options):
        return options[int(self.r.integers(len(options)))]

    def add(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"t{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def leaf(self, array):
        array = np.asarray(array)
        self.count += 1
        name = f"c{self.count}"
        if self.chance(0.6):
            self.initializers.append(numpy_helper.from_array(array, name))
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        return name

    # --- integers with a wanted value ---

    def ints(self, values, depth=2):
        values = np.asarray(values, dtype=np.int64)
        if depth == 0 or self.chance(0.3):
            return self.leaf(values)
        way = self.r.integers(10)
        if way == 0:
            other = self.r.integers(-5, 6, values.shape)
            return self.add("Sub", self.ints(values + other, depth - 1), self.ints(other, depth - 1))
        if way == 1:
            other = self.r.integers(-5, 6, values.shape)
            return self.add("Add", self.ints(other, depth - 1), self.ints(values - other, depth - 1))
        if way == 2:
            return self.add("Neg", self.ints(-values, depth - 1))
        if way == 3:
            return self.add("Cast", self.add("Cast", self.ints(values, depth - 1), to=self.pick(F32, I32, F64)), to=I64)
        if way == 4:
            factor = int(self.pick(2, 3, -4))
            rest = self.r.integers(0, abs(factor), values.shape) * np.where(values * factor < 0, -1, 1)
            rest = np.where(values == 0, 0, rest)
            return self.add("Div", self.ints(values * factor + rest, depth - 1), self.leaf(np.int64(factor)))
        if way == 5:
            holds = self.r.random(values.shape) < 0.5
            junk = self.r.integers(-9, 10, values.shape)
            condition = self.leaf(holds) if self.chance() else self.add(
                "Greater", self.leaf(holds.astype(np.float32)), self.leaf(np.float32(0.5)))
            return self.add("Where", condition, self.ints(np.where(holds, values, junk), depth - 1),
                            self.ints(np.where(holds, junk, values), depth - 1))
        if values.ndim == 1 and len(values) > 1:
            if way == 6:
                cut = int(self.r.integers(1, len(values)))
                return self.add("Concat", self.ints(values[:cut], depth - 1), self.ints(values[cut:], depth - 1), axis=0)
            if way == 7:
                order = self.r.permutation(len(values))
                return self.add("Gather", self.ints(self.scatter(values, order), depth - 1), self.leaf(order.astype(np.int64)), axis=0)
            if way == 8:
                padded = np.concatenate([self.r.integers(0, 9, 2), values[::-1], self.r.integers(0, 9, 1)])
                n = len(padded)
                return self.add("Slice", self.ints(padded, depth - 1), self.leaf(np.array([n - 2])), self.leaf(np.array([1])),
                                self.leaf(np.array([0])), self.leaf(np.array([-1])))
            if way == 9:
                return self.add("Reshape", self.ints(values[:, None], depth - 1), self.leaf(np.array([-1])))
        if values.ndim == 0 and way in (6, 7):
            return self.add("Gather", self.ints(np.array([7, int(values)]), depth - 1), self.leaf(np.int64(1)), axis=0)
        if values.ndim == 1 and way == 6 and self.opset >= 13:
            return self.add("Unsqueeze", self.ints(values[0], depth - 1), self.leaf(np.array([0])))
        return self.leaf(values)

    @staticmethod
    def scatter(values, order):
        source = np.empty_like(values)
        source[order] = values
        return source

    def extent(self, x, axis, value):
        """An extent that the graph works out from the shape of `x`."""
        shape = self.add("Shape", x)
        got = self.add("Gather", shape, self.leaf(np.int64(axis)), axis=0)
        if self.chance():
            got = self.add("Div", self.add("Mul", got, self.leaf(np.int64(3))), self.leaf(np.int64(3)))
        return self.add("Unsqueeze", got, self.leaf(np.array([0]))) if self.opset >= 13 else self.add("Unsqueeze", got, axes=[0])

    # --- floats of a wanted shape ---

    def floats(self, shape, scale=1.0, positive=False, depth=3):
        shape = tuple(int(d) for d in shape)
        base = self.r.uniform(-1, 1, shape) * scale
        base = np.abs(base) + 0.25 * scale if positive else base
        base = base.astype(np.float32)
        if depth == 0 or self.chance(0.25):
            return self.leaf(base)
        again = lambda s=shape: self.floats(s, scale, positive, depth - 1)  # noqa: E731
        rank = len(shape)
        way = int(self.r.integers(17))
        if way == 0:
            return self.add("Mul", again(), self.leaf(np.float32(self.r.uniform(0.5, 1.5))))
        if way == 1:
            return self.add("Div", again(), self.floats([1] * rank, positive=True, depth=1))
        if way == 2 and not positive:
            return self.add("Sub", again(), self.floats([shape[0]] + [1] * (rank - 1) if rank else [], 0.5 * scale, depth=1))
        if way == 3:
            # On a processor ONNX Runtime computes halves in float32 and skips the roundings between, which the standard asks for:
            # halves are only stored here.
            kind = self.pick(F16, F64)
            x = self.add("Cast", again(), to=kind)
            if kind == F64 and self.chance():
                x = self.add("Mul", x, self.leaf(self.r.uniform(0.5, 1.5)))
            return self.add("Cast", x, to=F32)
        if way == 4 and rank > 1:
            perm = self.r.permutation(rank)
            source = [0] * rank
            for to, at in enumerate(perm):
                source[at] = shape[to]
            return self.add("Transpose", again(tuple(source)), perm=perm.tolist())
        if way == 5 and rank:
            return self.add("Reshape", again((int(np.prod(shape)),)), self.ints([-1 if i == 0 else d for i, d in enumerate(shape)]))
        if way == 6 and rank:
            axis = int(self.r.integers(rank))
            larger = list(shape)
            larger[axis] += 3
            starts, ends = self.ints([1]), self.ints([1 + shape[axis]])
            return self.add("Slice", again(tuple(larger)), starts, ends, self.leaf(np.array([axis])))
        if way == 7 and rank:
            axis = int(self.r.integers(rank))
            if shape[axis] > 1:
                cut = int(self.r.integers(1, shape[axis]))
                parts = []
                for size in (cut, shape[axis] - cut):
                    part = list(shape)
                    part[axis] = size
                    parts.append(again(tuple(part)))
                return self.add("Concat", *parts, axis=self.pick(axis, axis - rank))
        if way == 8 and rank:
            axis = int(self.r.integers(rank))
            order = self.r.integers(-shape[axis], shape[axis], shape[axis])
            return self.add("Gather", again(), self.ints(order, 1), axis=axis)
        if way == 9 and not positive:
            return self.add("Where", self.leaf(self.r.random(shape) < 0.5), again(), self.floats(shape[-1:] if rank else [], scale, depth=1))
        if way == 10:
            return self.add("Max" if positive else self.pick("Max", "Min"), again(), again())
        if way == 11 and positive:
            return self.add("Sqrt", self.add("Abs", again()))
        if way == 12 and rank:
            small = [1 if self.chance(0.4) else d for d in shape]
            return self.add("Expand", again(tuple(small)), self.ints(shape))
        if way == 13 and not positive:
            return self.add("Neg", again())
        # The mean of equal elements would leave nothing but rounding.
        if way == 14 and rank > 1 and np.prod(shape[1:]) > 2 and not positive and self.opset < 18:
            x = self.add("Add", again(), self.leaf(base))
            return self.add("Sub", x, self.add("ReduceMean", x, axes=list(range(1, rank)), keepdims=1))
        if way == 15 and rank:
            return self.add("Tile", again(tuple([1, *shape[1:]])), self.ints([shape[0]] + [1] * (rank - 1)))
        if way == 16 and positive:
            return self.add("Pow", again(), self.leaf(np.float32(2)))
        return self.leaf(base)

    def scalar(self, value):
        """A float that is worked out from integers."""
        way = self.r.integers(4)
        if way == 0:
            return self.add("Cast", self.ints(np.int64(value)), to=F32)
        if way == 1:
            return self.add("Mul", self.leaf(np.float32(value / 2)), self.leaf(np.float32(2)))
        if way == 2 and self.opset >= 11:
            start = self.add("Range", self.leaf(np.float32(value)), self.leaf(np.float32(value + 1)), self.leaf(np.float32(1)))
            return self.add("Squeeze", start)
        return self.leaf(np.float32(value))

    # --- the network ---

    def relu(self, x):
        way = self.r.integers(8)
        if way == 0:
            return self.add("Clip", x, self.scalar(0), self.scalar(6))
        if way == 1:
            return self.add("Max", x, self.scalar(0))
        if way == 2:
            return self.add("Min", self.add("Max", self.scalar(0), x), self.scalar(6))
        if way == 3:
            return self.add("Max", self.add("Min", x, self.scalar(6)), self.scalar(0))
        if way == 4:
            return self.add("Clip", self.add("Relu", x), "", self.scalar(6))
        if way == 5 and self.opset >= 15:
            return self.add("Clip", x, self.add("CastLike", self.leaf(np.int64(0)), x), self.add("CastLike", self.leaf(np.int64(6)), x))
        if way == 6:
            return self.add("Clip", x, self.scalar(0))
        return self.add("Relu", x)

    def pads(self, top, left, bottom, right):
        """ONNX's order, from PyTorch's as its exporter writes it."""
        if self.chance():
            return self.ints([0, 0, top, left, 0, 0, bottom, right])
        torch = self.ints([left, right, top, bottom])
        zeros = self.add("ConstantOfShape", self.ints([4]), value=helper.make_tensor("v", I64, [1], [0]))
        both = self.add("Reshape", self.add("Concat", torch, zeros, axis=0), self.leaf(np.array([-1, 2])))
        turned = self.add("Slice", both, self.leaf(np.array([-1])), self.leaf(np.array([-(2**63) + 1])), self.leaf(np.array([0])),
                          self.leaf(np.array([-1])))
        return self.add("Cast", self.add("Reshape", self.add("Transpose", turned, perm=[1, 0]), self.leaf(np.array([-1]))), to=I64)

    def block(self, x, c, h, w):
        way = self.r.integers(10)
        if way <= 2:
            k = int(self.r.integers(1, 4))
            if min(h, w) < k:
                return x, c, h, w
            groups = self.pick(1, 1, c)
            out = groups * int(self.r.integers(1, 4)) if groups > 1 else int(self.r.integers(1, 9))
            weight = self.floats([out, c // groups, k, k], (3 / (c // groups * k * k)) ** 0.5)
            inputs = [x, weight] + ([self.floats([out], 0.5)] if self.chance() else [])
            p = int(self.r.integers(0, k))
            x = self.add("Conv", *inputs, group=groups, pads=[p] * 4)
            return x, out, h + 2 * p - k + 1, w + 2 * p - k + 1
        if way == 3:
            b, l, t, r = (int(v) for v in self.r.integers(0, 3, 4))
            x = self.add("Pad", x, self.pads(t, l, b, r))
            h, w = h + t + b, w + l + r
            if min(h, w) < 3:
                return self.add("Conv", x, self.floats([c, 1, 1, 1]), group=c), c, h, w
            x = self.add("Conv", x, self.floats([c, 1, 3, 3], 0.6), group=c)
            return x, c, h - 2, w - 2
        if way == 4:
            norm = [self.floats([c], positive=True), self.floats([c], 0.3), self.floats([c], 0.3), self.floats([c], positive=True)]
            return self.add("BatchNormalization", x, *norm), c, h, w
        if way == 5:
            shape = self.pick([], [1], [c, 1, 1], [1, c, 1, 1])
            op = self.pick("Add", "Sub", "Mul", "Div")
            constant = self.floats(shape, positive=op == "Div")
            operands = (x, constant) if op == "Div" or self.chance() else (constant, x)
            return self.add(op, *operands), c, h, w
        if way == 6 and min(h, w) >= 3:
            op = self.pick("MaxPool", "AveragePool")
            x = self.add(op, x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=int(self.chance(0.3)) if h % 2 == w % 2 == 0 else 0)
            return x, c, h // 2, w // 2
        if way == 7:
            y = self.add("Conv", x, self.floats([c, c, 1, 1], c**-0.5))
            y = self.relu(y) if self.chance() else y
            return self.add("Add", *(self.pick((x, y), (y, x)))), c, h, w
        if way == 8:
            y = self.add("Conv", x, self.floats([2, c, 1, 1], c**-0.5))
            return self.add("Concat", x, self.relu(y), axis=self.pick(1, -3)), c + 2, h, w
        if way == 9 and min(h, w) >= 3:
            return self.padded_pool(x, c, h, w)
        return x, c, h, w

    def padded_pool(self, x, c, h, w):
        """A max pool over a map that is padded with itself, or with the least number."""
        k = min(int(self.r.integers(2, 5)), h, w)
        s, own = int(self.r.integers(1, 3)), int(self.r.integers(0, 2))
        mode = self.pick("edge", "reflect", "constant")
        most = (k - 1 - own) // (2 if mode == "reflect" else 1)
        # Now and then too much, which is to be refused where the copies can be seen.
        most = min(max(most, 0) + int(self.chance(0.1)), min(h, w) - 1)
        b, l, t, r = (int(v) for v in self.r.integers(0, most + 1, 4))
        fill = [self.leaf(np.float32(self.pick(-np.inf, np.finfo(np.float32).min)))] if mode == "constant" else []
        x = self.add("Pad", x, self.pads(t, l, b, r), *fill, mode=mode)
        h, w = h + t + b + 2 * own, w + l + r + 2 * own
        x = self.add("MaxPool", x, kernel_shape=[k, k], strides=[s, s], pads=[own] * 4)
        return x, c, (h - k) // s + 1, (w - k) // s + 1

    def head(self, x, c, h, w):
        way = self.r.integers(4)
        if way == 0:
            x = self.add("GlobalAveragePool", x)
            size = c
        elif way == 1 and self.opset < 18:
            x = self.add("ReduceMean", x, axes=[2, 3], keepdims=1)
            size = c
        else:
            size = c * h * w
        way = self.r.integers(5)
        if way == 0:
            x = self.add("Flatten", x)
        elif way == 1:
            x = self.add("Reshape", x, self.ints([0, -1]))
        elif way == 2:
            x = self.add("Reshape", x, self.add("Concat", self.extent(x, 0, 1), self.leaf(np.array([-1])), axis=0))
        elif way == 3:
            x = self.add("Reshape", x, self.ints([-1, size]))
        else:
            x = self.add("Reshape", x, self.add("Concat", self.extent(x, 0, 1), self.ints([size]), axis=0))
        if self.chance():
            x = self.add("Gemm", x, self.floats([5, size], size**-0.5), self.floats([5]), transB=1)
        else:
            x = self.add("Add", self.add("MatMul", x, self.floats([size, 5], size**-0.5)), self.floats([5]))
        end = self.r.integers(5)
        if end == 0:
            return self.add("Softmax", x, axis=-1)
        if end == 1:
            return self.add("Sigmoid", x)
        return x

    def model(self):
        c, h, w = int(self.r.integers(1, 5)), int(self.r.integers(4, 12)), int(self.r.integers(4, 12))
        last = self.chance(0.25)
        if last and c == h == w:
            h += 1  # The comparison tells the layouts apart by their extents.
        shape = [self.images, h, w, c] if last else [self.images, c, h, w]
        info = helper.make_tensor_value_info("x", F32, shape)
        x = "x"
        if last:
            if self.chance():
                x = self.add("Sub", x, self.floats([c]))
            if self.chance():
                x = self.add("Pad", x, self.ints([0, 1, 0, 0, 0, 0, 1, 0]))
                h, w = h + 1, w + 1
            x = self.add("Transpose", x, perm=[0, 3, 1, 2])
            if min(h, w) >= 2:
                x = self.add("Conv", x, self.floats([c, c, 2, 2], 0.5))
                h, w = h - 1, w - 1
        for _ in range(int(self.r.integers(1, 7))):
            x, c, h, w = self.block(x, c, h, w)
            if self.chance(0.4):
                x = self.relu(x)
        x = self.add("Conv", x, self.floats([4, c, 1, 1], c**-0.5))
        y = self.head(x, 4, h, w)
        graph = helper.make_graph(self.nodes, "fuzz", [info], [helper.make_tensor_value_info(y, F32, None)], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="fuzz")
        model.ir_version = 8
        return model


def reason(line):
    text = re.sub(r"node \S+ \((\w+)\): ", r"\1: ", re.sub(r"^.*?\.onnx: ", "", line))
    return re.sub(r"[-\d.]+", "#", text)[:110]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    kinds, reasons, operators, bad, skipped = Counter(), Counter(), Counter(), [], 0
    for start in range(first, first + count, BATCH):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            for seed in range(start, min(start + BATCH, first + count)):
                model = Builder(seed).model()
                operators.update(n.op_type for n in model.graph.node)
                try:
                    values = golden(model)
                except Exception as error:  # ONNX Runtime itself refuses the graph
                    skipped += 1
                    reasons["not run by ONNX Runtime: " + reason(str(error).splitlines()[0])] += 1
                    continue
                # What is padded with minus infinity is no value to compare; what is made of it is.
                values["tensors"] = {n: t for n, t in values["tensors"].items() if np.isfinite(t["max_abs"])}
                (folder / f"{seed:06}.onnx").write_bytes(model.SerializeToString())
                (folder / f"{seed:06}.json").write_text(json.dumps(values))
            done = subprocess.run([COMPARE, folder], capture_output=True, text=True)
            for line in done.stdout.splitlines():
                name, outcome = line.split(": ", 1)
                kind = outcome.split(" ", 1)[0]
                kinds[kind] += 1
                if kind == "refused":
                    reasons["refused: " + reason(outcome)] += 1
                if kind in ("WRONG", "PANIC"):
                    bad.append((name, outcome))
                    kept = Path(tempfile.gettempdir()) / f"fuzz-onnx-{name}.onnx"
                    kept.write_bytes((folder / f"{name}.onnx").read_bytes())
                    print(f"seed {int(name)}: {outcome[:300]}\n  kept as {kept}", flush=True)
            if done.returncode not in (0, 1) or "Error" in done.stderr and "not every model agrees" not in done.stderr:
                print(done.stderr[-2000:])
                bad.append((str(start), "the comparison itself failed"))
    print(f"{count} graphs of seeds {first} to {first + count - 1}: {dict(kinds)}, {skipped} not run by ONNX Runtime")
    for text, number in reasons.most_common():
        print(f"{number:6} {text}")
    print("operators: " + ", ".join(f"{op} {n}" for op, n in operators.most_common()))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
