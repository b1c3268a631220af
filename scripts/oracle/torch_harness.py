"""The same measurement in PyTorch, beside this program's: passes per second, in turn, medians.

    target/peers/bin/python scripts/oracle/torch_harness.py PROGRAM [--threads 2] [--repeats 7] [NETWORK...]

A full-precision pass over 20 images and one of each of 8 variants, whose weights are rounded per output channel to 2 to 9
bits. Batch norm is folded. Forward hooks on every convolution and dense layer keep the reference's output and reduce a
variant's, per image: max |d|, sum d^2, sum |d|, max |ref|, sum ref^2. PROGRAM does the same (`bench --variants 8`), with
statistics in f64 of every node. `scripts/peers` makes the environment.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import torch
import torchvision
from torch.fx.experimental.optimization import fuse

IMAGES = 20
BITS = range(2, 10)
LAYERS = (torch.nn.Conv2d, torch.nn.Linear)


def layers(model):
    return [module for module in model.modules() if isinstance(module, LAYERS)]


def rounded(weight, bits):
    rows = weight.flatten(1)
    step = rows.abs().amax(1) / (2 ** (bits - 1) - 1)
    step = step.clamp_min(1e-30).unsqueeze(1)
    return ((rows / step).round() * step).view_as(weight)


class Harness:
    def __init__(self, name):
        torch.manual_seed(1)
        self.model = fuse(torchvision.models.get_model(name).eval())
        found = layers(self.model)
        self.full = [layer.weight.data for layer in found]
        self.variants = [[rounded(weight, bits) for weight in self.full] for bits in BITS]
        self.reference, self.statistics = [None] * len(found), None
        for i, layer in enumerate(found):
            layer.register_forward_hook(lambda _module, _input, out, i=i: self.seen(i, out))
        self.layers = found

    def seen(self, i, out):
        out = out.flatten(1)
        if self.statistics is None:
            self.reference[i] = out.clone()
            return
        ref = self.reference[i]
        d = out - ref
        size = d.abs()
        self.statistics.append(
            (size.amax(1), d.square().sum(1), size.sum(1), ref.abs().amax(1), ref.square().sum(1))
        )

    def passes(self, images):
        """Seconds of the reference and of all variants; weights are exchanged beforehand, as pointers."""
        started = time.perf_counter()
        for weights in [self.full, *self.variants]:
            for layer, weight in zip(self.layers, weights):
                layer.weight.data = weight
            self.statistics = None if weights is self.full else []
            self.model(images)
        return time.perf_counter() - started


def ours(program, name, threads):
    command = [program, "bench", "--model", name, "--batch", str(IMAGES), "--backend", "cpu", "--json"]
    command += ["--threads", str(threads), "--repeats", "1"]

    def rate(variants):
        said = subprocess.run([*command, "--variants", str(variants)], check=True, capture_output=True, text=True)
        return json.loads(said.stdout)["images_per_second"]

    return rate(len(BITS)) * (1 + len(BITS)), rate(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v2", "resnet18"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads, {IMAGES} images, 1 + {len(BITS)} passes,", end=" ")
    print(f"medians of {options.repeats} in turn")
    print("| network | ours, passes/s | PyTorch, passes/s | times | ours, forward alone | share |\n|---|---|---|---|---|---|")
    for name in options.networks:
        images = torch.randn(IMAGES, 3, 224, 224)
        with torch.inference_mode():
            harness = Harness(name)
            harness.passes(images)
            rows = []
            for _ in range(options.repeats):
                measured, forward = ours(options.program.resolve(), name, options.threads)
                rows.append((measured, IMAGES * (1 + len(BITS)) / harness.passes(images), forward))
        mine, theirs, forward = (statistics.median(column) for column in zip(*rows))
        times = statistics.median(a / b for a, b, _ in rows)
        share = statistics.median(a / c for a, _, c in rows)
        print(f"| {name} | {mine:.1f} | {theirs:.1f} | {times:.1f} | {forward:.1f} | {share:.2f} |", flush=True)


main()
