//! Which kernel a GPU runs for a layer, without a GPU: what a prediction of its time starts from.

use super::depthwise_block::Block;
use super::layout::{bytes, vec4s};
use super::split;
use super::tile::Tile;
use crate::network::{Network, Node, Op};
use crate::tensor::Shape;

/// A layer as a GPU runs it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Planned {
    /// Node name.
    pub layer: String,
    /// Stem of the kernel's file.
    pub kernel: &'static str,
    /// Override constants that decide its speed.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroups.
    pub workgroups: u64,
    /// Parts that its sums are made in, which a second launch adds up.
    pub parts: usize,
    /// Multiply-accumulates of the layer, in f32.
    pub macs: u64,
    /// Multiply-accumulates that the kernel's lanes make, those on padding included.
    pub made: u64,
    /// Bytes of its inputs, weights and output, and of sums in parts there and back, each moved once.
    pub bytes: u64,
}

/// The convolutions and dense layers of a network on `images` images, weights in f32.
pub fn layers(network: &Network, images: usize) -> Vec<Planned> {
    let nodes = network.nodes.iter().filter(|n| n.is_layer());
    nodes
        .filter_map(|node| {
            let x = network.shape(*node.inputs.first()?);
            planned(node, x, images)
        })
        .collect()
}

fn planned(node: &Node, x: Shape, images: usize) -> Option<Planned> {
    let affine = node.affine()?;
    let (pixels, out_c4) = (images * node.shape.pixels(), vec4s(node.shape.c));
    let steps = split::steps(node, x);
    let parts = steps.map_or(1, |s| split::choose(node.shape.pixels(), out_c4, s));
    let tiled = |kernel, steps: usize| {
        let tile = Tile::choose(pixels, out_c4, parts);
        let workgroups = tile.workgroups(pixels, out_c4);
        let mut constants = tile.constants().to_vec();
        if parts > 1 {
            constants.push(("SPLIT", 1.0));
        }
        let area = tile.pixels() * 4 * tile.out_c4();
        (
            kernel,
            constants,
            workgroups * parts as u64,
            workgroups * (area * 4 * steps) as u64,
        )
    };
    let rows = |taps: usize| taps * vec4s(x.c).next_multiple_of(2);
    let (kernel, constants, workgroups, made) = match &node.op {
        Op::Conv(c) if c.is_pointwise() => tiled("gemm_tiled", rows(1)),
        Op::Conv(c) if c.is_depthwise() && Block::of(c, x, node.shape).is_some() => {
            let block = Block::of(c, x, node.shape)?;
            let blocks = images * block.blocks(node.shape) * out_c4;
            let made = blocks * block.pixels() * 4 * affine.taps;
            let workgroups = (images * block.partials(node.shape)) as u64;
            (
                "depthwise_block",
                block.constants(),
                workgroups,
                made as u64,
            )
        }
        Op::Conv(c) if c.groups == 1 => tiled("conv_tiled", rows(affine.taps)),
        Op::Conv(_) => {
            let workgroups = (pixels.div_ceil(8) * out_c4).div_ceil(64) as u64;
            let kernel = if affine.in_per_group == 1 {
                "depthwise"
            } else {
                "conv"
            };
            (
                kernel,
                Vec::new(),
                workgroups,
                node.macs() as u64 * images as u64,
            )
        }
        _ => tiled("gemm_tiled", rows(1)),
    };
    let sums = if parts > 1 { 1 + 2 * parts as u64 } else { 1 };
    Some(Planned {
        layer: node.name.clone(),
        kernel,
        constants,
        workgroups,
        parts,
        macs: node.macs() as u64 * images as u64,
        made,
        bytes: bytes(x, images) + bytes(node.shape, images) * sums + 4 * affine.weight.len() as u64,
    })
}
