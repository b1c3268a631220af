//! Uniform quantization against its formulas.

use proptest::prelude::*;
use quantbound::network::{Activation, Conv, INPUT, Network, Op, Pad};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantError, QuantizedLayer, Quantizer};
use quantbound::tensor::tolerance::UNIT_F32;
use quantbound::tensor::{Shape, Tensor};

/// A network of one 1x1 convolution with the given kernel rows, all of one length.
fn network(rows: &[Vec<f32>]) -> Network {
    let (out, fan_in) = (rows.len(), rows[0].len());
    let conv = Conv {
        weight: Tensor::new([out, fan_in, 1, 1], rows.concat()).unwrap(),
        bias: vec![0.0; out],
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    };
    let mut network = Network::new("rows", Shape::new(fan_in, 1, 1));
    network
        .push("conv", Op::Conv(conv), &[INPUT], Activation::Identity)
        .unwrap();
    network
}

fn quantize(
    rows: &[Vec<f32>],
    bits: u32,
    granularity: Granularity,
    scheme: Scheme,
) -> Result<QuantizedLayer, QuantError> {
    let quantizer = Uniform::new(bits, granularity, scheme).unwrap();
    let mut quantized = quantizer.quantize(&network(rows))?;
    assert_eq!(quantized.layers.len(), 1);
    Ok(quantized.layers.remove(0))
}

/// Scale, zero point and codes of one group, from the formulas.
fn literal(weights: &[f32], bits: u32, scheme: Scheme) -> (f32, u16, Vec<u16>) {
    let wide: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
    let scale_of = |range: f64, steps: f64| match range {
        0.0 => 1.0,
        range => ((range / steps) as f32).max(f32::MIN_POSITIVE),
    };
    match scheme {
        Scheme::Symmetric => {
            let n = f64::from((1u32 << (bits - 1)) - 1);
            let scale = scale_of(wide.iter().fold(0.0, |m, w| w.abs().max(m)), n);
            let code = |w: &f64| (w / f64::from(scale)).round_ties_even().clamp(-n, n) + n;
            (
                scale,
                n as u16,
                wide.iter().map(|w| code(w) as u16).collect(),
            )
        }
        Scheme::Asymmetric => {
            let top = f64::from((1u32 << bits) - 1);
            let low = wide.iter().fold(0.0, |m, w| w.min(m));
            let high = wide.iter().fold(0.0, |m, w| w.max(m));
            let scale = scale_of(high - low, top);
            let zero = (-low / f64::from(scale)).round_ties_even().clamp(0.0, top);
            let code = |w: &f64| ((w / f64::from(scale)).round_ties_even() + zero).clamp(0.0, top);
            let codes = wide.iter().map(|w| code(w) as u16).collect();
            (scale, zero as u16, codes)
        }
    }
}

fn schemes() -> impl Strategy<Value = Scheme> {
    prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)]
}

/// Rows of weights: all of one magnitude, or with zeros, powers of two, denormals and large values.
fn rows() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let plain = -2.0f32..2.0;
    let wild = prop_oneof![
        4 => -2.0f32..2.0,
        2 => Just(0.0f32),
        2 => (-8i32..8).prop_map(|e| 2f32.powi(e)),
        1 => (-8i32..8).prop_map(|k| k as f32 * 0.5),
        1 => (0u32..1 << 20).prop_map(f32::from_bits),
        1 => -1e30f32..1e30,
    ];
    (1usize..=5, 1usize..=12).prop_flat_map(move |(out, fan_in)| {
        let row = prop_oneof![
            3 => prop::collection::vec(plain.clone(), fan_in),
            3 => prop::collection::vec(wild.clone(), fan_in),
            1 => Just(vec![0.0; fan_in]),
            1 => prop::collection::vec((0u32..1 << 23).prop_map(f32::from_bits), fan_in),
        ];
        prop::collection::vec(row, out)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn codes_and_scales_are_those_of_the_formula(
        rows in rows(), bits in 2u32..=16, scheme in schemes(), per_channel: bool,
    ) {
        let (granularity, groups) = if per_channel { (Granularity::PerChannel, rows.clone()) } else { (Granularity::PerTensor, vec![rows.concat()]) };
        let layer = quantize(&rows, bits, granularity, scheme).unwrap();
        prop_assert_eq!(layer.bits, bits);
        prop_assert_eq!(layer.codes.len(), rows.len() * rows[0].len());
        let literal: Vec<_> = groups.iter().map(|g| literal(g, bits, scheme)).collect();
        let scale: Vec<f32> = literal.iter().map(|l| l.0).collect();
        let zero_point: Vec<u16> = literal.iter().map(|l| l.1).collect();
        let codes: Vec<u16> = literal.into_iter().flat_map(|l| l.2).collect();
        prop_assert_eq!(&layer.scale, &scale);
        prop_assert_eq!(&layer.zero_point, &zero_point);
        prop_assert_eq!(&layer.codes, &codes);
        let top = (1u32 << bits) - 1;
        prop_assert!(layer.codes.iter().chain(&zero_point).all(|&c| u32::from(c) <= top));
        prop_assert!(scale.iter().all(|&s| s > 0.0 && s.is_finite()));
    }

    #[test]
    fn weights_move_by_at_most_half_a_step(
        rows in rows(), bits in 2u32..=16, scheme in schemes(), per_channel: bool,
    ) {
        let granularity = if per_channel { Granularity::PerChannel } else { Granularity::PerTensor };
        let layer = quantize(&rows, bits, granularity, scheme).unwrap();
        let all = rows.concat();
        let moved = layer.dequantize(rows.len());
        for (o, row) in rows.iter().enumerate() {
            let group = if per_channel { row } else { &all };
            let largest = group.iter().fold(0.0f64, |m, &w| m.max(f64::from(w).abs()));
            let half = f64::from(layer.parameters(o).0) / 2.0;
            // The scale and the product scale x (code - zero point) are each rounded to f32 once: either
            // moves a weight by at most a unit roundoff of the largest level, which is below twice the
            // range. The f64 arithmetic in between stays below one more.
            let slack = 4.0 * UNIT_F32 * 2.0 * largest;
            for (i, (&w, &q)) in row.iter().zip(&moved[o * row.len()..]).enumerate() {
                let step = (f64::from(w) - f64::from(q)).abs();
                prop_assert!(
                    step <= half + slack,
                    "row {o}, weight {i}: {w:e} became {q:e}, {step:e} away; half a step is {half:e}"
                );
                if w == 0.0 {
                    prop_assert_eq!(q, 0.0, "row {}, weight {}", o, i);
                }
            }
        }
    }

    #[test]
    fn more_bits_never_widen_the_step(rows in rows(), bits in 2u32..16, scheme in schemes()) {
        let coarse = quantize(&rows, bits, Granularity::PerChannel, scheme).unwrap();
        let fine = quantize(&rows, bits + 1, Granularity::PerChannel, scheme).unwrap();
        for (o, (&coarse, &fine)) in coarse.scale.iter().zip(&fine.scale).enumerate() {
            prop_assert!(fine <= coarse, "row {o}: {fine:e} at more bits, {coarse:e} at fewer");
        }
    }

    #[test]
    fn channels_do_not_see_each_other(rows in rows(), bits in 2u32..=16, scheme in schemes()) {
        let together = quantize(&rows, bits, Granularity::PerChannel, scheme).unwrap();
        let n = rows[0].len();
        for (o, row) in rows.iter().enumerate() {
            let alone = quantize(std::slice::from_ref(row), bits, Granularity::PerTensor, scheme);
            let alone = alone.unwrap();
            prop_assert_eq!(&alone.codes[..], &together.codes[o * n..(o + 1) * n]);
            prop_assert_eq!((alone.scale[0], alone.zero_point[0]), together.parameters(o));
        }
    }

    #[test]
    fn any_bits_at_all_give_finite_weights_or_an_error(
        patterns in prop::collection::vec(any::<u32>(), 1..8), bits in 2u32..=16, scheme in schemes(),
        huge: bool,
    ) {
        let mut row: Vec<f32> = patterns.into_iter().map(f32::from_bits).collect();
        if huge {
            row.extend([f32::MAX, -f32::MAX]);
        }
        let finite = row.iter().all(|w| w.is_finite());
        match quantize(&[row.clone()], bits, Granularity::PerTensor, scheme) {
            Ok(layer) => {
                prop_assert!(finite, "{row:?} was quantized");
                let weights = layer.dequantize(1);
                prop_assert!(weights.iter().all(|w| w.is_finite()), "{row:?} became {weights:?}");
            }
            Err(QuantError::NotFinite { layer, .. }) => prop_assert_eq!(layer, "conv"),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn ties_go_to_the_even_integer() {
    // Scale 1: the largest weight is the largest level.
    let row = vec![7.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 6.5, -6.5];
    let layer = quantize(&[row], 4, Granularity::PerTensor, Scheme::Symmetric).unwrap();
    assert_eq!((layer.scale[0], layer.zero_point[0]), (1.0, 7));
    assert_eq!(
        layer.dequantize(1),
        [7.0, 0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 6.0, -6.0]
    );

    // Range 15 at 4 bits: scale 1, zero point round(4.5) = 4; 10.5 would be level 10 + 4.
    let row = vec![-4.5, 10.5, 0.5, 1.5, -3.5];
    let layer = quantize(&[row], 4, Granularity::PerTensor, Scheme::Asymmetric).unwrap();
    assert_eq!((layer.scale[0], layer.zero_point[0]), (1.0, 4));
    assert_eq!(layer.dequantize(1), [-4.0, 10.0, 0.0, 2.0, -4.0]);

    // Both ends of the range are ties that go up: 5.5 to 6 and 9.5 to 10, one level too many for 4 bits.
    let row = vec![-5.5, 9.5];
    let layer = quantize(&[row], 4, Granularity::PerTensor, Scheme::Asymmetric).unwrap();
    assert_eq!((layer.scale[0], layer.zero_point[0]), (1.0, 6));
    assert_eq!(layer.codes, [0, 15]);
}

#[test]
fn channels_of_zeros_stay_zero() {
    for scheme in [Scheme::Symmetric, Scheme::Asymmetric] {
        let rows = [vec![0.0, -0.0, 0.0], vec![1.0, -2.0, 0.5]];
        let layer = quantize(&rows, 3, Granularity::PerChannel, scheme).unwrap();
        assert!(layer.scale[0] > 0.0);
        assert_eq!(layer.dequantize(2)[..3], [0.0; 3]);
    }
}

#[test]
fn one_sided_ranges_keep_zero_on_the_grid() {
    let rows = [vec![3.0, 5.0, 1.0], vec![-3.0, -5.0, -1.0]];
    let layer = quantize(&rows, 8, Granularity::PerChannel, Scheme::Asymmetric).unwrap();
    assert_eq!(layer.zero_point, [0, 255]);
    assert_eq!(layer.codes[1], 255);
    assert_eq!(layer.codes[4], 0);
}

#[test]
fn bit_widths_outside_the_range_are_refused() {
    for bits in [0, 1, 17, u32::MAX] {
        let result = Uniform::new(bits, Granularity::PerTensor, Scheme::Symmetric);
        assert!(matches!(result, Err(QuantError::Bits { bits: b }) if b == bits));
    }
}

#[test]
fn names_tell_the_schemes_apart() {
    let name = |scheme| {
        Uniform::new(8, Granularity::PerTensor, scheme)
            .unwrap()
            .name()
    };
    assert_eq!(name(Scheme::Symmetric), "uniform-symmetric");
    assert_eq!(name(Scheme::Asymmetric), "uniform-asymmetric");
}
