//! Every key that plans have, with an example and what it means.

/// What is said of one key of one table.
pub struct Line {
    /// Name of the table, as in [`KEYS`](super::keys::KEYS), or of a method.
    pub table: &'static str,
    /// In that table.
    pub key: &'static str,
    /// As TOML; empty for keys that are tables of their own.
    pub example: &'static str,
    /// In a few words.
    pub says: &'static str,
}

const fn line(
    table: &'static str,
    key: &'static str,
    example: &'static str,
    says: &'static str,
) -> Line {
    Line {
        table,
        key,
        example,
        says,
    }
}

/// A table that stands for every method.
pub const ANY: &str = "any method";
/// The keys outside of all tables.
pub const PLAN: &str = "the plan";

/// Every key, in the order of the page.
pub const LINES: &[Line] = &[
    line(
        PLAN,
        "batch",
        "20",
        "images that share one full-precision pass, and the unit of resuming",
    ),
    line(
        PLAN,
        "f64_images",
        "1",
        "first images also evaluated in f64: how far f32 moves the measurement; 0 for none",
    ),
    line(
        PLAN,
        "bounds",
        r#"["layerwise", "fused", "best"]"#,
        "only these bounds; all when left out, none for []",
    ),
    line(
        PLAN,
        "tolerances",
        "[0.1, 1.0]",
        "differences of the output that required bits are counted for",
    ),
    line(PLAN, "images", "", "images to measure on"),
    line(
        PLAN,
        "calibration",
        "",
        "images that methods look at; must be others than those measured on",
    ),
    line(PLAN, "model", "", "a network; repeat the table for more"),
    line(
        PLAN,
        "quantize",
        "",
        "a method; repeat the table for more. Every model meets every method, bit width and granularity",
    ),
    line(
        PLAN,
        "studies",
        "",
        "what to find out beside discrepancies and bounds",
    ),
    line(
        "images",
        "dir",
        r#""photos""#,
        "folder of JPEG or PNG files; paths start where quantbound runs",
    ),
    line(
        "images",
        "labels",
        r#""file-name""#,
        "file-name (cat_281.jpg), folders (one for each class) or a .csv file; what the folder's layout speaks for when left out",
    ),
    line(
        "images",
        "skip",
        "0",
        "leave out the first so many, in name order",
    ),
    line(
        "images",
        "limit",
        "100",
        "use only the first so many of the others; all when left out",
    ),
    line(
        "images",
        "shuffle",
        "1",
        "draw those at random by this seed, instead of the first; \"date\": by the date of a night",
    ),
    line(
        "calibration",
        "dir",
        r#""calibration-photos""#,
        "as for images",
    ),
    line(
        "calibration",
        "labels",
        r#""file-name""#,
        "as for images; nothing reads them",
    ),
    line("calibration", "skip", "0", "as for images"),
    line("calibration", "limit", "32", "as for images"),
    line(
        "calibration",
        "augment",
        "128",
        "calibrate on so many: the images, then random crops and flips of them",
    ),
    line("calibration", "seed", "0", "of the crops and flips"),
    line(
        "model",
        "name",
        r#""mobilenet_v2""#,
        "architecture, see `quantbound inspect --model x`; any name for an ONNX file",
    ),
    line(
        "model",
        "weights",
        r#""model.onnx""#,
        "safetensors, PyTorch state dict or ONNX file, or random:SEED",
    ),
    line(
        "model",
        "activation",
        r#""relu""#,
        "ReLU in the place of every ReLU6: another function, and the name says so",
    ),
    line(
        "model",
        "preprocessing",
        "",
        "what is done to pictures; what is left out is as usual for the architecture",
    ),
    line(
        "preprocessing",
        "file",
        r#""preprocessing.json""#,
        "timm's or torchvision's configuration of the model; the other keys come before it",
    ),
    line(
        "preprocessing",
        "resize",
        "256",
        "shorter side in pixels, or [height, width]",
    ),
    line(
        "preprocessing",
        "crop",
        "224",
        "both sides in pixels, or [height, width]",
    ),
    line(
        "preprocessing",
        "interpolation",
        r#""bilinear""#,
        "bilinear or bicubic",
    ),
    line(
        "preprocessing",
        "mean",
        "[0.485, 0.456, 0.406]",
        "subtracted for each channel, of values in input_range",
    ),
    line(
        "preprocessing",
        "std",
        "[0.229, 0.224, 0.225]",
        "divided by for each channel",
    ),
    line(
        "preprocessing",
        "input_range",
        "[0.0, 1.0]",
        "what pixels 0 and 255 become before mean and std",
    ),
    line(
        "preprocessing",
        "channels",
        r#""rgb""#,
        "rgb, bgr, grey or rgba",
    ),
    line(
        "activations",
        "bits",
        "8",
        "bits per activation, 2 to 8; bounds that speak of weights alone do not apply to such cells",
    ),
    line(
        "activations",
        "range",
        r#""percentile""#,
        "min-max, percentile or mse",
    ),
    line(
        "activations",
        "percentile",
        "99.99",
        "share covered, with range = \"percentile\"",
    ),
    line(
        ANY,
        "bits",
        "[4, 6, 8]",
        "bits per weight, 2 to 16, each a cell",
    ),
    line(
        ANY,
        "granularity",
        r#"["per-tensor", "per-channel"]"#,
        "scales, each a cell; the method's usual one when left out",
    ),
    line(
        ANY,
        "scheme",
        r#""symmetric""#,
        "symmetric or asymmetric grid",
    ),
    line(
        ANY,
        "range",
        r#""max-abs""#,
        "max-abs, mse or { percentile = 99.9 }: which weights the grid covers",
    ),
    line(
        ANY,
        "rounding",
        r#""ties-even""#,
        "ties-even, floor or { stochastic = { seed = 0 } }",
    ),
    line(
        ANY,
        "bias_correction",
        "false",
        "biases take up each channel's mean error on calibration images",
    ),
    line(ANY, "activations", "", "quantizes activations too"),
    line(
        ANY,
        "sample",
        "0.25",
        "share of the patches of each convolution's input that is drawn",
    ),
    line(ANY, "seed", "0", "of what is drawn at random"),
    line(
        ANY,
        "scalar",
        "1.16",
        "C of the step, which is C times the largest weight (mean over neurons) over 2^(bits-1)",
    ),
    line(
        "dfq",
        "absorb",
        "false",
        "high biases move into the next layer",
    ),
    line("adaround", "iterations", "1000", "steps of the optimizer"),
    line(
        "mixed",
        "by",
        r#""measured""#,
        "measured, bound, local or tails: what says how sensitive a layer is",
    ),
    line(
        "mixed",
        "candidates",
        "[2, 3, 4, 5, 6, 8]",
        "widths that layers choose from; bits is then the average that may be spent",
    ),
    line("rex", "orders", "2", "terms of the expansion, 1 to 4"),
    line(
        "rex",
        "budget",
        "1.0",
        "share of the channels that terms beyond the first keep",
    ),
    line(
        "gpfq",
        "threshold",
        r#""none""#,
        "none, { soft = 0.5 } or { hard = 0.5 }, in steps: for sparse codes",
    ),
    line("spfq", "order", "1", "passes of data alignment"),
    line(
        "saved",
        "file",
        r#""q.safetensors""#,
        "what `quantbound quantize` wrote",
    ),
    line(
        "saved",
        "sha256",
        r#""""#,
        "of that file; refused where it is another one",
    ),
    line(
        "file",
        "file",
        r#""quantized.onnx""#,
        "what another tool made of the network",
    ),
    line(
        "file",
        "sha256",
        r#""""#,
        "of that file; refused where it is another one",
    ),
    line(
        "studies",
        "sample",
        "true",
        "bounds from the activations of each image",
    ),
    line(
        "studies",
        "ball",
        "[0.01]",
        "the same for every image within such a distance",
    ),
    line(
        "studies",
        "ball_centred",
        "[1e-4]",
        "the same from the discrepancy at the image, on the processor: as the distance falls, what is measured and an allowance",
    ),
    line(
        "studies",
        "stochastic",
        "1e-6",
        "bounds before weights are rounded at random, false with such a probability",
    ),
    line(
        "studies",
        "isolated",
        "true",
        "each layer quantized alone: which layer hurts?",
    ),
    line(
        "studies",
        "attribution",
        "4",
        "carried and fresh error of every layer, on so many images",
    ),
    line(
        "studies",
        "search",
        r#"{ budget = 200, seed = 0, method = "both" }"#,
        "the worst input that a search finds; gradient (projected gradient ascent), square (square attack) or both",
    ),
    line(
        "studies",
        "dynamics",
        "true",
        "distributions of weights and activations",
    ),
    line(
        "studies",
        "guarantees",
        "true",
        "what the quantizers' papers promise, checked",
    ),
    line(
        "studies",
        "rescale",
        "true",
        "bounds in other parametrizations of the same function",
    ),
    line(
        "studies",
        "tails",
        "",
        "what all but a few images like these stay under",
    ),
    line(
        "tails",
        "coverage",
        "0.95",
        "share of images that a statement covers",
    ),
    line("tails", "confidence", "0.95", "probability that it is true"),
    line(
        "tails",
        "scale_images",
        "20",
        "images that fix the scales of the statement about all depths; a fifth when left out",
    ),
];
