//! Into how many parts the sum of a tiled matrix product is cut, so that a small map's workgroups fill a chip. The layer
//! alone decides, whatever the batch and the variants: a sum's order is its bits.

use super::device::{Blocking, Gpu};
use super::layout::{bytes, vec4s};
use super::tile::{AT_ONCE, Tile};
use crate::network::{Network, Node, Op};
use crate::tensor::Shape;

/// Images that parts are chosen for.
const IMAGES: usize = 8;
/// How many parts are considered.
const PARTS: [usize; 7] = [2, 3, 4, 6, 8, 12, 16];
/// Shorter parts would be beginnings and ends for the most part.
const LEAST_STEPS: usize = 12;
/// What a second launch takes, and the sum of one part for one vec4 of outputs, which is written and read: 4 us, and 32
/// bytes of 512 GB/s, where a unit makes one vec4 of outputs of 8 input channels in 0.3 ns.
const LAUNCH: f64 = 13_500.0;
const SUM: f64 = 20.0;
/// Less is not worth a second launch.
const GAIN: f64 = 0.9;

/// Steps of 8 input channels of one tap that make an output, where the layer is a matrix product that has tiles.
pub fn steps(node: &Node, x: Shape) -> Option<usize> {
    let taps = match &node.op {
        Op::Conv(c) if c.is_pointwise() => 1,
        Op::Conv(c) if c.groups == 1 && !c.is_depthwise() => c.kernel()[0] * c.kernel()[1],
        Op::Linear(_) => 1,
        _ => return None,
    };
    Some(taps * vec4s(x.c).div_ceil(2))
}

/// The parts of a sum of so many steps, for maps of one image of `pixels` pixels.
pub fn choose(pixels: usize, out_c4: usize, steps: usize) -> usize {
    let pixels = IMAGES * pixels;
    let time = |parts: usize| {
        let tile = Tile::choose(pixels, out_c4, parts);
        let own = tile.time(pixels, out_c4, parts) * steps.div_ceil(parts) as f64;
        match parts {
            1 => own * GAIN,
            _ => own + LAUNCH + SUM * (parts * pixels * out_c4) as f64 / AT_ONCE as f64,
        }
    };
    let all = PARTS.into_iter().filter(|&p| steps / p >= LEAST_STEPS);
    all.fold(1, |best, parts| {
        if time(parts) < time(best) {
            parts
        } else {
            best
        }
    })
}

/// The parts of each node's sum on this device; 1 where it is not cut.
pub fn parts(gpu: &Gpu, network: &Network) -> Vec<usize> {
    let limit = gpu.max_binding.min(gpu.max_buffer);
    let of = |node: &Node| {
        let steps = match gpu.blocking {
            Blocking::Tiled => steps(node, network.shape(*node.inputs.first()?))?,
            _ => return None,
        };
        let wanted = gpu
            .parts
            .unwrap_or_else(|| choose(node.shape.pixels(), vec4s(node.shape.c), steps));
        // The sums of one image must fit a binding.
        let fit = (limit / bytes(node.shape, 1).max(1)) as usize;
        Some(wanted.min(steps).min(fit).max(1))
    };
    let nodes = network.nodes.iter();
    nodes.map(|node| of(node).unwrap_or(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sums_of_small_maps_are_cut_and_others_are_not() {
        // 3x3 of 512 channels on 7 x 7, a classifier of 2048 channels, and maps that fill a chip.
        assert!(choose(49, 128, 576) > 1);
        assert!(choose(1, 250, 256) > 1);
        assert_eq!(choose(56 * 56, 16, 72), 1);
        assert_eq!(choose(112 * 112, 8, 4), 1);
        for (pixels, out_c4, steps) in [(49, 128, 576), (1, 250, 256), (49, 40, 120), (1, 3, 5)] {
            assert!(steps / choose(pixels, out_c4, steps) >= LEAST_STEPS.min(steps));
        }
    }
}
