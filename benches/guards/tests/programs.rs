//! The programs as `cargo xtask guards` and callgrind run them.

use std::{
    io,
    process::{Command, Output},
};

use sinew_guards::{Load, limits::Count};

fn run(program: &str, arguments: &[&str]) -> io::Result<Output> {
    Command::new(program).args(arguments).output()
}

#[test]
fn every_load_runs_by_itself() {
    for load in Load::ALL {
        let output = run(env!("CARGO_BIN_EXE_sinew-guards-load"), &[load.name(), "2"]).unwrap();
        assert!(output.status.success(), "{load}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn an_unknown_load_fails_by_name() {
    let output = run(env!("CARGO_BIN_EXE_sinew-guards-load"), &["unary-2", "2"]).unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("unary-2"));
}

/// Without optimisation the numbers are others, so only that there are some is looked at.
#[cfg(target_os = "linux")]
#[test]
fn every_count_is_told_beside_its_limit() {
    let output =
        run(env!("CARGO_BIN_EXE_sinew-guards"), &["--no-instructions", "--print"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = |word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!(lines("  allocations  "), Load::ALL.len(), "{text}");
    let untyped = Load::ALL.iter().filter(|load| load.counts().len() == Count::ALL.len()).count();
    assert_eq!(lines("  packets  "), untyped, "{text}");
    assert_eq!(lines("not counted"), Load::ALL.len(), "only instructions:\n{text}");
    assert_eq!(lines("    limit("), sinew_guards::limits::LIMITS.len(), "{text}");
}

#[test]
fn a_valgrind_that_is_not_there_fails_the_run() {
    let output =
        run(env!("CARGO_BIN_EXE_sinew-guards"), &["--valgrind", "no-such-valgrind"]).unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no-such-valgrind"));
}
