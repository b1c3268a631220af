#!/usr/bin/env python3
"""What Brevitas, PyTorch (pt2e of torchao) and NNCF make of networks, as ONNX.

  quantized_tools.py FOLDER PROGRAM IMAGES [MODEL...]   for quantized_check.py: a file of each tool beside FOLDER/MODEL/MODEL.onnx
                                             of quantized_onnx.py, and beside torchvision's MobileNetV2 and ResNet-18 as
                                             FOLDER/torch_MODEL/torch_MODEL.onnx (of these models alone); files that are there stay

torchvision's weights are random from a seed, their batch norms have the statistics of the images. Brevitas puts ReLU in the
place of ReLU6: of such models its files stand beside FOLDER/uncapped_MODEL/uncapped_MODEL.onnx. A tool that fails on a model is
a line. Needs torch, torchvision, brevitas, onnxoptimizer, torchao, nncf, onnxscript, and what quantized_onnx.py needs.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision

from onnx_module import FromOnnx
from quantized_onnx import CALIBRATION, ZOO, as_read, traced

TORCHVISION = ["mobilenet_v2", "resnet18"]
SIDE = 224


def network(name, images=None):
    torch.manual_seed(7)
    model = getattr(torchvision.models, name)(weights=None)
    if images is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(images)
    return model.eval()


def export(model, path, image=None):
    image = torch.zeros(1, 3, SIDE, SIDE) if image is None else image
    torch.onnx.export(model, image, str(path), opset_version=17, dynamo=False)


def uncapped(model):
    """ReLU in the place of every ReLU6, as Brevitas has it."""
    for name, module in model.named_children():
        if isinstance(module, torch.nn.ReLU6):
            setattr(model, name, torch.nn.ReLU())
        else:
            uncapped(module)
    return model


def brevitas_qcdq(model, images, path, per_channel):
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.graph.quantize import preprocess_for_quantize
    from brevitas_examples.imagenet_classification.ptq.ptq_common import quantize_model

    model = preprocess_for_quantize(model)
    model = quantize_model(model, backend="fx", weight_bit_width=8, act_bit_width=8, bias_bit_width=32, scale_factor_type="float_scale",
                           weight_param_method="stats", weight_quant_granularity="per_channel" if per_channel else "per_tensor",
                           weight_quant_type="sym", act_quant_type="sym", act_param_method="stats", act_quant_percentile=99.999,
                           quant_format="int", weight_narrow_range=True, layerwise_first_last_bit_width=8)
    with torch.no_grad(), calibration_mode(model):
        model(images)
    with torch.no_grad():
        model.eval()(images[:1])
    export_onnx_qcdq(model, args=images[:1], export_path=str(path), opset_version=17, dynamo=False)


def pt2e(model, images, path):
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    exported = torch.export.export(model, (images[:1],)).module()
    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for image in images:
            prepared(image[None])
    converted = convert_pt2e(prepared)
    torch.onnx.export(converted, (images[:1],), str(path), dynamo=True, external_data=False)


def nncf_onnx(float_path, images, path, one_grid=False):
    """As it comes, inputs of depthwise convolutions have a grid for each channel."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    options = {}
    if one_grid:
        whole = AdvancedQuantizationParameters(activations_quantization_params=QuantizationParameters(per_channel=False))
        options = {"advanced_parameters": whole}
    model = onnx.load(float_path)
    name = model.graph.input[0].name
    data = nncf.Dataset([{name: image[None].numpy()} for image in images])
    onnx.save(nncf.quantize(model, data, subset_size=len(images), **options), path)


def is_capped(model):
    return any(isinstance(module, torch.nn.ReLU6) for module in model.modules())


def files_of(path, build, images):
    """A file of each tool: its path, and what makes it."""
    place = path.parent
    without = place.parent / f"uncapped_{path.stem}"
    home = without if is_capped(build()) else place
    if home == without:
        without.mkdir(exist_ok=True)
        if not (without / f"{without.name}.onnx").exists():
            export(uncapped(build()), without / f"{without.name}.onnx", images[:1])
    return [
        (home / "brevitas-qcdq-channel.onnx", lambda out: brevitas_qcdq(build(), images, out, True)),
        (home / "brevitas-qcdq-tensor.onnx", lambda out: brevitas_qcdq(build(), images, out, False)),
        (place / "pt2e.onnx", lambda out: pt2e(build(), images, out)),
        (place / "nncf.onnx", lambda out: nncf_onnx(path, images, out)),
        (place / "nncf-tensor.onnx", lambda out: nncf_onnx(path, images, out, one_grid=True)),
    ]


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    folder, program, pictures = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    for model in sys.argv[4:] or [*ZOO, "opennsfw", *(f"torch_{name}" for name in TORCHVISION)]:
        path = folder / model / f"{model}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        name, ours = model.removeprefix("torch_"), not model.startswith("torch_")
        first = not path.exists()
        if first and ours:
            sys.exit(f"{path} is missing: quantized_onnx.py make writes it")
        if first:
            export(network(name), path)
        traces = traced(program, path, pictures, max(CALIBRATION, 4), path.parent / "trace.safetensors")["input"]
        images = torch.from_numpy(np.concatenate(as_read(onnx.load(path), np.array(traces))))
        build = (lambda: FromOnnx(path).eval()) if ours else (lambda: network(name, images))
        if first:
            export(build(), path)
        for out, make in files_of(path, build, images):
            if out.exists():
                continue
            try:
                make(out)
                print(out, "made", flush=True)
            except Exception as error:
                print(out, "FAILED", type(error).__name__, " ".join(str(error).split())[:300], flush=True)


if __name__ == "__main__":
    main()
