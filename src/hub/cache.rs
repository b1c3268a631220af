//! Where downloads are kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Entry, HubError};

/// The first of: `explicit`, `QUANTBOUND_CACHE`, `XDG_CACHE_HOME/quantbound`, `HOME/.cache/quantbound`,
/// `LOCALAPPDATA/quantbound`. `variable` reads the environment; empty values and a relative `XDG_CACHE_HOME` (which
/// its specification says to ignore) count as absent.
pub fn directory(
    explicit: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, HubError> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    explicit
        .map(Path::to_path_buf)
        .or_else(|| path("QUANTBOUND_CACHE"))
        .or_else(|| {
            let xdg = path("XDG_CACHE_HOME").filter(|p| p.is_absolute());
            xdg.map(|p| p.join("quantbound"))
        })
        .or_else(|| path("HOME").map(|p| p.join(".cache/quantbound")))
        .or_else(|| path("LOCALAPPDATA").map(|p| p.join("quantbound")))
        .ok_or(HubError::NoCache)
}

/// Where an entry's file belongs: `<cache>/<owner>--<name>/<revision>/<file>`.
pub fn path(cache: &Path, entry: &Entry) -> PathBuf {
    cache
        .join(entry.repository.replace('/', "--"))
        .join(&entry.revision)
        .join(&entry.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(explicit: Option<&str>, set: &[(&str, &str)]) -> Result<PathBuf, HubError> {
        directory(explicit.map(Path::new), |name| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| OsString::from(v))
        })
    }

    #[test]
    fn the_most_explicit_directory_wins() {
        let all = [
            ("HOME", "/a-home"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("QUANTBOUND_CACHE", "/own"),
        ];
        assert_eq!(with(Some("given"), &all).unwrap(), Path::new("given"));
        assert_eq!(with(None, &all).unwrap(), Path::new("/own"));
        assert_eq!(with(None, &all[..2]).unwrap(), Path::new("/xdg/quantbound"));
        let home = Path::new("/a-home/.cache/quantbound");
        assert_eq!(with(None, &all[..1]).unwrap(), home);
        let relative = [("HOME", "/a-home"), ("XDG_CACHE_HOME", "rel")];
        assert_eq!(with(None, &relative).unwrap(), home);
        assert!(matches!(
            with(None, &[("HOME", "")]),
            Err(HubError::NoCache)
        ));
    }
}
