#!/usr/bin/env python3
"""Runs exported networks in ONNX Runtime and compares their logits with the program's.

  quantized_roundtrip.py FILE.onnx TRACE.safetensors [...]   pairs: what `quantize --format qdq-onnx` wrote, and what
                                                             `trace --quantized FILE.onnx` says of it on some images

Prints, for each, the images of the same class, the largest difference of a logit over the largest logit, without graph
optimizations and with all of them. Needs numpy, onnx, onnxruntime, safetensors.
"""

import sys

import numpy as np
import onnxruntime
from safetensors.numpy import load_file


def logits(path, images, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[i:i + 1]})[0].reshape(1, -1) for i in range(len(images))])


def main():
    paths = sys.argv[1:]
    if not paths or len(paths) % 2:
        sys.exit(__doc__)
    levels = onnxruntime.GraphOptimizationLevel
    for path, trace in zip(paths[::2], paths[1::2]):
        values = load_file(trace)
        ours = values[max(name for name in values if name != "input")]
        ours = ours.reshape(len(ours), -1)
        for label, level in (("plain", levels.ORT_DISABLE_ALL), ("optimized", levels.ORT_ENABLE_ALL)):
            theirs = logits(path, values["input"], level)
            same = int(np.sum(ours.argmax(1) == theirs.argmax(1)))
            apart = np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))
            print(f"{path} {label}: {same} of {len(ours)} images of the same class, logits within {apart:.1e}", flush=True)


if __name__ == "__main__":
    main()
