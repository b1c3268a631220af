//! Plain text tables: numbers to the right, words to the left.

use std::io::Write;

use crate::results::schema::VerdictCounts;

/// Prints rows under a header; columns are as wide as their widest entry.
pub fn print(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let widths: Vec<usize> = (0..header.len())
        .map(|c| {
            let cells = rows.iter().filter_map(|r| r.get(c));
            let widest = cells.map(|s| s.chars().count()).max().unwrap_or(0);
            widest.max(header[c].chars().count())
        })
        .collect();
    let numeric: Vec<bool> = (0..header.len())
        .map(|c| {
            let mut cells = rows.iter().filter_map(|r| r.get(c));
            cells.all(|s| {
                s.starts_with(|x: char| x.is_ascii_digit() || "-<".contains(x)) || s.is_empty()
            })
        })
        .collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| -> std::io::Result<()> {
        let mut text = String::new();
        for (i, cell) in cells.enumerate() {
            let pad = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            if numeric[i] {
                text.push_str(&format!("{pad}{cell}  "))
            } else {
                text.push_str(&format!("{cell}{pad}  "))
            }
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(&mut header.iter().copied())?;
    for row in rows {
        line(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}

/// The end of a name longer than `width` characters, which tells it from others.
pub fn shortened(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_string();
    }
    let end: String = name.chars().skip(length + 1 - width).collect();
    format!("~{end}")
}

/// A number with a few significant digits, short at any magnitude.
pub fn number(x: f64) -> String {
    if x == 0.0 || (1e-3..1e5).contains(&x.abs()) {
        let digits = if x.abs() >= 100.0 { 1 } else { 4 };
        format!("{x:.digits$}")
    } else {
        format!("{x:.3e}")
    }
}

/// Counts of verdicts, with what they are worth: how many come within a decade of another outcome, and how near.
pub fn verdicts(c: &VerdictCounts) -> String {
    if c.total() == 0 {
        return "none: no bound was evaluated, so that nothing is judged".to_string();
    }
    let mut text = format!("{} hold", c.holds);
    if c.cleared > 0 {
        text += &format!(" ({} of them in f64 only)", c.cleared);
    }
    if c.undecided > 0 {
        text += &format!(", {} undecided within the rounding of f64", c.undecided);
    }
    text += &format!(", {} violated, {} invalid", c.violated, c.invalid);
    match c.smallest_slack {
        Some(slack) => format!(
            "{text}; {} within a decade of the bound, the smallest slack {slack:.2} decades",
            c.within_decade
        ),
        None => format!("{text}; nothing differs, so that none says anything"),
    }
}

/// A number in JSON, which has no infinities: those and NaN are the strings `"inf"`, `"-inf"` and `"nan"`.
pub fn json(x: f64) -> serde_json::Value {
    match x {
        x if x.is_finite() => x.into(),
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        _ => "nan".into(),
    }
}

/// The log10 of a bound: `-` stands for a bound of exactly zero, `inf` for none.
pub fn log10(x: f64) -> String {
    match x {
        f64::NEG_INFINITY => "-".into(),
        x if x.abs() >= 1e6 && x.is_finite() => format!("{x:.2e}"),
        x => format!("{x:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(shortened("conv1", 5), "conv1");
        assert_eq!(shortened("/blocks/blocks.1/conv", 8), "~.1/conv");
        assert_eq!(shortened("/blocks/blocks.1/conv", 8).chars().count(), 8);
    }

    #[test]
    fn exactly_zero_and_no_bound_are_spelt_apart_and_nothing_is_long() {
        assert_eq!(
            (log10(f64::NEG_INFINITY), log10(f64::INFINITY)),
            ("-".into(), "inf".into())
        );
        assert_eq!(json(f64::NEG_INFINITY), "-inf");
        assert_eq!(json(f64::INFINITY), "inf");
        assert_eq!(json(f64::NAN), "nan");
        assert_eq!(json(-2.5), -2.5);
        for x in [
            f64::MAX,
            f64::MIN,
            -1e300,
            5e-324,
            f64::NAN,
            123.456,
            -99_999.0,
        ] {
            assert!(log10(x).len() <= 12 && number(x).len() <= 12, "{x:e}");
        }
    }

    #[test]
    fn counts_of_verdicts_say_what_they_are_worth() {
        let mut counts = VerdictCounts {
            holds: 7,
            within_decade: 2,
            smallest_slack: Some(0.125),
            ..VerdictCounts::default()
        };
        let text = verdicts(&counts);
        assert!(
            text.starts_with("7 hold, 0 violated, 0 invalid; 2 within a decade"),
            "{text}"
        );
        assert!(
            text.ends_with("smallest slack 0.12 decades") || text.ends_with("0.13 decades"),
            "{text}"
        );
        let none = verdicts(&VerdictCounts::default());
        assert!(none.contains("no bound was evaluated"), "{none}");
        counts.undecided = 1;
        counts.cleared = 3;
        let text = verdicts(&counts);
        assert!(
            text.contains("3 of them in f64 only") && text.contains("1 undecided"),
            "{text}"
        );
    }
}
