//! Random small networks, their quantized forms, input boxes and inputs that try to break a bound.

use proptest::prelude::*;
use quantbound::bounds::Domain;
use quantbound::network::{
    Activation, Channels, Conv, INPUT, Linear, Network, Op, Pad, ValueId, Window,
};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::tensor::{Shape, Tensor};

/// A small deterministic generator (SplitMix64), so that a failing case is reproduced by its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What one step adds to the network.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Convolution of any geometry, grouped where the channels allow.
    Conv,
    /// One kernel per channel, sometimes two.
    Depthwise,
    /// Plain matrix over channels.
    Pointwise,
    /// `project -> add -> expand` without activations between.
    Bottleneck,
    /// Sum of two values of one shape; a branch is made where there are none.
    Add,
    /// Concatenation of two values with maps of one size.
    Concat,
    MaxPool,
    AvgPool,
    GlobalAvgPool,
    /// Flatten, then a dense layer.
    Dense,
}

/// A step before it is fitted to the shapes at hand.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub kind: Kind,
    /// Which earlier values are read, counted from the latest.
    pub back: [usize; 2],
    pub out: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pad: [usize; 4],
    pub dilation: usize,
    pub activation: Activation,
    /// The seed of the weights.
    pub seed: u64,
}

/// How the quantized network comes about.
#[derive(Clone, Copy, Debug)]
pub enum Perturbation {
    Uniform(u32, Granularity, Scheme),
    /// Every parameter, biases included, is multiplied by up to `1 +- size` and sometimes replaced.
    Random(f64),
    /// Some weights change their sign.
    SignFlips,
    /// Only biases move.
    Biases,
    /// Only one layer is quantized.
    OneLayer(u32),
}

/// A network with its quantized form, an input box and a seed for inputs.
#[derive(Clone, Debug)]
pub struct Case {
    pub network: Network,
    pub quantized: Network,
    pub domain: Domain,
    pub seed: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        4 => Just(Kind::Conv), 2 => Just(Kind::Depthwise), 3 => Just(Kind::Pointwise), 3 => Just(Kind::Bottleneck),
        3 => Just(Kind::Add), 1 => Just(Kind::Concat), 1 => Just(Kind::MaxPool), 1 => Just(Kind::AvgPool),
        1 => Just(Kind::GlobalAvgPool), 1 => Just(Kind::Dense),
    ];
    let activation = prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Relu6)
    ];
    let back = prop_oneof![3 => Just(0usize), 1 => 0usize..5];
    (
        (kind, (back, 0usize..5).prop_map(|(a, b)| [a, b])),
        1usize..=4,
        [1usize..=3, 1..=3],
        [1usize..=2, 1..=2],
        [0usize..=2, 0..=2, 0..=2, 0..=2],
        prop_oneof![4 => Just(1usize), 1 => Just(2usize)],
        activation,
        any::<u64>(),
    )
        .prop_map(
            |((kind, back), out, kernel, stride, pad, dilation, activation, seed)| Step {
                kind,
                back,
                out,
                kernel,
                stride,
                pad,
                dilation,
                activation,
                seed,
            },
        )
}

fn perturbation() -> impl Strategy<Value = Perturbation> {
    let granularity = prop_oneof![Just(Granularity::PerTensor), Just(Granularity::PerChannel)];
    let scheme = prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)];
    prop_oneof![
        4 => (2u32..=8, granularity, scheme).prop_map(|(b, g, s)| Perturbation::Uniform(b, g, s)),
        3 => (-6i32..=0).prop_map(|e| Perturbation::Random(10f64.powi(e))),
        1 => Just(Perturbation::SignFlips),
        1 => Just(Perturbation::Biases),
        1 => (2u32..=8).prop_map(Perturbation::OneLayer),
    ]
}

fn domain(channels: usize) -> impl Strategy<Value = Domain> {
    let interval = prop_oneof![
        3 => (0.0f64..3.0).prop_map(|d| (-d, d)),
        2 => (-3.0f64..3.0, 0.0f64..3.0).prop_map(|(lo, size)| (lo, lo + size)),
        1 => Just((0.0, 1.0)),
        1 => Just((0.0, 0.0)),
        1 => (-2.0f64..2.0).prop_map(|x| (x, x)),
    ];
    prop::collection::vec(interval, channels).prop_map(|ends| {
        let (lo, hi) = ends.into_iter().unzip();
        Domain { lo, hi }
    })
}

/// Cases with at most `steps` steps.
pub fn cases(steps: usize) -> impl Strategy<Value = Case> {
    let input = (1usize..=3, 1usize..=5, 1usize..=5);
    let input = input.prop_map(|(c, h, w)| Shape::new(c, h, w));
    let plan = (
        input,
        prop::collection::vec(step(), 1..=steps),
        any::<bool>(),
    );
    let parts = plan.prop_flat_map(|(input, steps, biased)| {
        let plan = (Just(input), Just(steps), Just(biased));
        (plan, perturbation(), domain(input.c), any::<u64>())
    });
    parts.prop_map(|((input, steps, biased), perturbation, domain, seed)| {
        let network = build(input, &steps, biased);
        let quantized = perturb(&network, perturbation, seed);
        Case {
            network,
            quantized,
            domain,
            seed,
        }
    })
}

/// Appends a node when it fits the shapes.
fn push(net: &mut Network, op: Op, inputs: &[ValueId], activation: Activation) -> Option<ValueId> {
    let name = format!("{}", net.nodes.len());
    net.push(name, op, inputs, activation).ok()
}

fn build(input: Shape, steps: &[Step], biased: bool) -> Network {
    let mut net = Network::new("random", input);
    // Layers of extreme scale; few, so that f64 products stay finite.
    let mut extreme = 0;
    for step in steps {
        let mut weights = WeightMaker::new(step.seed, biased, &mut extreme);
        add_step(&mut net, step, &mut weights);
    }
    if net.nodes.is_empty() {
        let mut weights = WeightMaker::new(1, biased, &mut extreme);
        let conv = weights.conv([2, input.c, 1, 1], 1, [1, 1], Pad::default(), 1);
        push(&mut net, conv, &[INPUT], Activation::Identity);
    }
    net
}

/// A shuffle of `channels`, or some of them.
fn taken(channels: usize, choice: usize) -> Channels {
    match choice % 3 {
        0 if channels.is_multiple_of(2) => Channels::shuffle(2, channels / 2),
        1 => Channels::slice(
            1 % channels,
            channels.div_ceil(2).min(channels - 1).max(1),
            1,
        ),
        _ => Channels::slice(0, channels.div_ceil(2), 2),
    }
}

fn add_step(net: &mut Network, step: &Step, weights: &mut WeightMaker) {
    let latest = net.nodes.len();
    let value = latest - step.back[0].min(latest);
    let shape = net.shape(value);
    let [top, left, bottom, right] = step.pad;
    let pad = Pad {
        top,
        left,
        bottom,
        right,
    };
    let window = Window {
        kernel: step.kernel,
        stride: step.stride,
        pad: Pad {
            top: top.min(step.kernel[0] - 1),
            left: left.min(step.kernel[1] - 1),
            bottom: bottom.min(step.kernel[0] - 1),
            right: right.min(step.kernel[1] - 1),
        },
    };
    let [kh, kw] = step.kernel;
    let pointwise = |weights: &mut WeightMaker, out, input| {
        weights.conv([out, input, 1, 1], 1, [1, 1], Pad::default(), 1)
    };
    match step.kind {
        Kind::Conv => {
            let groups = if shape.c.is_multiple_of(2) && weights.random.one_in(3) {
                2
            } else {
                1
            };
            let dims = [step.out.next_multiple_of(groups), shape.c / groups, kh, kw];
            let conv = weights.conv(dims, groups, step.stride, pad, step.dilation);
            push(net, conv, &[value], step.activation);
        }
        Kind::Depthwise => {
            let out = shape.c * if weights.random.one_in(4) { 2 } else { 1 };
            let conv = weights.conv([out, 1, kh, kw], shape.c, step.stride, pad, 1);
            push(net, conv, &[value], step.activation);
        }
        Kind::Pointwise => {
            let conv = pointwise(weights, step.out, shape.c);
            push(net, conv, &[value], step.activation);
        }
        Kind::Bottleneck => {
            let project = pointwise(weights, step.out, shape.c);
            let Some(mut sum) = push(net, project, &[value], Activation::Identity) else {
                return;
            };
            if let Some(other) = same_shape(net, sum, step.back[1]) {
                sum = push(net, Op::Add, &[other, sum], Activation::Identity).unwrap_or(sum);
            }
            let expand = if weights.random.one_in(3) {
                weights.conv([step.out + 1, step.out, kh, kw], 1, step.stride, pad, 1)
            } else {
                pointwise(weights, step.out + 1, step.out)
            };
            push(net, expand, &[sum], step.activation);
        }
        Kind::Add => {
            let other = same_shape(net, value, step.back[1]).or_else(|| {
                let branch = pointwise(weights, shape.c, shape.c);
                push(net, branch, &[value], Activation::Identity)
            });
            let inputs = [value, other.unwrap_or(value), value];
            let terms = if weights.random.one_in(5) { 3 } else { 2 };
            push(net, Op::Add, &inputs[..terms], step.activation);
        }
        Kind::Concat => {
            let other = (0..=latest)
                .rev()
                .filter(|&v| (net.shape(v).h, net.shape(v).w) == (shape.h, shape.w))
                .nth(step.back[1])
                .unwrap_or(value);
            if net.shape(other).c + shape.c <= 8 || shape.pixels() == 1 {
                let joined = push(net, Op::Concat, &[value, other], step.activation);
                if let Some(value) = joined.filter(|_| weights.random.one_in(2)) {
                    let taken = taken(net.shape(value).c, step.back[0]);
                    push(net, Op::Channels(taken), &[value], step.activation);
                }
            }
        }
        Kind::MaxPool => {
            push(net, Op::MaxPool(window), &[value], step.activation);
        }
        Kind::AvgPool => {
            let op = Op::AvgPool {
                window,
                count_include_pad: weights.random.one_in(2),
            };
            push(net, op, &[value], step.activation);
        }
        Kind::GlobalAvgPool => {
            push(net, Op::GlobalAvgPool, &[value], step.activation);
        }
        Kind::Dense => {
            let Some(flat) = push(net, Op::Flatten, &[value], Activation::Identity) else {
                return;
            };
            let (weight, bias) = weights.tensor(&[step.out, shape.len()]);
            let linear = Op::Linear(Linear { weight, bias });
            push(net, linear, &[flat], step.activation);
        }
    }
}

/// An earlier value of the same shape as `value`, but not itself.
fn same_shape(net: &Network, value: ValueId, skip: usize) -> Option<ValueId> {
    let mut fits = (0..value)
        .rev()
        .filter(|&v| net.shape(v) == net.shape(value));
    let last = fits.clone().next_back();
    fits.nth(skip).or(last)
}

/// Draws the parameters of one layer.
struct WeightMaker<'a> {
    random: Random,
    biased: bool,
    extreme: &'a mut usize,
}

impl<'a> WeightMaker<'a> {
    fn new(seed: u64, biased: bool, extreme: &'a mut usize) -> Self {
        Self {
            random: Random(seed),
            biased,
            extreme,
        }
    }

    fn conv(
        &mut self,
        dims: [usize; 4],
        groups: usize,
        stride: [usize; 2],
        pad: Pad,
        dilation: usize,
    ) -> Op {
        let (weight, bias) = self.tensor(&dims);
        Op::Conv(Conv {
            weight,
            bias,
            stride,
            pad,
            dilation: [dilation; 2],
            groups,
        })
    }

    fn tensor(&mut self, dims: &[usize]) -> (Tensor, Vec<f32>) {
        const MOST_EXTREME: usize = 5;
        let random = &mut self.random;
        let scale = match random.below(12) {
            0 if *self.extreme < MOST_EXTREME => 1e30,
            1 if *self.extreme < MOST_EXTREME => 1e-30,
            2..4 => 0.1,
            _ => 1.0,
        };
        *self.extreme += usize::from(scale == 1e30 || scale == 1e-30);
        let style = random.below(8);
        let draw = |random: &mut Random| -> f32 {
            let x = 2.0 * random.unit() - 1.0;
            let x = match style {
                0 => 0.0,
                1 if random.one_in(2) => 0.0,
                2 => x.abs(),
                3 => x.signum(),
                _ => x,
            };
            (x * scale) as f32
        };
        let len = dims.iter().product();
        let weight = (0..len).map(|_| draw(random)).collect();
        let bias = (0..dims[0]).map(|_| if self.biased { draw(random) } else { 0.0 });
        let bias = bias.collect();
        (Tensor::new(dims, weight).unwrap(), bias)
    }
}

/// The quantized form of `network`.
pub fn perturb(network: &Network, how: Perturbation, seed: u64) -> Network {
    let mut random = Random(seed);
    let uniform = |bits, granularity, scheme| {
        let quantizer = Uniform::new(bits, granularity, scheme).unwrap();
        quantizer.quantize(network).unwrap()
    };
    let mut result = network.clone();
    match how {
        Perturbation::Uniform(bits, granularity, scheme) => {
            return uniform(bits, granularity, scheme).dequantize(network);
        }
        Perturbation::OneLayer(bits) => {
            let mut quantized = uniform(bits, Granularity::PerTensor, Scheme::Symmetric);
            if !quantized.layers.is_empty() {
                let keep = random.below(quantized.layers.len());
                quantized.layers = vec![quantized.layers[keep].clone()];
            }
            return quantized.dequantize(network);
        }
        Perturbation::Random(size) => for_each_parameter(&mut result, |w, _| {
            let change = 1.0 + size * (2.0 * random.unit() - 1.0);
            *w = (f64::from(*w) * change) as f32;
            if random.one_in(20) {
                *w += (size * random.unit()) as f32;
            }
        }),
        Perturbation::SignFlips => for_each_parameter(&mut result, |w, _| {
            if random.one_in(4) {
                *w = -*w;
            }
        }),
        Perturbation::Biases => for_each_parameter(&mut result, |w, is_bias| {
            if is_bias {
                *w += (random.unit() - 0.5) as f32;
            }
        }),
    }
    result
}

fn for_each_parameter(network: &mut Network, mut change: impl FnMut(&mut f32, bool)) {
    for node in &mut network.nodes {
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| change(w, false));
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| change(b, true));
        }
    }
}

/// Ends of the box at input element `i`.
pub fn ends(domain: &Domain, shape: Shape, i: usize) -> [f64; 2] {
    let c = i / shape.pixels();
    [domain.lo[c], domain.hi[c]]
}

/// A corner of the box, a point inside it, or one of the two extreme corners.
pub fn sample_input(domain: &Domain, shape: Shape, random: &mut Random) -> Vec<f64> {
    let style = random.below(6);
    (0..shape.len())
        .map(|i| {
            let [lo, hi] = ends(domain, shape, i);
            match style {
                0 => lo,
                1 => hi,
                2 => (lo + (hi - lo) * random.unit()).clamp(lo, hi),
                _ => [lo, hi][random.below(2)],
            }
        })
        .collect()
}

/// Moves one input element at a time to the end of its interval that raises `objective`.
pub fn ascend(
    domain: &Domain,
    shape: Shape,
    random: &mut Random,
    objective: impl Fn(&[f64]) -> f64,
) -> Vec<f64> {
    let mut input = sample_input(domain, shape, random);
    let mut best = objective(&input);
    for i in 0..input.len() {
        for end in ends(domain, shape, i) {
            if end == input[i] {
                continue;
            }
            let kept = std::mem::replace(&mut input[i], end);
            let value = objective(&input);
            if value > best {
                best = value;
            } else {
                input[i] = kept;
            }
        }
    }
    input
}
