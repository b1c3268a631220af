//! Exact tails of the binomial and the hypergeometric law, rounded upward, and their inverses.

/// `ln` of an upper bound on a sum of terms given by their logarithms, each known within `error`.
fn sum_up(logs: &[f64], error: f64) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return 0.0;
    }
    let sum: f64 = logs.iter().map(|l| (l - top).exp()).sum();
    // The sum itself is within a unit per term, `exp` within a few.
    let slack = error + (logs.len() as f64 + 8.0) * f64::EPSILON;
    (top + sum.ln() + slack).exp().min(1.0)
}

/// An upper bound on `P(Bin(n, p) <= m)`: the exact value up to what f64 rounds.
pub fn at_most(n: u64, p: f64, m: u64) -> f64 {
    if m >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = p.ln() - (-p).ln_1p();
    let mut log = n as f64 * (-p).ln_1p();
    let (mut logs, mut largest) = (vec![log], log.abs());
    for i in 0..m {
        log += ((n - i) as f64 / (i + 1) as f64).ln() + odds;
        largest = largest.max(log.abs());
        logs.push(log);
    }
    // Every step adds at most a few units of the largest number on the way.
    let step = largest + odds.abs() + (n as f64).ln() + 2.0;
    sum_up(&logs, 4.0 * (m as f64 + 2.0) * step * f64::EPSILON)
}

/// An upper bound on the probability that a draw of `n` from a folder of `all`, `marked` of which are marked, has at
/// most `m` marked ones.
pub fn drawn_at_most(all: u64, marked: u64, n: u64, m: u64) -> f64 {
    let fewest = (n + marked).saturating_sub(all);
    if m >= n.min(marked) {
        return 1.0;
    }
    if m < fewest {
        return 0.0;
    }
    let mut factorial = vec![0.0f64];
    let mut log = 0.0;
    for i in 1..=all {
        log += (i as f64).ln();
        factorial.push(log);
    }
    let choose = |a: u64, b: u64| {
        factorial[a as usize] - factorial[b as usize] - factorial[(a - b) as usize]
    };
    let total = choose(all, n);
    let logs: Vec<f64> = (fewest..=m)
        .map(|i| choose(marked, i) + choose(all - marked, n - i) - total)
        .collect();
    sum_up(&logs, 4.0 * (all as f64 + 9.0) * (log + 2.0) * f64::EPSILON)
}

/// The largest rank `k` with `P(Bin(n, eps) <= k - 1) <= delta`: the smallest sample that still covers; `None` when not
/// even the largest one does.
pub fn rank(n: u64, eps: f64, delta: f64) -> Option<u64> {
    let covers = |k: u64| at_most(n, eps, k - 1) <= delta;
    if n == 0 || !covers(1) {
        return None;
    }
    let (mut low, mut high) = (1, n + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if covers(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

/// The smallest `eps`, rounded upward, with `P(Bin(n, eps) <= m) <= delta`: with confidence `1 - delta` a rate of which
/// `m` of `n` were seen is at most that (Clopper and Pearson 1934, one-sided). 1 when nothing smaller will do.
pub fn rate(n: u64, m: u64, delta: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 1.0f64);
    if m >= n {
        return 1.0;
    }
    for _ in 0..200 {
        let middle = low + 0.5 * (high - low);
        if middle <= low || middle >= high {
            break;
        }
        if at_most(n, middle, m) <= delta {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The fewest images for which the `k`-th largest covers all but `eps` with confidence `1 - delta`.
pub fn images_needed(k: u64, eps: f64, delta: f64) -> u64 {
    let enough = |n: u64| n >= k && at_most(n, eps, k - 1) <= delta;
    let mut high = k.max(1);
    while !enough(high) {
        high = high.saturating_mul(2);
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Of a folder of `all` images, `n` drawn without replacement, `m` of them above a threshold: with confidence
/// `1 - delta` at most this share of the folder is above it.
pub fn share_of_folder(all: u64, n: u64, m: u64, delta: f64) -> f64 {
    // As long as that many marked images would still show so few with a probability above delta, they may be there.
    let (mut low, mut high) = (m, all - (n - m) + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if drawn_at_most(all, middle, n, m) > delta {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low as f64 / all as f64).next_up()
}
