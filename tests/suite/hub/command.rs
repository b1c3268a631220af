//! `quantbound fetch`, and the table of models it knows.

use std::path::Path;

use quantbound::hub::{Catalog, HubError};

use super::server::{Server, TAG, content, honest, sum};

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
