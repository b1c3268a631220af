#!/usr/bin/env python3
"""Are statements for most images true as often as they say? One run's images, split again and again into images that state and
images that judge.

    repeated_splits.py RUN_DIR [--state 100] [--judge 200] [--splits 500] [--coverage 0.95] [--confidence 0.95] [--seed 1]

RUN_DIR is a finished sweep; its measurements.parquet and outputs.parquet are read, nothing is run. Every theorem of docs/bounds.md
("Guarantees over a distribution of images") is evaluated anew here, from its statement, on the images that state. Prints a Markdown
table per cell. "share above" is the mean share of judging images above the value stated (for T5 their mean itself); "missed" the share of
splits in which the judging images contradict the statement, where it makes one of single splits. Their own error adds to that: "by chance" is
what exchangeable images without ties give, exactly for T1 and T3, by simulation for T4.

Needs polars and numpy.
"""

import argparse
import math
import pathlib

import numpy as np
import polars as pl


def binomial_tail(n, p, k):
    """P(Bin(n, p) <= k)"""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


def rank(n, coverage, confidence):
    """The largest k with P(Bin(n, 1 - coverage) <= k - 1) <= 1 - confidence."""
    k = 0
    while binomial_tail(n, 1 - coverage, k) <= 1 - confidence:
        k += 1
    if k == 0:
        raise SystemExit(f"{n} images are too few for a coverage of {coverage} at a confidence of {confidence}")
    return k


def by_chance(n, k, m, allowed):
    """P(more than `allowed` of m further exchangeable values above the k-th largest of n)"""
    at_most = sum(math.comb(j + k - 1, j) * math.comb(n - k + m - j, m - j) for j in range(allowed + 1))
    return 1 - at_most / math.comb(n + m, m)


def above_curve(z, other):
    """The most by which the share of `other` above a value exceeds that of `z`."""
    points = np.concatenate([z, other])
    share = lambda values: 1 - np.searchsorted(np.sort(values), points, side="right") / len(values)
    return max(0.0, (share(other) - share(z)).max())


def curve_by_chance(n, m, band, confidence, generator, draws=5000):
    """How often m further values contradict T4's curve, and its rate above the median of all n + m."""
    curve = rate = 0
    ranks = np.arange(n + m)
    limits = [clopper_pearson(j, n, confidence) for j in range(n + 1)]
    for _ in range(draws):
        order = generator.permutation(ranks)
        z, other = order[:n], order[n:]
        curve += above_curve(z, other) > band
        above = lambda values: int(np.sum(values >= (n + m) // 2))
        rate += above(other) / m > limits[above(z)]
    return curve / draws, rate / draws


def clopper_pearson(m, n, confidence):
    """The rate p with P(Bin(n, p) <= m) = 1 - confidence."""
    if m >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(n, middle, m) > 1 - confidence else (low, middle)
    return high


def deviations(n, share):
    """The smallest k whose P(Z > m + k s) is at most `share` by T6."""
    for i in range(1, 100_000):
        k = i / 1000
        t2 = k * k * n * n / ((n + 1) * (n - 1) + k * k * n)
        if math.floor((n + 1) / (1 + t2)) / (n + 1) <= share:
            return k
    raise SystemExit(f"{n} images are too few for T6 at {share}")


class Count:
    """What became of one statement over all splits."""

    def __init__(self, says, chance=None):
        self.says, self.chance, self.shares, self.missed = says, chance, [], 0

    def see(self, share, missed=None):
        self.shares.append(share)
        self.missed = None if missed is None else self.missed + bool(missed)

    def row(self, name):
        splits = len(self.shares)
        share = f"{100 * np.mean(self.shares):.2f} %"
        chance = "" if self.chance is None else f"{100 * self.chance:.1f} %"
        missed = "" if self.missed is None else f"{100 * self.missed / splits:.1f} %"
        return f"| {name} | {self.says} | {share} | {missed} | {chance} |"


def split(cell, options):
    depths, output, flips, proven = cell
    images, eps, delta = len(output), 1 - options.coverage, 1 - options.confidence
    n, m = options.state, options.judge
    if n + m > images:
        raise SystemExit(f"{n} + {m} images are asked for and {images} are there")
    generator = np.random.default_rng(options.seed)
    scales = n // 5
    allowed = math.floor(eps * m)
    k, k3, k6 = rank(n, *options.level), rank(n - scales, *options.level), deviations(n, eps)
    next_k = max(1, math.floor(eps * (n + 1)))
    tolerance = np.median(output)
    band = math.sqrt(math.log(1 / delta) / (2 * n))
    chances = curve_by_chance(n, m, band, options.confidence, np.random.default_rng(options.seed))
    most = f"at most {100 * eps:g} % above"
    sure = f"{100 * options.confidence:g} %: {most}"
    counts = {
        f"T1, k = {k}": Count(sure, by_chance(n, k, m, allowed)),
        f"T2, k = {next_k}": Count(f"{100 * next_k / (n + 1):.2f} % above on average"),
        f"T3, {depths.shape[1]} depths at once, k = {k3}": Count(sure, by_chance(n - scales, k3, m, allowed)),
        "T4, whole curve": Count(f"{100 * options.confidence:g} %: nowhere {100 * band:.1f} points more", chances[0]),
        "T4, rate above one value": Count(f"{100 * options.confidence:g} %: no larger rate", chances[1]),
        "T5, Hoeffding": Count(f"{100 * options.confidence:g} %: no larger mean"),
        "T5, Bernstein": Count(f"{100 * options.confidence:g} %: no larger mean"),
        f"T6, k = {k6:.2f}": Count(f"{most} on average"),
    }
    t1, t2, t3, curve, rate, hoeffding, bernstein, t6 = counts.values()
    for _ in range(options.splits):
        order = generator.permutation(images)
        a, b = order[:n], order[n : n + m]
        z, other = np.sort(output[a]), output[b]

        above = np.mean(other > z[n - k])
        t1.see(above, above > eps)
        t2.see(np.mean(other > z[n - next_k]))

        scale = depths[a[:scales]].max(axis=0)
        live = scale > 0
        largest = lambda rows: (depths[rows][:, live] / scale[live]).max(axis=1)
        above = np.mean(largest(b) > np.sort(largest(a[scales:]))[n - scales - k3])
        t3.see(above, above > eps)

        over = above_curve(z, other)
        curve.see(over, over > band)

        p = clopper_pearson(int(np.sum(z > tolerance)), n, options.confidence)
        above = np.mean(other > tolerance)
        rate.see(above, above > p)

        values, c = (flips, 1.0) if flips is not None else (proven, 6.0)
        one, two = values[a], values[b].mean()
        hoeffding.see(two / c, two > one.mean() + c * band)
        log = math.log(2 / delta)
        bound = one.mean() + math.sqrt(2 * one.var(ddof=1) * log / n) + 7 * c * log / (3 * (n - 1))
        bernstein.see(two / c, two > bound)

        t6.see(np.mean(other > z.mean() + k6 * z.std(ddof=1)))
    of = "label flips" if flips is not None else "the last layer's discrepancy, in sixths"
    print("| theorem | says | share above, mean | missed | by chance |\n|---|---|---|---|---|")
    for name, count in counts.items():
        print(count.row(name))
    print(f"\nT4's curve: the most by which the share above a value grows. T4's value is {tolerance:.4g}, the median of all images; T5 speaks of {of}.\n")


def cells(run):
    measured = pl.read_parquet(run / "measurements.parquet")
    outputs = pl.read_parquet(run / "outputs.parquet")
    for (cell,), rows in measured.group_by(["cell_id"], maintain_order=True):
        wide = rows.pivot(on="depth", index="image", values="max_abs_diff", sort_columns=True).sort("image")
        depths = wide.drop("image").to_numpy()
        own = outputs.filter(pl.col("cell_id") == cell).sort("image")
        assert own["image"].to_list() == wide["image"].to_list(), "measurements and outputs of other images"
        output = own["max_abs_diff"].to_numpy()
        flips = None
        if own["top1_ref"].null_count() == 0:
            flips = (own["top1_ref"] != own["top1_quant"]).cast(pl.Float64).to_numpy()
        first = rows.row(0, named=True)
        name = f"{first['model']} {first['quantizer']} {first['bits']} bit {first['granularity']}"
        yield name, (np.column_stack([depths, output]), output, flips, depths[:, -1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--state", type=int, default=100)
    parser.add_argument("--judge", type=int, default=200)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--coverage", type=float, default=0.95)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.level = (options.coverage, options.confidence)
    for name, cell in cells(options.run):
        print(f"**{name}**, {len(cell[1])} images: {options.state} state, {options.judge} judge, {options.splits} splits.\n")
        split(cell, options)


if __name__ == "__main__":
    main()
