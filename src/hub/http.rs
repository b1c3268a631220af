//! One GET request with its redirections, and what its headers tell about the file.

use std::io::Read;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Response};

use super::HubError;
use super::catalog::is_sha256;

const MOST_REDIRECTIONS: usize = 10;
const CONNECT: Duration = Duration::from_secs(20);
/// Silence after which a connection counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

/// A client that reports every status as an answer and leaves redirections to [`get`].
pub fn agent() -> Agent {
    Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("quantbound/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// The answer at the end of the redirections.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Strong entity tag.
    pub etag: Option<String>,
    /// Bytes of this answer's body.
    pub length: Option<u64>,
    /// First byte and total size of a partial answer, where it tells.
    pub range: Option<(u64, Option<u64>)>,
    /// sha256 that the hub names for the file.
    pub sha256: Option<String>,
    /// Size that the hub names for the file.
    pub size: Option<u64>,
    /// The body.
    pub body: Box<dyn Read>,
}

/// Why there is no answer.
pub enum Failure {
    /// The network; trying again may help.
    Network(String),
    /// Something that trying again does not change.
    Fatal(HubError),
}

/// Asks for `url`, or for what follows its first `from.0` bytes if it still has the entity tag `from.1`.
pub fn get(agent: &Agent, url: &str, from: Option<(u64, &str)>) -> Result<Answer, Failure> {
    let mut at = url.to_string();
    let (mut sha256, mut size) = (None, None);
    for _ in 0..=MOST_REDIRECTIONS {
        // Compression would hide the length of the file and make ranges meaningless.
        let mut request = agent.get(&at).header("accept-encoding", "identity");
        if let Some((offset, etag)) = from {
            request = request
                .header("range", format!("bytes={offset}-"))
                .header("if-range", etag);
        }
        let response = request
            .call()
            .map_err(|e| Failure::Network(e.to_string()))?;
        let headers = response.headers();
        // Only the hub's own answer describes the file; the store behind it may tag it otherwise.
        sha256 = sha256.or_else(|| {
            let linked = text(headers, "x-linked-etag").map(untag);
            linked.filter(|sum| is_sha256(sum))
        });
        size = size.or_else(|| number(headers, "x-linked-size"));
        let status = response.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(answer(response, sha256, size));
        }
        let redirect = |problem: String| {
            Failure::Fatal(HubError::Redirect {
                url: at.clone(),
                problem,
            })
        };
        let next = text(headers, "location")
            .ok_or_else(|| redirect(format!("status {status} without a location")))?;
        let next = join(&at, &next);
        if at.starts_with("https://") && !next.starts_with("https://") {
            return Err(redirect(format!("leads from https to {next}; refused")));
        }
        at = next;
    }
    Err(Failure::Fatal(HubError::Redirect {
        url: url.to_string(),
        problem: format!("more than {MOST_REDIRECTIONS} redirections"),
    }))
}

fn answer(response: Response<ureq::Body>, sha256: Option<String>, size: Option<u64>) -> Answer {
    let headers = response.headers();
    let etag = text(headers, "etag");
    Answer {
        status: response.status().as_u16(),
        // Files below the hub's threshold are served at once, tagged by their own sum or by git's.
        sha256: sha256.or_else(|| etag.clone().map(untag).filter(|sum| is_sha256(sum))),
        etag: etag.filter(|tag| tag.starts_with('"')),
        length: number(headers, "content-length"),
        range: text(headers, "content-range").and_then(|r| content_range(&r)),
        size,
        body: Box::new(response.into_body().into_reader()),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.trim().to_string())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn untag(tag: String) -> String {
    let strong = tag.strip_prefix("W/").unwrap_or(&tag);
    strong.trim_matches('"').to_string()
}

/// `bytes 100-199/200` to `(100, Some(200))`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = span.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

/// A redirection's target, which may be relative to where it was found.
fn join(base: &str, location: &str) -> String {
    let Some((scheme, rest)) = base.split_once("://") else {
        return location.to_string();
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if location.contains("://") && !location.starts_with('/') {
        location.to_string()
    } else if let Some(elsewhere) = location.strip_prefix("//") {
        format!("{scheme}://{elsewhere}")
    } else if let Some(absolute) = location.strip_prefix('/') {
        format!("{scheme}://{host}/{absolute}")
    } else {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let slash = if folder.is_empty() { "" } else { "/" };
        format!("{scheme}://{host}/{folder}{slash}{location}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let at = "https://hub.test/o/r/resolve/main/f?x=1/2";
        for (location, expected) in [
            ("https://cdn.test/a", "https://cdn.test/a"),
            ("//cdn.test/a", "https://cdn.test/a"),
            ("/api/a?b=http://c", "https://hub.test/api/a?b=http://c"),
            ("g", "https://hub.test/o/r/resolve/main/g"),
        ] {
            assert_eq!(join(at, location), expected);
        }
        assert_eq!(join("http://hub.test", "a"), "http://hub.test/a");
    }

    #[test]
    fn ranges_and_tags_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("items 5-9/10"), None);
        assert_eq!(untag("W/\"ab\"".into()), "ab");
        assert_eq!(untag("\"ab\"".into()), "ab");
    }
}
