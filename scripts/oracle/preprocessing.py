#!/usr/bin/env python3
"""Writes tests/goldens/preprocessing.safetensors and tests/goldens/images/: what Pillow makes of images.

  synthetic/<width>x<height>/<interpolation>/<resize>/<crop>/<step>
        crops of the deterministic picture below (the test draws it too), every <step>-th row and column
  samples/<interpolation>/<file>
        the sample photographs, 256 / 224, every 14th row and column
  formats/<file>
        the small files in tests/goldens/images, converted to RGB
"""

import struct
import zlib

import numpy as np
import PIL
from PIL import Image, features

from common import GOLDENS, resize_and_crop, sample_images, write_safetensors

SIZES = [(97, 131), (131, 97), (60, 60), (30, 41), (48, 48), (333, 50)]
LARGE = [(1024, 683), (375, 500), (301, 257)]


def synthetic(width, height):
    """Smooth slopes, noise and hard black and white blocks, by integer arithmetic modulo 2^32."""
    y, x, c = np.meshgrid(*(np.arange(n, dtype=np.uint32) for n in (height, width, 3)), indexing="ij")
    h = x * np.uint32(0x9E3779B1) + y * np.uint32(0x85EBCA6B) + c * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x2C1B3C6D)
    h ^= h >> np.uint32(12)
    slope = (x * x * (c + 1) // np.uint32(97) + y * (c + 3) * np.uint32(2)) % np.uint32(448)
    value = np.where(slope < 224, slope, 447 - slope) + (h & np.uint32(31))
    block = x // 16 + y // 16
    value = np.where(block % 5 == 0, np.where((x + c) // 4 % 2 == 0, 0, 255), value)
    return Image.fromarray(value.astype(np.uint8), "RGB")


def raw_png(path, width, height, colour_type, samples):
    """A 16-bit PNG, which Pillow cannot write in colour."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def formats():
    directory = GOLDENS / "images"
    directory.mkdir(parents=True, exist_ok=True)
    picture = synthetic(40, 40).crop((0, 0, 23, 23))
    smooth = synthetic(96, 96).resize((23, 23), Image.Resampling.BOX)
    exif = Image.Exif()
    exif[274] = 6
    smooth.save(directory / "yuv420.jpg", quality=92, subsampling=2)
    smooth.save(directory / "yuv444_progressive.jpg", quality=92, subsampling=0, progressive=True)
    smooth.save(directory / "exif_rotated.jpg", quality=92, subsampling=0, exif=exif)
    smooth.convert("L").save(directory / "grey.jpg", quality=92)
    smooth.convert("CMYK").save(directory / "cmyk.jpg", quality=92)
    picture.save(directory / "rgb.png")
    picture.convert("L").save(directory / "grey.png")
    picture.convert("1").save(directory / "bilevel.png")
    picture.quantize(16).save(directory / "palette.png")
    alpha = Image.fromarray(np.asarray(picture)[:, :, 0] // 2, "L")
    with_alpha = picture.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(directory / "rgba.png")
    with_alpha.convert("LA").save(directory / "grey_alpha.png")
    wide = np.asarray(picture).astype(np.uint16) * 257 + np.arange(23 * 69, dtype=np.uint16).reshape(23, 23, 3) % 97
    raw_png(directory / "rgb16.png", 23, 23, 2, wide.reshape(23, 69))
    return {f"formats/{path.name}": np.asarray(Image.open(path).convert("RGB")) for path in sorted(directory.iterdir())}


def main():
    tensors = formats()
    for interpolation in ("bilinear", "bicubic"):
        for width, height in SIZES:
            for crop in (40, 41):
                golden = resize_and_crop(synthetic(width, height), 48, crop, interpolation)
                tensors[f"synthetic/{width}x{height}/{interpolation}/48/{crop}/1"] = golden
        for width, height in LARGE:
            golden = resize_and_crop(synthetic(width, height), 256, 224, interpolation)[::7, ::7]
            tensors[f"synthetic/{width}x{height}/{interpolation}/256/224/7"] = golden
        for path in sample_images():
            tensors[f"samples/{interpolation}/{path.name}"] = resize_and_crop(Image.open(path), 256, 224, interpolation)[::14, ::14]
    made_by = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}"
    write_safetensors(GOLDENS / "preprocessing.safetensors", tensors, {"made_by": made_by})


if __name__ == "__main__":
    main()
