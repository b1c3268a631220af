//! Path following at the sizes of a real network's layers, beside plain rounding of the same weights.

use divan::counter::ItemsCount;
use quantbound::quant::greedy::{Inputs, follow};
use quantbound::quant::random::Stream;

fn main() {
    divan::main();
}

/// (samples, weights per neuron, neurons): a wide pointwise layer, a late one, a depthwise channel, a classifier.
const LAYERS: [(usize, usize, usize); 4] = [
    (25_088, 16, 96),
    (392, 960, 320),
    (3_136, 9, 1),
    (128, 1_280, 1_000),
];

fn noise(purpose: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(1, purpose);
    (0..n as u64)
        .map(|i| (2.0 * stream.unit(i) - 1.0) as f32)
        .collect()
}

#[divan::bench(args = LAYERS, max_time = 3)]
fn greedy(bencher: divan::Bencher, (samples, weights, neurons): (usize, usize, usize)) {
    let inputs = Inputs {
        samples,
        full: noise(1, samples * weights),
        quantized: noise(2, samples * weights),
    };
    let w = noise(3, weights * neurons);
    let step = 1.0 / 8.0;
    bencher
        .counter(ItemsCount::new(samples * weights * neurons))
        .bench(|| {
            follow(&inputs, &w, 0, |_, _, z| {
                (z / step).round_ties_even().clamp(-8.0, 8.0) * step
            })
        });
}

#[divan::bench(args = LAYERS, max_time = 1)]
fn round_to_nearest(bencher: divan::Bencher, (_, weights, neurons): (usize, usize, usize)) {
    let w = noise(3, weights * neurons);
    let step = 1.0 / 8.0;
    bencher
        .counter(ItemsCount::new(weights * neurons))
        .bench(|| -> Vec<f64> {
            let level = |&w: &f32| (f64::from(w) / step).round_ties_even().clamp(-8.0, 8.0) * step;
            w.iter().map(level).collect()
        });
}
