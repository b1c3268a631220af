//! Three theorems of docs/bounds.md in exact arithmetic: what is reported is never below them, and above
//! them by no more than what rounding upward may add.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use quantbound::bounds::{Domain, Setting, find};
use quantbound::network::{Activation, Affine, Conv, INPUT, Network, Op, Pad, ValueId};
use quantbound::tensor::{Shape, Tensor};

use crate::common::checker::runner;
use crate::common::dyadic::Dyadic;
use crate::common::random_network::{Case, Random, cases};

/// How a recursion is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// As the theorem states it.
    Exact,
    /// Every step raised by all that rounding upward may add.
    Most,
}

use Rounding::{Exact, Most};

impl Rounding {
    /// What `x` becomes by at most `n` roundings and the allowance for them. A sum of `n` roundings in f64 is off by
    /// `gamma_n`, and is raised by `2 gamma_(n+4)` and an ulp: less than `(4 n + 64) 2^-52` together.
    fn grown(self, x: Dyadic, n: usize) -> Dyadic {
        match self {
            Exact => x,
            Most => &x * &Dyadic::scaled((1 << 52) + 4 * n as i64 + 64, -52),
        }
    }

    /// Entries far below `largest` are rounded up to `2^-500` of it.
    fn lifted(self, v: Vec<Dyadic>, largest: &Dyadic) -> Vec<Dyadic> {
        match self {
            Exact => v,
            Most => {
                let least = largest.shifted(-500);
                let lift = |x: Dyadic| if x.is_zero() { x } else { x.max(least.clone()) };
                v.into_iter().map(lift).collect()
            }
        }
    }

    fn settled(self, v: Vec<Dyadic>) -> Vec<Dyadic> {
        let largest = largest(&v);
        self.lifted(v, &largest)
    }

    fn zip(self, a: &[Dyadic], b: &[Dyadic], f: impl Fn(Dyadic, Dyadic) -> Dyadic) -> Vec<Dyadic> {
        let top = largest(a).max(largest(b));
        let pairs = self.lifted(a.to_vec(), &top).into_iter();
        let pairs = pairs.zip(self.lifted(b.to_vec(), &top));
        self.settled(pairs.map(|(a, b)| f(a, b)).collect())
    }

    fn add(self, a: &[Dyadic], b: &[Dyadic]) -> Vec<Dyadic> {
        self.zip(a, b, |a, b| self.grown(a + b, 1))
    }

    fn min(self, a: &[Dyadic], b: &[Dyadic]) -> Vec<Dyadic> {
        self.zip(a, b, Dyadic::min)
    }
}

fn largest(v: &[Dyadic]) -> Dyadic {
    v.iter().cloned().fold(Dyadic::zero(), Dyadic::max)
}

/// A magnitude made of `w` and `w'`.
type Magnitude = fn(&Dyadic, &Dyadic) -> Dyadic;

fn reference(w: &Dyadic, _: &Dyadic) -> Dyadic {
    w.abs()
}

fn quantized(_: &Dyadic, q: &Dyadic) -> Dyadic {
    q.abs()
}

fn change(w: &Dyadic, q: &Dyadic) -> Dyadic {
    (q.clone() - w.clone()).abs()
}

fn common(w: &Dyadic, q: &Dyadic) -> Dyadic {
    match w * q > Dyadic::zero() {
        true => w.abs().min(q.abs()),
        false => Dyadic::zero(),
    }
}

fn reference_only(w: &Dyadic, q: &Dyadic) -> Dyadic {
    w.abs() - common(w, q)
}

fn quantized_only(w: &Dyadic, q: &Dyadic) -> Dyadic {
    q.abs() - common(w, q)
}

/// One layer in both networks.
struct Layer<'a>(Affine<'a>, Affine<'a>);

impl Layer<'_> {
    /// `|K|` of some magnitude, row `o`.
    fn row(&self, o: usize, of: Magnitude) -> Vec<Dyadic> {
        let taps = self.0.taps;
        let kernels = self.0.row(o).chunks(taps).zip(self.1.row(o).chunks(taps));
        let sum = |(p, q): (&[f32], &[f32])| {
            let pairs = p.iter().zip(q);
            pairs
                .map(|(&p, &q)| of(&Dyadic::of(p), &Dyadic::of(q)))
                .sum()
        };
        kernels.map(sum).collect()
    }

    fn roundings(&self) -> usize {
        self.0.fan_in() + 8
    }

    /// `|K| x`
    fn times(&self, rounding: Rounding, of: Magnitude, x: &[Dyadic]) -> Vec<Dyadic> {
        let entry = |o| {
            let x = &x[self.0.first_input(o)..];
            let row = self.row(o, of);
            let sum = row.iter().zip(x).map(|(w, x)| w * x).sum();
            rounding.grown(sum, self.roundings())
        };
        rounding.settled((0..self.0.out).map(entry).collect())
    }

    fn bias(&self, of: Magnitude) -> Vec<Dyadic> {
        let pairs = self.0.bias.iter().zip(self.1.bias);
        let bias = pairs.map(|(&b, &q)| of(&Dyadic::of(b), &Dyadic::of(q)));
        bias.collect()
    }

    /// The largest row sum.
    fn norm(&self, of: Magnitude) -> Dyadic {
        let rows = (0..self.0.out).map(|o| self.row(o, of).into_iter().sum());
        rows.fold(Dyadic::zero(), Dyadic::max)
    }
}

/// Carries vectors over channels through the network: `affine` does the layers, `after` what an activation changes.
fn by_channel<const N: usize>(
    case: &Case,
    rounding: Rounding,
    start: [Vec<Dyadic>; N],
    affine: impl Fn(&Layer, &[Vec<Dyadic>; N]) -> [Vec<Dyadic>; N],
    after: impl Fn(Activation, &mut [Vec<Dyadic>; N]),
) -> Vec<[Vec<Dyadic>; N]> {
    let mut values = vec![start];
    for (node, other) in case.network.nodes.iter().zip(&case.quantized.nodes) {
        let x = &values[node.inputs[0]];
        let rest = || node.inputs[1..].iter().map(|&v: &ValueId| &values[v]);
        let of = |f: &dyn Fn(usize) -> Vec<Dyadic>| std::array::from_fn(f);
        let mut value = match (&node.op, node.affine().zip(other.affine())) {
            (_, Some((a, b))) => affine(&Layer(a, b), x),
            (Op::Add, _) => of(&|k| rest().fold(x[k].clone(), |sum, y| rounding.add(&sum, &y[k]))),
            (Op::Concat, _) => of(&|k| {
                let parts = rest().fold(x[k].clone(), |all, y| [&all[..], &y[k][..]].concat());
                rounding.settled(parts)
            }),
            (Op::Channels(taken), _) => of(&|k| taken.sources().map(|c| x[k][c].clone()).collect()),
            (Op::Flatten, _) => {
                let pixels = case.network.shape(node.inputs[0]).pixels();
                of(&|k| {
                    let each = x[k].iter();
                    each.flat_map(|e| std::iter::repeat_n(e.clone(), pixels))
                        .collect()
                })
            }
            _ => x.clone(),
        };
        after(node.activation, &mut value);
        values.push(value);
    }
    values.remove(0);
    values
}

fn magnitudes(domain: &Domain) -> Vec<Dyadic> {
    domain.magnitudes().into_iter().map(Dyadic::of).collect()
}

/// `min(|w'| e + |dw| m, |w| e + |dw| m', c e + (|w| - c) m + (|w'| - c) m')`, weight by weight, summed over each row.
fn least_per_weight(layer: &Layer, [e, m, mq]: &[Vec<Dyadic>; 3]) -> Vec<Dyadic> {
    let (a, b) = (&layer.0, &layer.1);
    let row = |o: usize| {
        let pairs = a.row(o).iter().zip(b.row(o)).enumerate();
        let least = pairs.map(|(k, (&w, &q))| {
            let (w, q) = (Dyadic::of(w), Dyadic::of(q));
            let i = a.first_input(o) + k / a.taps;
            let sum = |[x, y, z]: [Magnitude; 3]| {
                &x(&w, &q) * &e[i] + &y(&w, &q) * &m[i] + &z(&w, &q) * &mq[i]
            };
            let none: Magnitude = |_, _| Dyadic::zero();
            let one = sum([quantized, change, none]);
            let other = sum([reference, none, change]);
            one.min(other)
                .min(sum([common, reference_only, quantized_only]))
        });
        least.sum()
    };
    (0..a.out).map(row).collect()
}

/// The least of three bounds for every weight, the largest error at every node. `literal` takes the least weight by weight;
/// otherwise what weights have in common and what they have not are added up apart.
fn channelwise(case: &Case, r: Rounding, literal: bool) -> Vec<Dyadic> {
    let m = magnitudes(&case.domain);
    let start = [vec![Dyadic::zero(); m.len()], m.clone(), m];
    let values = by_channel(
        case,
        r,
        start,
        |layer, x| {
            let [e, m, mq] = x;
            let times = |of, x: &Vec<Dyadic>| layer.times(r, of, x);
            let product = match literal {
                true => least_per_weight(layer, x),
                false => {
                    let differing = r.add(&times(reference_only, m), &times(quantized_only, mq));
                    r.add(&times(common, e), &differing)
                }
            };
            [
                r.add(&product, &layer.bias(change)),
                r.add(&times(reference, m), &layer.bias(reference)),
                r.add(&times(quantized, mq), &layer.bias(quantized)),
            ]
        },
        |activation, [_, m, mq]| {
            if activation == Activation::Relu6 {
                for v in [m, mq] {
                    *v = r.min(v, &vec![Dyadic::of(6.0); v.len()]);
                }
            }
        },
    );
    values.iter().map(|[e, ..]| largest(e)).collect()
}

/// `f(|theta|) + f(|theta'|) - 2 f(c)`, three passes and one subtraction, its largest entry at every node.
fn path_metric(case: &Case) -> Vec<Dyadic> {
    let pass = |of: Magnitude| {
        let layer = |layer: &Layer, [x]: &[Vec<Dyadic>; 1]| {
            [Exact.add(&layer.times(Exact, of, x), &layer.bias(of))]
        };
        by_channel(case, Exact, [magnitudes(&case.domain)], layer, |_, _| ())
    };
    let (a, q, c) = (pass(reference), pass(quantized), pass(common));
    let nodes = a.into_iter().zip(q).zip(c);
    nodes
        .map(|(([a], [q]), [c])| {
            let entries = a.into_iter().zip(q).zip(c);
            let entries = entries.map(|((a, q), c)| a + q - c.shifted(1));
            largest(&entries.collect::<Vec<_>>())
        })
        .collect()
}

/// The same as the recursion that is evaluated.
fn path_recursion(case: &Case, r: Rounding) -> Vec<Dyadic> {
    let m = magnitudes(&case.domain);
    let start = [vec![Dyadic::zero(); m.len()], m.clone(), m];
    let values = by_channel(
        case,
        r,
        start,
        |layer, [e, a, q]| {
            let times = |of, x: &Vec<Dyadic>| layer.times(r, of, x);
            let differing = r.add(&times(reference_only, a), &times(quantized_only, q));
            let metric = r.add(&times(common, e), &differing);
            [
                r.add(&metric, &layer.bias(change)),
                r.add(&times(reference, a), &layer.bias(reference)),
                r.add(&times(quantized, q), &layer.bias(quantized)),
            ]
        },
        |_, _| (),
    );
    values.iter().map(|[e, ..]| largest(e)).collect()
}

/// `E = min(||W'|| E + ||dW|| B, ||W|| E + ||dW|| B') + ||db||` at every node.
fn layerwise(case: &Case, r: Rounding) -> Vec<Dyadic> {
    let start = largest(&magnitudes(&case.domain));
    let mut values = vec![[Dyadic::zero(), start.clone(), start]];
    for (node, other) in case.network.nodes.iter().zip(&case.quantized.nodes) {
        let inputs: Vec<&[Dyadic; 3]> = node.inputs.iter().map(|&v| &values[v]).collect();
        let join = |f: &dyn Fn(Dyadic, Dyadic) -> Dyadic| {
            std::array::from_fn(|k| {
                let rest = inputs[1..].iter().map(|x| x[k].clone());
                rest.fold(inputs[0][k].clone(), f)
            })
        };
        let mut value = match (&node.op, node.affine().zip(other.affine())) {
            (_, Some((a, b))) => {
                let layer = Layer(a, b);
                let [e, m, mq] = inputs[0];
                let n = layer.roundings() + 16;
                let [norm, norm_q, delta] = [reference, quantized, change].map(|of| layer.norm(of));
                let bias = |of| largest(&layer.bias(of));
                let one = &norm_q * e + &delta * m;
                let two = &norm * e + &delta * mq;
                [
                    r.grown(one.min(two) + bias(change), n),
                    r.grown(&norm * m + bias(reference), n),
                    r.grown(&norm_q * mq + bias(quantized), n),
                ]
            }
            (Op::Add, _) => join(&|a, b| r.grown(a + b, 1)),
            _ => join(&Dyadic::max),
        };
        if node.activation == Activation::Relu6 {
            for k in [1, 2] {
                value[k] = value[k].clone().min(Dyadic::of(6.0));
            }
        }
        values.push(value);
    }
    values.remove(0);
    values.into_iter().map(|[e, ..]| e).collect()
}

/// Compares what is reported with `exact` and `most`; returns how many numbers were compared and how many of them
/// could have been above the exact one by a billionth.
fn compare(case: &Case, id: &str, exact: &[Dyadic], most: &[Dyadic]) -> Result<[usize; 2], String> {
    let setting = Setting::new(&case.network, &case.quantized, &case.domain).unwrap();
    let reported = find(id).unwrap().evaluate(&setting).unwrap();
    assert_eq!(reported.log10.len(), exact.len());
    let mut counts = [0, 0];
    for (n, ((&log, exact), most)) in reported.log10.iter().zip(exact).zip(most).enumerate() {
        if exact.is_zero() {
            match log == f64::NEG_INFINITY {
                true => continue,
                false => return Err(format!("{id} at node {n}: log10 {log}, exactly zero")),
            }
        }
        let (least, off) = exact.log10();
        if log.is_nan() || log < least - off {
            return Err(format!("{id} at node {n}: log10 {log}, exact {least}"));
        }
        let (highest, off) = most.log10();
        // The logarithm is raised by four units times its binary exponent.
        if log > highest + 6.0 * off {
            return Err(format!("{id} at node {n}: log10 {log}, at most {highest}"));
        }
        counts[0] += 1;
        counts[1] += usize::from(highest - least > 1e-9);
    }
    Ok(counts)
}

fn compare_all(case: &Case) -> Result<[usize; 2], String> {
    let metric = path_metric(case);
    if metric != path_recursion(case, Exact) {
        return Err("the path metric's recursion is not its statement".into());
    }
    let least = channelwise(case, Exact, true);
    if least != channelwise(case, Exact, false) {
        return Err("channelwise is not the least of each weight".into());
    }
    let found = [
        ("layerwise", layerwise(case, Exact), layerwise(case, Most)),
        ("channelwise", least, channelwise(case, Most, false)),
        ("path-metric", metric, path_recursion(case, Most)),
    ];
    let mut total = [0, 0];
    for (id, exact, most) in found {
        let counts = compare(case, id, &exact, &most)?;
        total = [total[0] + counts[0], total[1] + counts[1]];
    }
    Ok(total)
}

/// Weights of wildly different sizes between layers, less so within one.
fn make_wild(case: &mut Case) {
    let mut random = Random(case.seed ^ 0xd1ad);
    for (node, other) in case.network.nodes.iter_mut().zip(&mut case.quantized.nodes) {
        let scale = 10f64.powf(60.0 * random.unit() - 30.0);
        let size = 10f64.powf(-6.0 * random.unit());
        let biased = random.below(2) as f64;
        let mut draw = |w: &mut f32, q: &mut f32, scale: f64| {
            let spread = 2f64.powf(40.0 * random.unit() - 20.0);
            let sign = [-1.0, 1.0][random.below(2)];
            *w = (sign * spread * scale) as f32;
            *q = match random.below(10) {
                0 => 0.0,
                1 => -*w,
                2 => *w,
                _ => (f64::from(*w) * (1.0 + size * (2.0 * random.unit() - 1.0))) as f32,
            };
        };
        if let Some((w, q)) = node.weight_mut().zip(other.weight_mut()) {
            let pairs = w.data_mut().iter_mut().zip(q.data_mut());
            pairs.for_each(|(w, q)| draw(w, q, scale));
        }
        if let Some((b, q)) = node.bias_mut().zip(other.bias_mut()) {
            let pairs = b.iter_mut().zip(q);
            pairs.for_each(|(b, q)| draw(b, q, biased * scale));
        }
    }
}

#[test]
fn reported_bounds_enclose_exact_ones() {
    let total = std::sync::Mutex::new([0usize; 2]);
    let strategy = (cases(5), any::<bool>());
    let result = runner(300).run(&strategy, |(mut case, wild)| {
        if wild {
            make_wild(&mut case);
        }
        let counts = compare_all(&case).map_err(TestCaseError::fail)?;
        let mut total = total.lock().unwrap();
        (0..2).for_each(|k| total[k] += counts[k]);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let [all, loose] = total.into_inner().unwrap();
    println!("{all} numbers, {loose} with entries far below the largest");
    assert!(all >= 1000 && loose * 20 <= all, "{all}, {loose}");
}

pub fn pointwise(out: usize, weights: Vec<f32>) -> Op {
    let inputs = weights.len() / out;
    Op::Conv(Conv {
        weight: Tensor::new([out, inputs, 1, 1], weights).unwrap(),
        bias: vec![0.0; out],
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    })
}

/// Sums in which rounding to nearest drops every term but the first: what is reported must count them all.
#[test]
fn terms_too_small_to_register_count() {
    const CHANNELS: usize = 2000;
    const TERMS: usize = 300;
    // Just below half an ulp of 1 in f64, above and below.
    let tiny = 2f32.powi(-54) * 0.99;
    let wide: Vec<f32> = (0..CHANNELS)
        .map(|i| if i == 0 { 1.0 } else { tiny })
        .collect();
    let small: Vec<f32> = (0..CHANNELS)
        .map(|i| if i == 0 { tiny } else { 0.0 })
        .collect();
    let network = |factor: f32| {
        let scaled = |v: &[f32]| v.iter().map(|w| w * factor).collect();
        let mut net = Network::new("small terms", Shape::new(CHANNELS, 1, 1));
        let none = Activation::Identity;
        let sum = net.push("sum", pointwise(1, scaled(&wide)), &[INPUT], none);
        let term = net.push("term", pointwise(1, scaled(&small)), &[INPUT], none);
        let mut inputs = vec![term.unwrap(); TERMS];
        inputs[0] = sum.unwrap();
        net.push("all", Op::Add, &inputs, none).unwrap();
        net
    };
    let case = Case {
        network: network(1.0),
        quantized: network(2.0),
        domain: Domain::symmetric(CHANNELS, 1.0),
        seed: 0,
    };
    compare_all(&case).unwrap();
}
