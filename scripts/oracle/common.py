"""What the oracle scripts share: paths, torchvision's geometry, a writer for small safetensors files."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
# The folder with the programs: quantbound, and examples/compare_onnx below it.
PROGRAMS = Path(os.environ.get("PROGRAMS", ROOT / "target/release"))
GOLDENS = ROOT / "tests" / "goldens"
SAMPLES = ROOT / "datasets" / "imagenet-samples"

INTERPOLATION = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def sample_images():
    images = sorted(SAMPLES.glob("*.jpg"))
    if len(images) != 20:
        raise SystemExit(f"expected 20 images in {SAMPLES}, found {len(images)}; run scripts/fetch-assets imagenet-samples")
    return images


def resize_and_crop(image, resize, crop, interpolation):
    """torchvision's Resize(resize) and CenterCrop(crop) on a PIL image, as uint8 HWC."""
    image = image.convert("RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(resize * long / short)
    size = (resize, longer) if width <= height else (longer, resize)
    if size != image.size:
        image = image.resize(size, INTERPOLATION[interpolation])
    left, top = (int(round((extent - crop) / 2.0)) for extent in size)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


def write_safetensors(path, tensors, metadata):
    """Writes named uint8, float32 or float64 arrays; `metadata` maps strings to strings."""
    names = {"uint8": "U8", "float32": "F32", "float64": "F64"}
    header, chunks, at = {"__metadata__": metadata}, [], 0
    # Wider types first keeps every tensor aligned.
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [at, at + len(data)]}
        chunks.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))
    print(f"{path.relative_to(ROOT)}: {len(tensors)} tensors, {path.stat().st_size} bytes")
