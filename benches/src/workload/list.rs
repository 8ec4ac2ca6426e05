//! The workloads of a run, in the order of the report.

use std::time::Duration;

use super::{Shape, Workload};
use crate::variation::Variation;

const MIB: usize = 1 << 20;
const UNARY_CALLERS: [usize; 4] = [1, 16, 64, 256];
const STREAM_CALLERS: [usize; 3] = [1, 16, 64];
const STREAM_ITEMS: u32 = 256;
const FIVE_MS: Option<Duration> = Some(Duration::from_millis(5));
const TEN_MS: Duration = Duration::from_millis(10);

/// All of them, standard but for what the variation says.
pub(crate) fn list(variation: &Variation) -> Vec<Workload> {
    let (bytes, item_bytes) = (variation.body_bytes() as usize, variation.item_bytes());
    let mut all = Vec::new();
    for callers in variation.callers(&UNARY_CALLERS) {
        all.push(numbered("unary", callers, Shape::Unary { callers, bytes }));
    }
    for callers in variation.callers(&STREAM_CALLERS) {
        let shape = Shape::Stream { callers, items: STREAM_ITEMS, item_bytes };
        all.push(numbered("stream", callers, shape));
    }
    for (name, engines, streams, every) in [
        ("passes-flat", 1, 256, None),
        ("passes-paced", 1, 256, FIVE_MS),
        ("passes-two-flat", 2, 256, None),
        ("passes-two-paced", 2, 256, FIVE_MS),
        ("passes-1024-flat", 2, 1_024, None),
        ("passes-1024-paced", 2, 1_024, FIVE_MS),
    ] {
        let shape = Shape::Passes { engines, callers: 4, streams, every, item_bytes };
        all.push(Workload { name, shape });
    }
    for streams in [64, 512] {
        all.push(numbered("paced", streams, Shape::Paced { streams, every: TEN_MS, item_bytes }));
    }
    for callers in [1, 4] {
        all.push(numbered("large", callers, Shape::Unary { callers, bytes: MIB }));
    }
    all.extend([
        Workload { name: "idle", shape: Shape::Idle { streams: 10_000 } },
        Workload { name: "idle-1000", shape: Shape::Idle { streams: 1_000 } },
        Workload { name: "connect", shape: Shape::Connect },
        Workload { name: "slow", shape: Shape::Slow { callers: 16, item_bytes } },
    ]);
    all
}

impl Workload {
    /// True for what targets are about; false for another number of callers or size of items.
    pub(crate) fn is_standard(&self) -> bool {
        list(&Variation::default()).contains(self)
    }
}

fn numbered(group: &str, number: usize, shape: Shape) -> Workload {
    Workload::named(format!("{group}-{number}"), shape)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        variation: Variation,
    }

    fn varied(options: &str) -> Vec<Workload> {
        let arguments = std::iter::once("bench").chain(options.split_whitespace());
        list(&Cli::try_parse_from(arguments).unwrap().variation)
    }

    #[test]
    fn other_callers_and_items_change_the_small_workloads_alone() {
        let (standard, varied) = (varied(""), varied("--item-bytes 16 --callers 128,4,4"));
        let named = |group: &str| -> Vec<_> {
            let fits = varied.iter().filter(|workload| workload.name.starts_with(group));
            fits.map(|workload| (workload.name, workload.shape)).collect()
        };
        let unary = |callers| Shape::Unary { callers, bytes: 16 };
        assert_eq!(named("unary"), [("unary-4", unary(4)), ("unary-128", unary(128))]);
        let stream = |callers| Shape::Stream { callers, items: 256, item_bytes: 16 };
        assert_eq!(named("stream"), [("stream-4", stream(4)), ("stream-128", stream(128))]);
        for group in ["large", "idle", "connect"] {
            let is_kept = |workload: &&Workload| !workload.name.starts_with(group);
            assert!(varied.iter().filter(|it| !is_kept(it)).all(|it| standard.contains(it)));
        }
        for group in ["unary", "stream", "passes", "paced", "slow"] {
            let of_group = varied.iter().filter(|workload| workload.name.starts_with(group));
            assert!(of_group.into_iter().all(|workload| !standard.contains(workload)), "{group}");
        }
    }

    #[test]
    fn a_workload_comes_through_to_another_process() {
        for workload in varied("--item-bytes 4096") {
            let line = serde_json::to_string(&workload).unwrap();
            assert_eq!(serde_json::from_str::<Workload>(&line).unwrap(), workload);
        }
    }

    #[test]
    fn sizes_that_nothing_can_carry_are_refused() {
        for options in ["--item-bytes 0", "--item-bytes 100000", "--callers 0", "--callers 9999"] {
            let arguments = std::iter::once("bench").chain(options.split_whitespace());
            assert!(Cli::try_parse_from(arguments).is_err(), "{options}");
        }
    }
}
