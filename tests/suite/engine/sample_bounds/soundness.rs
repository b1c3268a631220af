//! Nothing measured exceeds its bound.

use proptest::prelude::*;
use quantbound::engine::{SampleBound, TapStats};
use quantbound::network::Network;
use quantbound::network::architectures::mobilenet_v2::{Naming, mobilenet_v2};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;

use super::case::Case;
use crate::common::problems::Problem;
use crate::common::random::{Random, he_initialise, images};
use crate::common::subjects::{for_all, subjects};

fn check_holds(
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
