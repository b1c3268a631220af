//! Limits, refusals and errors of the device.
//! Needs a GPU adapter, a software one included, and fails without.

use crate::common::gpu_checks::*;
use crate::common::gpu_problems::*;
use quantbound::engine::gpu::device::Gpu;
use quantbound::engine::gpu::library::Code;
use quantbound::engine::gpu::{Blocking, GpuEngine, GpuOptions, list_adapters};
use quantbound::engine::{Engine, EngineError};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad};
use quantbound::quant::Quantizer;
use quantbound::tensor::{Batch, Shape, Tensor};

#[test]
fn small_bindings_and_grids_change_nothing() {
    let mut network = Network::new("split", Shape::new(16, 6, 6));
    let noise = &mut Noise::new(5);
    let conv = Conv {
        weight: Tensor::new([40, 16, 3, 3], noise.take(40 * 144)).unwrap(),
        bias: noise.take(40),
        stride: [1, 1],
        pad: Pad::all(1),
        dilation: [1, 1],
        groups: 1,
    };
    let a = network
        .push("conv", Op::Conv(conv), &[INPUT], Activation::Relu)
        .unwrap();
    let b = network
        .push("flat", Op::Flatten, &[a], Activation::Identity)
        .unwrap();
    let linear = Linear {
        weight: Tensor::new([10, 1440], noise.take(14400)).unwrap(),
        bias: noise.take(10),
    };
    network
        .push("fc", Op::Linear(linear), &[b], Activation::Identity)
        .unwrap();
    // Four rows of the dense layer do not fit a binding; runs of output channels of the convolutions do.
    let refused = cramped().prepare(&network).err().unwrap();
    assert!(
        matches!(&refused, EngineError::Unsupported { node, .. } if node == "fc"),
        "{refused}"
    );
    network.nodes.truncate(1);
    let last = pointwise(noise, 40, 50);
    network
        .push("last", last, &[a], Activation::Identity)
        .unwrap();
    let variant = quantizers(8)[1].quantize(&network).unwrap();
    let input = random_input(&network, 1, 12);
    let run = |engine: &GpuEngine| {
        let mut runner = engine.prepare(&network).unwrap();
        let id = runner.load(&variant).unwrap();
        let outputs = runner.reference(&input).unwrap();
        (outputs, runner.compare(&id).unwrap())
    };
    assert_eq!(run(cramped()), run(engine()));

    // A map that no binding of the adapter holds is refused by its node.
    let tight = GpuOptions {
        max_binding: Some(4096),
        ..GpuOptions::default()
    };
    let tight = GpuEngine::with_options(None, tight).expect(INSTALL);
    let refused = tight.prepare(&network).err().unwrap();
    let text = refused.to_string();
    assert!(
        matches!(&refused, EngineError::Unsupported { node, .. } if node == "conv")
            && text.contains("5760 bytes")
            && text.contains("binds 4096"),
        "{text}"
    );

    // Sums in four parts would take more than a binding of this size; in two, and of a run of output channels at a time,
    // they are what they are anywhere.
    let tiled = |max_binding, parts| {
        let options = GpuOptions {
            max_binding,
            parts: Some(parts),
            blocking: Some(Blocking::Tiled),
            ..GpuOptions::default()
        };
        run(&GpuEngine::with_options(None, options).expect(INSTALL))
    };
    let two = tiled(None, 2);
    assert_eq!(tiled(Some(16384), 4), two);
    assert_ne!(tiled(None, 4), two, "parts are summed in another order");
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let mut network = Network::new("big", Shape::new(4, 20, 20));
    network
        .push(
            "conv",
            pointwise(&mut Noise::new(1), 4, 40),
            &[INPUT],
            Activation::Relu,
        )
        .unwrap();
    let error = cramped().prepare(&network).err().unwrap();
    assert!(
        matches!(&error, EngineError::Unsupported { node, .. } if node == "conv"),
        "{error}"
    );

    let engine = engine();
    assert!(
        engine
            .prepare(&Network::new("none", Shape::new(1, 1, 1)))
            .is_err()
    );
    let mut runner = engine.prepare(&network).unwrap();
    let good = quantizers(4)[0].quantize(&network).unwrap();
    let id = runner.load(&good).unwrap();
    assert!(matches!(runner.compare(&id), Err(EngineError::Usage(_))));
    let input = random_input(&network, 1, 1);
    runner.reference(&input).unwrap();
    runner.compare(&id).unwrap();

    let many = random_input(&network, runner.max_batch() + 1, 1);
    assert!(matches!(
        runner.reference(&many),
        Err(EngineError::Usage(_))
    ));
    let other = Batch::new(Shape::new(1, 2, 2), vec![0.0; 4]).unwrap();
    assert!(matches!(
        runner.reference(&other),
        Err(EngineError::Usage(_))
    ));

    let mut bad = good.clone();
    bad.layers[0].codes[3] = 16;
    let error = runner.load(&bad).unwrap_err().to_string();
    assert!(
        error.contains("conv") && error.contains("index 3"),
        "{error}"
    );
    let mut bad = good.clone();
    bad.layers[0].codes.pop();
    assert!(runner.load(&bad).is_err());
    let mut bad = good;
    bad.layers[0].node = 9;
    assert!(matches!(runner.load(&bad), Err(EngineError::Usage(_))));
}

#[test]
fn adapters_are_found_by_number_and_by_part_of_their_name() {
    let adapters = list_adapters();
    let first = adapters.first().expect(INSTALL);
    let part: String = first
        .name
        .chars()
        .take(5)
        .collect::<String>()
        .to_uppercase();
    let found = GpuEngine::new(Some(&part)).unwrap();
    assert_eq!(found.adapter().name, first.name);
    assert_eq!(found.device().kind, first.kind);
    for (index, adapter) in adapters.iter().enumerate() {
        assert_eq!(adapter.index, index);
        let found = GpuEngine::new(Some(&index.to_string())).unwrap();
        assert_eq!(found.adapter(), adapter);
        assert_eq!(found.device().pci, adapter.pci);
    }
    for wanted in ["no such adapter", "99"] {
        let error = GpuEngine::new(Some(wanted)).err().unwrap().to_string();
        assert!(error.contains(&format!("0: {}", first.name)), "{error}");
    }
}

#[test]
fn what_the_device_says_becomes_an_error() {
    static BROKEN: Code = Code {
        name: "broken",
        parts: &[],
        source: "@compute @workgroup_size(1) fn main() { let x: u32 = 1.0; }",
        inputs: 1,
        outputs: 1,
        fields: &[],
    };
    let gpu = Gpu::open(None, GpuOptions::default()).expect(INSTALL);
    let error = gpu.pipeline(&BROKEN, &[]).err().unwrap();
    assert!(
        matches!(&error, EngineError::Device { problem, .. } if problem.contains("broken")),
        "{error}"
    );
    let error = gpu.buffer("huge", u64::MAX / 4).err().unwrap();
    assert!(
        matches!(&error, EngineError::Full { .. }) && error.to_string().contains("smaller batch"),
        "{error}"
    );
    // Neither harms the device.
    gpu.upload("small", &[1.0f32; 4]).unwrap();

    gpu.device.destroy();
    let error = gpu.upload("late", &[1.0f32; 4]).err().unwrap();
    assert!(matches!(&error, EngineError::Lost { .. }), "{error}");
    let error = gpu.upload("later", &[1.0f32; 4]).err().unwrap();
    assert!(matches!(&error, EngineError::Lost { .. }), "{error}");
}
