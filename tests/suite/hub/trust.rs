//! What a download is verified against, and what is said where nothing vouches for it.

use std::net::TcpListener;
use std::sync::Arc;

use quantbound::hub::{HubError, Trust};

use super::server::{Case, PATH, Reply, Server, TAG, content, honest, sum};

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
