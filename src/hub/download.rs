//! A verified download that goes on where it broke.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;

use super::http::{self, Answer, Failure};
use super::part::{Part, beside};
use super::{Entry, HubError, cache};
use crate::data::manifest::sha256;

/// What to bring, from where, to where.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// The file.
    pub entry: &'a Entry,
    /// Scheme and host, perhaps a mirror's.
    pub base: &'a str,
    /// Directory of all downloads.
    pub cache: &'a Path,
    /// Expected sha256 in place of the entry's.
    pub sha256: Option<&'a str>,
    /// Make no request.
    pub offline: bool,
    /// Tries in a row that bring nothing new before giving up.
    pub retries: u32,
    /// Wait before a try after one that brought nothing new, times the number of such tries.
    pub pause: Duration,
}

/// What a download tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes flow: how many were there before, and the size of the file where the server tells.
    Started {
        /// Bytes kept from before.
        kept: u64,
        /// Size of the whole file.
        total: Option<u64>,
    },
    /// So many more bytes.
    Received(u64),
    /// Something to know.
    Note(String),
}

/// How far the file is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It has the pinned sha256.
    Pinned,
    /// It has the sha256 that the server named: the transfer is right, whatever the server has.
    Server,
}

/// A file in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its sha256.
    pub sha256: String,
    /// What that was compared with.
    pub trust: Trust,
    /// True when it was there before.
    pub cached: bool,
}

/// How one try ended.
enum Tried {
    Complete(String),
    /// The target was there already, as the server describes it.
    Present(String),
    Again(String),
}

const BY_HAND: &str = "or export the weights with scripts/export_torchvision.py where PyTorch is";

impl Download<'_> {
    /// Where the file belongs.
    pub fn path(&self) -> PathBuf {
        cache::path(self.cache, self.entry)
    }

    /// Brings the file into the cache unless it is there, and verifies it.
    pub fn run(&self, tell: &mut dyn FnMut(Event)) -> Result<Fetched, HubError> {
        let target = self.path();
        if let Some(found) = self.cached(&target, tell)? {
            return Ok(found);
        }
        if self.offline {
            return Err(if target.is_file() {
                HubError::Unverified {
                    got: sum(&target)?,
                    path: shown(&target),
                }
            } else {
                HubError::Offline {
                    path: shown(&target),
                    advice: self.advice(),
                }
            });
        }
        let mut part = Part::open(&target)?;
        let expected = match self.transfer(&mut part, &target, tell)? {
            Tried::Present(sha256) => {
                part.discard()?;
                return self.keep(target, sha256, true);
            }
            Tried::Complete(expected) => expected,
            Tried::Again(problem) => return Err(self.broken(&part, problem)?),
        };
        let got = sum(part.path())?;
        if got != expected {
            part.discard()?;
            return Err(HubError::Checksum {
                path: shown(&target),
                expected,
                got,
                advice: "run this again, and if it stays so, do not use that source".into(),
            });
        }
        part.finish(&target)?;
        self.keep(target, got, false)
    }

    fn pinned(&self) -> Option<&str> {
        self.sha256.or(self.entry.sha256.as_deref())
    }

    fn url(&self) -> String {
        self.entry.url(self.base)
    }

    fn advice(&self) -> String {
        let path = shown(&self.path());
        format!(
            "check the network or name a mirror with --url; or copy {} of {} by hand to {path} and run this again, {BY_HAND}",
            self.entry.file, self.entry.repository
        )
    }

    /// The file that is there, if it can be verified without a request. One that is wrong stays until a right one
    /// replaces it.
    fn cached(
        &self,
        target: &Path,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<Fetched>, HubError> {
        if !target.is_file() {
            return Ok(None);
        }
        let recorded = || {
            let text = std::fs::read_to_string(beside(target, ".sha256")).ok()?;
            text.split_whitespace().next().map(str::to_string)
        };
        let Some(expected) = self.pinned().map(str::to_string).or_else(recorded) else {
            return Ok(None);
        };
        let got = sum(target)?;
        if got == expected {
            return self.keep(target.to_path_buf(), got, true).map(Some);
        }
        if self.offline {
            return Err(HubError::Mismatch {
                path: shown(target),
                expected,
                got,
                advice: self.advice(),
            });
        }
        tell(Event::Note(format!(
            "{}: damaged or replaced (expected sha256 {expected}, got {got}); downloading it again",
            target.display()
        )));
        Ok(None)
    }

    /// Records the sum beside the file, so that later calls can verify it without a request.
    fn keep(&self, path: PathBuf, sha256: String, cached: bool) -> Result<Fetched, HubError> {
        let record = beside(&path, ".sha256");
        let line = format!("{sha256}  {}\n", self.entry.file);
        if std::fs::read_to_string(&record).ok().as_deref() != Some(&line) {
            std::fs::write(&record, line).map_err(HubError::file(&record))?;
        }
        let trust = match self.pinned() {
            Some(_) => Trust::Pinned,
            None => Trust::Server,
        };
        Ok(Fetched {
            path,
            sha256,
            trust,
            cached,
        })
    }

    /// Tries until the file is complete, or until too many tries in a row bring nothing new.
    fn transfer(
        &self,
        part: &mut Part,
        target: &Path,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Tried, HubError> {
        let agent = http::agent();
        let (mut longest, mut idle) = (part.len()?, 0);
        loop {
            let problem = match self.attempt(&agent, part, target, tell)? {
                Tried::Again(problem) => problem,
                done => return Ok(done),
            };
            let length = part.len()?;
            idle = if length > longest { 0 } else { idle + 1 };
            longest = longest.max(length);
            if self.retries == 0 || idle > self.retries {
                return Ok(Tried::Again(problem));
            }
            tell(Event::Note(format!("{problem}; trying again")));
            std::thread::sleep(self.pause * idle);
        }
    }

    fn attempt(
        &self,
        agent: &Agent,
        part: &mut Part,
        target: &Path,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Tried, HubError> {
        let url = self.url();
        let kept = part.len()?;
        let etag = part.etag().filter(|_| kept > 0);
        let from = etag.as_deref().map(|tag| (kept, tag));
        let answer = match http::get(agent, &url, from) {
            Ok(answer) => answer,
            // What is there stays, and the message of a network that never answered says what to do.
            Err(Failure::Network(problem)) if kept == 0 => {
                return Err(HubError::Network {
                    url,
                    problem,
                    advice: self.advice(),
                });
            }
            Err(Failure::Network(problem)) => return Ok(Tried::Again(problem)),
            Err(Failure::Fatal(error)) => return Err(error),
        };
        match answer.status {
            200 | 206 => {}
            // The kept bytes are no beginning of the file any more.
            416 if from.is_some() => {
                part.restart(None)?;
                return Ok(Tried::Again("the server has no such range".into()));
            }
            status @ (429 | 500..=599) => {
                return Ok(Tried::Again(format!("HTTP status {status}")));
            }
            status => {
                return Err(HubError::Status {
                    url,
                    status,
                    advice: self.advice(),
                });
            }
        }
        let expected = self.expected(&answer, &url)?;
        if target.is_file() && sum(target)? == expected {
            return Ok(Tried::Present(expected));
        }
        let total = match (answer.status, answer.range) {
            (206, Some((first, total)))
                if from.is_some() && first == kept && answer.etag == etag =>
            {
                total.or(answer.length.map(|l| kept + l)).or(answer.size)
            }
            (206, _) => {
                part.restart(None)?;
                return Ok(Tried::Again(
                    "the server sent a part of another file or range".into(),
                ));
            }
            _ => {
                if kept > 0 {
                    tell(Event::Note(
                        "the server begins anew: the file has changed, or it cannot go on".into(),
                    ));
                }
                part.restart(answer.etag.as_deref())?;
                answer.length.or(answer.size)
            }
        };
        self.receive(part, answer, total, tell)
            .map(|problem| problem.map_or(Tried::Complete(expected), Tried::Again))
    }

    /// Appends the body; `Some` says what kept it from being complete.
    fn receive(
        &self,
        part: &mut Part,
        mut answer: Answer,
        total: Option<u64>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Option<String>, HubError> {
        let mut length = part.len()?;
        tell(Event::Started {
            kept: length,
            total,
        });
        let mut chunk = vec![0; 1 << 16];
        loop {
            match answer.body.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    part.write(&chunk[..n])?;
                    length += n as u64;
                    tell(Event::Received(n as u64));
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Some(format!("the connection broke ({e})"))),
            }
        }
        let Some(total) = total.filter(|&t| t != length) else {
            return Ok(None);
        };
        if length > total {
            part.restart(None)?;
        }
        Ok(Some(format!(
            "the connection ended after {length} of {total} bytes"
        )))
    }

    /// What the file must have, known before its first byte.
    fn expected(&self, answer: &Answer, url: &str) -> Result<String, HubError> {
        match (self.pinned(), &answer.sha256) {
            (Some(pinned), Some(named)) if pinned != named => Err(HubError::Replaced {
                url: url.to_string(),
                expected: pinned.to_string(),
                got: named.clone(),
            }),
            (Some(pinned), _) => Ok(pinned.to_string()),
            (None, Some(named)) => Ok(named.clone()),
            (None, None) => Err(HubError::NoChecksum {
                url: url.to_string(),
            }),
        }
    }

    fn broken(&self, part: &Part, problem: String) -> Result<HubError, HubError> {
        Ok(HubError::Broken {
            url: self.url(),
            problem,
            got: part.len()?,
            path: shown(part.path()),
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn sum(path: &Path) -> Result<String, HubError> {
    sha256(path).map_err(HubError::file(path))
}
