//! What befalls a GPU: little memory, the least of limits, a device that hangs or is lost, damaged files of compiled
//! kernels. Needs a GPU adapter, a software one included, and fails without.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::gpu_checks::*;
use crate::common::gpu_problems::*;
use crate::common::tiny::{Tiny, tables};
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::{Blocking, GpuEngine, GpuOptions};
use quantbound::engine::{
    DeviceInfo, Engine, EngineError, PerSample, Reduced, Reductions, Runner, SampleBound, Variant,
};
use quantbound::experiment::error::SweepError;
use quantbound::experiment::plan::Plan;
use quantbound::experiment::sweep::{Finished, OnFailure, Place, Sweep};
use quantbound::network::{Activation, Conv, INPUT, Network, Op, Pad};
use quantbound::quant::{QuantizedNetwork, Quantizer};
use quantbound::tensor::{Batch, Shape, Tensor};

fn opened(options: GpuOptions) -> GpuEngine {
    GpuEngine::with_options(None, options).expect(INSTALL)
}

fn registers() -> GpuOptions {
    GpuOptions {
        blocking: Some(Blocking::Registers),
        ..GpuOptions::default()
    }
}

/// All that a network and its variant are asked.
#[derive(Debug, PartialEq)]
struct Answers {
    outputs: Vec<Vec<f32>>,
    reduced: Vec<Reduced>,
    bounds: Vec<Vec<SampleBound>>,
    trace: Vec<Batch<f64>>,
}

fn ask(
    engine: &GpuEngine,
    network: &Network,
    variants: &[QuantizedNetwork],
    input: &Batch,
) -> Answers {
    let mut runner = engine.prepare(network).unwrap();
    let all: Vec<Variant> = variants.iter().map(|v| runner.load(v).unwrap()).collect();
    let all: Vec<&Variant> = all.iter().collect();
    let outputs = runner.reference(input).unwrap();
    let reduced = runner.run(&all, &Reductions::DISCREPANCY).unwrap();
    let bounds = runner.samples().unwrap().bounds(all[0], 0.01).unwrap();
    let trace = runner.trace(input, Some(all[0])).unwrap();
    assert_eq!(
        runner.run(&all, &Reductions::DISCREPANCY).unwrap(),
        reduced,
        "a trace leaves the batch"
    );
    Answers {
        outputs,
        reduced,
        bounds,
        trace,
    }
}

#[test]
fn the_least_that_adapters_have_is_enough() {
    let network = small_mobilenet();
    let input = random_input(&network, 2, 9);
    let variants: Vec<QuantizedNetwork> = [8, 4]
        .iter()
        .flat_map(|&bits| quantizers(bits))
        .map(|q| q.quantize(&network).unwrap())
        .collect();
    for blocking in [Blocking::Registers, Blocking::Tiled] {
        let options = |least| GpuOptions {
            least,
            blocking: Some(blocking),
            ..GpuOptions::default()
        };
        let least = opened(options(true));
        check_trace(&network, &input, &trace(&least, &network, &input)).unwrap();
        let got = ask(&least, &network, &variants, &input);
        assert_eq!(
            got,
            ask(&opened(options(false)), &network, &variants, &input),
            "{blocking:?}"
        );
    }
    // Neither subgroups nor time stamps are asked for.
    for options in [
        GpuOptions {
            blocking: Some(Blocking::Lanes),
            ..GpuOptions::default()
        },
        GpuOptions {
            profile: true,
            ..GpuOptions::default()
        },
    ] {
        let least = GpuOptions {
            least: true,
            ..options
        };
        assert!(GpuEngine::with_options(None, least).is_err());
    }
}

/// Two convolutions: 4 to 8 to 8 channels on 6 x 6 pixels.
fn two_layers() -> Network {
    let mut network = Network::new("two", Shape::new(4, 6, 6));
    let noise = &mut Noise::new(3);
    let mut conv = |input: usize| {
        Op::Conv(Conv {
            weight: Tensor::new([8, input, 3, 3], noise.take(72 * input)).unwrap(),
            bias: noise.take(8),
            stride: [1, 1],
            pad: Pad::all(1),
            dilation: [1, 1],
            groups: 1,
        })
    };
    let (first, second) = (conv(4), conv(8));
    let a = network
        .push("a", first, &[INPUT], Activation::Relu)
        .unwrap();
    network
        .push("b", second, &[a], Activation::Identity)
        .unwrap();
    network
}

/// Bytes of one image's input and maps.
const INPUT_BYTES: u64 = 16 * 36;
const MAP_BYTES: u64 = 2 * 16 * 36;

/// An engine whose maps may take so many bytes, for [`two_layers`].
fn with_maps(network: &Network, maps: u64, tell: fn(&str)) -> GpuEngine {
    let weights = 4 * network.totals().weights as u64;
    opened(GpuOptions {
        memory: Some(weights + maps / 2 * 3 + 2),
        tell: Some(tell),
        ..registers()
    })
}

#[test]
fn where_memory_ends_fewer_images_run_together_and_nothing_else_changes() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let network = two_layers();
    let variants = quantizers(4).map(|q| q.quantize(&network).unwrap());
    let input = random_input(&network, 8, 5);
    // What a pass measures into is what does not fit any more.
    let maps = 8 * (INPUT_BYTES + 4 * MAP_BYTES);
    let tight = with_maps(&network, maps, |what| {
        SAID.lock().unwrap().push(what.to_string());
    });
    let mut runner = tight.prepare(&network).unwrap();
    assert_eq!(runner.max_batch(), 8);
    let variant = runner.load(&variants[0]).unwrap();
    runner.reference(&input).unwrap();
    assert!(SAID.lock().unwrap().is_empty());
    let spread = Reductions::distributions(None);
    runner.run(&[&variant], &Reductions::DISCREPANCY).unwrap();
    assert_eq!(runner.max_batch(), 4);
    let said = SAID.lock().unwrap().concat();
    assert!(
        said.contains("out of memory with 8 images of two") && said.contains("at most 4"),
        "{said}"
    );
    let roomy = opened(registers());
    let mut other = roomy.prepare(&network).unwrap();
    let loaded = other.load(&variants[0]).unwrap();
    other.reference(&input).unwrap();
    let want = other.run(&[&loaded], &spread).unwrap().remove(0);
    let got = runner.run(&[&variant], &spread).unwrap().remove(0);
    assert_eq!(got.distributions.len(), want.distributions.len());
    for (got, want) in got.distributions.iter().zip(&want.distributions) {
        for (got, want) in got.channels.iter().zip(&want.channels) {
            assert_eq!(
                (got.count, got.min, got.max),
                (want.count, want.min, want.max)
            );
            assert!((got.sum_sq - want.sum_sq).abs() <= 1e-4 * want.sum_sq);
        }
    }
    assert_eq!(
        ask(&tight, &network, &variants, &input),
        ask(&roomy, &network, &variants, &input)
    );

    // One image that does not fit is an error that says what to do.
    let none = with_maps(&network, INPUT_BYTES + MAP_BYTES, |_| ());
    let mut runner = none.prepare(&network).unwrap();
    let one = random_input(&network, 1, 5);
    let error = runner.reference(&one).unwrap_err();
    assert!(
        matches!(&error, EngineError::Full { problem, .. } if problem.contains("--gpu-memory")),
        "{error}"
    );
}

#[test]
fn where_memory_ends_fewer_variants_share_a_pass() {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let network = two_layers();
    let variants: Vec<QuantizedNetwork> = (0..4)
        .map(|i| quantizers(4)[i % 2].quantize(&network).unwrap())
        .collect();
    let input = random_input(&network, 2, 5);
    let (kept, live) = (INPUT_BYTES + 2 * MAP_BYTES, INPUT_BYTES + 2 * MAP_BYTES);
    let tight = with_maps(&network, 2 * kept + 4 * 2 * live, |what| {
        SAID.lock().unwrap().push(what.to_string());
    });
    let mut runner = tight.prepare(&network).unwrap();
    assert_eq!(runner.together(2), 4);
    let loaded: Vec<Variant> = variants.iter().map(|v| runner.load(v).unwrap()).collect();
    let loaded: Vec<&Variant> = loaded.iter().collect();
    runner.reference(&input).unwrap();
    let got = runner.run(&loaded, &Reductions::DISCREPANCY).unwrap();
    let said = SAID.lock().unwrap().concat();
    assert!(
        said.contains("4 variants of two") && said.contains("at most 2"),
        "{said}"
    );
    assert!(!said.contains("images"), "{said}");
    assert_eq!((runner.together(2), runner.max_batch()), (2, 5));
    let want = ask(&opened(registers()), &network, &variants, &input);
    assert_eq!(got, want.reduced);
}

#[test]
fn a_device_that_does_not_answer_is_given_up_by_layer() {
    let network = small_mobilenet();
    let engine = opened(GpuOptions {
        patience: Some(Duration::from_micros(50)),
        ..registers()
    });
    let mut runner = engine.prepare(&network).unwrap();
    let input = random_input(&network, 16, 9);
    let error = runner.reference(&input).unwrap_err();
    let text = error.to_string();
    let (first, last) = (
        &network.nodes[0].name,
        &network.nodes[network.nodes.len() - 1].name,
    );
    assert!(matches!(error, EngineError::Lost { .. }), "{text}");
    assert!(
        text.contains(&format!("layers {first} to {last}, 16 images at once")),
        "{text}"
    );
    assert!(text.contains("run the same command again"), "{text}");
    // It is not waited for again.
    assert!(matches!(
        runner.reference(&input),
        Err(EngineError::Lost { .. })
    ));
}

#[test]
fn compiled_kernels_are_kept_and_never_trusted_blindly() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("gpu");
    let network = two_layers();
    let variants = quantizers(8).map(|q| q.quantize(&network).unwrap());
    let input = random_input(&network, 2, 5);
    let run = |kept: &std::path::Path| {
        let engine = opened(GpuOptions {
            kept: Some(kept.to_path_buf()),
            ..registers()
        });
        ask(&engine, &network, &variants, &input)
    };
    let want = ask(&opened(registers()), &network, &variants, &input);
    assert_eq!(run(&kept), want);
    let files = || {
        let files = std::fs::read_dir(&kept).unwrap();
        files.map(|f| f.unwrap().path()).collect::<Vec<_>>()
    };
    let [file] = &files()[..] else {
        panic!("{:?}", files());
    };
    let whole = std::fs::read(file).unwrap();
    assert_eq!(run(&kept), want);
    assert_eq!(std::fs::read(file).unwrap().len(), whole.len());
    for damaged in [vec![], vec![7; 40], whole[..whole.len() / 2].to_vec()] {
        std::fs::write(file, damaged).unwrap();
        assert_eq!(run(&kept), want);
        assert_eq!(std::fs::read(file).unwrap().len(), whole.len(), "made anew");
    }
    // A folder that cannot be made costs nothing but time.
    assert_eq!(run(&file.join("inner")), want);
}

/// A GPU that is lost at a pass of variants.
struct Losing {
    gpu: GpuEngine,
    passes: AtomicUsize,
}

impl Engine for Losing {
    fn device(&self) -> DeviceInfo {
        self.gpu.device()
    }

    fn needs(&self, network: &Network) -> usize {
        self.gpu.needs(network)
    }

    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError> {
        Ok(Box::new(LosingRunner {
            inner: self.gpu.prepare(network)?,
            of: self,
        }))
    }
}

struct LosingRunner<'a> {
    inner: Box<dyn Runner + 'a>,
    of: &'a Losing,
}

impl Runner for LosingRunner<'_> {
    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }

    fn room(&self) -> u64 {
        self.inner.room()
    }

    fn load(&mut self, quantized: &QuantizedNetwork) -> Result<Variant, EngineError> {
        self.inner.load(quantized)
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        self.inner.reference(input)
    }

    fn run(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError> {
        if self.of.passes.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.of.gpu.lose();
        }
        self.inner.run(variants, reductions)
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<&Variant>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        self.inner.trace(input, variant)
    }

    fn per_sample(&mut self) -> Option<&mut dyn PerSample> {
        self.inner.per_sample()
    }
}

#[test]
fn a_lost_device_leaves_what_is_finished_and_the_next_run_goes_on() {
    let tiny = Tiny::new();
    let path = tiny.usual();
    let plan = Plan::read(&path).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    let sweep = |passes: usize, out: &str| -> Result<Finished, SweepError> {
        let engine = Losing {
            gpu: opened(GpuOptions::default()),
            passes: AtomicUsize::new(passes),
        };
        let sweep = Sweep {
            plan: &plan,
            written: &written,
            engine: &engine,
            reference: &CpuEngine::f64(Some(1)).unwrap(),
            device_reason: "a test".into(),
            out: Place::At(&tiny.path(out)),
            kept: None,
            stop: &Default::default(),
            on_failure: OnFailure::GoOn,
        };
        sweep.run(&mut |_| ())
    };
    let whole = sweep(0, "whole").unwrap();
    // Two images, a batch each; both cells share the one pass of a batch or have their own.
    let error = sweep(3, "lost").err().unwrap();
    let text = error.to_string();
    assert!(
        matches!(&error, SweepError::Engine(EngineError::Lost { .. })),
        "{text}"
    );
    assert!(
        text.contains("finished cells are kept, run the same command again")
            && text.contains("image 2 of 2"),
        "{text}"
    );
    let resumed = sweep(0, "lost").unwrap();
    assert!(
        resumed.computed > 0 && resumed.computed < whole.computed,
        "{} of {}",
        resumed.computed,
        whole.computed
    );
    assert!(tables(&tiny.path("lost")) == tables(&tiny.path("whole")));
}
