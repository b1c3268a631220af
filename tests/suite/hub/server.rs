//! The server that downloads are tried against, and one download with its cache.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quantbound::hub::{Catalog, Download, Entry, Event, Fetched, HubError};
use sha2::{Digest, Sha256};

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }

    /// First byte that is asked for.
    pub fn first(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// An answer; `cut` bytes of the body are sent before the connection is dropped.
#[derive(Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
}

pub type Handler = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// Answers each connection once; `handler` gets the number of the request.
pub struct Server {
    pub base: String,
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(handler: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &handler, &log);
            }
        });
        Self { base, seen }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

pub fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let headers = lines
        .map_while(|l| l.ok().filter(|l| !l.is_empty()))
        .filter_map(|l| {
            let (name, value) = l.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_string()))
        })
        .collect();
    let request = Request {
        path: first.split(' ').nth(1).unwrap().to_string(),
        headers,
    };
    let number = log.lock().unwrap().len();
    log.lock().unwrap().push(request.clone());
    let reply = handler(number, &request);
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", reply.status);
    head += &format!("Content-Length: {}\r\n", reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // The client may have left already.
    let mut stream = stream;
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(body);
    let _ = stream.flush();
}

/// A file larger than any buffer on the way.
pub fn content(seed: u32) -> Vec<u8> {
    let word = |i: u32| (i.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes();
    (0..100_000).flat_map(word).collect()
}

pub fn sum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn entry(sha256: Option<String>) -> Entry {
    let pin = sha256.map_or(String::new(), |s| format!("sha256 = {s:?}\n"));
    let text = format!(
        "base = \"http://hub.test\"\n[[models]]\nmodel = \"m\"\nrepository = \"o/r\"\nrevision = \"main\"\n\
         file = \"f.bin\"\n{pin}licence = \"l\"\nnaming = \"n\"\nabout = \"a\"\n"
    );
    Catalog::parse(&text, "test").unwrap().models.remove(0)
}

pub const PATH: &str = "/o/r/resolve/main/f.bin";
pub const TAG: &str = "\"one\"";

/// The whole file, or what a range asks for, honestly.
pub fn honest(request: &Request, bytes: &[u8], tag: &str) -> Reply {
    let mut headers = vec![("ETag", tag.to_string())];
    let valid = request.header("if-range").is_none_or(|t| t == tag);
    match request.first().filter(|_| valid) {
        Some(first) => {
            let last = bytes.len() - 1;
            headers.push((
                "Content-Range",
                format!("bytes {first}-{last}/{}", bytes.len()),
            ));
            Reply {
                status: 206,
                headers,
                body: bytes[first..].to_vec(),
                cut: None,
            }
        }
        None => Reply {
            status: 200,
            headers,
            body: bytes.to_vec(),
            cut: None,
        },
    }
}

pub struct Case {
    pub cache: tempfile::TempDir,
    pub entry: Entry,
    pub base: String,
    pub retries: u32,
    pub offline: bool,
    pub notes: Vec<String>,
}

impl Case {
    pub fn new(server: &Server, sha256: Option<String>) -> Self {
        Self {
            cache: tempfile::tempdir().unwrap(),
            entry: entry(sha256),
            base: server.base.clone(),
            retries: 2,
            offline: false,
            notes: Vec::new(),
        }
    }

    pub fn run(&mut self) -> Result<Fetched, HubError> {
        let download = Download {
            entry: &self.entry,
            base: &self.base,
            cache: self.cache.path(),
            sha256: None,
            offline: self.offline,
            retries: self.retries,
            pause: Duration::ZERO,
        };
        let notes = &mut self.notes;
        download.run(&mut |event| {
            if let Event::Note(text) = event {
                notes.push(text);
            }
        })
    }

    pub fn path(&self) -> PathBuf {
        self.cache.path().join("o--r/main/f.bin")
    }

    pub fn part(&self) -> PathBuf {
        self.cache.path().join("o--r/main/f.bin.part")
    }

    pub fn has(&self, fetched: &Fetched, bytes: &[u8]) {
        assert_eq!(fetched.path, self.path());
        assert_eq!(fetched.sha256, sum(bytes));
        assert!(std::fs::read(self.path()).unwrap() == bytes);
        assert!(!self.part().exists());
    }
}
