#!/usr/bin/env python3
"""Writes tests/goldens/checkpoints/: small files as PyTorch itself saves them, and what they hold (expected.json).

The files named refused_* ask for more than tensors; the reader must refuse them by name, and run nothing.
"""

import json
import os
from collections import OrderedDict

import torch
from torch import nn

from common import GOLDENS, ROOT

DIRECTORY = GOLDENS / "checkpoints"


def counting(*shape, dtype=torch.float32):
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float64) / 4 - 1).reshape(shape).to(dtype)


def plain():
    dict_ = OrderedDict(weight=counting(2, 3), bias=counting(2), num_batches_tracked=torch.tensor(7))
    dict_._metadata = OrderedDict({"": {"version": 2}})
    return dict_


def views():
    base = counting(4, 6)
    return {
        "base": base,
        "transposed": base.t(),
        "window": base[1:3, 2:5],
        "every_other": base[::2, 1::3],
        "repeated": counting(1, 3).expand(4, 3),
        "scalar": base[3, 5],
        "empty": base[:0],
        "deep": counting(2, 1, 3, 2).permute(3, 0, 2, 1),
    }


def dtypes():
    floats = {str(t).split(".")[1]: counting(5, dtype=t) for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
    integers = {str(t).split(".")[1]: torch.arange(3).to(t) for t in
                (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
    return {**floats, **integers}


def nested():
    return {"epoch": 3, "lr": 0.1, "note": "best", "state_dict": OrderedDict(("module." + k, v) for k, v in plain().items())}


def parameters():
    return OrderedDict(weight=nn.Parameter(counting(3, 2)), frozen=nn.Parameter(counting(2), requires_grad=False))


class Command:
    def __reduce__(self):
        return os.system, ("touch this-must-not-exist",)


def describe(tensors):
    floats = {n: {"dims": list(t.shape), "data": t.detach().float().flatten().tolist()} for n, t in tensors.items() if t.is_floating_point()}
    return {"tensors": floats, "integers": sorted(n for n, t in tensors.items() if not t.is_floating_point())}


def main():
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for old in DIRECTORY.iterdir():
        old.unlink()
    expected = {}
    cases = {
        "plain": (plain(), plain()),
        "views": (views(), views()),
        "dtypes": (dtypes(), dtypes()),
        "nested": (nested(), plain()),
        "model": ({"model": plain(), "step": 1}, plain()),
        "parameters": (parameters(), parameters()),
    }
    for name, (saved, tensors) in cases.items():
        for form, zipped in (("zip", True), ("legacy", False)):
            file = f"{name}_{form}.pt"
            torch.save(saved, DIRECTORY / file, _use_new_zipfile_serialization=zipped)
            expected[file] = describe(tensors)
    torch.save(plain(), DIRECTORY / "protocol4_zip.pt", pickle_protocol=4)
    expected["protocol4_zip.pt"] = describe(plain())
    for form, zipped in (("zip", True), ("legacy", False)):
        torch.save({"weight": Command()}, DIRECTORY / f"refused_command_{form}.pt", _use_new_zipfile_serialization=zipped)
    torch.save(nn.Linear(2, 1), DIRECTORY / "refused_module_zip.pt")
    torch.save({"weight": counting(2), "epoch": 3}, DIRECTORY / "refused_mixed_zip.pt")
    (DIRECTORY / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(path.stat().st_size for path in DIRECTORY.iterdir())
    print(f"{DIRECTORY.relative_to(ROOT)}: {len(expected)} checkpoints and 4 to refuse, {size} bytes")


if __name__ == "__main__":
    main()
