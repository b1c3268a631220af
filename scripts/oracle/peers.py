"""Times forward passes of quantbound and of ONNX Runtime in turn; see scripts/peers."""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import timm
import torch
import torchvision

NETWORKS = {
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None),
    "efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
}
BATCHES = (1, 8, 20)


def exported(folder, name):
    path = folder / f"{name}.onnx"
    torch.manual_seed(1)
    model = NETWORKS[name]().eval()
    images = torch.zeros(1, 3, 224, 224)
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    torch.onnx.export(model, images, str(path), dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes)
    return path


def theirs(session, batch):
    images = numpy.random.default_rng(1).standard_normal((batch, 3, 224, 224), dtype=numpy.float32)
    session.run(None, {"x": images})
    passes = max(1, 16 // batch)
    start = time.perf_counter()
    for _ in range(passes):
        session.run(None, {"x": images})
    return passes * batch / (time.perf_counter() - start)


def ours(program, name, batch, threads):
    command = [program, "bench", "--model", name, "--batch", str(batch), "--backend", "cpu", "--threads", str(threads)]
    command += ["--repeats", str(max(1, 16 // batch)), "--json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said)["images_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_intermixed_args()
    program = options.program.resolve()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    print(f"ONNX Runtime {onnxruntime.__version__}, {options.threads} threads, medians of {options.repeats} in turn, images/s")
    print("| network | batch | ours | ONNX Runtime | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            session = onnxruntime.InferenceSession(exported(Path(folder), name), settings, ["CPUExecutionProvider"])
            for batch in BATCHES:
                pairs = [
                    (ours(program, name, batch, options.threads), theirs(session, batch)) for _ in range(options.repeats)
                ]
                mine, peer = (statistics.median(column) for column in zip(*pairs))
                ratio = statistics.median(a / b for a, b in pairs)
                print(f"| {name} | {batch} | {mine:.1f} | {peer:.1f} | {ratio:.2f} |", flush=True)


main()
