"""Forward passes of a torchvision network as one JSON object: `gpu_torch.py MODEL REPEATS BATCH...`; TF32 off, weights made up.

On CUDA where there is one, otherwise on the processor. Ways: eager, channels_last, compile (with channels_last). Each number is
the median of REPEATS runs of several passes, after warming up.
"""
import json
import statistics
import sys
import time

try:
    import torch
    import torchvision
except ImportError as error:
    sys.exit(f"{error.name} is not installed")

PASSES = 10


def main(model, repeats, *batches):
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if model not in torchvision.models.list_models():
        sys.exit(f"torchvision has no {model}")

    def network():
        return torchvision.models.get_model(model).eval().to(device)

    last = {"memory_format": torch.channels_last}
    ways = {
        "eager": (network(), {}),
        "channels_last": (network().to(**last), last),
        "compile": (torch.compile(network().to(**last)), last),
    }

    def seconds(net, images):
        if cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(PASSES if cuda else 1):
            net(images)
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / (PASSES if cuda else 1)

    found = {way: {} for way in ways}
    with torch.inference_mode():
        for way, (net, layout) in ways.items():
            for batch in map(int, batches):
                try:
                    images = torch.randn(batch, 3, 224, 224, device=device).to(**layout)
                    for _ in range(3):
                        seconds(net, images)
                    median = statistics.median(seconds(net, images) for _ in range(int(repeats)))
                    found[way][batch] = {"images_per_second": batch / median}
                # Whatever a backend raises: out of memory, no compiler.
                except Exception as error:
                    lines = str(error).splitlines() or [type(error).__name__]
                    found[way][batch] = {"error": lines[0]}
    name = torch.cuda.get_device_name() if cuda else "the processor"
    print(json.dumps({"version": torch.__version__, "device": name, "ways": found}))


main(*sys.argv[1:])
