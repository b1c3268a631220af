#!/usr/bin/env python3
"""GPFQ of Brevitas on the layer data that examples/gpfq_layers.rs quantized: seconds and relative square errors of both.

  cargo run --release --example gpfq_layers -- WEIGHTS IMAGES layers.safetensors
  gpfq_yardstick.py layers.safetensors

Needs torch, brevitas and safetensors, in an environment of their own. Both get the same columns of samples in full
precision and in the partly quantized network, the same weights and the same alphabet, {-7..7} max|row| / 7 per neuron. Seconds
count what follows from the samples: inner products and codes, no forward pass of a network. Brevitas computes in float32.
"""

import argparse
import time

import torch
from brevitas.graph.gpfq import GPFQ
from brevitas.graph.gpxq import LayerHandler
from brevitas.nn import QuantLinear
from brevitas.quant import Int8WeightPerChannelFloat
from brevitas.utils.torch_utils import StopFwdException
from safetensors.torch import load_file


def quantizer_of(weight):
    """A dense layer of 4 bits whose scales are fixed from the weights it starts with."""
    layer = QuantLinear(
        weight.shape[1],
        weight.shape[0],
        bias=False,
        weight_quant=Int8WeightPerChannelFloat,
        weight_bit_width=4,
        weight_scaling_impl_type="parameter_from_stats",
        weight_scaling_stats_op="max",
        input_quant=None,
    )
    layer.weight.data = weight.clone()
    layer.eval()
    layer(torch.zeros(1, weight.shape[1]))
    return layer


def quantize(weight, full, own):
    """One group: weight [neurons, columns], inputs [columns, samples]. Returns values and seconds."""
    layer = quantizer_of(weight)
    gpfq = GPFQ(layer, "layer", act_order=False, len_parallel_layers=1, create_weight_orig=True)
    handler = LayerHandler()
    started = time.perf_counter()
    for enabled, inputs in ((True, own), (False, full)):
        layer.weight_quant.disable_quant = not enabled
        try:
            gpfq.update_batch(layer, (inputs.t(),), handler)
        except StopFwdException:
            pass
    layer.weight_quant.disable_quant = False
    gpfq.single_layer_update()
    return layer.quant_weight().value.detach(), time.perf_counter() - started


def relative_error(weight, values, full, own):
    """||X w - X~ q||^2 / ||X w||^2, summed over neurons."""
    exact = weight.double() @ full.double()
    return float(((exact - values.double() @ own.double()) ** 2).sum()), float((exact**2).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tensors = load_file(arguments.file)
    names = [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]
    totals = [0.0, 0.0]
    print(f"{'layer':40} {'g x d x n':>16} {'m':>7} {'ours s':>8} {'theirs s':>9} {'ours err':>10} {'theirs err':>10} {'same codes':>10}")
    with torch.no_grad():
        for name in names:
            weight, values, full, own = (tensors[f"{name}.{key}"] for key in ("weight", "values", "full", "quantized"))
            seconds, errors, size, same = 0.0, [0.0, 0.0], 0.0, 0
            for w, v, x, y in zip(weight, values, full, own):
                theirs, took = quantize(w, x, y)
                seconds += took
                for i, q in enumerate((v, theirs)):
                    error, exact = relative_error(w, q, x, y)
                    errors[i] += error
                step = w.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / 7
                same += int(((v - theirs).abs() < step / 2).sum())
                size += exact
            ours = float(tensors[f"{name}.seconds"])
            totals = [totals[0] + ours, totals[1] + seconds]
            shape = f"{weight.shape[0]}x{weight.shape[2]}x{weight.shape[1]}"
            print(
                f"{name:40} {shape:>16} {full.shape[2]:7} {ours:8.3f} {seconds:9.3f} "
                f"{errors[0] / size:10.3e} {errors[1] / size:10.3e} {same / weight.numel():10.4f}",
                flush=True,
            )
    print(f"seconds in all: ours {totals[0]:.3f}, brevitas {totals[1]:.3f}, {totals[1] / totals[0]:.1f} times")


if __name__ == "__main__":
    main()
