#!/usr/bin/env python3
"""Writes tests/goldens/checkpoints/: small files as PyTorch itself saves them, and what they hold (expected.json).

The files named refused_* ask for more than tensors; the reader must refuse them by name, and run nothing.
"""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
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


# --- containers of older writers, written by hand with the functions that those writers named ---


class Storage:
    """The elements of a tensor; `part` is (key, first element, elements) where PyTorch before 0.4 wrote a view."""

    def __init__(self, key, tensor, part=None):
        self.key, self.tensor, self.part = key, tensor, part


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce_ex__(self, protocol):
        return self.call


class Numbered:
    """Referred to by a number, in tar archives."""

    def __init__(self, number):
        self.number = number


class Made:
    """A tensor class made empty, then set to its storage."""

    def __init__(self, kind, *state):
        self.kind, self.state = kind, state

    def __reduce_ex__(self, protocol):
        return self.kind, (), self.state


class Pickler(pickle._Pickler):
    """Storages become references; `old` writes strings as Python 2 does."""

    def __init__(self, file, protocol, old, legacy):
        super().__init__(file, protocol)
        self.storages, self.legacy = OrderedDict(), legacy
        if old:
            self.dispatch = {**pickle._Pickler.dispatch, str: Pickler.save_old}

    def save_old(self, text):
        data = text.encode()
        self.write(b"U" + bytes([len(data)]) + data)
        self.memoize(text)

    def persistent_id(self, thing):
        if isinstance(thing, Numbered):
            return thing.number
        if not isinstance(thing, Storage):
            return None
        self.storages[thing.key] = thing.tensor
        kind = {torch.float32: torch.FloatStorage, torch.float64: torch.DoubleStorage, torch.int64: torch.LongStorage}[thing.tensor.dtype]
        return ("storage", kind, thing.key, "cpu", thing.tensor.numel()) + ((thing.part,) if self.legacy else ())


def elements(tensor):
    return tensor.contiguous().numpy().tobytes()


def save_legacy(path, thing, protocol=2, old=False):
    with open(path, "wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))):
            pickle.dump(head, file, protocol)
        body = io.BytesIO()
        pickler = Pickler(body, protocol, old, True)
        pickler.dump(thing)
        file.write(body.getvalue())
        pickle.dump(sorted(pickler.storages), file, protocol)
        for key in sorted(pickler.storages):
            file.write(struct.pack("<q", pickler.storages[key].numel()) + elements(pickler.storages[key]))


def save_zip(path, thing, method):
    body = io.BytesIO()
    pickler = Pickler(body, 2, False, False)
    pickler.dump(thing)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", body.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, tensor in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", elements(tensor))
        archive.writestr("archive/version", "3\n")


def save_tar(path, tensors):
    """PyTorch 0.1.1 to 0.1.10; the last tensor is a part of the storage of the first."""
    storages, described, main = io.BytesIO(), io.BytesIO(), io.BytesIO()
    names = list(tensors)
    pickle.dump(len(names), storages, 2)
    for i, name in enumerate(names):
        pickle.dump((100 + i, "cpu", torch.FloatStorage if tensors[name].is_floating_point() else torch.LongStorage), storages, 2)
        storages.write(struct.pack("<q", tensors[name].numel()) + elements(tensors[name]))
    pickle.dump([(900, 100, 2, 3)], storages, 2)
    pickle.dump(len(names) + 1, described, 2)
    part = tensors[names[0]].flatten()[2:5]
    for number, storage, tensor in [(200 + i, 100 + i, tensors[name]) for i, name in enumerate(names)] + [(299, 900, part)]:
        pickle.dump((number, storage, torch.FloatTensor), described, 2)
        described.write(struct.pack("<q", tensor.dim()) + struct.pack(f"<{2 * tensor.dim()}q", *tensor.shape, *tensor.contiguous().stride()))
        described.write(struct.pack("<q", 0))
    entries = OrderedDict((name, Numbered(200 + i)) for i, name in enumerate(names))
    entries["part"] = Call(torch.nn.parameter.Parameter, Numbered(299), True, OrderedDict())
    Pickler(main, 2, True, True).dump(entries)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as archive:
        for name, body in (("storages", storages), ("tensors", described), ("pickle", main)):
            info = tarfile.TarInfo(name)
            info.size = body.tell()
            archive.addfile(info, io.BytesIO(body.getvalue()))
    return {**tensors, "part": part}


def older():
    """File name, how it is written, and what it holds."""
    utils, parameter = torch._utils, torch.nn.parameter.Parameter
    tensors = plain()

    def rebuilt(function, *more):
        call = lambda i, t: Call(function, Storage(str(i), t), 0, tuple(t.shape), t.stride(), *more)  # noqa: E731
        return OrderedDict((name, call(i, t)) for i, (name, t) in enumerate(tensors.items()))

    version1, version2 = rebuilt(utils._rebuild_tensor), rebuilt(utils._rebuild_tensor_v2, False, OrderedDict())
    wrapped = OrderedDict((n, Call(parameter, t, True, OrderedDict()) if tensors[n].is_floating_point() else t) for n, t in version1.items())
    state = OrderedDict((n, Call(utils._rebuild_parameter_with_state, t, True, OrderedDict(), {"_frozen": True})
                         if tensors[n].is_floating_point() else t) for n, t in version2.items())
    made = OrderedDict((n, Made(torch.FloatTensor if t.is_floating_point() else torch.LongTensor, Storage(str(i), t), 0, tuple(t.shape), t.stride()))
                       for i, (n, t) in enumerate(tensors.items()))
    base = counting(10)
    views = {"view": Call(utils._rebuild_tensor_v2, Storage("0", base, ("1", 4, 5)), 1, (2, 2), (2, 1), False, OrderedDict())}
    yield "old_tensors.pth", lambda p: save_legacy(p, version1, old=True), tensors
    yield "old_parameters.pth", lambda p: save_legacy(p, wrapped, old=True), tensors
    yield "old_classes.pth", lambda p: save_legacy(p, made), tensors
    yield "old_views.pth", lambda p: save_legacy(p, views), {"view": base[5:9].reshape(2, 2)}
    yield "protocol4_legacy.pth", lambda p: save_legacy(p, version2, 4), tensors
    yield "state_legacy.pth", lambda p: save_legacy(p, state), tensors
    yield "compressed_zip.pt", lambda p: save_zip(p, version2, zipfile.ZIP_DEFLATED), tensors
    large = OrderedDict((n, t * 2 if t.is_floating_point() else t) for n, t in tensors.items())
    optimizer = {"state": {0: {"exp_avg": counting(2, 3), "exp_avg_sq": counting(2, 3), "step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    wrappers = {
        "net": {"net": tensors, "acc": 95.1, "epoch": 3},
        "deep": {"trainer": {"weights": tensors, "rank": {1: 2}}, "best": torch.tensor(0.5), "size": torch.Size([1, 2]), "device": torch.device("cpu"),
                 "dtype": torch.float16, "names": {"a", "b"}},
        "optimizer": {"optimizer": optimizer, "state_dict": tensors, "best_acc1": torch.tensor(0.7)},
        "averaged": {"model_ema": large, "model": tensors},
        "only_averaged": {"model_ema": tensors, "epoch": 1},
        "subclass": {"model": OrderedDict((n, Call(torch._tensor._rebuild_from_type_v2, utils._rebuild_tensor_v2, torch.Tensor,
                                                   t.call[1], {})) for n, t in version2.items())},
    }
    for name, thing in wrappers.items():
        if name == "subclass":
            yield f"wrapped_{name}_zip.pt", lambda p, thing=thing: save_zip(p, thing, zipfile.ZIP_STORED), tensors
        else:
            yield f"wrapped_{name}_zip.pt", lambda p, thing=thing: torch.save(thing, p), tensors


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
        "nested": (nested(), nested()["state_dict"]),
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
    for name, write, tensors in older():
        write(DIRECTORY / name)
        expected[name] = describe(tensors)
    expected["oldest.tar"] = describe(save_tar(DIRECTORY / "oldest.tar", plain()))
    for form, zipped in (("zip", True), ("legacy", False)):
        torch.save({"weight": Command()}, DIRECTORY / f"refused_command_{form}.pt", _use_new_zipfile_serialization=zipped)
    torch.save(nn.Linear(2, 1), DIRECTORY / "refused_module_zip.pt")
    torch.save({"weight": counting(2), "epoch": 3}, DIRECTORY / "refused_mixed_zip.pt")
    (DIRECTORY / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(path.stat().st_size for path in DIRECTORY.iterdir())
    print(f"{DIRECTORY.relative_to(ROOT)}: {len(expected)} checkpoints and 4 to refuse, {size} bytes")


if __name__ == "__main__":
    main()
