#!/usr/bin/env python3
"""Writes what PyTorch's autograd computes, in f64, for the derivative by the input of the two sample networks.

  tests/goldens/gradients.safetensors   <model>/<image>: 2 + 64 f64 values:
        max |d| and l2 norm of d = J^T g, where J is the Jacobian of the last node at the image and
        g[i] = i mod 7 - 3 over the output in CHW order; 64 elements of d, at the places that per_layer.py takes
"""

import numpy as np
import torch
from PIL import Image

from common import GOLDENS, write_safetensors
from models import EfficientNetLite0, MobileNetV2
from per_layer import IMAGES, normalise


def elements(length):
    return [((k + 1) * 0x9E3779B97F4A7C15 % 2**64 >> 32) % length for k in range(64)]


def main():
    torch.set_num_threads(1)
    tensors = {}
    for network in (MobileNetV2, EfficientNetLite0):
        folded = network(folded=True)
        for image in IMAGES:
            stem = image.removesuffix(".jpg")
            pixels = np.asarray(Image.open(GOLDENS / "inputs" / f"{stem}.png"))
            x = normalise(pixels, network.name).requires_grad_()
            y = list(folded(x).values())[-1].flatten()
            g = (torch.arange(len(y)) % 7 - 3).double()
            (g * y).sum().backward()
            d = x.grad.flatten().numpy()
            head = [np.abs(d).max(), np.linalg.norm(d)]
            tensors[f"{network.name}/{stem}"] = np.concatenate([head, d[elements(len(d))]])
            print(network.name, stem, *head)
    write_safetensors(GOLDENS / "gradients.safetensors", tensors, {"made_by": f"PyTorch {torch.__version__}"})


if __name__ == "__main__":
    main()
