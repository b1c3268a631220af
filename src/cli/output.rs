//! What commands print. A full or closed standard output is an error, a lost note is none; neither is a panic.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI8, Ordering};

use anyhow::Context;

/// How much is told on standard error: -1 errors alone, 0 as usual, 1 every step.
static LEVEL: AtomicI8 = AtomicI8::new(0);

/// Sets how much is told, once and for all commands.
pub fn set_level(quiet: bool, verbose: bool) {
    LEVEL.store(i8::from(verbose) - i8::from(quiet), Ordering::Relaxed);
}

/// Are errors all that is told?
pub fn is_quiet() -> bool {
    LEVEL.load(Ordering::Relaxed) < 0
}

/// Is every step told?
pub fn is_verbose() -> bool {
    LEVEL.load(Ordering::Relaxed) > 0
}

/// Colours of a terminal.
#[derive(Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
}

/// The text in a colour if `stream` is a terminal and nobody asked for none (`NO_COLOR`).
pub fn paint(text: &str, colour: Colour, stream: &impl IsTerminal) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if plain || !stream.is_terminal() {
        return text.to_string();
    }
    format!("\x1b[{}m{text}\x1b[0m", colour as u8)
}

/// One line on standard output.
pub fn write_line(text: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(stdout(), "{text}")
}

/// Standard output; its errors say that it is.
pub struct Stdout(io::StdoutLock<'static>);

/// Standard output, locked.
pub fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("standard output: {error}"))
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

/// An error where a file could not be written for want of its folder, or would replace one that nobody gave up (`force`):
/// to be known before the work that fills it.
pub fn check_place(file: &Path, force: bool) -> anyhow::Result<()> {
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|f| !f.is_dir()) {
        anyhow::bail!(
            "{}: cannot be written: {} is no folder; make it first",
            file.display(),
            folder.display()
        );
    }
    // What is written under a temporary name and renamed would replace a device.
    let kind = match std::fs::metadata(file) {
        Ok(there) if there.is_dir() => "a folder",
        Ok(there) if !there.is_file() => "a device or a pipe",
        Ok(_) if !force => anyhow::bail!(
            "{}: is there already: name another file, or give --force to replace it",
            file.display()
        ),
        _ => return Ok(()),
    };
    anyhow::bail!(
        "{}: cannot be written: it is {kind}; name a file",
        file.display()
    )
}

/// Prints what the command line was answered with: help, the version, or what is wrong with it. The exit code says
/// whether it could be printed.
pub fn print_usage(answer: &clap::Error) -> ExitCode {
    let printed = answer.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(e) if !answer.use_stderr() && e.kind() != io::ErrorKind::BrokenPipe => {
            write_note(format_args!("error: {}", named(e)));
            ExitCode::from(2)
        }
        _ => ExitCode::from(answer.exit_code() as u8),
    }
}

/// Writes a file through a temporary name beside it: it is there whole, or as it was.
pub fn write_whole(file: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> anyhow::Result<()> {
    let mut temporary = file.as_os_str().to_os_string();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write(&temporary).and_then(|()| std::fs::rename(&temporary, file));
    if written.is_err() {
        // The write has failed already.
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("{}: cannot be written", file.display()))
}

/// One line on standard error, if it can be written and was not asked away.
pub fn write_note(text: fmt::Arguments<'_>) {
    if !is_quiet() {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// An error on standard error, if it can be written.
pub fn write_error(error: &anyhow::Error) {
    let mark = paint("error:", Colour::Red, &io::stderr());
    let _ = writeln!(io::stderr().lock(), "{mark} {}", describe(error));
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
