//! Tiles of matrix products chosen by timing them, where the device has a clock: each layer's once, for each power of two of
//! images. Tiles make the same bits, so that a choice changes times alone; `Tile::choose` says what is taken otherwise.

use std::collections::BTreeMap;
use std::time::Instant;

use super::choices::Choices;
use super::device::{Blocking, Gpu};
use super::kernels::Map;
use super::tile::{TILES, Tile};
use super::weights::LayerWeights;
use super::work::{Split, Work};
use super::{conv_tiled, gemm_tiled, layout, matrix, node, pass, split};
use crate::engine::EngineError;
use crate::network::{Network, Node, Op};

/// The tiles of one network.
pub struct Tuner {
    times: bool,
    choices: Choices,
    /// Those that this network has met.
    met: BTreeMap<String, Tile>,
}

/// What a layer's time follows from on so many images of all variants; `None` where it has no tiles.
fn name(network: &Network, node: &Node, parts: usize, images: usize) -> Option<String> {
    let x = network.shape(*node.inputs.first()?);
    split::steps(node, x)?;
    let how = match &node.op {
        Op::Conv(c) => format!("{:?} by {:?} {:?}", c.kernel(), c.stride, c.dilation),
        _ => "dense".into(),
    };
    let images = images.next_power_of_two();
    let y = node.shape;
    Some(format!("{x} to {y}, {how}, {parts} parts, {images} images"))
}

impl Tuner {
    /// Begins with what earlier runs chose; says where nothing will be timed.
    pub fn new(gpu: &Gpu, network: &Network) -> Self {
        let mut choices = Choices::default();
        if gpu.blocking == Blocking::Tiled && gpu.tile.is_none() && !gpu.tuned {
            gpu.tell(&format!("tiles of {} by the table of shapes", network.name));
        }
        if let Some(folder) = gpu.kept.as_ref().filter(|_| gpu.tuned) {
            let kernels = [&gemm_tiled::KERNEL.code, &conv_tiled::KERNEL.code];
            let texts = kernels.map(|code| code.assembled());
            let damaged;
            (choices, damaged) =
                Choices::kept(folder, &gpu.driver, &[texts[0].as_str(), texts[1].as_str()]);
            if damaged {
                gpu.tell("its file of timed tiles is damaged and begun anew");
            }
        }
        Self {
            times: gpu.tuned,
            choices,
            met: BTreeMap::new(),
        }
    }

    /// The tile of a node's product, where there is a choice.
    pub fn tile(
        &self,
        network: &Network,
        node: &Node,
        parts: usize,
        images: usize,
    ) -> Option<Tile> {
        if self.met.is_empty() {
            return None;
        }
        let name = name(network, node, parts, images)?;
        self.met.get(&name).copied()
    }

    /// Chooses for all nodes that run on so many images of all variants.
    pub fn prepare(
        &mut self,
        gpu: &Gpu,
        network: &Network,
        (weights, parts): (&[Option<LayerWeights>], &[usize]),
        images: usize,
        runs: impl Fn(usize) -> bool,
    ) -> Result<(), EngineError> {
        if !self.times {
            return Ok(());
        }
        let started = Instant::now();
        let (mut kept, mut timed) = (0, 0);
        for (i, node) in network.nodes.iter().enumerate().filter(|(i, _)| runs(*i)) {
            let Some((name, weights)) =
                name(network, node, parts[i], images).zip(weights[i].as_ref())
            else {
                continue;
            };
            if self.met.contains_key(&name) {
                continue;
            }
            let tile = match self.choices.get(&name) {
                Some(tile) => {
                    kept += 1;
                    tile
                }
                None => match fastest(gpu, network, node, weights, parts[i], images) {
                    Ok(tile) => {
                        timed += 1;
                        self.choices.put(name.clone(), tile);
                        tile
                    }
                    Err(EngineError::Full { problem, .. }) => {
                        self.times = false;
                        gpu.tell(&format!("tiles by the table of shapes: {problem}"));
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
            };
            self.met.insert(name, tile);
        }
        if timed > 0 {
            self.choices.store();
        }
        if kept + timed > 0 {
            gpu.tell(&format!(
                "tiles of {} on {images} images: {timed} by timing in {:.1} s, {kept} from earlier runs",
                network.name,
                started.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }
}

/// The tile that makes a node's product first, on maps of its own.
fn fastest(
    gpu: &Gpu,
    network: &Network,
    node: &Node,
    weights: &LayerWeights,
    parts: usize,
    images: usize,
) -> Result<Tile, EngineError> {
    let shapes = [
        network.shape(node.inputs.first().copied().unwrap_or(0)),
        node.shape,
    ];
    let [x, y] = shapes.map(|shape| gpu.buffer("timed map", layout::bytes(shape, images)));
    let map = |buffer, shape| Map {
        buffer,
        shape,
        images,
    };
    let (x, y) = (x?, y?);
    let (x, y) = (map(&x, shapes[0]), map(&y, shapes[1]));
    let bytes = matrix::sums(parts, weights, y);
    let sums = bytes.map(|bytes| gpu.buffer("timed sums", bytes));
    let sums = sums.transpose()?;
    let mut best = (f64::INFINITY, TILES[0]);
    for tile in TILES {
        let work = Work {
            split: sums.as_ref().map(|sums| Split { parts, sums }),
            tile: Some(tile),
            ..Work::PLAIN
        };
        let seconds = pass::seconds(gpu, |rec| {
            node::record(rec, node, Some(weights), &[x], y, node.activation, work)
        })?;
        if seconds < best.0 {
            best = (seconds, tile);
        }
    }
    Ok(best.1)
}
