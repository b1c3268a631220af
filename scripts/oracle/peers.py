"""Times forward passes of quantbound and of ONNX Runtime in turn; see scripts/peers."""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import onnx
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


def without_global_pool(path):
    """The same network for candle, which has a mean in the place of global average pooling."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "GlobalAveragePool":
            mean = onnx.helper.make_node("ReduceMean", node.input, node.output, node.name, axes=[2, 3], keepdims=1)
            node.CopyFrom(mean)
    other = path.with_suffix(".candle.onnx")
    onnx.save(model, other)
    return other


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


class Rust:
    """The program of benches/peers: tract, rten and candle on the same files."""

    RUNTIMES = ("tract", "rten", "candle")

    def __init__(self, threads):
        root = Path(__file__).resolve().parents[2]
        target = root / "target" / "peers-rust"
        command = ["cargo", "build", "--release", "--manifest-path", root / "benches/peers/Cargo.toml", "--target-dir", target]
        subprocess.run(command, check=True)
        threads = {name: str(threads) for name in ("RAYON_NUM_THREADS", "RTEN_NUM_THREADS", "PEERS_THREADS")}
        pipe = subprocess.PIPE
        self.program = subprocess.Popen([target / "release/peers"], env=os.environ | threads, stdin=pipe, stdout=pipe, text=True)

    def rate(self, runtime, path, batch):
        """Images per second, or what went wrong."""
        passes = max(1, 8 // batch)
        path = without_global_pool(path) if runtime == "candle" else path
        print(runtime, path, batch, passes, file=self.program.stdin, flush=True)
        said = self.program.stdout.readline().strip()
        try:
            return passes * batch / float(said)
        except ValueError:
            return said.split(" for op NodeProto")[0]


def beside(rust, path, batch, repeats):
    rates = [[rust.rate(runtime, path, batch) for runtime in rust.RUNTIMES] for _ in range(repeats)]
    failed = [next((rate for rate in column if isinstance(rate, str)), None) for column in zip(*rates)]
    return [why or f"{statistics.median(column):.1f}" for why, column in zip(failed, zip(*rates))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rust", action="store_true", help="tract, rten and candle too; builds them, which needs protoc")
    options = parser.parse_intermixed_args()
    program = options.program.resolve()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    print(f"ONNX Runtime {onnxruntime.__version__}, {options.threads} threads, medians of {options.repeats} in turn, images/s")
    rust = Rust(options.threads) if options.rust else None
    more = rust.RUNTIMES if rust else ()
    print(" | ".join(["| network", "batch", "ours", "ONNX Runtime", "ratio", *more]) + " |")
    print("|---" * (5 + len(more)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            path = exported(Path(folder), name)
            session = onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"])
            for batch in BATCHES:
                pairs = [
                    (ours(program, name, batch, options.threads), theirs(session, batch)) for _ in range(options.repeats)
                ]
                mine, peer = (statistics.median(column) for column in zip(*pairs))
                ratio = statistics.median(a / b for a, b in pairs)
                others = beside(rust, path, batch, options.repeats) if rust else []
                row = [f"| {name}", str(batch), f"{mine:.1f}", f"{peer:.1f}", f"{ratio:.2f}", *others]
                print(" | ".join(row) + " |", flush=True)


main()
