//! Norms of convolutions over a torus that their kernel cannot wrap around, from its frequency responses: a rigorous
//! bound for zero padding.

use super::definite::Ceiling;
use super::dense::Dense;
use super::lagged::Lagged;
use super::rounding::{UNDERFLOW, frobenius, normalised, up_gamma};
use super::scaled::{Up, inflate};
use super::torus::Torus;
use crate::tensor::tolerance::UNIT_F64;

/// The magnitudes of a kernel (`rows x columns x taps`), summed over taps.
pub(super) fn over_taps(kernel: &[f64], [rows, cols]: [usize; 2]) -> Dense {
    let taps = kernel.len() / (rows * cols);
    let kernels = kernel.chunks(taps);
    Dense {
        rows,
        cols,
        data: kernels.map(|k| k.iter().map(|w| w.abs()).sum()).collect(),
    }
}

/// The largest norm of the frequency responses of a kernel (`rows x columns x taps`) over its torus.
pub(super) fn largest_response(torus: &Torus, kernel: &[f64]) -> Up {
    let (scaled, unit) = normalised(&Dense {
        rows: 1,
        cols: kernel.len(),
        data: kernel.to_vec(),
    });
    let lost = Up::new((kernel.len() * kernel.len()) as f64 * UNDERFLOW);
    let places = torus.by_place(&scaled.data);
    if places[0].rows.min(places[0].cols) == 1 {
        return (peak(torus, &places) + lost).sqrt() * unit;
    }
    // What roundings move the norm of a response by: sines are within `20 u`, their products within `120 u`; the rest are
    // roundings of sums.
    let sums = over_taps(kernel, torus.extents);
    let taps = kernel.len() / sums.data.len();
    let slack = frobenius(&sums) * Up::new((256 + 8 * taps) as f64 * UNIT_F64);
    (largest(torus, places).sqrt() + lost) * unit + slack
}

/// The magnitudes of all places.
fn magnitudes(places: &[Dense]) -> Dense {
    let mut sums = Dense::zeros(places[0].rows, places[0].cols);
    for place in places {
        for (s, x) in sums.data.iter_mut().zip(&place.data) {
            *s += x.abs();
        }
    }
    sums
}

/// The largest squared norm of responses of one row or column, for entries near 1.
fn peak(torus: &Torus, places: &[Dense]) -> Up {
    let inner = places[0].data.len();
    let squares = torus.at_frequencies(&torus.autocorrelation(places));
    let size = frobenius(&magnitudes(places));
    Up::new(squares.into_iter().fold(0.0, f64::max))
        + size * size * up_gamma(torus.roundings(inner))
}

/// An upper bound of the largest squared norm, for entries near 1.
fn largest(torus: &Torus, mut places: Vec<Dense>) -> Up {
    if places[0].rows > places[0].cols {
        // The transposed matrix has the same norm.
        places = places.iter().map(Dense::transposed).collect();
    }
    let (small, large) = (places[0].rows, places[0].cols);
    let size = frobenius(&magnitudes(&places));
    let error = size * size * up_gamma(torus.roundings(large))
        + Up::new((small * large * places.len()) as f64 * UNDERFLOW);
    let frequencies = torus.frequencies();
    // A product for each pair, or three for each frequency.
    let pairs: usize = torus.lags.iter().map(|lag| lag.pairs.len()).sum();
    let lagged = (pairs < 3 * frequencies).then(|| Lagged::of(torus, &places));
    let order = lagged.as_ref().map(|l| l.frequencies(torus));
    let mut ceiling = Ceiling::new();
    for frequency in order.unwrap_or_else(|| (0..frequencies).collect()) {
        let is_below = lagged.as_ref().is_some_and(|lagged| {
            let fill = |work: &mut [f64]| lagged.negated(torus, frequency, work);
            ceiling.holds(2 * small, error, fill)
        });
        if !is_below {
            cover(torus, &places, frequency, &mut ceiling);
        }
    }
    ceiling.height()
}

/// Raises the ceiling above the square of one response's norm.
fn cover(torus: &Torus, places: &[Dense], frequency: usize, ceiling: &mut Ceiling) {
    let (small, large) = (places[0].rows, places[0].cols);
    // `A = X + iY`, as `[X Y]` and `[Y -X]`.
    let mut side_by_side = Dense::zeros(small, 2 * large);
    for (place, [cos, sin]) in places.iter().zip(torus.turns(frequency)) {
        let rows = side_by_side.data.chunks_mut(2 * large);
        for (both, entries) in rows.zip(place.data.chunks(large)) {
            let (re, im) = both.split_at_mut(large);
            for ((re, im), w) in re.iter_mut().zip(im).zip(entries) {
                *re += w * cos;
                *im += w * sin;
            }
        }
    }
    let mut turned = side_by_side.clone();
    for row in turned.data.chunks_mut(2 * large) {
        row.rotate_left(large);
        row[large..].iter_mut().for_each(|x| *x = -*x);
    }
    // `A A* = (X X^T + Y Y^T) + i (Y X^T - X Y^T)`
    let (real, imaginary) = (
        side_by_side.gram(),
        turned.times(&side_by_side.transposed()),
    );
    // The Hermitian `P + iQ` has the eigenvalues of `[P, -Q; Q, P]`.
    let mut gram = Dense::zeros(2 * small, 2 * small);
    for i in 0..small {
        for j in 0..=i {
            let x = real.data[i * small + j];
            let y = if i == j {
                0.0
            } else {
                imaginary.data[i * small + j]
            };
            let mut put = |r: usize, c: usize, value: f64| {
                gram.data[r * 2 * small + c] = value;
                gram.data[c * 2 * small + r] = value;
            };
            put(i, j, x);
            put(small + i, small + j, x);
            put(i, small + j, -y);
            put(j, small + i, y);
        }
    }
    let trace: f64 = (0..small).map(|i| real.data[i * small + i]).sum();
    let size = Up::new(2.0 * inflate(trace, 2 * large + small));
    ceiling.cover(
        &gram,
        size * up_gamma(2 * large + 4) + Up::new((large * small) as f64 * UNDERFLOW),
    );
}
