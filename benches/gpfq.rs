//! Path following at the sizes of a real network's layers, beside its floor and beside plain rounding.
//!
//! The floor of a layer of d columns of m samples and n neurons: the fewer of `d^2 m + d^2 n` multiply-adds (two triangles of inner products, then two
//! triangles of them per neuron) and `3 m d n` (the recursion as it is written) at the speed of a large f64 product on the same
//! threads, or `8 m d` bytes read once at the speed of a copy, whichever is longer.

use std::time::Instant;

use divan::counter::ItemsCount;
use quantbound::quant::gram::{Gram, Inputs};
use quantbound::quant::greedy::follow;
use quantbound::quant::random::Stream;
use quantbound::tensor::product::{Multiply, Placed};
use rayon::prelude::*;

/// (samples, weights per neuron, neurons): a wide pointwise layer, a late one, a depthwise channel, a classifier.
const LAYERS: [(usize, usize, usize); 4] = [
    (50_176, 24, 144),
    (784, 960, 320),
    (21_904, 9, 1),
    (64, 1_280, 1_000),
];

fn main() {
    floors();
    divan::main();
}

fn noise(purpose: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(1, purpose);
    (0..n as u64)
        .map(|i| (2.0 * stream.unit(i) - 1.0) as f32)
        .collect()
}

fn layer((samples, weights, neurons): (usize, usize, usize)) -> (Inputs, Vec<f32>) {
    let inputs = Inputs {
        samples,
        full: noise(1, samples * weights),
        quantized: noise(2, samples * weights),
    };
    (inputs, noise(3, weights * neurons))
}

fn quantize(inputs: &Inputs, weights: &[f32]) -> Vec<f64> {
    let step = 1.0 / 8.0;
    follow(&Gram::new(inputs), weights, 0, |_, _, z| {
        (z / step).round_ties_even().clamp(-8.0, 8.0) * step
    })
}

/// The fastest of some runs, in seconds.
fn seconds(mut run: impl FnMut()) -> f64 {
    let times = (0..5).map(|_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// Prints every layer's time beside its floor on this machine.
fn floors() {
    let threads = rayon::current_num_threads();
    const N: usize = 384;
    let a = vec![1.0f64; N * N];
    let product = seconds(|| {
        (0..threads).into_par_iter().for_each(|_| {
            let mut out = vec![0.0f64; N * N];
            // SAFETY: three N x N matrices without gaps, `out` borrowed exclusively.
            unsafe {
                let a = Placed {
                    data: a.as_ptr(),
                    row: N,
                    column: 1,
                };
                f64::multiply((N, N, N), a, a, (out.as_mut_ptr(), N), None, 1.0);
            }
            divan::black_box(&out);
        });
    });
    let speed = (threads * N * N * N) as f64 / product;
    let bytes = vec![1u8; 1 << 26];
    let copy = seconds(|| {
        divan::black_box(bytes.clone());
    });
    let bandwidth = 2.0 * bytes.len() as f64 / copy;
    println!(
        "{threads} threads: {:.1} G multiply-adds/s in f64, {:.1} GB/s",
        speed / 1e9,
        bandwidth / 1e9
    );
    println!("samples x weights x neurons: time, floor, ratio");
    for (m, d, n) in LAYERS {
        let (inputs, weights) = layer((m, d, n));
        let took = seconds(|| {
            divan::black_box(quantize(&inputs, &weights));
        });
        let operations = (d * d * (m + n)).min(3 * m * d * n) as f64;
        let floor = (operations / speed).max(8.0 * (m * d) as f64 / bandwidth);
        println!(
            "{m} x {d} x {n}: {:.3} ms, {:.3} ms ({:.2} G multiply-adds, {:.1} MB), {:.1}",
            1e3 * took,
            1e3 * floor,
            operations / 1e9,
            8e-6 * (m * d) as f64,
            took / floor
        );
    }
}

#[divan::bench(args = LAYERS, max_time = 3)]
fn greedy(bencher: divan::Bencher, sizes: (usize, usize, usize)) {
    let (inputs, weights) = layer(sizes);
    bencher
        .counter(ItemsCount::new(sizes.0 * sizes.1 * sizes.2))
        .bench(|| quantize(&inputs, &weights));
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
