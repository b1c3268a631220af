//! Downloads against a server on this machine that redirects, breaks off, lies and ignores ranges.

mod command;
mod resume;
mod server;
mod trust;
