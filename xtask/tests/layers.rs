//! `xtask layers` as CI runs it, on small workspaces made for the purpose.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Writes a workspace of empty libraries; each is a folder with the folders it depends on.
fn workspace(root: &Path, crates: &[(&str, &[&str])]) {
    fs::write(root.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n")
        .unwrap();
    for (folder, dependencies) in crates {
        let directory = root.join("crates").join(folder);
        fs::create_dir_all(directory.join("src")).unwrap();
        fs::write(directory.join("src/lib.rs"), "").unwrap();
        let mut manifest = format!(
            "[package]\nname = \"sinew-{folder}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             [dependencies]\n"
        );
        for dependency in *dependencies {
            manifest.push_str(&format!("sinew-{dependency} = {{ path = \"../{dependency}\" }}\n"));
        }
        fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    }
}

fn layers(root: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("layers").current_dir(root).output().unwrap()
}

#[test]
fn a_codec_that_depends_on_the_router_fails_the_check() {
    let root = tempfile::tempdir().unwrap();
    workspace(root.path(), &[("codec", &["router"]), ("router", &[])]);

    let output = layers(root.path());

    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains("codec (layer 0) -> router (layer 6) is not allowed"), "{message}");
}

#[test]
fn a_crate_that_is_not_in_the_table_fails_the_check() {
    let root = tempfile::tempdir().unwrap();
    workspace(root.path(), &[("codec", &[]), ("surprise", &["codec"])]);

    let output = layers(root.path());

    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains("crates/surprise"), "{message}");
    assert!(message.contains("add it to LAYERS"), "{message}");
}

#[test]
fn a_workspace_that_keeps_to_the_table_passes() {
    let root = tempfile::tempdir().unwrap();
    workspace(root.path(), &[("codec", &[]), ("plane", &["codec"]), ("router", &["plane"])]);

    let output = layers(root.path());

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 dependencies between 3 packages"));
}

#[test]
fn a_crate_that_must_not_know_another_fails_the_check_although_the_edge_points_down() {
    let root = tempfile::tempdir().unwrap();
    workspace(root.path(), &[("plane-call-home", &[]), ("split", &["plane-call-home"])]);

    let output = layers(root.path());

    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains("split must not know plane-call-home"), "{message}");
}
