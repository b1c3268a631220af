//! The relaxation of rounding that AdaRound minimizes: a quadratic error plus a term that drives `h(V)` to 0 or 1.
//!
//! Everything is measured in steps of the grid and in units of the mean of `||X~_t||^2`, so that one weight of the regularizer and one
//! learning rate serve layers of any scale.

use super::gram::Gram;
use super::product::{View, add_product};

/// Ends that the sigmoid is stretched to before it is clipped to [0, 1].
const ZETA: f32 = 1.1;
const GAMMA: f32 = -0.1;
/// Weight of the regularizer.
const LAMBDA: f32 = 0.5;
/// The exponent falls from the first to the second.
const BETA: (f32, f32) = (20.0, 2.0);
/// Part of the iterations without regularizer.
const WARM_UP: f32 = 0.2;
/// Adam's step and its decay rates.
const RATE: f32 = 0.02;
const MOMENTS: (f32, f32) = (0.9, 0.999);

/// `r -> G r` in f32, G in units of its mean diagonal.
#[derive(Clone, Debug)]
pub struct Quadratic {
    d: usize,
    unit: f64,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// G itself.
    Matrix(Vec<f32>),
    /// `X~`, `[d][samples]`, where that is the smaller one.
    Factor(Vec<f32>, usize),
}

impl Quadratic {
    /// Of the inner products of the columns `quantized`, `[d][samples]`.
    pub fn new(gram: &Gram, mut quantized: Vec<f32>) -> Self {
        let d = gram.weights;
        let trace: f64 = (0..d).map(|t| gram.squared_norm(t)).sum();
        // Inputs that are always 0 leave nothing to choose.
        let unit = if trace > 0.0 { trace / d as f64 } else { 1.0 };
        let form = if 2 * gram.samples < d {
            let scale = (1.0 / unit).sqrt();
            let scaled = |x: &mut f32| *x = (f64::from(*x) * scale) as f32;
            quantized.iter_mut().for_each(scaled);
            Form::Factor(quantized, gram.samples)
        } else {
            Form::Matrix(gram.own.iter().map(|g| (g / unit) as f32).collect())
        };
        Self { d, unit, form }
    }

    /// The mean of `||X~_t||^2`.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// `out += G r` for `r` of `[d][n]`.
    fn add(&self, out: &mut [f32], r: &[f32], n: usize) {
        let d = self.d;
        let r = View::rows(r, d, n, n);
        match &self.form {
            Form::Matrix(g) => add_product(out, 1.0, View::rows(g, d, d, d), r),
            Form::Factor(x, m) => {
                let x = View::rows(x, d, *m, *m);
                let mut inner = vec![0.0; m * n];
                add_product(&mut inner, 1.0, x.transposed(), r);
                add_product(out, 1.0, x, View::rows(&inner, *m, n, n));
            }
        }
    }
}

/// One tile of neurons to be rounded; all of `[d][neurons]`.
#[derive(Clone, Debug)]
pub struct Relaxation {
    /// Neurons.
    pub neurons: usize,
    /// `G q - C w` at the lower codes q, in units of [`Quadratic::unit`].
    pub base: Vec<f32>,
    /// Steps between the lower and the upper code: 1, or 0 where the grid ends.
    pub room: Vec<f32>,
    /// Where `h` begins: the fractional part of `w / s`.
    pub start: Vec<f32>,
}

/// `sigmoid(v) (zeta - gamma) + gamma` and its derivative.
fn stretched(v: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + (-v).exp());
    (s * (ZETA - GAMMA) + GAMMA, s * (1.0 - s) * (ZETA - GAMMA))
}

/// Minimizes over V with Adam; returns `h(V)`, between 0 and 1.
pub fn relax(quadratic: &Quadratic, problem: &Relaxation, iterations: u32) -> Vec<f32> {
    let count = problem.base.len();
    let mut v: Vec<f32> = problem
        .start
        .iter()
        .map(|h| {
            let s = (h.clamp(0.01, 0.99) - GAMMA) / (ZETA - GAMMA);
            (s / (1.0 - s)).ln()
        })
        .collect();
    let (mut first, mut second) = (vec![0.0f32; count], vec![0.0f32; count]);
    let (mut up, mut gradient) = (vec![0.0f32; count], vec![0.0f32; count]);
    let (mut decay1, mut decay2) = (1.0f32, 1.0f32);
    for iteration in 0..iterations {
        for k in 0..count {
            up[k] = stretched(v[k]).0.clamp(0.0, 1.0) * problem.room[k];
        }
        gradient.copy_from_slice(&problem.base);
        quadratic.add(&mut gradient, &up, problem.neurons);
        let done = iteration as f32 / iterations as f32;
        let left = 1.0 - ((done - WARM_UP) / (1.0 - WARM_UP)).max(0.0);
        let beta = BETA.1 + (BETA.0 - BETA.1) * left;
        let lambda = if done < WARM_UP { 0.0 } else { LAMBDA };
        decay1 *= MOMENTS.0;
        decay2 *= MOMENTS.1;
        for k in 0..count {
            let (h, slope) = stretched(v[k]);
            let mut g = 0.0;
            if h > 0.0 && h < 1.0 && problem.room[k] > 0.0 {
                let away = 2.0 * h - 1.0;
                let pull = match lambda {
                    0.0 => 0.0,
                    l => -2.0 * l * beta * away.abs().powf(beta - 1.0).copysign(away),
                };
                g = (2.0 * problem.room[k] * gradient[k] + pull) * slope;
            }
            first[k] = MOMENTS.0 * first[k] + (1.0 - MOMENTS.0) * g;
            second[k] = MOMENTS.1 * second[k] + (1.0 - MOMENTS.1) * g * g;
            let step = first[k] / (1.0 - decay1);
            let size = (second[k] / (1.0 - decay2)).sqrt();
            v[k] -= RATE * step / (size + 1e-8);
        }
    }
    v.iter().map(|&v| stretched(v).0.clamp(0.0, 1.0)).collect()
}
