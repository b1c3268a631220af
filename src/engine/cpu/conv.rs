//! Convolutions and dense layers as matrix products; depthwise convolutions are in [`super::depthwise`].
//!
//! Every (channel, kernel tap) is a row of a matrix that starts somewhere in the map ([`Reach`]). Nobody has the whole
//! matrix: a step's columns are gathered when they are needed, padding and strides gone ([`Product`]).

use super::buffers::Buffers;
use super::kernels::{Dense, PANEL};
use super::params::Params;
use super::product::{After, Product};
use super::reach::Reach;
use super::real::Real;
use super::split::{Split, Tile};
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Multiplications of one piece of work, at least.
const PIECE: usize = 1 << 20;
/// Output channels of one piece, at least: each piece gathers what it reads.
const CHANNELS: usize = 64;

/// A dense layer on one vector.
pub fn linear<T: Real>(
    params: &Params<T>,
    x: &[T],
    out: &mut [T],
    activation: Activation,
    split: Split,
) {
    let pieces = split.pieces(out.len() * x.len(), PIECE / 4);
    let rows = out.len().div_ceil(pieces).next_multiple_of(PANEL);
    split.chunks(out, rows, |i, out| {
        let mut dense = Dense {
            x,
            weight: params.weight.panels_from(0, i * rows / PANEL),
            bias: &params.bias[i * rows..][..out.len()],
            out,
            activation,
        };
        // SAFETY: the kernel is this processor's own.
        unsafe { T::tiles().dense(&mut dense) };
    });
}

/// True where [`conv`] can add the result to another map.
pub fn sums(conv: &Conv, out: Shape) -> bool {
    !conv.is_depthwise() && out.pixels() > 1
}

/// A convolution of one image with any kernel, groups, stride, dilation and padding; see [`sums`].
pub fn conv<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (x, shape): (&[T], Shape),
    (out, out_shape): (&mut [T], Shape),
    after: After<'_, T>,
    split: Split,
    buffers: &Buffers<T>,
) {
    let (out_per_group, in_per_group) = (out_shape.c / conv.groups, shape.c / conv.groups);
    let pixels = out_shape.pixels();
    let pointwise = conv.is_pointwise();
    if pointwise && pixels == 1 {
        return linear(params, x, out, after.activation, split);
    }
    let reach = match pointwise {
        true => Reach::pointwise(pixels),
        false => Reach::new(conv, shape, out_shape),
    };
    let plane = reach.plane(shape.pixels());
    let laid_out = reach.layout.as_ref().map(|layout| {
        let mut planes = buffers.take(shape.c * plane);
        split.chunks(&mut planes, plane, |c, to| {
            to.fill(T::ZERO);
            layout.fill(&x[c * shape.pixels()..][..shape.pixels()], to);
        });
        planes
    });
    let x = laid_out.as_deref().unwrap_or(x);

    let work = out_per_group * in_per_group * reach.taps.len() * pixels;
    let pieces = split.pieces(work, PIECE);
    let unit = T::tiles().columns();
    let across = pixels.div_ceil(unit).min(pieces);
    let most = pixels.div_ceil(unit).div_ceil(across) * unit;
    let down = pieces
        .div_ceil(across)
        .min(out_per_group.div_ceil(CHANNELS));
    let threads = split.threads();
    let down = match down > threads {
        true => down / threads * threads,
        false => down,
    };
    let high = out_per_group.div_ceil(down).next_multiple_of(PANEL);
    let groups = Tile::new(out, pixels).split(out_per_group, pixels);
    let tiles = groups.into_iter().flat_map(|g| g.split(high, most));
    split.each(tiles.collect(), |tile| {
        let group = tile.row / out_per_group;
        let product = Product {
            params,
            group,
            x: &x[group * in_per_group * plane..][..in_per_group * plane],
            channels: in_per_group,
            reach: &reach,
            after: &after,
            buffers,
        };
        product.run(tile, out_per_group);
    });
    if let Some(planes) = laid_out {
        buffers.give(planes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::activation::activate;
    use crate::engine::cpu::kernels::Packed;
    use crate::engine::cpu::product::Total;
    use crate::engine::cpu::split::Shared;
    use crate::network::Pad;
    use crate::tensor::Tensor;
    use proptest::prelude::*;

    /// Sizes of a problem, small enough for a loop over everything.
    #[derive(Clone, Debug)]
    struct Sizes {
        groups: usize,
        channels: [usize; 2],
        image: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        pad: [usize; 4],
    }

    fn sizes() -> impl Strategy<Value = Sizes> {
        let pair = |most: usize| [1..=most, 1..=most];
        let out = prop_oneof![5 => 1usize..20, 1 => 60usize..100];
        let kernel = prop_oneof![2 => Just([1, 1]), 3 => pair(4)];
        let step = prop_oneof![2 => Just([1, 1]), 1 => pair(3)];
        (
            1usize..4,
            out,
            1usize..30,
            pair(17),
            kernel,
            step,
            pair(3),
            proptest::array::uniform4(0usize..3),
        )
            .prop_map(
                |(groups, out, inputs, image, kernel, stride, dilation, pad)| Sizes {
                    groups,
                    channels: [out, inputs],
                    image,
                    kernel,
                    stride,
                    dilation,
                    pad,
                },
            )
    }

    fn number(i: usize) -> f32 {
        let mixed = (i as u32 + 1).wrapping_mul(2_654_435_761) >> 8;
        mixed as f32 / (1 << 23) as f32 - 1.0
    }

    /// Every output is the chain of the definition to the bit, whoever works on it.
    fn check<T: Real + std::fmt::Debug>(
        sizes: &Sizes,
        activation: Activation,
        poison: Option<f32>,
    ) -> Result<(), TestCaseError> {
        let ([kh, kw], [sh, sw], [dh, dw]) = (sizes.kernel, sizes.stride, sizes.dilation);
        let [top, bottom, left, right] = sizes.pad;
        let [h, w] = sizes.image;
        let reach =
            |n: usize, pads: usize, k: usize, d: usize| (n + pads).checked_sub((k - 1) * d + 1);
        let spans = (
            reach(h, top + bottom, kh, dh),
            reach(w, left + right, kw, dw),
        );
        let (Some(high), Some(wide)) = spans else {
            return Ok(());
        };
        let [out_per, in_per] = sizes.channels;
        let (outs, ins) = (out_per * sizes.groups, in_per * sizes.groups);
        let (shape, out_shape) = (
            Shape::new(ins, h, w),
            Shape::new(outs, high / sh + 1, wide / sw + 1),
        );
        let weight: Vec<f32> = (0..outs * in_per * kh * kw).map(number).collect();
        let bias: Vec<f32> = (0..outs).map(|i| number(i + 7)).collect();
        let layer = Conv {
            weight: Tensor::new(vec![outs, in_per, kh, kw], weight.clone()).unwrap(),
            bias: bias.clone(),
            stride: sizes.stride,
            pad: Pad {
                top,
                bottom,
                left,
                right,
            },
            dilation: sizes.dilation,
            groups: sizes.groups,
        };
        let widen = |v: &[f32]| v.iter().map(|&x| x.into()).collect::<Vec<T>>();
        let panels = Packed::panels(&widen(&weight), sizes.groups, in_per * kh * kw);
        let params = Params::packed(panels, widen(&bias));
        let mut image: Vec<f32> = (0..shape.len()).map(|i| number(i + 99)).collect();
        if let Some(poison) = poison {
            let middle = image.len() / 2;
            image[middle] = poison;
        }
        let image = widen(&image);
        let buffers = Buffers::default();
        // Buffers that were used before hold anything.
        let mut dirt = buffers.take(1 << 16);
        dirt.fill(f32::NAN.into());
        buffers.give(dirt);
        let maps = [Split::Serial, Split::Parallel].map(|split| {
            let mut out = vec![T::ZERO; out_shape.len()];
            let to = (&mut out[..], out_shape);
            conv(
                &layer,
                &params,
                (&image, shape),
                to,
                After {
                    activation,
                    sum: None,
                },
                split,
                &buffers,
            );
            out
        });
        let other: Vec<T> = (0..out_shape.len()).map(|i| number(i + 5).into()).collect();
        let summed = [false, true].map(|apart| {
            let mut out = vec![T::ZERO; out_shape.len()];
            let mut total = vec![T::ZERO; out_shape.len()];
            let after = After {
                activation: Activation::Identity,
                sum: sums(&layer, out_shape).then(|| Total {
                    other: &other,
                    out: apart.then(|| Shared::new(&mut total)),
                    activation,
                }),
            };
            let to = (&mut out[..], out_shape);
            conv(
                &layer,
                &params,
                (&image, shape),
                to,
                after,
                Split::Parallel,
                &buffers,
            );
            if apart {
                (total, Some(out))
            } else {
                (out, None)
            }
        });
        let fused = T::tiles().fused;
        for o in 0..outs {
            for p in 0..out_shape.pixels() {
                let (y, x) = (p / out_shape.w * sh, p % out_shape.w * sw);
                let mut sum: T = bias[o].into();
                for t in 0..in_per * kh * kw {
                    let (c, r, s) = (t / (kh * kw), t / kw % kh, t % kw);
                    let inside =
                        |at: usize, pad: usize, n: usize| at.checked_sub(pad).filter(|&i| i < n);
                    let at = inside(y + r * dh, top, h).zip(inside(x + s * dw, left, w));
                    let c = o / out_per * in_per + c;
                    let value = at.map_or(T::ZERO, |(i, j)| image[(c * h + i) * w + j]);
                    let weight: T = weight[o * in_per * kh * kw + t].into();
                    sum = match fused {
                        true => weight.fused_mul_add(value, sum),
                        false => sum + weight * value,
                    };
                }
                let at = o * out_shape.pixels() + p;
                let check = |got: T, want: T| {
                    let (a, b): (f64, f64) = (got.into(), want.into());
                    prop_assert!(
                        a == b || a.is_nan() && b.is_nan(),
                        "{o} {p}: {got:?}, not {want:?}"
                    );
                    Ok(())
                };
                for map in &maps {
                    check(map[at], activate(activation, sum))?;
                }
                if sums(&layer, out_shape) {
                    for (total, plain) in &summed {
                        check(total[at], activate(activation, sum + other[at]))?;
                        plain.iter().try_for_each(|map| check(map[at], sum))?;
                    }
                }
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_output_is_the_chain_of_the_definition(
            sizes in sizes(),
            activation in prop_oneof![
                Just(Activation::Identity), Just(Activation::Relu), Just(Activation::Relu6)
            ],
            poison in prop_oneof![
                2 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))
            ],
        ) {
            check::<f32>(&sizes, activation, poison)?;
            check::<f64>(&sizes, activation, poison)?;
        }
    }

    #[test]
    fn maps_of_common_networks_are_cut_without_a_rest() {
        for side in [7, 14, 28, 56] {
            let sizes = Sizes {
                groups: 1,
                channels: [72, 300],
                image: [side, side],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0; 4],
            };
            check::<f32>(&sizes, Activation::Relu, None).unwrap();
        }
    }
}
