//! `xtask record` as cargo's runner, on a small package made for the purpose.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

const MANIFEST: &str = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                        [workspace]\n";

/// Passes only when it runs as cargo would run it.
const TEST: &str = r#"
#[test]
fn it_runs_in_its_package() {
    let expected = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    assert_eq!(std::env::current_dir().unwrap(), std::path::Path::new(&expected));
}

#[test]
fn another() {}
"#;

/// Has cargo build the tests in `package` and hand them to xtask; what it has written.
fn recorded(package: &Path, folder: &Path) -> Vec<Value> {
    fs::create_dir(folder).unwrap();
    let words = json!([env!("CARGO_BIN_EXE_xtask"), "record", folder]);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--offline", "--tests", "--target-dir"]).arg(package.join("target"));
    // Whatever machine this is.
    cargo.arg("--config").arg(format!("target.'cfg(all())'.runner={words}"));
    cargo.args(["--", "--exact", "it_runs_in_its_package"]).current_dir(package);
    let output = cargo.output().unwrap();
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(!told.contains("test result"), "it ran: {told}");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_cargo_would_run_is_written_down_and_runs_as_it_would() {
    let place = tempfile::tempdir().unwrap();
    let package = place.path().join("with a space");
    fs::create_dir_all(package.join("src")).unwrap();
    fs::write(package.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(package.join("src/lib.rs"), "").unwrap();
    fs::create_dir(package.join("tests")).unwrap();
    fs::write(package.join("tests/it.rs"), TEST).unwrap();

    let programs = recorded(&package, &place.path().join("recorded"));

    let mut targets: Vec<_> = programs.iter().filter_map(|one| one["target"].as_str()).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["it", "small"]);
    let it = programs.iter().find(|one| one["target"] == "it").unwrap();
    assert_eq!(it["package"], "small");
    let words = it["arguments"].as_array().unwrap().iter().filter_map(Value::as_str);
    let variables = it["variables"].as_object().unwrap().iter();
    let output = Command::new(it["file"].as_str().unwrap())
        .args(words)
        .current_dir(it["directory"].as_str().unwrap())
        .env_clear()
        .envs(variables.map(|(name, value)| (name, value.as_str().unwrap())))
        .output()
        .unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed") && told.contains("1 filtered out"), "{told}");
}
