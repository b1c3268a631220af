#!/usr/bin/env python3
"""Writes what PyTorch computes, in f64, at every node of the two sample networks.

  tests/goldens/inputs/<image>.png        the input pixels: Pillow's 224 x 224 crops of two photographs
  tests/goldens/per_layer.safetensors     <model>/<image>/<node>: 8 + 16 + 16 f64 values:
        channels, height, width, max |y|, l2 norm, mean, and the max and l2 norm of y - z;
        16 elements of y; the same 16 elements of z
     where y is the network with its batch norms apart and z the one with batch norms folded into f32 weights
  tests/goldens/top1.json                 EfficientNet-Lite0's predictions for the 20 photographs

Element k of the 16 is at index ((k + 1) * 0x9E3779B97F4A7C15 mod 2^64 >> 32) mod length.
"""

import hashlib
import json

import numpy as np
import torch
import torchvision
from PIL import Image

from common import GOLDENS, resize_and_crop, sample_images, write_safetensors
from models import EfficientNetLite0, MobileNetV2

IMAGES = ["imagenet_14_129.jpg", "imagenet_02_438.jpg"]
NORMALISATION = {
    "mobilenet_v2": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "efficientnet_lite0": ([127 / 255] * 3, [128 / 255] * 3),
}


def normalise(pixels, model):
    """torchvision's ToTensor and Normalize in f32, then widened."""
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in NORMALISATION[model])
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(torch.float32).div(255)
    return ((x - mean) / std).double()[None]


def elements(length):
    return [((k + 1) * 0x9E3779B97F4A7C15 % 2**64 >> 32) % length for k in range(16)]


def record(y, z):
    shape = list(y.shape[1:]) + [1] * (4 - y.dim())
    y, z = y.flatten().numpy(), z.flatten().numpy()
    at = elements(len(y))
    head = [*shape, np.abs(y).max(), np.linalg.norm(y), y.mean(), np.abs(y - z).max(), np.linalg.norm(y - z)]
    return np.concatenate([head, y[at], z[at]]).astype(np.float64)


@torch.inference_mode()
def main():
    torch.set_num_threads(1)
    samples = {path.name: path for path in sample_images()}
    tensors, hashes = {}, {}
    (GOLDENS / "inputs").mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        pixels = resize_and_crop(Image.open(samples[image]), 256, 224, "bilinear")
        stem = image.removesuffix(".jpg")
        Image.fromarray(pixels).save(GOLDENS / "inputs" / f"{stem}.png", optimize=True)
        hashes[f"sha256 {stem}"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    for network in (MobileNetV2, EfficientNetLite0):
        apart, folded = network(folded=False), network(folded=True)
        for image in IMAGES:
            stem = image.removesuffix(".jpg")
            pixels = np.asarray(Image.open(GOLDENS / "inputs" / f"{stem}.png"))
            x = normalise(pixels, network.name)
            y, z = apart(x), folded(x)
            assert list(y) == list(z)
            for node in y:
                tensors[f"{network.name}/{stem}/{node}"] = record(y[node], z[node])
            last = list(y)[-1]
            print(network.name, stem, len(y), "nodes; folding moves the output by",
                  float((y[last] - z[last]).norm() / y[last].norm()), "relative to its norm")
    made_by = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}"
    write_safetensors(GOLDENS / "per_layer.safetensors", tensors, {"made_by": made_by, **hashes})

    network = EfficientNetLite0(folded=False)
    predictions = []
    for name, path in samples.items():
        pixels = resize_and_crop(Image.open(path), 256, 224, "bicubic")
        logits = network(normalise(pixels, network.name))["_fc"][0]
        best = torch.topk(logits, 2)
        predictions.append({"image": name, "label": int(path.stem.split("_")[-1]), "prediction": int(best.indices[0]),
                            "logit": float(best.values[0]), "margin": float(best.values[0] - best.values[1])})
    right = sum(p["label"] == p["prediction"] for p in predictions)
    print(f"top-1: {right} of {len(predictions)}, least margin {min(p['margin'] for p in predictions):.4f}")
    text = "[\n" + ",\n".join("  " + json.dumps(p) for p in predictions) + "\n]\n"
    (GOLDENS / "top1.json").write_text(text)


if __name__ == "__main__":
    main()
