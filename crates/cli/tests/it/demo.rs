//! The demo ends well, quickly, and adds up.

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::world::{Running, World, assert_code, stderr, stdout};

/// The numbers of a row of the table.
fn row(table: &str, name: &str) -> Option<Vec<u64>> {
    let line = table.lines().find(|line| line.contains(name))?;
    Some(line.split(['│', '┆']).filter_map(|cell| cell.trim().parse().ok()).collect())
}

#[test]
fn nothing_is_lost_and_the_table_adds_up() {
    let world = World::new();
    let file = world.file("text", "the quick brown fox jumps over the lazy dog ".repeat(100));
    let begun = Instant::now();
    let output = world.run(["demo".as_ref(), file.as_os_str()]);
    assert_code(&output, 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "took {:?}", begun.elapsed());

    let table = stdout(&output);
    let all = row(&table, "│ all").unwrap();
    let [requests, complete, truncated, unknown, lost, items] = all[..] else { panic!("{table}") };
    assert_eq!((requests, lost), (300, 0), "{table}");
    assert_eq!(requests, complete + truncated + unknown, "{table}");
    assert!(items >= complete * 900 && items <= (complete + truncated) * 900, "{table}");
    assert!(truncated >= 1, "the kill came midway: {table}");
    let mut sums = vec![0; 6];
    // The number of a worker stands in a cell of its own and is not of the sum.
    for (name, skip) in [("│ 1 ", 1), ("│ 2 (killed)", 0), ("│ 3 ", 1), ("│ no answer", 0)]
    {
        for (sum, number) in
            sums.iter_mut().zip(row(&table, name).unwrap_or_default().into_iter().skip(skip))
        {
            *sum += number;
        }
    }
    assert_eq!(sums, all, "{table}");
    assert!(stderr(&output).contains("SIGKILL to worker 2"), "{}", stderr(&output));
    // There are truncated ones in the table, so "nothing is lost" alone would not be true.
    assert!(table.contains("\nNothing is lost silently. 300 requests = "), "{table}");

    // In the second half every stream outlives its connections and its worker.
    let second = row(&table, "│ 200 ").unwrap();
    assert_eq!(second, [200, 200, 0, 120_000, 0, 0, 0], "{table}");
    let words: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    let [cut, .., moves, "times."] = words[..] else { panic!("{table}") };
    assert!(cut.parse::<u64>().unwrap() >= 6, "two cuts of three connections: {table}");
    assert!(moves.parse::<u64>().unwrap() >= 200, "each worker was replaced: {table}");
}

/// Requests that another worker served after the killed one could not.
fn failed_over(table: &str) -> u64 {
    let line = table.lines().find(|line| line.starts_with("failed over")).unwrap();
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

#[test]
fn every_run_shows_a_fail_over() {
    let world = World::new();
    // Of long streams many are midway when the worker is killed; of one word none may be.
    for words in [1_usize, 3, 40, 900, 900] {
        let file = world.file("text", "word ".repeat(words));
        let output = world.run(["demo".as_ref(), file.as_os_str()]);
        assert_code(&output, 0);
        let table = stdout(&output);
        assert!(failed_over(&table) >= 1, "{words} words: {table}\n{}", stderr(&output));
    }
}

#[test]
fn an_interruption_ends_it() {
    let world = World::new();
    let file = world.file("text", "word ".repeat(1_000));
    let mut command = world.sinew(["demo"]);
    command.arg(file);
    let (demo, mut lines) = Running::start_listening(command);
    lines.read_line(&mut String::new()).unwrap();
    demo.signal(Signal::INT);
    assert_code(&demo.finish(), 130);
}
