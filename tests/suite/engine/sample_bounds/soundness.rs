//! Nothing measured exceeds its bound.

use proptest::prelude::*;
use quantbound::engine::{EngineError, SampleBound, TapStats};
use quantbound::network::Network;
use quantbound::network::architectures::mobilenet_v2::{Naming, mobilenet_v2};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;

use super::case::Case;
use crate::common::grids::grids;
use crate::common::naive;
use crate::common::problems::Problem;
use crate::common::random::{Random, he_initialise, images};
use crate::common::random_network::Random as Dice;
use crate::common::subjects::{for_all, subjects};

pub fn check_holds(
    network: &Network,
    measured: &[Vec<TapStats>],
    bounds: &[Vec<SampleBound>],
    what: &str,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(measured.len(), bounds.len());
    for (image, (stats, bounds)) in measured.iter().zip(bounds).enumerate() {
        prop_assert_eq!(stats.len(), bounds.len());
        for ((tap, stats), bound) in network.taps().iter().zip(stats).zip(bounds) {
            let name = &network.nodes[tap.node].name;
            prop_assert_eq!(stats.count, bound.count);
            prop_assert!(bound.capped <= bound.count);
            prop_assert!(
                stats.max_abs_diff <= bound.bound,
                "{what}, {name}, image {image}: measured {} above {}",
                stats.max_abs_diff,
                bound.bound
            );
        }
    }
    Ok(())
}

#[test]
fn nothing_measured_exceeds_the_bound_on_its_sample() {
    for_all(160, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let mut runner = subject.engine.prepare(&network).unwrap();
        let same = runner.load(&QuantizedNetwork::default()).unwrap();
        let id = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.samples().unwrap().bounds(&id, 0.0).unwrap();
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &bounds, "sample")?;
        prop_assert_eq!(
            &runner.samples().unwrap().bounds(&id, 0.0).unwrap(),
            &bounds,
            "the same question twice"
        );
        for radius in [0.0, case.radius] {
            for bound in runner
                .samples()
                .unwrap()
                .bounds(&same, radius)
                .unwrap()
                .concat()
            {
                prop_assert_eq!(bound.bound, 0.0, "nothing changed, radius {}", radius);
            }
        }
        Ok(())
    });
}

#[test]
fn nothing_in_the_ball_exceeds_its_bound() {
    for_all(64, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let ball = runner.samples().unwrap().bounds(&id, case.radius).unwrap();
        let sample = runner.samples().unwrap().bounds(&id, 0.0).unwrap();
        for (ball, sample) in ball.concat().iter().zip(sample.concat()) {
            prop_assert!(
                ball.bound >= sample.bound,
                "{} under {}",
                ball.bound,
                sample.bound
            );
        }
        let mut random = Random(case.seed());
        for corners in [true, false, false] {
            // Adding rounds, so the step stays a little inside.
            let step = case.radius as f32 * 0.999;
            let mut near = input.clone();
            for x in &mut near.data {
                let d = random.unit();
                *x += step * if corners { d.signum() } else { d };
            }
            let inside = input.data.iter().zip(&near.data);
            let distance = |(&a, &b): (&f32, &f32)| (f64::from(b) - f64::from(a)).abs();
            prop_assume!(inside.map(distance).all(|d| d <= case.radius));
            runner.reference(&near).unwrap();
            let measured = runner.compare(&id).unwrap().stats;
            check_holds(&network, &measured, &ball, "ball")?;
        }
        Ok(())
    });
}

/// A case whose quantized network rounds activations too, to grids about as wide as the first image's.
pub fn rounded(case: &Case, network: &Network) -> QuantizedNetwork {
    let image: Vec<f64> = case.input().image(0).iter().map(|&x| x.into()).collect();
    let values = naive::forward(network, &image);
    QuantizedNetwork {
        activations: grids(network, &values, &mut Dice(case.seed())),
        ..case.quantized(network)
    }
}

#[test]
fn nothing_measured_exceeds_its_bound_where_activations_are_rounded() {
    for_all(200, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let mut runner = subject.engine.prepare(&network).unwrap();
        if !runner.samples().unwrap().knows_grids() {
            return Ok(());
        }
        let id = runner.load(&rounded(case, &network)).unwrap();
        runner.reference(&input).unwrap();
        let sample = runner.samples().unwrap().bounds(&id, 0.0).unwrap();
        let ball = runner.samples().unwrap().bounds(&id, case.radius).unwrap();
        for (ball, sample) in ball.concat().iter().zip(sample.concat()) {
            prop_assert!(ball.bound >= sample.bound, "{ball:?} under {sample:?}");
        }
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &sample, "sample")?;
        let mut random = Random(case.seed());
        let mut near = input.clone();
        for x in &mut near.data {
            *x += case.radius as f32 * 0.999 * random.unit();
        }
        let inside = input.data.iter().zip(&near.data);
        let distance = |(&a, &b): (&f32, &f32)| (f64::from(b) - f64::from(a)).abs();
        prop_assume!(inside.map(distance).all(|d| d <= case.radius));
        runner.reference(&near).unwrap();
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &ball, "ball")
    });
}

#[test]
fn an_engine_that_knows_no_grids_says_so() {
    let mut refused = 0;
    for subject in subjects() {
        let blueprint = mobilenet_v2(0.35, Some(10), 32, Naming::Torchvision);
        let mut network = blueprint.skeleton().unwrap();
        he_initialise(&mut network, 7);
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner
            .load(&QuantizedNetwork {
                activations: vec![quantbound::quant::QuantizedActivation {
                    bits: 8,
                    scale: 0.1,
                    ..Default::default()
                }],
                ..QuantizedNetwork::default()
            })
            .unwrap();
        runner.reference(&images(network.input, 1, 3)).unwrap();
        let samples = runner.samples().unwrap();
        let knows = samples.knows_grids();
        match samples.bounds(&id, 0.0) {
            Ok(bounds) => {
                assert!(knows);
                // Weights are the same: half a step at the first layer, and no more than that.
                let first = bounds[0][0].bound;
                assert!(first > 0.04 && first < 25.0, "{first}");
            }
            Err(EngineError::Usage(why)) => {
                assert!(!knows && why.contains("the processor's engines"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 1);
}

#[test]
fn bounds_do_not_depend_on_batches() {
    let blueprint = mobilenet_v2(0.35, Some(10), 32, Naming::Torchvision);
    let mut network = blueprint.skeleton().unwrap();
    he_initialise(&mut network, 7);
    let quantizer = Uniform::new(8, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    let quantized = quantizer.quantize(&network).unwrap();
    let input = images(network.input, 3, 3);
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let together = runner.samples().unwrap().bounds(&id, 0.01).unwrap();
        for image in [2, 0] {
            let one = Batch::new(network.input, input.image(image).to_vec()).unwrap();
            runner.reference(&one).unwrap();
            assert_eq!(
                runner.samples().unwrap().bounds(&id, 0.01).unwrap(),
                together[image..=image]
            );
        }
        runner.reference(&input).unwrap();
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &together, "mobilenet").unwrap();
    }
}
