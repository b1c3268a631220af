//! Axes, ticks and the writing of numbers. Whatever numbers a table has, infinities, NaN and the ends of f64 among them,
//! an axis has finite ends a finite distance apart, few ticks and short labels.

/// The largest magnitude on a log axis, in decades; what is beyond is drawn at the edge.
const DECADES: f64 = 1e12;
/// The largest magnitude on other axes.
const LARGEST: f64 = 1e300;

/// An axis from `min` to `max` in its own unit; a log axis holds `log10` values.
#[derive(Clone, Debug)]
pub struct Axis {
    pub min: f64,
    pub max: f64,
    pub ticks: Vec<(f64, String)>,
    pub title: String,
    /// Holds `log10` values.
    pub log: bool,
}

/// `10ᵏ` for whole `k`.
pub fn power_of_ten(k: i64) -> String {
    let digits = k.to_string();
    let raised = digits.chars().map(|c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '0' => '⁰',
        c => char::from_u32('⁰' as u32 + c as u32 - '0' as u32).unwrap_or(c),
    });
    format!("10{}", raised.collect::<String>())
}

/// A value known by its log10, for a figure: a number with few digits, or the nearest power of ten.
pub fn power(log10: f64) -> String {
    match log10 {
        f64::NEG_INFINITY => "0".to_string(),
        f64::INFINITY => "∞".to_string(),
        v if v.is_nan() => "NaN".to_string(),
        v if v.abs() < 3.0 => short(10f64.powf(v)),
        v => power_of_ten(v.clamp(-DECADES, DECADES).round() as i64),
    }
}

/// Three significant digits: `0.0123`, `12.3`, `1.23e-9`.
pub fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    // Rounding first: 9.996 has its digits one place further left than its logarithm says.
    let rounded = format!("{value:.2e}");
    let exponent: i32 = rounded
        .split_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or(0);
    match exponent {
        -3..=3 => format!("{value:.*}", (2 - exponent).max(0) as usize),
        _ => rounded,
    }
}

/// A whole step of 1, 2 or 5 times a power of ten, with at most `count` steps over `span`.
fn step(span: f64, count: f64) -> f64 {
    let raw = (span / count).max(f64::MIN_POSITIVE);
    let base = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * base)
        .find(|s| *s >= raw * (1.0 - 1e-9))
        .unwrap_or(10.0 * base)
}

impl Axis {
    /// Whole numbers from `min` to `max`.
    pub fn counts(title: &str, min: f64, max: f64) -> Self {
        let (min, max) = range([min, max].into_iter(), DECADES).unwrap_or((0.0, 1.0));
        let step = step(max - min, 8.0).max(1.0);
        let (first, last) = ((min / step).ceil() as i64, (max / step).floor() as i64);
        let ticks = (first..=last).map(|i| i as f64 * step);
        let margin = (0.02 * (max - min)).max(0.3);
        Self {
            min: min - margin,
            max: max + margin,
            ticks: ticks.map(|t| (t, format!("{t}"))).collect(),
            title: title.to_string(),
            log: false,
        }
    }

    /// Ticks at these values alone.
    pub fn at(title: &str, values: &[f64]) -> Self {
        let (min, max) = range(values.iter().copied(), DECADES).unwrap_or((0.0, 1.0));
        let margin = (0.05 * (max - min)).max(0.5);
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let room = (max - min) / 14.0;
        for &v in values.iter().filter(|v| (min..=max).contains(*v)) {
            if ticks.last().is_none_or(|(t, _)| v - t >= room) {
                ticks.push((v, label(v)));
            }
        }
        Self {
            min: min - margin,
            max: max + margin,
            ticks,
            title: title.to_string(),
            log: false,
        }
    }

    /// One tick per name, at 0, 1, 2, ..., with half a step of room on both sides.
    pub fn names<S: AsRef<str>>(title: &str, names: &[S]) -> Self {
        let ticks = names.iter().enumerate();
        Self {
            min: -0.6,
            max: names.len() as f64 - 0.4,
            ticks: ticks
                .map(|(i, n)| (i as f64, n.as_ref().to_string()))
                .collect(),
            title: title.to_string(),
            log: false,
        }
    }

    /// A linear axis around these values, ticks at whole steps of 1, 2 or 5 times a power of ten.
    pub fn linear(title: &str, values: impl Iterator<Item = f64>, lines: f64) -> Self {
        let (low, high) = range(values, LARGEST).unwrap_or((0.0, 1.0));
        let margin = (0.04 * (high - low))
            .max(1e-12 * high.abs())
            .max(f64::MIN_POSITIVE);
        let (min, max) = (low - margin, high + margin);
        let step = step(max - min, lines);
        let first = (min / step).ceil() as i64;
        let last = (max / step).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step);
        Self {
            min,
            max,
            ticks: ticks.map(|t| (t, short(t))).collect(),
            title: title.to_string(),
            log: false,
        }
    }

    /// 0 to 100 percent.
    pub fn percent(title: &str) -> Self {
        Self {
            min: 0.0,
            max: 102.0,
            ticks: (0..=5)
                .map(|i| (20.0 * f64::from(i), format!("{} %", 20 * i)))
                .collect(),
            title: title.to_string(),
            log: false,
        }
    }

    /// A log axis around these `log10` values; powers of ten, 1, 2 and 5 times them when there are few, or whole steps of
    /// the values themselves when there are fewer than two of those: a single tick names no scale.
    pub fn log(title: &str, values: impl Iterator<Item = f64>, lines: f64) -> Self {
        let (low, high) = range(values, DECADES).unwrap_or((-1.0, 1.0));
        let margin = (0.04 * (high - low)).max(0.1);
        let (min, max) = (low - margin, high + margin);
        let ticks = if max - min > 2.0 {
            let step = step(max - min, lines).max(1.0);
            let first = (min / step).ceil() as i64;
            let last = (max / step).floor() as i64;
            (first..=last)
                .map(|i| {
                    let k = i * step as i64;
                    (k as f64, power_of_ten(k))
                })
                .collect()
        } else {
            let decades = (min.floor() as i64)..=(max.ceil() as i64);
            let values =
                decades.flat_map(|k| [1u8, 2, 5].map(|m| (f64::from(m).log10() + k as f64, m, k)));
            let few: Vec<_> = values
                .filter(|(at, ..)| (min..=max).contains(at))
                .map(|(at, m, k)| (at, plain(m, k)))
                .collect();
            let steps = || Some(close(min, max)).filter(|t| t.len() >= 2);
            match few.len() {
                0 | 1 => steps().unwrap_or(few),
                _ => few,
            }
        };
        Self {
            min,
            max,
            ticks,
            title: title.to_string(),
            log: true,
        }
    }

    /// Place of `value` between 0 (`min`) and 1 (`max`); what lies outside, at the nearer end, and NaN at 0.
    pub fn place(&self, value: f64) -> f64 {
        let place = (value - self.min) / (self.max - self.min);
        if place.is_nan() {
            return 0.0;
        }
        place.clamp(0.0, 1.0)
    }
}

/// Ticks of a log axis of less than a decade, at whole steps; none where `f64` has no values.
fn close(min: f64, max: f64) -> Vec<(f64, String)> {
    let (low, high) = (10f64.powf(min), 10f64.powf(max));
    if !low.is_normal() || !high.is_finite() {
        return Vec::new();
    }
    let step = step(high - low, 5.0);
    let all = (low / step).ceil() as i64..=(high / step).floor() as i64;
    let ticks = all.map(|i| i as f64 * step).map(|v| (v.log10(), v));
    let ticks = ticks.filter(|(at, _)| (min..=max).contains(at));
    ticks
        .map(|(at, v)| (at, without_zeros(&short(v))))
        .collect()
}

/// `4` for `4.00`.
fn without_zeros(text: &str) -> String {
    match text.contains('.') && !text.contains('e') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    }
}

/// A value with all its digits, or three of them where those are many.
fn label(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e12).contains(&value.abs()) {
        return short(value);
    }
    let text = format!("{value}");
    match text.len() {
        0..=12 => text,
        _ => short(value),
    }
}

/// `m` times the `k`-th power of ten, as short as it goes.
fn plain(m: u8, k: i64) -> String {
    match k {
        -4..0 => format!("0.{}{m}", "0".repeat((-k - 1) as usize)),
        0..5 => format!("{m}{}", "0".repeat(k as usize)),
        _ => format!("{m}e{k}"),
    }
}

/// The ends of the finite values, each at most `largest` in magnitude.
fn range(values: impl Iterator<Item = f64>, largest: f64) -> Option<(f64, f64)> {
    let finite = values.filter(|v| v.is_finite());
    let held = finite.map(|v| v.clamp(-largest, largest));
    held.fold(None, |range, v| match range {
        None => Some((v, v)),
        Some((low, high)) => Some((f64::min(low, v), f64::max(high, v))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1.00"),
            (9.996, "10.0"),
            (0.012345, "0.0123"),
            (1234.4, "1234"),
            (12345.0, "1.23e4"),
            (1.2e-9, "1.20e-9"),
            (-0.5, "-0.500"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(power_of_ten(-104), "10⁻¹⁰⁴");
        assert_eq!(power_of_ten(25), "10²⁵");
    }

    /// Numbers that tables have had, and the ends of f64.
    const ANY: [f64; 16] = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1e300,
        -324.5,
        -1.0,
        -5e-324,
        0.0,
        5e-324,
        1e-310,
        0.4,
        1.0,
        53.0,
        1e17,
        1e300,
        f64::MAX,
        f64::INFINITY,
    ];

    #[test]
    fn axes_survive_any_table() {
        let check = |axis: Axis, what: &str| {
            assert!(axis.min.is_finite() && axis.max.is_finite(), "{what}");
            let span = axis.max - axis.min;
            assert!(span.is_finite() && span > 0.0, "{what}: {axis:?}");
            assert!(axis.ticks.len() <= 16, "{what}: {:?}", axis.ticks);
            for (at, label) in &axis.ticks {
                assert!(label.chars().count() <= 16, "{what}: {label}");
                let place = (at - axis.min) / span;
                assert!(
                    (-1e-9..=1.0 + 1e-9).contains(&place),
                    "{what}: {label} at {place}"
                );
            }
            for v in ANY.into_iter().chain([f64::NAN]) {
                assert!((0.0..=1.0).contains(&axis.place(v)), "{what}: {v}");
            }
        };
        let with_nan = || ANY.into_iter().chain([f64::NAN]);
        for low in with_nan() {
            for high in with_nan() {
                let both = || [low, f64::NAN, high].into_iter();
                let what = format!("{low:e}..{high:e}");
                check(Axis::log("", both(), 8.0), &what);
                check(Axis::linear("", both(), 8.0), &what);
                check(Axis::counts("", low, high), &what);
                check(Axis::at("", &[low, high]), &what);
            }
        }
        check(Axis::log("", ANY.into_iter(), 8.0), "all");
        check(Axis::linear("", ANY.into_iter(), 8.0), "all");
        check(Axis::log("", std::iter::empty(), 8.0), "none");
        check(Axis::names("", &["a"]), "names");
        for v in with_nan() {
            assert!(short(v).len() <= 12, "{}", short(v));
            assert!(power(v).chars().count() <= 16, "{}", power(v));
        }
    }

    #[test]
    fn infinities_stretch_no_axis() {
        let numbers = || [1.0, 2.5, 4.0].into_iter();
        for endless in [f64::NEG_INFINITY, f64::INFINITY] {
            let all = || numbers().chain([endless]);
            let ends = |axis: Axis| (axis.min, axis.max);
            let (log, linear) = (
                Axis::log("", numbers(), 8.0),
                Axis::linear("", numbers(), 8.0),
            );
            assert_eq!(ends(Axis::log("", all(), 8.0)), ends(log));
            assert_eq!(ends(Axis::linear("", all(), 8.0)), ends(linear));
        }
    }

    #[test]
    fn numbers_known_by_their_logarithm() {
        for (log10, text) in [
            (f64::NEG_INFINITY, "0"),
            (f64::INFINITY, "∞"),
            (f64::NAN, "NaN"),
            (0.0, "1.00"),
            (25.2, "10²⁵"),
        ] {
            assert_eq!(power(log10), text);
        }
    }

    #[test]
    fn few_decades_have_ticks_between() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            let axis = Axis::log("", [low, high].into_iter(), 8.0);
            axis.ticks.into_iter().map(|t| t.1).collect()
        };
        assert_eq!(labels(-2.0, -1.0), ["0.01", "0.02", "0.05", "0.1"]);
        assert_eq!(labels(0.5, 1.5), ["5", "10", "20"]);
        assert_eq!(labels(-320.2, -319.8), ["1e-320"]);
        // 3.81 to 4.92, and around 1.25: of 1, 2 and 5 times a power of ten there is one, or none.
        assert_eq!(labels(0.581, 0.692), ["4", "5", "6"]);
        assert_eq!(labels(0.097, 0.097), ["1", "1.2", "1.4"]);
    }

    #[test]
    fn log_axes_have_a_readable_number_of_ticks() {
        for (low, high) in [
            (-9.0, 308.0),
            (-1.0, 60.0),
            (-3.0, 1.0),
            (0.1, 0.4),
            (2.0, 2.0),
        ] {
            let axis = Axis::log("y", [low, high].into_iter(), 8.0);
            let n = axis.ticks.len();
            assert!(
                (1..=9).contains(&n),
                "{low}..{high}: {n} ticks {:?}",
                axis.ticks
            );
            assert!(
                axis.ticks
                    .iter()
                    .all(|(t, _)| (0.0..=1.0).contains(&axis.place(*t)))
            );
        }
    }
}
