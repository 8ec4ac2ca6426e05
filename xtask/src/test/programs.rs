//! All test programs of a build: in which order they run, and what is said in the end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::program::Program;
use crate::side_by_side::{self, Ended, Job};
use crate::steps::seconds;

/// Programs that have the machine to themselves: their package, their target, and why. All others
/// look at what is theirs: their own memory, descriptors, children and connections.
const ALONE: &[(&str, &str, &str)] = &[(
    "sinew-benches",
    "smoke",
    "keeps all cores busy, so that the limits in time of others would not hold, and looks at rates",
)];

/// Those that take longest, the longest first: what begins last should be short.
const FIRST: &[(&str, &str)] = &[
    ("sinew-cli", "it"),
    ("sinew-tests", "outages"),
    ("sinew-transport-tcp", "it"),
    ("sinew-discovery", "sinew_discovery"),
    ("sinew-guards", "programs"),
    ("sinew-discovery", "etcd"),
    ("sinew-split", "it"),
    ("sinew-transport-nats", "it"),
    ("sinew-discovery", "dns"),
];

/// One that takes longer hangs: the longest takes two minutes, or three on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// More at a time than there are cores, because a test waits more than it computes: for a peer, for a
/// limit in time, for a process to end.
const MORE_THAN_CORES: usize = 1;

/// At the most, because each has as many threads as there are cores, and limits in time do not hold
/// with too many of them.
const MOST_AT_A_TIME: usize = 4;

/// Runs all, with these variables beside their own; what they print is kept in `logs`. Fails in the
/// end with the names of all that failed.
pub(super) fn run(programs: Vec<Program>, variables: &[(&str, String)], logs: &Path) -> Result<()> {
    let job = |program: Program| {
        let mut command = program.command();
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let log = logs.join(format!("{}.log", program.word()));
        Job { name: program.name(), command, limit: LIMIT, log }
    };
    let at_a_time = (side_by_side::cores() + MORE_THAN_CORES).min(MOST_AT_A_TIME);
    println!("{} test programs, {at_a_time} at a time", programs.len());
    let (together, alone) = ordered(programs);
    let mut ended = side_by_side::run(together.into_iter().map(job).collect(), at_a_time);
    for program in alone {
        println!("\n{} runs alone: it {}", program.name(), reason(&program).unwrap_or_default());
        ended.extend(side_by_side::run(vec![job(program)], 1));
    }
    summary(&mut ended)
}

/// Those that run side by side, in their order, and those that run alone.
fn ordered(programs: Vec<Program>) -> (Vec<Program>, Vec<Program>) {
    let (alone, mut together): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| reason(program).is_some());
    together.sort_by_key(|program| {
        let place = FIRST.iter().position(|&(package, target)| is(program, package, target));
        place.unwrap_or(FIRST.len())
    });
    (together, alone)
}

/// Why it runs alone, if it does.
fn reason(program: &Program) -> Option<&'static str> {
    let rule = ALONE.iter().find(|&&(package, target, _)| is(program, package, target));
    rule.map(|&(.., reason)| reason)
}

fn is(program: &Program, package: &str, target: &str) -> bool {
    program.package == package && program.target == target
}

/// Names what failed: the programs, and the tests in them.
fn summary(ended: &mut [Ended]) -> Result<()> {
    let time: Duration = ended.iter().map(|one| one.took).sum();
    println!("\n{} test programs ran, {} one by one", ended.len(), seconds(time));
    ended.sort_by(|a, b| a.name.cmp(&b.name));
    let failed: Vec<_> = ended.iter().filter_map(failed).collect();
    match failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} test programs failed:\n{}", ended.len(), failed.join("\n")),
    }
}

/// A line about it, if it failed.
fn failed(one: &Ended) -> Option<String> {
    let failure = one.failure.as_deref()?;
    let output = fs::read(&one.log).unwrap_or_default();
    let tests = failed_tests(&String::from_utf8_lossy(&output)).join(", ");
    let mark = if tests.is_empty() { "" } else { ": " };
    Some(format!("  {} ({failure}){mark}{tests}", one.name))
}

/// The tests that failed, in the output of a test program.
fn failed_tests(output: &str) -> Vec<&str> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.trim_end().strip_suffix(" ... FAILED"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::program::tests::shell;
    use crate::workspace::Workspace;

    #[test]
    fn the_longest_begin_and_those_that_run_alone_come_last() {
        let programs = [
            ("sinew-benches", "sinew_benches"),
            ("sinew-benches", "smoke"),
            ("sinew-tests", "outages"),
            ("sinew-cli", "it"),
        ];
        let programs = programs.map(|(package, target)| {
            let mut program = shell(target, "exit 0");
            program.package = package.to_owned();
            program
        });
        let (together, alone) = ordered(programs.to_vec());
        let names = |programs: &[Program]| programs.iter().map(Program::name).collect::<Vec<_>>();
        let expected = ["sinew-cli it", "sinew-tests outages", "sinew-benches sinew_benches"];
        assert_eq!(names(&together), expected);
        assert_eq!(names(&alone), ["sinew-benches smoke"]);
    }

    /// A rule for a test that has been renamed would say nothing.
    #[test]
    fn every_rule_is_about_a_test_that_is_there() {
        let packages = Workspace::find().unwrap().packages().unwrap();
        let alone = ALONE.iter().map(|&(package, target, _)| (package, target));
        for (name, target) in alone.chain(FIRST.iter().copied()) {
            let package = packages.iter().find(|package| package.name == name).unwrap();
            let tests = package.directory.join("tests");
            let is_library = package.has_library && target == name.replace('-', "_");
            let is_there = is_library
                || tests.join(target).join("main.rs").is_file()
                || tests.join(format!("{target}.rs")).is_file();
            assert!(is_there, "{name} has no test {target}");
        }
    }

    #[test]
    fn a_program_has_its_own_variables_and_those_of_the_servers() {
        let folder = tempfile::tempdir().unwrap();
        let program = shell("x", "[ \"$TARGET_OF_TEST $SINEW_TEST_X\" = 'x there' ]");
        let variables = [("SINEW_TEST_X", "there".to_owned())];
        run(vec![program.clone()], &variables, folder.path()).unwrap();
        assert!(run(vec![program], &[], folder.path()).is_err());
    }

    #[test]
    fn every_program_that_fails_is_named_with_its_tests() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'test a::b ... ok'; echo 'test a::c ... FAILED'; exit 101";
        let programs = vec![shell("x", script), shell("y", "kill -9 $$"), shell("z", "exit 0")];
        let error = run(programs, &[], folder.path()).unwrap_err().to_string();
        let [first, x, y] = error.lines().collect::<Vec<_>>()[..] else { panic!("{error}") };
        assert_eq!(first, "2 of 3 test programs failed:");
        assert_eq!(x, "  some x (exit status: 101): a::c");
        assert!(y.starts_with("  some y (signal: 9"), "{y}");
    }
}
