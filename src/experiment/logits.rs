//! What two vectors of logits say of each other.

/// Index of the largest logit, the first on ties; `None` when one is NaN.
pub fn top1(logits: &[f32]) -> Option<u32> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    let best = logits
        .iter()
        .enumerate()
        .reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map(|(i, _)| i as u32)
}

/// Largest logit less the second largest; `None` when one is NaN or there are no two.
pub fn margin(logits: &[f32]) -> Option<f64> {
    if logits.len() < 2 || logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    let start = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let (first, second) = logits
        .iter()
        .map(|&x| f64::from(x))
        .fold(
            start,
            |(a, b), x| {
                if x > a { (x, a) } else { (a, b.max(x)) }
            },
        );
    Some(first - second).filter(|m| !m.is_nan())
}

/// `KL(softmax(reference) || softmax(variant))` in nats, in f64.
pub fn kl_divergence(reference: &[f32], variant: &[f32]) -> f64 {
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let top = logits
            .iter()
            .fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        logits
            .iter()
            .map(|&x| f64::from(x) - top - sum.ln())
            .collect()
    };
    let (p, q) = (log_softmax(reference), log_softmax(variant));
    let sum: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    // Rounding can leave a tiny negative sum where the true value is zero.
    if sum < 0.0 { 0.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top1_takes_the_first_of_ties_and_refuses_nan() {
        assert_eq!(top1(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(top1(&[1.0, f32::NAN]), None);
    }

    #[test]
    fn kl_is_that_of_the_softmax() {
        let (p, q) = ([0.0, 2.0f32.ln()], [0.0f32, 0.0]);
        let expected = 1.0 / 3.0 * (2.0f64 / 3.0).ln() + 2.0 / 3.0 * (4.0f64 / 3.0).ln();
        assert!((kl_divergence(&p, &q) - expected).abs() < 1e-7);
        assert_eq!(kl_divergence(&q, &q), 0.0);
        assert!(kl_divergence(&[f32::NAN, 0.0], &q).is_nan());
    }

    #[test]
    fn the_margin_is_that_of_the_two_largest() {
        assert_eq!(margin(&[1.0, 5.0, 3.5, -2.0]), Some(1.5));
        assert_eq!(margin(&[5.0, 1.0]), Some(4.0));
        assert_eq!(margin(&[3.0, 3.0, 1.0]), Some(0.0));
        assert_eq!(margin(&[1.0, f32::NAN]), None);
        assert_eq!(margin(&[f32::INFINITY, f32::INFINITY]), None);
        assert_eq!(margin(&[1.0]), None);
    }
}
