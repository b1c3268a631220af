//! Operations that are measured without bounds, on every engine.

use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::GpuEngine;
use quantbound::engine::{Engine, EngineError};
use quantbound::network::{Activation, Function, INPUT, Network, Op, ResponseNorm};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F32, gamma};
use quantbound::tensor::{Batch, Shape};

use crate::common::gpu_problems::{Noise, pointwise};
use crate::common::naive;
use crate::common::onnx_golden::uniform;

fn network() -> Network {
    let mut noise = Noise::new(5);
    let mut net = Network::new("unbounded", Shape::new(3, 5, 4));
    let act = Activation::Identity;
    let mut push = |name: &str, op, inputs: &[usize], act| net.push(name, op, inputs, act).unwrap();
    let stem = push("stem", pointwise(&mut noise, 3, 6), &[INPUT], act);
    let swish = push("swish", Op::Function(Function::HardSwish), &[stem], act);
    let mean = push("mean", Op::GlobalAvgPool, &[swish], act);
    let squeeze = push("squeeze", pointwise(&mut noise, 6, 6), &[mean], act);
    let hard = Function::HardSigmoid {
        slope: 0.4,
        offset: 0.6,
    };
    let gate = push("gate", Op::Function(hard), &[squeeze], act);
    let excited = push("excited", Op::Product, &[swish, gate], Activation::Relu6);
    let norm = |size| {
        Op::ResponseNorm(ResponseNorm {
            size,
            alpha: 2.5,
            beta: 0.75,
            bias: 1.5,
        })
    };
    let even = push("even", norm(4), &[excited], act);
    let odd = push("odd", norm(5), &[stem], act);
    let sigmoid = push("sigmoid", Op::Function(Function::Sigmoid), &[odd], act);
    let silu = push("silu", Op::Product, &[odd, sigmoid], act);
    let sum = push("sum", Op::Add, &[silu, even], act);
    push("head", pointwise(&mut noise, 6, 2), &[sum], act);
    net
}

/// What the value `y` of a node for input `x` may be off by in f32; `None` for operations that other tests judge. WGSL
/// lets `exp(x)` be off by `3 + 2 |x|` units in the last place, and `pow` by as much as `exp2` of a logarithm that is off
/// by 2^-21, which is 8 units.
fn tolerance(op: &Op, x: f64, y: f64) -> Option<f64> {
    let (units, magnitude) = match op {
        // exp, two sums, a quotient; where exp vanishes the value is 0 or 1.
        Op::Function(Function::Sigmoid) => (6 + 2 * x.abs().min(128.0) as usize + 3, y.abs()),
        // Product and sum before the limits, and the product with x after them.
        Op::Function(_) => (4, (1.0 + x.abs()).powi(2)),
        Op::Product => (1, y.abs()),
        // Squares and their sum, base, exponent times logarithm, exp2, product.
        Op::ResponseNorm(norm) => (norm.size + 4 + 8 + 3 + 2 * 16 + 1, y.abs()),
        _ => return None,
    };
    Some(gamma(units, UNIT_F32) * magnitude + f64::from(f32::MIN_POSITIVE))
}

#[test]
fn smooth_functions_products_and_response_norms_agree_on_every_engine() {
    let net = network();
    let engines: [Box<dyn Engine>; 3] = [
        Box::new(CpuEngine::f64(None).unwrap()),
        Box::new(CpuEngine::f32(None).unwrap()),
        Box::new(GpuEngine::new(None).expect("a Vulkan adapter; scripts/test.sh installs one")),
    ];
    // Small values, and some that saturate every function.
    let mut pixels = uniform(3, 2 * net.input.len());
    pixels.iter_mut().step_by(7).for_each(|x| *x *= 20.0);
    let input = Batch::new(net.input, pixels).unwrap();
    for engine in &engines {
        let name = engine.device().engine;
        let traced = engine.prepare(&net).unwrap().trace(&input, None).unwrap();
        let mut compared = 0;
        for image in 0..2 {
            let start: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
            let value = |v: usize| match v {
                INPUT => start.as_slice(),
                v => traced[v - 1].image(image),
            };
            for (i, node) in net.nodes.iter().enumerate() {
                let inputs: Vec<&[f64]> = node.inputs.iter().map(|&v| value(v)).collect();
                let shapes: Vec<Shape> = node.inputs.iter().map(|&v| net.shape(v)).collect();
                let expected = naive::apply(&node.op, &shapes, &inputs, node.shape);
                for (k, (&y, e)) in value(i + 1).iter().zip(expected).enumerate() {
                    let Some(most) = tolerance(&node.op, inputs[0][k.min(inputs[0].len() - 1)], e)
                    else {
                        continue;
                    };
                    compared += 1;
                    let e = naive::activate(node.activation, e);
                    assert!(
                        (y - e).abs() <= most,
                        "{name} {} {k}: {y} for {e}, {most:.1e} allowed",
                        node.name
                    );
                }
            }
        }
        // Six operations over 6 x 20 values, and one over 6.
        assert_eq!(compared, 2 * (6 * 120 + 6), "{name}");
    }
}

#[test]
fn what_is_not_a_number_stays_so_and_bounds_for_a_sample_are_refused() {
    let net = network();
    let engines: [Box<dyn Engine>; 2] = [
        Box::new(CpuEngine::f32(None).unwrap()),
        Box::new(GpuEngine::new(None).expect("a Vulkan adapter; scripts/test.sh installs one")),
    ];
    let mut pixels = uniform(3, net.input.len());
    pixels[0] = f32::NAN;
    let input = Batch::new(net.input, pixels).unwrap();
    for engine in &engines {
        let mut runner = engine.prepare(&net).unwrap();
        let traced = runner.trace(&input, None).unwrap();
        for node in [2, 4, 5, 6, 7, 8, 9] {
            assert!(traced[node].data.iter().any(|x| x.is_nan()), "{node}");
        }
        let clean = Batch::new(net.input, uniform(3, net.input.len())).unwrap();
        runner.reference(&clean).unwrap();
        let quantized = Uniform::new(8, Granularity::PerTensor, Scheme::Symmetric)
            .unwrap()
            .quantize(&net)
            .unwrap();
        let variant = runner.load(&quantized).unwrap();
        let refused = runner.samples().unwrap().bounds(&variant, 0.0).unwrap_err();
        assert!(
            matches!(refused, EngineError::Unsupported { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("swish"), "{refused}");
    }
}
