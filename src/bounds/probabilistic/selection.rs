//! What choosing costs: the best of several statements made on the same images, and a statement every night.

/// The confidence that each of `cells` statements needs so that all hold together with `confidence`: whoever reports the
/// best of them reports one that holds. Bonferroni.
pub fn each_of(cells: usize, confidence: f64) -> f64 {
    1.0 - (1.0 - confidence) / cells.max(1) as f64
}

/// The confidence of night `k` (from 1), so that all nights, however many follow, hold together with `confidence`.
pub fn of_night(k: u32, confidence: f64) -> f64 {
    let k = f64::from(k.max(1));
    let share = 6.0 / (std::f64::consts::PI * k).powi(2);
    1.0 - (1.0 - confidence) * share * (1.0 - 1e-15)
}

/// The last width under the tolerance on the way down from the widest; the first one over it, or of which nothing is
/// known, ends the way. With statements of T1 the confidence of each is that of the width found (docs/bounds.md, a width
/// by its tail).
pub fn narrowest(
    widest_first: impl IntoIterator<Item = (u32, Option<f64>)>,
    tolerance: f64,
) -> Option<u32> {
    let passed = widest_first
        .into_iter()
        .take_while(|(_, value)| value.is_some_and(|v| v <= tolerance));
    passed.last().map(|(bits, _)| bits)
}
