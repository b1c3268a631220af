"""Runs one network, reads the tables, finds the layer that hurts and draws the curve against depth.

    python examples/python/worst_layer.py --model M --weights F --images DIR [--bits 4] [--out DIR]

Needs the wheel (or QUANTBOUND set to the program) and polars; draws where matplotlib is installed.
"""

import argparse
import importlib.util
from pathlib import Path

import polars as pl

import quantbound


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "weights", "images"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--bits", default="4")
    parser.add_argument("--limit", default="4")
    parser.add_argument("--bounds", default="layerwise,channelwise")
    parser.add_argument("--out", type=Path, default=Path("worst-layer"))
    given = parser.parse_args()

    quantbound.run([
        "run", "--model", given.model, "--weights", given.weights, "--images", given.images, "--bits", given.bits,
        "--limit", given.limit, "--bounds", given.bounds, "--isolated", "--quiet", "--out", given.out,
    ])
    run = quantbound.load(given.out)
    print("all bounds hold" if run.holds else "a bound is violated")

    # Each layer quantized alone: the largest move of the output over the images.
    isolated = run.table("isolated", "polars")
    ranked = (
        isolated.group_by("layer").agg(pl.col("output_max_abs_diff").max().alias("at output"))
        .sort("at output", descending=True)
    )
    print(ranked.head(5))
    print(f"the layer that hurts: {ranked['layer'][0]}")

    # All layers quantized: measured against depth, and the bounds.
    measured = run.table("measurements", "polars").group_by("depth").agg(pl.col("max_abs_diff").max()).sort("depth")
    bounds = run.table("bounds", "polars").sort("depth")
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(3.3, 2.4))
    axes.plot(measured["depth"], measured["max_abs_diff"].log10(), "k", label="measured")
    for (name,), rows in bounds.group_by(["bound"], maintain_order=True):
        axes.plot(rows["depth"], rows["log10_bound"], label=name)
    axes.set(xlabel="depth", ylabel="log10 of max |y' - y|")
    axes.legend(fontsize=6)
    figure.savefig(given.out / "depth.pdf", bbox_inches="tight")
    print(f"figure   {given.out / 'depth.pdf'}")


main()
