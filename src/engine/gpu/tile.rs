//! Shapes of the tiles that matrix products make in workgroup memory, and which one suits a layer.

/// What a workgroup of `shaders/lib/tile.wgsl` makes: `lanes / 2 * p` pixels x `32 * q` output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// vec4s of pixels per lane.
    pub p: u32,
    /// vec4s of output channels per lane.
    pub q: u32,
    /// Invocations.
    pub lanes: u32,
}

/// Every shape in use, the largest first.
pub const TILES: [Tile; 4] = [
    Tile {
        p: 2,
        q: 2,
        lanes: 128,
    },
    Tile {
        p: 2,
        q: 2,
        lanes: 64,
    },
    Tile {
        p: 2,
        q: 1,
        lanes: 64,
    },
    Tile {
        p: 1,
        q: 1,
        lanes: 64,
    },
];

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pixels, channels) = (self.pixels(), 4 * self.out_c4());
        write!(f, "{pixels} x {channels} of {}", self.lanes)
    }
}

/// Workgroups that a large chip computes at once.
pub const AT_ONCE: u64 = 96;

impl Tile {
    /// Pixels of a workgroup.
    pub fn pixels(self) -> usize {
        (self.lanes / 2 * self.p) as usize
    }

    /// vec4s of output channels of a workgroup.
    pub fn out_c4(self) -> usize {
        (8 * self.q) as usize
    }

    /// Workgroups for a map of `pixels` pixels and `out_c4` vec4s of output channels.
    pub fn workgroups(self, pixels: usize, out_c4: usize) -> u64 {
        (pixels.div_ceil(self.pixels()) * out_c4.div_ceil(self.out_c4())) as u64
    }

    /// Override constants.
    pub fn constants(self) -> [(&'static str, f64); 3] {
        [
            ("P", f64::from(self.p)),
            ("Q", f64::from(self.q)),
            ("LANES", f64::from(self.lanes)),
        ]
    }

    /// Cycles per multiply-accumulate: the share of a lane's instructions that are none, and the turns that local memory
    /// makes it wait, for tiles of this many outputs per lane.
    fn cost(self) -> f64 {
        match (self.p * self.q, self.lanes) {
            (4, 128) => 1.0,
            (4, _) => 1.03,
            (2, _) => 1.15,
            _ => 1.4,
        }
    }

    /// How long a large chip takes for each step of a map in so many parts: how often all its units must take a workgroup,
    /// times the workgroup's outputs.
    pub fn time(self, pixels: usize, out_c4: usize, parts: usize) -> f64 {
        let all = parts as u64 * self.workgroups(pixels, out_c4);
        all.div_ceil(AT_ONCE) as f64 * (self.pixels() * self.out_c4()) as f64 * self.cost()
    }

    /// The shape that is done first on a large chip.
    pub fn choose(pixels: usize, out_c4: usize, parts: usize) -> Self {
        let time = |tile: Self| tile.time(pixels, out_c4, parts);
        let [first, rest @ ..] = TILES;
        rest.into_iter().fold(
            first,
            |best, tile| {
                if time(tile) < time(best) { tile } else { best }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_maps_take_large_tiles_and_small_ones_fill_the_chip() {
        // 112 x 112 pixels of 64 images, 7 x 7 of one, and few output channels.
        assert_eq!(Tile::choose(64 * 112 * 112, 16, 1), TILES[0]);
        assert_eq!(Tile::choose(49, 320, 1), TILES[3]);
        assert_eq!(Tile::choose(49, 320, 4), TILES[1]);
        assert_eq!(Tile::choose(64 * 56 * 56, 6, 1), TILES[2]);
    }

    #[test]
    fn workgroups_cover_the_map() {
        for tile in TILES {
            for (pixels, out_c4) in [(1, 1usize), (128, 16), (129, 17), (31, 9)] {
                let across = out_c4.div_ceil(tile.out_c4());
                let groups = tile.workgroups(pixels, out_c4) as usize;
                assert!(groups / across * tile.pixels() >= pixels);
                assert!(across * tile.out_c4() >= out_c4);
            }
        }
    }
}
