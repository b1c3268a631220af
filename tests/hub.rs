//! Downloads against a server on this machine that redirects, breaks off, lies and ignores ranges.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quantbound::hub::{Catalog, Download, Entry, Event, Fetched, HubError, Trust};
use sha2::{Digest, Sha256};

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }

    /// First byte that is asked for.
    fn first(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// An answer; `cut` bytes of the body are sent before the connection is dropped.
#[derive(Default)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut: Option<usize>,
}

type Handler = dyn Fn(usize, &Request) -> Reply + Send + Sync;

/// Answers each connection once; `handler` gets the number of the request.
struct Server {
    base: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(handler: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static) -> Self {
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

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) {
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
fn content(seed: u32) -> Vec<u8> {
    let word = |i: u32| (i.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes();
    (0..100_000).flat_map(word).collect()
}

fn sum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn entry(sha256: Option<String>) -> Entry {
    let pin = sha256.map_or(String::new(), |s| format!("sha256 = {s:?}\n"));
    let text = format!(
        "base = \"http://hub.test\"\n[[models]]\nmodel = \"m\"\nrepository = \"o/r\"\nrevision = \"main\"\n\
         file = \"f.bin\"\n{pin}licence = \"l\"\nnaming = \"n\"\nabout = \"a\"\n"
    );
    Catalog::parse(&text, "test").unwrap().models.remove(0)
}

const PATH: &str = "/o/r/resolve/main/f.bin";
const TAG: &str = "\"one\"";

/// The whole file, or what a range asks for, honestly.
fn honest(request: &Request, bytes: &[u8], tag: &str) -> Reply {
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

struct Case {
    cache: tempfile::TempDir,
    entry: Entry,
    base: String,
    retries: u32,
    offline: bool,
    notes: Vec<String>,
}

impl Case {
    fn new(server: &Server, sha256: Option<String>) -> Self {
        Self {
            cache: tempfile::tempdir().unwrap(),
            entry: entry(sha256),
            base: server.base.clone(),
            retries: 2,
            offline: false,
            notes: Vec::new(),
        }
    }

    fn run(&mut self) -> Result<Fetched, HubError> {
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

    fn path(&self) -> PathBuf {
        self.cache.path().join("o--r/main/f.bin")
    }

    fn part(&self) -> PathBuf {
        self.cache.path().join("o--r/main/f.bin.part")
    }

    fn has(&self, fetched: &Fetched, bytes: &[u8]) {
        assert_eq!(fetched.path, self.path());
        assert_eq!(fetched.sha256, sum(bytes));
        assert!(std::fs::read(self.path()).unwrap() == bytes);
        assert!(!self.part().exists());
    }
}

#[test]
fn redirections_are_followed_and_the_hubs_own_sum_is_taken() {
    let file = content(1);
    let served = file.clone();
    let server = Server::start(move |_, request| match request.path.as_str() {
        PATH => Reply {
            status: 302,
            headers: vec![
                ("Location", "/store/a?sig=b".into()),
                ("X-Linked-ETag", format!("\"{}\"", sum(&served))),
                ("X-Linked-Size", served.len().to_string()),
            ],
            ..Reply::default()
        },
        "/store/a?sig=b" => honest(request, &served, TAG),
        _ => Reply {
            status: 404,
            ..Reply::default()
        },
    });
    let mut case = Case::new(&server, None);
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    assert_eq!((fetched.trust, fetched.cached), (Trust::Server, false));
    assert_eq!(server.requests().len(), 2);
    // The sum that the server named is on record: no request is needed to verify the file again.
    let again = case.run().unwrap();
    assert!(again.cached);
    assert_eq!(server.requests().len(), 2);
    // A damaged file is found and brought again.
    std::fs::write(case.path(), b"damaged").unwrap();
    let repaired = case.run().unwrap();
    case.has(&repaired, &file);
    assert!(case.notes[0].contains("damaged"), "{:?}", case.notes);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let file = content(2);
    let served = file.clone();
    let server = Server::start(move |number, request| Reply {
        cut: (number == 0).then_some(served.len() / 2),
        ..honest(request, &served, TAG)
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    assert_eq!(fetched.trust, Trust::Pinned);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].first(), None);
    assert_eq!(requests[1].first(), Some(file.len() / 2));
    assert_eq!(requests[1].header("if-range"), Some(TAG));
}

#[test]
fn a_second_call_resumes_what_the_first_one_left() {
    let file = content(3);
    let served = file.clone();
    let server = Server::start(move |number, request| Reply {
        cut: (number == 0).then_some(served.len() / 4),
        ..honest(request, &served, TAG)
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    case.retries = 0;
    let error = case.run().unwrap_err();
    let kept = std::fs::metadata(case.part()).unwrap().len();
    assert_eq!(kept, file.len() as u64 / 4);
    let HubError::Broken { got, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*got, kept);
    assert!(error.to_string().contains("run this again"), "{error}");
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    assert_eq!(server.requests()[1].first(), Some(file.len() / 4));
}

#[test]
fn a_server_without_ranges_is_asked_for_everything_again() {
    let file = content(4);
    let served = file.clone();
    let server = Server::start(move |number, _| Reply {
        status: 200,
        headers: vec![("ETag", TAG.into())],
        body: served.clone(),
        cut: (number == 0).then_some(served.len() / 2),
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    assert_eq!(server.requests().len(), 2);
    assert!(case.notes.iter().any(|n| n.contains("begins anew")));
}

#[test]
fn a_file_that_changed_between_tries_is_begun_anew() {
    let (old, new) = (content(5), content(6));
    let served = new.clone();
    let server = Server::start(move |number, request| match number {
        0 => Reply {
            cut: Some(old.len() / 2),
            ..honest(request, &old, TAG)
        },
        _ => honest(request, &served, "\"two\""),
    });
    let mut case = Case::new(&server, Some(sum(&new)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &new);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_part_of_another_file_is_never_appended() {
    let (old, new) = (content(7), content(8));
    let served = new.clone();
    // This server heeds Range, but not If-Range.
    let server = Server::start(move |number, request| {
        let mut request = request.clone();
        request.headers.retain(|(n, _)| n != "if-range");
        match number {
            0 => Reply {
                cut: Some(old.len() / 2),
                ..honest(&request, &old, TAG)
            },
            _ => honest(&request, &served, "\"two\""),
        }
    });
    let mut case = Case::new(&server, Some(sum(&new)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &new);
    let asked: Vec<Option<usize>> = server.requests().iter().map(Request::first).collect();
    assert_eq!(asked, [None, Some(new.len() / 2), None]);
}

#[test]
fn bytes_without_a_strong_tag_are_not_built_upon() {
    let file = content(9);
    let served = file.clone();
    let server = Server::start(move |number, request| Reply {
        cut: (number == 0).then_some(served.len() / 2),
        ..honest(request, &served, "W/\"one\"")
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    assert_eq!(server.requests()[1].first(), None);
}

#[test]
fn a_wrong_checksum_removes_the_file_and_names_both() {
    let file = content(10);
    let (right, wrong) = (sum(&content(11)), sum(&file));
    let server = Server::start(move |_, request| honest(request, &file, TAG));
    let mut case = Case::new(&server, Some(right.clone()));
    let error = case.run().unwrap_err().to_string();
    assert!(error.contains(&right) && error.contains(&wrong), "{error}");
    assert!(!case.path().exists() && !case.part().exists());
}

#[test]
fn a_replaced_file_is_refused_before_it_is_downloaded() {
    let file = content(12);
    let server = Server::start(move |_, request| {
        let mut reply = honest(request, &file, TAG);
        reply
            .headers
            .push(("X-Linked-ETag", format!("\"{}\"", sum(&file))));
        reply
    });
    let mut case = Case::new(&server, Some(sum(b"pinned")));
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Replaced { .. }), "{error}");
    assert_eq!(std::fs::metadata(case.part()).unwrap().len(), 0);
}

#[test]
fn nothing_to_verify_with_is_an_error() {
    let server = Server::start(|_, request| honest(request, b"file", TAG));
    let mut case = Case::new(&server, None);
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::NoChecksum { .. }), "{error}");
    assert!(!case.path().exists());
}

#[test]
fn a_missing_file_is_an_error_with_advice() {
    let server = Server::start(|_, _| Reply {
        status: 404,
        body: b"Entry not found".to_vec(),
        ..Reply::default()
    });
    let mut case = Case::new(&server, Some(sum(b"file")));
    let error = case.run().unwrap_err();
    let HubError::Status { status: 404, .. } = error else {
        panic!("{error}");
    };
    let error = error.to_string();
    assert!(
        error.contains(PATH) && error.contains("export_torchvision.py"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1, "404 is not tried again");
}

#[test]
fn a_busy_server_is_tried_again() {
    let file = content(13);
    let served = file.clone();
    let server = Server::start(move |number, request| match number {
        0 => Reply {
            status: 503,
            ..Reply::default()
        },
        _ => honest(request, &served, TAG),
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
}

#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let file = content(14);
    let served = file.clone();
    let server = Server::start(move |_, _| Reply {
        status: 200,
        body: served.clone(),
        cut: Some(served.len() / 2),
        ..Reply::default()
    });
    let mut case = Case::new(&server, Some(sum(&file)));
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Broken { .. }), "{error}");
    assert!(!case.path().exists());
    // The first try brought something new, the two after it did not, nor did a last one.
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn offline_takes_what_is_there_and_asks_nothing() {
    let file = content(15);
    let served = file.clone();
    let server = Server::start(move |_, request| honest(request, &served, TAG));
    let mut case = Case::new(&server, Some(sum(&file)));
    case.offline = true;
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains(&case.path().display().to_string()),
        "{error}"
    );
    // Brought by hand to where the message says.
    std::fs::create_dir_all(case.path().parent().unwrap()).unwrap();
    std::fs::write(case.path(), &file).unwrap();
    let fetched = case.run().unwrap();
    case.has(&fetched, &file);
    std::fs::write(case.path(), b"another").unwrap();
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
    assert!(
        case.path().exists(),
        "a hand-copied file is not thrown away"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn a_file_brought_by_hand_is_not_trusted_without_a_sum() {
    let file = content(16);
    let served = file.clone();
    let server = Server::start(move |_, request| {
        let mut reply = honest(request, &served, TAG);
        reply.headers.push(("X-Linked-ETag", sum(&served)));
        reply
    });
    let mut case = Case::new(&server, None);
    std::fs::create_dir_all(case.path().parent().unwrap()).unwrap();
    std::fs::write(case.path(), &file).unwrap();
    case.offline = true;
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Unverified { .. }), "{error}");
    // The server's own sum confirms it.
    case.offline = false;
    let fetched = case.run().unwrap();
    assert!(fetched.cached);
    case.has(&fetched, &file);
}

#[test]
fn a_network_without_an_answer_is_told_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let server = Server {
        base,
        seen: Arc::default(),
    };
    let error = Case::new(&server, None).run().unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    let error = error.to_string();
    for word in [
        "--url",
        "by hand",
        "o--r/main/f.bin",
        "export_torchvision.py",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn two_downloads_of_one_file_do_not_meet() {
    let file = content(17);
    let served = file.clone();
    let server = Server::start(move |_, request| honest(request, &served, TAG));
    let mut case = Case::new(&server, Some(sum(&file)));
    std::fs::create_dir_all(case.path().parent().unwrap()).unwrap();
    let other = std::fs::File::create(case.part()).unwrap();
    other.lock().unwrap();
    let error = case.run().unwrap_err();
    assert!(matches!(error, HubError::Busy { .. }), "{error}");
    drop(other);
    case.run().unwrap();
}

#[test]
fn the_command_prints_the_path_alone_and_says_what_is_not_pinned() {
    let file = content(18);
    let served = file.clone();
    let server = Server::start(move |_, request| {
        let mut reply = honest(request, &served, TAG);
        reply.headers.push(("X-Linked-ETag", sum(&served)));
        reply
    });
    let dir = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("quantbound").unwrap();
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        command.env("QUANTBOUND_CACHE", dir.path());
        command.args(["fetch", "resnet34", "--url", &server.base]);
        command.args(more).output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output = run(&[]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    let path = Path::new(out.trim_end());
    assert!(
        path.starts_with(dir.path()) && out.lines().count() == 1,
        "{out}"
    );
    assert!(std::fs::read(path).unwrap() == file);
    assert!(
        err.contains("NOT pinned") && err.contains(&sum(&file)),
        "{err}"
    );
    let output = run(&["--offline"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let other = sum(b"other");
    let output = run(&["--offline", "--sha256", &other]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(&other));
}

#[test]
fn the_built_in_table_names_models_that_exist() {
    let catalog = Catalog::built_in().unwrap();
    assert!(catalog.base.starts_with("https://"));
    for entry in &catalog.models {
        quantbound::network::zoo::Model::find(&entry.model).unwrap();
        assert!(
            entry.sha256.is_none() || entry.is_pinned_revision(),
            "{}: a checksum needs a revision that does not move",
            entry.model
        );
    }
    let error = catalog.find("resnet81").unwrap_err().to_string();
    assert!(error.contains("did you mean \"resnet18\"?"), "{error}");
}

#[test]
fn tables_that_lead_out_of_the_cache_are_refused() {
    let good = "base = \"http://h\"\n[[models]]\nmodel = \"m\"\nrepository = \"o/r\"\nrevision = \"main\"\n\
                file = \"f\"\nlicence = \"l\"\nnaming = \"n\"\nabout = \"a\"\n";
    assert!(Catalog::parse(good, "t").is_ok());
    for (from, to) in [
        ("file = \"f\"", "file = \"../f\""),
        ("file = \"f\"", "file = \"/f\""),
        ("\"main\"", "\"main?x\""),
        ("file = \"f\"", "file = \"f\"\nsha256 = \"12\""),
        ("file = \"f\"", "file = \"f\"\nfiel = \"f\""),
    ] {
        let error = Catalog::parse(&good.replace(from, to), "t").unwrap_err();
        assert!(matches!(error, HubError::Catalog { .. }), "{to}: {error}");
    }
    let twice = good.replace(
        "[[models]]",
        "[[models]]\nmodel = \"m\"\nrepository = \"o/r\"\nrevision = \"x\"\n\
         file = \"f\"\nlicence = \"l\"\nnaming = \"n\"\nabout = \"a\"\n[[models]]",
    );
    assert!(
        Catalog::parse(&twice, "t")
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
}
