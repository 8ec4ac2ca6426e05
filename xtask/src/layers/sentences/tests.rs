//! The sentences, on packages made for the purpose and on this workspace.

use std::path::PathBuf;

use super::*;
use crate::layers::LAYERS;
use crate::workspace::{Dependency, Workspace};

fn dependency(name: &str, local: bool, kind: Kind) -> Dependency {
    Dependency { name: name.to_owned(), kind, local, has_version: true }
}

/// Crates of ours, each with the crates of ours that it depends on.
pub(crate) fn packages(crates: &[(&str, &[&str])]) -> Vec<Package> {
    let package = |(folder, dependencies): &(&str, &[&str])| Package {
        name: format!("sinew-{folder}"),
        version: "0.1.0".to_owned(),
        folder: (*folder).to_owned(),
        directory: PathBuf::from(folder),
        publishable: true,
        has_library: true,
        binaries: Vec::new(),
        dependencies: dependencies
            .iter()
            .map(|name| dependency(&format!("sinew-{name}"), true, Kind::Normal))
            .collect(),
    };
    crates.iter().map(package).collect()
}

#[track_caller]
fn only_fault(packages: &[Package], exceptions: &[Exception], words: &str) {
    let faults = check(packages, exceptions);
    assert!(faults.len() == 1 && faults[0].contains(words), "{words:?}: {faults:#?}");
}

#[test]
fn compat_dynamo_may_reach_no_transport_without_an_exception() {
    let direct = packages(&[("compat-dynamo", &["transport-tcp"]), ("transport-tcp", &[])]);
    only_fault(&direct, &[], "compat-dynamo -> transport-tcp is not allowed");
    let excepted = Exception { from: "compat-dynamo", to: "transport-tcp", until: "a test" };
    assert!(check(&direct, &[excepted]).is_empty());
}

#[test]
fn compat_dynamo_cannot_take_up_a_transport_again() {
    let mut packages = Workspace::find().unwrap().packages().unwrap();
    let compat = packages.iter_mut().find(|package| package.folder == "compat-dynamo").unwrap();
    compat.dependencies.push(dependency("sinew-transport-tcp", true, Kind::Normal));
    let faults = check(&packages, EXCEPTIONS);
    let driver = "transport-tcp -> mux-driver";
    let ways = [
        "transport-tcp is",
        &format!("{driver} is"),
        &format!("{driver} -> mux is"),
        "transport-tcp -> net is",
    ];
    for way in ways {
        let words = format!("compat-dynamo -> {way} not allowed");
        assert!(faults.iter().any(|fault| fault.contains(&words)), "{words:?}: {faults:#?}");
    }
    assert_eq!(faults.len(), ways.len(), "{faults:#?}");
}

#[test]
fn a_crate_that_is_reached_through_another_is_found() {
    let through = packages(&[("compat-dynamo", &["extra"]), ("extra", &["mux"]), ("mux", &[])]);
    only_fault(&through, &[], "compat-dynamo -> extra -> mux is not allowed");
    let tests = Package {
        dependencies: vec![dependency("sinew-mux", true, Kind::Dev)],
        ..packages(&[("compat-dynamo", &[])]).remove(0)
    };
    assert!(check(&[tests], &[]).is_empty(), "tests may use what they like");
}

#[test]
fn an_exception_that_is_not_needed_is_taken_out() {
    let exception = || Exception { from: "compat-dynamo", to: "transport-tcp", until: "a test" };
    let kept = packages(&[("compat-dynamo", &["plane"]), ("plane", &[])]);
    only_fault(&kept, &[exception()], "Do: take it out of EXCEPTIONS");
    assert!(check(&packages(&[("plane", &[])]), &[exception()]).is_empty());
}

#[test]
fn names_of_other_crates_are_looked_at_in_the_own_manifest_only() {
    let mut found = packages(&[("mux", &["plane"]), ("plane", &[])]);
    found[1].dependencies.push(dependency("tokio", false, Kind::Normal));
    assert!(check(&found, &[]).is_empty());
    found[0].dependencies.push(dependency("tokio", false, Kind::Normal));
    only_fault(&found, &[], "mux must not know tokio");
}

#[test]
fn the_facade_reaches_the_protocol_through_transports_and_does_not_name_it() {
    let mut found = packages(&[
        ("runtime-facade", &["transport-tcp"]),
        ("transport-tcp", &["mux"]),
        ("mux", &[]),
    ]);
    assert!(check(&found, &[]).is_empty());
    found[0].dependencies.push(dependency("sinew-mux", true, Kind::Normal));
    only_fault(&found, &[], "runtime-facade -> mux is not allowed");
}

#[test]
fn the_tables_name_crates_of_the_layer_table_and_each_once() {
    let known: Vec<&str> = LAYERS.iter().flat_map(|layer| layer.crates).copied().collect();
    for (from, groups) in MUST_NOT {
        for name in named(from, groups).into_iter().chain([*from]) {
            assert!(known.contains(&name), "{name} is in no layer");
        }
    }
    for table in [MUST_NOT, MUST_NOT_NAME] {
        for (index, (from, _)) in table.iter().enumerate() {
            assert!(known.contains(from), "{from} is in no layer");
            assert!(table[..index].iter().all(|(name, _)| name != from), "{from} twice");
        }
    }
}

#[test]
fn each_exception_is_about_a_sentence_and_a_crate_that_exists() {
    let packages = Workspace::find().unwrap().packages().unwrap();
    for Exception { from, to, .. } in EXCEPTIONS {
        let row = MUST_NOT.iter().find(|(name, _)| name == from);
        assert!(row.is_some_and(|(_, groups)| named(from, groups).contains(to)), "{from}, {to}");
        assert!(exists(&packages, from), "{from} is no crate any more");
    }
}
