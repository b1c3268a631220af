//! A plan small enough to be kept as a golden: one convolution and one dense layer, six images of 6 x 6 pixels, one
//! cell for each kind of quantizer, every study.

use std::fs;
use std::path::Path;

use quantbound::experiment::plan::Plan;

use crate::common::random_network::Random;

/// Images of one batch.
pub const BATCH: usize = 3;
/// Images in all.
pub const IMAGES: usize = 6;
/// Inputs that each method of the search evaluates.
pub const BUDGET: usize = 12;

/// Writes network, images and plan into a directory.
pub fn plan(dir: &Path, quantizers: &str, studies: &str) -> Plan {
    let network = dir.join("tiny.onnx");
    fs::write(&network, onnx()).unwrap();
    let images = dir.join("images");
    fs::create_dir_all(&images).unwrap();
    let mut random = Random(7);
    for i in 0..IMAGES {
        let pixels = (0..108).map(|_| random.below(256) as u8).collect();
        let image = image::RgbImage::from_raw(6, 6, pixels).unwrap();
        image.save(images.join(format!("{i}.png"))).unwrap();
    }
    let text = format!(
        "batch = {BATCH}\nf64_images = 2\n\
         [images]\ndir = {images:?}\n\
         [calibration]\ndir = {images:?}\nlimit = 4\n\
         [[model]]\nname = \"tiny\"\nweights = {network:?}\n\
         [model.preprocessing]\nresize = 6\ncrop = 6\ninterpolation = \"bilinear\"\n\
         mean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\nchannels = \"rgb\"\n\
         {quantizers}\n{studies}\n"
    );
    Plan::parse(&text, Path::new("tiny.toml")).unwrap()
}

/// One cell of each kind.
pub const QUANTIZERS: &str = r#"
[[quantize]]
method = "uniform"
bits = [4, 8]
granularity = ["per-tensor"]
[[quantize]]
method = "rex"
bits = [3]
[[quantize]]
method = "gpfq"
bits = [4]
scalar = 1.5
sample = 1.0
[[quantize]]
method = "spfq"
bits = [5]
scalar = 1.5
sample = 1.0
[[quantize]]
method = "uniform"
bits = [6]
activations = { bits = 8, range = "min-max" }
"#;

/// All of them.
pub fn studies() -> String {
    format!(
        "[studies]\nsample = true\nball = [0.01]\nisolated = true\nrescale = true\ndynamics = true\n\
         guarantees = true\nsearch = {{ budget = {BUDGET}, seed = 3 }}\n"
    )
}

/// `conv`, 3 x 3 with padding and stride 2, to 4 channels, and ReLU; `fc`, dense, to 3 logits.
fn onnx() -> Vec<u8> {
    let mut random = Random(1);
    let mut weights = |n: usize| -> Vec<f32> {
        // Multiples of 1/32 in [-1, 1).
        let one = |_| (random.below(64) as f32 - 32.0) / 32.0;
        (0..n).map(one).collect()
    };
    let initializers = [
        tensor("conv.weight", &[4, 3, 3, 3], &weights(108)),
        tensor("conv.bias", &[4], &weights(4)),
        tensor("fc.weight", &[3, 36], &weights(108)),
        tensor("fc.bias", &[3], &weights(3)),
    ];
    let nodes = [
        node(
            "Conv",
            &["input", "conv.weight", "conv.bias"],
            "conv",
            &[
                ints("kernel_shape", &[3, 3]),
                ints("strides", &[2, 2]),
                ints("pads", &[1, 1, 1, 1]),
            ],
        ),
        node("Relu", &["conv"], "relu", &[]),
        node("Flatten", &["relu"], "flat", &[]),
        node(
            "Gemm",
            &["flat", "fc.weight", "fc.bias"],
            "fc",
            &[int("transB", 1)],
        ),
    ];
    let mut graph = Vec::new();
    nodes.iter().for_each(|n| part(&mut graph, 1, n));
    part(&mut graph, 2, b"tiny");
    initializers.iter().for_each(|t| part(&mut graph, 5, t));
    part(&mut graph, 11, &value("input", &[1, 3, 6, 6]));
    part(&mut graph, 12, &value("fc", &[1, 3]));
    let mut opset = Vec::new();
    number(&mut opset, 2, 13);
    let mut model = Vec::new();
    number(&mut model, 1, 8);
    part(&mut model, 7, &graph);
    part(&mut model, 8, &opset);
    model
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Field `tag` with a number.
fn number(out: &mut Vec<u8>, tag: u64, n: u64) {
    varint(out, tag << 3);
    varint(out, n);
}

/// Field `tag` with bytes.
fn part(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    varint(out, tag << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    dims.iter().for_each(|&d| number(&mut out, 1, d));
    number(&mut out, 2, 1);
    part(&mut out, 8, name.as_bytes());
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    part(&mut out, 9, &raw);
    out
}

fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    part(&mut out, 1, name.as_bytes());
    values.iter().for_each(|&v| number(&mut out, 8, v));
    number(&mut out, 20, 7);
    out
}

fn int(name: &str, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    part(&mut out, 1, name.as_bytes());
    number(&mut out, 3, value);
    number(&mut out, 20, 2);
    out
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    inputs.iter().for_each(|i| part(&mut out, 1, i.as_bytes()));
    part(&mut out, 2, output.as_bytes());
    part(&mut out, 3, output.as_bytes());
    part(&mut out, 4, op.as_bytes());
    attributes.iter().for_each(|a| part(&mut out, 5, a));
    out
}

/// An f32 tensor's name and shape.
fn value(name: &str, dims: &[u64]) -> Vec<u8> {
    let mut shape = Vec::new();
    for &dim in dims {
        let mut one = Vec::new();
        number(&mut one, 1, dim);
        part(&mut shape, 1, &one);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, 1);
    part(&mut tensor, 2, &shape);
    let mut kind = Vec::new();
    part(&mut kind, 1, &tensor);
    let mut out = Vec::new();
    part(&mut out, 1, name.as_bytes());
    part(&mut out, 2, &kind);
    out
}
