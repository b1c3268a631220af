//! What commands print with `--json` is what results/schema.md says of it, key by key.

use std::collections::BTreeMap;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// Paths of keys, and those that not every run has.
#[derive(Default)]
struct Described {
    always: Vec<String>,
    sometimes: Vec<String>,
}

/// A path in an object that was printed, and whether it ends in null, or in an empty list or object.
type Found = (String, bool);

fn root(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(root.exists(), "{path}: run scripts/fetch-assets");
    root.display().to_string()
}

/// What the page says, by command.
fn described() -> BTreeMap<String, Described> {
    let page = std::fs::read_to_string(root("results/schema.md")).unwrap();
    let mut found: BTreeMap<String, Described> = BTreeMap::new();
    let mut command = None;
    for line in page.lines() {
        if line.starts_with('#') {
            let title = line.strip_prefix("### `");
            command = title.and_then(|t| t.strip_suffix(" --json`"));
        }
        let (Some(command), Some(item)) = (command, line.strip_prefix("- ")) else {
            continue;
        };
        let (names, _) = item.split_once(": ").expect("a colon after the keys");
        let paths = names.split('`').skip(1).step_by(2).map(str::to_string);
        let said = found.entry(command.to_string()).or_default();
        match item.starts_with("sometimes ") {
            true => said.sometimes.extend(paths),
            false => said.always.extend(paths),
        }
    }
    found
}

fn paths(value: &Value, path: &str, out: &mut Vec<Found>) {
    let under = |key: &str| match path {
        "" => key.to_string(),
        _ => format!("{path}.{key}"),
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(k, v)| paths(v, &under(k), out));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter()
                .for_each(|v| paths(v, &format!("{path}[]"), out));
        }
        Value::Null | Value::Object(_) | Value::Array(_) => out.push((path.to_string(), true)),
        _ => out.push((path.to_string(), false)),
    }
}

/// Is this path of that pattern, or an empty place where one would stand?
fn fits((path, is_empty): &Found, pattern: &str) -> bool {
    let path: Vec<&str> = path.split('.').collect();
    let pattern: Vec<&str> = pattern.split('.').collect();
    let same = |(a, b): (&&str, &&str)| a == b || *b == "*";
    if let Some(("**", before)) = pattern.split_last().map(|(l, rest)| (*l, rest)) {
        return path.len() > before.len() && path.iter().zip(before).all(same);
    }
    if *is_empty && path.len() <= pattern.len() {
        let (last, before) = path.split_last().unwrap();
        let at = pattern[path.len() - 1];
        let ends = at == "*" || at.trim_end_matches("[]") == last.trim_end_matches("[]");
        return ends && before.iter().zip(&pattern).all(same);
    }
    path.len() == pattern.len() && path.iter().zip(&pattern).all(same)
}

fn check(command: &str, printed: &Value, said: &Described) {
    let mut found = Vec::new();
    paths(printed, "", &mut found);
    for path in &found {
        let mut known = said.always.iter().chain(&said.sometimes);
        let known = known.any(|pattern| fits(path, pattern));
        assert!(
            known,
            "{command} prints {path:?}, of which results/schema.md says nothing"
        );
    }
    for pattern in &said.always {
        let printed = found.iter().any(|path| fits(path, pattern));
        assert!(
            printed,
            "{command} prints no {pattern}, which results/schema.md promises"
        );
    }
}

fn printed(dir: &Path, args: &[String]) -> Value {
    let mut command = Command::cargo_bin("quantbound").unwrap();
    let output = command.current_dir(dir).args(args).output().unwrap();
    let code = output.status.code();
    // A comparison that finds something, or a check that fails, still prints.
    assert!(
        code == Some(0) || code == Some(1),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
}

#[test]
fn every_command_prints_what_the_page_says() {
    let dir = tempfile::tempdir().unwrap();
    let plan = format!(
        "bounds = [\"layerwise\"]\n[images]\ndir = {:?}\nlimit = 2\n[[model]]\nname = \"cifar_resnet20\"\n\
         weights = \"random:3\"\n[[quantize]]\nmethod = \"uniform\"\nbits = [4]\n",
        root("datasets/imagenet-samples")
    );
    std::fs::write(dir.path().join("plan.toml"), plan).unwrap();
    let net = "--model cifar_resnet20 --weights random:3";
    let images = "--images @datasets/imagenet-samples --limit 2 --backend cpu";
    let others = "--calibration @datasets/imagenet-samples --calibration-limit 2";
    let trained = "--model efficientnet_lite0 --weights @datasets/efficientnet_lite0/efficientnet-lite0-57934424.pth";
    let pair =
        "@tests/fixtures/onnx/resnet_dynamo.onnx @tests/fixtures/onnx/resnet_torchscript.onnx";
    let commands = [
        "devices".to_string(),
        "doctor".to_string(),
        format!("doctor {trained} {images}"),
        format!("inspect {net}"),
        format!("bounds {net} --bits 4 --only layerwise,best"),
        format!("bounds {net} --bits 4 --only layerwise --required-bits 1"),
        format!("bounds {net} --bits 4 --only layerwise --rescale equalize"),
        format!("run {net} {images} --bits 4 --bounds layerwise,best --out nights/2026-01-01"),
        "sweep plan.toml --backend cpu --out nights/2026-01-02".to_string(),
        "sweep plan.toml --backend cpu --out other".to_string(),
        "merge other --out merged --backend cpu".to_string(),
        "compare nights/2026-01-01 other".to_string(),
        "history nights".to_string(),
        format!("layers {net} {images} --bits 4 --out layers"),
        format!("dynamics {net} {images} --bits 8 --out dynamics"),
        format!("guarantees {net} {images} {others} --coverage 0.5 --out guarantees"),
        format!("required-bits {net} {images} --tolerance 0.5 --bits 4,8 --out bits"),
        format!("search {net} {images} --bits 4 --budget 4 --out search"),
        "bench --model cifar_resnet20 --repeats 1 --batch 1 --backend cpu".to_string(),
        "kernels --model cifar_resnet20 --batch 1".to_string(),
        format!("diff {pair} {images}"),
        "reproduce --list".to_string(),
    ];
    let said = described();
    for line in &commands {
        let words = line.split(' ').chain(["--json"]);
        let args: Vec<String> = words
            .map(|w| w.strip_prefix('@').map_or(w.to_string(), root))
            .collect();
        let command = args[0].as_str();
        let said = said.get(command);
        let said = said.unwrap_or_else(|| panic!("results/schema.md says nothing of {command}"));
        check(command, &printed(dir.path(), &args), said);
    }
    let tried = |command: &String| {
        commands
            .iter()
            .any(|c| c.split(' ').next() == Some(command))
    };
    assert!(said.keys().all(tried), "{:?}", said.keys());
}

#[test]
fn every_flag_is_on_the_page() {
    let help = |args: &[&str]| {
        let mut command = Command::cargo_bin("quantbound").unwrap();
        let output = command.args(args).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = described();
    let top = help(&[]);
    let listed = top.split("Commands:").nth(1).unwrap();
    let listed = listed.split("\n\n").next().unwrap().lines();
    let commands = listed.filter_map(|l| l.strip_prefix("  ")?.split(' ').next());
    for command in commands.filter(|c| !c.is_empty() && *c != "help") {
        let has_flag = help(&[command]).contains("--json");
        assert_eq!(
            has_flag,
            said.contains_key(command),
            "{command}: its --json, and results/schema.md"
        );
    }
}

#[test]
fn paths_are_told_apart() {
    let found = |path: &str| (path.to_string(), false);
    let empty = |path: &str| (path.to_string(), true);
    assert!(fits(&found("a[].b"), "a[].b") && fits(&found("a[].b"), "a[].*"));
    assert!(fits(&found("a.b.c"), "a.**") && !fits(&found("a"), "a.**"));
    assert!(!fits(&found("a[].b"), "a[].c") && !fits(&found("a[]"), "a[].c"));
    assert!(fits(&empty("a"), "a[].c") && fits(&empty("a[].b"), "a[].b[].c"));
    assert!(!fits(&empty("b"), "a[].c") && !fits(&empty("a"), "b.a"));
}
