#!/usr/bin/env python3
"""Turns a torchvision or timm model into a checkpoint that quantbound reads.

  export_torchvision.py resnet50 resnet50.safetensors                       torchvision's default weights
  export_torchvision.py resnet50 r50.safetensors --weights IMAGENET1K_V1    other published weights
  export_torchvision.py resnet50 r50.safetensors --state-dict mine.pth      your own weights
  export_torchvision.py timm:tf_efficientnet_lite0 lite0.safetensors        timm's model and weights
  export_torchvision.py resnet50 r50.safetensors --weights none             PyTorch's random initialization

Beside OUT.safetensors it writes OUT.json: the model's name here (null where the architecture is not built in: then
export the model as ONNX instead), where the weights come from, and the preprocessing they expect, with the keys that
a sweep plan takes. Published weights are downloaded by torchvision or timm.

Needs torch, safetensors, and torchvision or timm.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

BUILT_IN = re.compile(
    r"(resnet(18|34|50|101|152)|wide_resnet(50|101)_2|resnext(50_32x4d|101_32x8d|101_64x4d)|mobilenet_v2)$"
)


def name_here(name):
    """The zoo's name of a torchvision or timm architecture, or None."""
    if BUILT_IN.match(name):
        return name
    if lite := re.match(r"tf_efficientnet_lite([0-4])$", name):
        return f"efficientnet_lite{lite[1]}"
    if mobile := re.match(r"mobilenetv([12])_(\d+)$", name):
        width = int(mobile[2]) / 100
        return f"mobilenet_v{mobile[1]}" + ("" if width == 1 else f"_{width:g}")
    return None


def load_file(path):
    """A state dict from .safetensors, .pt or .pth; common wrappers are taken off."""
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def classes_of(state):
    """Rows of the last matrix: the classes of a classifier."""
    matrices = [tensor for tensor in state.values() if tensor.dim() == 2]
    return matrices[-1].shape[0] if matrices else 1000


def interpolation(mode):
    mode = getattr(mode, "value", mode)
    if mode not in ("bilinear", "bicubic"):
        print(f"note: interpolation {mode!r} is not known; bilinear is written", file=sys.stderr)
        return "bilinear"
    return mode


def from_torchvision(name, weights, state):
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise SystemExit(f"torchvision has no classifier {name!r}; for timm's write timm:{name}")
    published = torchvision.models.get_model_weights(name)
    try:
        chosen = None if state or weights == "none" else published[weights] if weights else published.DEFAULT
    except KeyError:
        raise SystemExit(f"{name} has no weights {weights!r}; there are {[w.name for w in published]}") from None
    options = {"num_classes": classes_of(state)} if state else {}
    model = torchvision.models.get_model(name, weights=chosen, **options)
    transforms = (chosen or published.DEFAULT).transforms()
    preprocessing = {
        "resize": transforms.resize_size[0],
        "crop": transforms.crop_size[0],
        "interpolation": interpolation(transforms.interpolation),
        "mean": list(transforms.mean),
        "std": list(transforms.std),
    }
    return model, preprocessing, str(chosen) if chosen else "random initialization"


def from_timm(name, weights, state):
    import timm

    if not timm.is_model(name):
        raise SystemExit(f"timm has no model {name!r}; timm.list_models() has the names")
    options = {"num_classes": classes_of(state)} if state else {}
    full = f"{name}.{weights}" if weights and weights != "none" else name
    model = timm.create_model(full, pretrained=not state and weights != "none", **options)
    config = timm.data.resolve_model_data_config(model)
    side = config["input_size"][-1]
    preprocessing = {
        "resize": math.floor(side / config["crop_pct"]),
        "crop": side,
        "interpolation": interpolation(config["interpolation"]),
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }
    tag = model.pretrained_cfg.get("tag") or "default"
    return model, preprocessing, "random initialization" if weights == "none" else f"timm {name}.{tag}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="torchvision's name, or timm:NAME")
    parser.add_argument("out", type=Path, help="the .safetensors file to write")
    parser.add_argument("--weights", help="name of the published weights, or none")
    parser.add_argument("--state-dict", type=Path, help="take the weights from this file")
    arguments = parser.parse_args()
    from safetensors.torch import save_file

    if arguments.out.suffix != ".safetensors":
        raise SystemExit(f"{arguments.out} must end in .safetensors")
    state = load_file(arguments.state_dict) if arguments.state_dict else None
    library, _, name = arguments.name.rpartition(":")
    build = from_timm if library == "timm" else from_torchvision
    model, preprocessing, source = build(name, arguments.weights, state)
    if state:
        model.load_state_dict(state, strict=True)
        source = arguments.state_dict.name
    tensors = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, arguments.out, metadata={"source": source})
    about = {"model": name_here(name), "source": source, "preprocessing": preprocessing}
    arguments.out.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{arguments.out}: {len(tensors)} tensors, {source}")
    if about["model"] is None:
        print(f"note: {name} is not built in; export it as ONNX to use it here", file=sys.stderr)


if __name__ == "__main__":
    main()
