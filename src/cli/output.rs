//! What commands print. A full or closed standard output is an error, a lost note is none; neither is a panic.

use std::fmt;
use std::io::{self, Write};

/// One line on standard output.
pub fn write_line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").map_err(|e| io::Error::new(e.kind(), format!("standard output: {e}")))
}

/// One line on standard error, if it can be written.
pub fn write_note(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a line; returns from the function when that fails.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::output::write_line(format_args!($($text)*))?
    };
}

/// Prints a line on standard error.
macro_rules! note {
    ($($text:tt)*) => {
        $crate::cli::output::write_note(format_args!($($text)*))
    };
}

pub(super) use {note, say};

/// Longest message that is printed whole.
const LONGEST: usize = 4000;

/// An error with its causes, each said once; names of a megabyte are not echoed.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if text.len() <= LONGEST {
        return text;
    }
    let start = text.floor_char_boundary(LONGEST * 3 / 4);
    let end = text.ceil_char_boundary(text.len() - LONGEST / 4);
    format!("{} ... {}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_said_once_and_nothing_at_length() {
        let failed = || Err::<(), _>(io::Error::other("disk on fire"));
        let error = failed().context("a.txt").unwrap_err();
        assert_eq!(describe(&error), "a.txt: disk on fire");
        let error = failed().context("a.txt: disk on fire").unwrap_err();
        assert_eq!(describe(&error), "a.txt: disk on fire");
        let error = anyhow::anyhow!("{} end", "\u{e9}".repeat(1 << 20));
        let text = describe(&error);
        assert!(
            text.len() < 4100 && text.ends_with(" end"),
            "{}",
            text.len()
        );
    }
}
