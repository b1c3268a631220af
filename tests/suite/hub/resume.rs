//! Broken connections: what is kept, what is asked for again, when it is given up.

use quantbound::hub::{HubError, Trust};

use super::server::{Case, Reply, Request, Server, TAG, content, honest, sum};

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
