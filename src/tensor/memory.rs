//! How much memory the program may use: one budget, asked before anything large is allocated.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes; zero until it is set or first asked for.
static BUDGET: AtomicUsize = AtomicUsize::new(0);

/// Where the machine does not say what it has.
const UNKNOWN: usize = 4 << 30;

/// Sets the budget in bytes.
pub fn set_budget(bytes: usize) {
    BUDGET.store(bytes.max(1), Ordering::Relaxed);
}

/// The budget in bytes: as set, else what the machine had free when first asked.
pub fn budget() -> usize {
    let known = BUDGET.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let own = available().unwrap_or(UNKNOWN);
    BUDGET.store(own, Ordering::Relaxed);
    own
}

/// An error that says what would be needed where `bytes` for `what` are more than the budget.
pub fn check(what: &str, bytes: usize) -> Result<(), String> {
    let most = budget();
    if bytes <= most {
        return Ok(());
    }
    Err(format!(
        "{what} would take {} of memory, more than the {} that may be used; with more free, raise --memory",
        amount(bytes),
        amount(most)
    ))
}

/// The bytes of a file or pipe of which `copies` will be held; an error where that is more than the budget, before they are
/// read where the length is known. A folder is no file, and a device may never end.
pub fn read_file(path: &Path, what: &str, copies: usize) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::other("a folder, where a file is expected"));
    }
    if is_device(&metadata) {
        return Err(io::Error::other("a device, where a file is expected"));
    }
    let most = (budget() / copies.max(1)) as u64;
    let too_long = |length: u64| {
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        check(what, bytes.saturating_mul(copies)).map_err(io::Error::other)
    };
    too_long(metadata.len())?;
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    too_long(bytes.len() as u64)?;
    Ok(bytes)
}

#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    kind.is_char_device() || kind.is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}

/// `12.3 GiB` and the like.
pub fn amount(bytes: usize) -> String {
    let bytes = bytes as f64;
    let (unit, name) = match bytes {
        b if b >= 1e3 * 2f64.powi(30) => (2f64.powi(40), "TiB"),
        b if b >= 2f64.powi(30) => (2f64.powi(30), "GiB"),
        _ => (2f64.powi(20), "MiB"),
    };
    format!("{:.1} {name}", bytes / unit)
}

/// Reads `8G`, `500M`, `1.5GiB` or bytes.
pub fn parse(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?}: expected an amount of memory, as in 8G or 500M");
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 1.0,
        "K" | "k" => 2f64.powi(10),
        "M" | "m" => 2f64.powi(20),
        "G" | "g" => 2f64.powi(30),
        "T" | "t" => 2f64.powi(40),
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if !(bytes >= 2f64.powi(20) && bytes < 2f64.powi(60)) {
        return Err(format!("{text:?}: expected at least 1M"));
    }
    Ok(bytes as usize)
}

/// What the machine has free, or a control group leaves to us.
fn available() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    let machine = kib.saturating_mul(1024);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|g| g.trim().parse::<usize>().ok());
    Some(group.map_or(machine, |g| g.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        assert_eq!(parse("8G").unwrap(), 8 << 30);
        assert_eq!(parse("500M").unwrap(), 500 << 20);
        assert_eq!(parse("1.5GiB").unwrap(), 3 << 29);
        for wrong in ["", "G", "8X", "-1G", "nanG", "1e99T", "5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(amount(3 << 29), "1.5 GiB");
        assert!(budget() > 0);
    }
}
