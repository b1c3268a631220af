//! The box of inputs that bounds speak of, in the numbers that engines take.

use crate::bounds::Domain;
use crate::quant::random::Stream;
use crate::tensor::Shape;

/// Every pixel of channel `c` lies in `[lo[c], hi[c]]`.
#[derive(Clone, Debug)]
pub struct Region {
    shape: Shape,
    lo: Vec<f32>,
    hi: Vec<f32>,
}

impl Region {
    /// The f32 numbers of a domain; `None` when a channel has none, or not as many channels.
    pub fn new(domain: &Domain, shape: Shape) -> Option<Self> {
        let up = |x: f64| match x as f32 {
            y if f64::from(y) < x => y.next_up(),
            y => y,
        };
        let lo: Vec<f32> = domain.lo.iter().map(|&x| up(x)).collect();
        let hi: Vec<f32> = domain.hi.iter().map(|&x| -up(-x)).collect();
        let fits = lo.len() == shape.c && hi.len() == shape.c;
        let filled = lo.iter().zip(&hi).all(|(l, h)| l <= h && h.is_finite());
        (fits && filled).then_some(Self { shape, lo, hi })
    }

    /// Shape of an input.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Ends of the interval of element `i`.
    pub fn ends(&self, i: usize) -> [f32; 2] {
        let c = i / self.shape.pixels();
        [self.lo[c], self.hi[c]]
    }

    /// The nearest input of the box; NaN becomes its lower end.
    pub fn project(&self, x: &mut [f32]) {
        for (i, x) in x.iter_mut().enumerate() {
            let [lo, hi] = self.ends(i);
            *x = if *x >= lo { x.min(hi) } else { lo };
        }
    }

    /// The input whose element `i` is at its upper end where `high(channel, row, column)`.
    pub fn corner(&self, mut high: impl FnMut(usize, usize, usize) -> bool) -> Vec<f32> {
        let Shape { h, w, .. } = self.shape;
        let place = |i: usize| (i / (h * w), i / w % h, i % w);
        let pick = |i: usize| {
            let (c, y, x) = place(i);
            self.ends(i)[usize::from(high(c, y, x))]
        };
        (0..self.shape.len()).map(pick).collect()
    }

    /// The corner nearest to an input.
    pub fn nearest_corner(&self, x: &[f32]) -> Vec<f32> {
        let nearest = |(i, &x): (usize, &f32)| {
            let [lo, hi] = self.ends(i);
            if x - lo < hi - x { lo } else { hi }
        };
        x.iter().enumerate().map(nearest).collect()
    }

    /// A random corner that is constant on cells of `[height, width]` pixels.
    pub fn cells(&self, [height, width]: [usize; 2], random: Stream) -> Vec<f32> {
        self.corner(|c, y, x| {
            let cell = random.at(c as u64).at((y / height) as u64);
            cell.bits((x / width) as u64) >> 63 == 1
        })
    }

    /// Mirrors about a third of an input's cells inside the box.
    pub fn perturb(&self, input: &[f32], random: Stream) -> Vec<f32> {
        let Shape { h, w, .. } = self.shape;
        let side = 1 + random.below(0, h.max(w).div_ceil(4));
        let mut x = input.to_vec();
        for (i, x) in x.iter_mut().enumerate() {
            let (c, row, column) = (i / (h * w), i / w % h, i % w);
            let cell = random.at(c as u64).at((row / side) as u64);
            if cell.below((column / side) as u64, 3) == 0 {
                let [lo, hi] = self.ends(i);
                *x = lo + (hi - *x);
            }
        }
        self.project(&mut x);
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        let domain = Domain {
            lo: vec![-2.1, 0.0],
            hi: vec![2.7, 0.1],
        };
        Region::new(&domain, Shape::new(2, 3, 4)).unwrap()
    }

    #[test]
    fn the_region_lies_inside_the_domain() {
        let r = region();
        for i in 0..24 {
            let [lo, hi] = r.ends(i).map(f64::from);
            let [a, b] = if i < 12 { [-2.1, 2.7] } else { [0.0, 0.1] };
            assert!(lo >= a && lo - a < 1e-6 && hi <= b && b - hi < 1e-6, "{i}");
        }
        let point = Domain::symmetric(1, 0.0);
        assert!(Region::new(&point, Shape::new(1, 2, 2)).is_some());
        let between = Domain {
            lo: vec![0.1],
            hi: vec![0.1],
        };
        assert!(Region::new(&between, Shape::new(1, 2, 2)).is_none());
    }

    #[test]
    fn every_input_made_lies_in_the_region() {
        let r = region();
        let mut wild = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 9.0];
        wild.resize(24, -9.0);
        r.project(&mut wild);
        let inside = |x: &[f32]| {
            let mut y = x.to_vec();
            r.project(&mut y);
            y == x
        };
        assert_eq!(wild[..3], [r.ends(0)[0], r.ends(0)[1], r.ends(0)[0]]);
        for seed in 0..20 {
            let random = Stream::new(seed, 0);
            let cells = r.cells([2, 1], random);
            assert!(inside(&cells) && r.nearest_corner(&cells) == cells);
            assert!(inside(&r.perturb(&wild, random)));
        }
    }
}
