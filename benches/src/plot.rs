//! `docs/benchmarks.svg`: how much of the raw muxes' performance each peer reaches.
//!
//! One row per target that is a ratio to a raw mux, a bar per peer: 1 is as good as the raw mux
//! in the same round, for latencies, CPU and memory turned around, so that longer is better
//! everywhere. The target is a mark across the row.

use sinew_svg::{FAINT, INK, Picture, RED, SOFT_INK, Type};

use crate::{
    Contestant, Results, Workload,
    report::{
        measures::{Better, Measure, number},
        targets::{self, Bound, Of, Target},
    },
};

const WIDTH: f64 = 960.0;
/// Where bars begin: right of the widest line of a title, see the test.
const LEFT: f64 = 440.0;
const RIGHT: f64 = 64.0;
const TOP: f64 = 104.0;
const BAR: f64 = 13.0;
const GAP: f64 = 13.0;

/// Longer bars are cut here; their number stands beside them.
const MOST: f64 = 2.0;

const TITLE: &str = "Share of the raw mux that is reached";

const HEADING: Type = Type { size: 19, colour: INK, bold: false, anchor: "start" };
const LEGEND: Type = Type { size: 13, colour: SOFT_INK, bold: false, anchor: "start" };
const NAME: Type = Type { size: 13, colour: INK, bold: false, anchor: "start" };
const TICK: Type = Type { size: 12, colour: SOFT_INK, bold: false, anchor: "middle" };
const GROUP: Type = Type { size: 12, colour: INK, bold: false, anchor: "end" };
const MEASURE: Type = Type { size: 12, colour: SOFT_INK, bold: false, anchor: "end" };
const TARGET: &str = RED;

/// One colour per peer in the order of the report, over again when there are more.
const COLOURS: [&str; 8] =
    ["#2563a8", "#6aa5e0", "#2b7a4b", "#8a6bbf", "#c98a2b", "#5f6c7b", "#b0413e", "#3aa6a0"];

/// Those that are drawn when there are too many to tell apart.
const DRAWN: [&str; 8] =
    ["sinew", "sinew-tcp", "tonic-prost", "tarpc", "quic", "nats", "velo-mux", "dynamo"];

struct Row {
    /// The group of the measure, and within it the measure: a line each.
    title: [String; 2],
    /// One for each drawn peer.
    shares: Vec<Option<f64>>,
    target: f64,
}

/// Draws the picture.
pub(crate) fn draw(peers: &[&dyn Contestant], workloads: &[Workload], results: &Results) -> String {
    let is_limit = |name| targets::ALL.iter().any(|it| base(it) == Some(name));
    let mut names: Vec<_> =
        peers.iter().map(|peer| peer.name()).filter(|name| !is_limit(name)).collect();
    if names.len() > COLOURS.len() {
        names.retain(|name| DRAWN.contains(name));
    }
    let targets = targets::of_run(workloads);
    let rows: Vec<_> =
        targets.into_iter().filter_map(|target| row(target, &names, results)).collect();
    let row_height = bars_height(names.len()) + GAP;
    let bottom = TOP + row_height * rows.len() as f64;
    let mut picture = Picture::new(WIDTH, bottom + 44.0);
    picture.text((24, 30), TITLE, HEADING);
    let legend = "1 is as good as the raw mux named in the row, measured in the same round; \
                  longer is better";
    picture.text((24, 54), legend, LEGEND);
    key(&mut picture, &names);
    let scale = Scale::of(&rows);
    axis(&mut picture, scale, bottom);
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut picture, scale, row, TOP + row_height * index as f64 + GAP / 2.0);
    }
    picture.finish(TITLE)
}

/// Of the bars of a row; at least two lines of text.
fn bars_height(bars: usize) -> f64 {
    (BAR * bars as f64).max(36.0)
}

/// The raw mux that a target is a ratio to. A ratio between peers that are drawn has no row.
fn base(target: &Target) -> Option<&'static str> {
    match target.of {
        Of::Peer(name) if name.starts_with("raw-") => Some(name),
        _ => None,
    }
}

fn row(target: &Target, names: &[&str], results: &Results) -> Option<Row> {
    let base = base(target)?;
    let measure = Measure::find(target.workload, target.metric)?;
    let as_share = |ratio: f64| match measure.better {
        Better::Higher => ratio,
        Better::Lower => 1.0 / ratio,
    };
    let share =
        |name: &&str| results.ratio(target.workload, target.metric, name, base).map(as_share);
    let shares: Vec<_> = names.iter().map(share).collect();
    let (Bound::AtMost(bound) | Bound::AtLeast(bound)) = target.bound;
    let group = measure.group().map_or(measure.workload, |group| group.title);
    let title = [group.to_owned(), format!("{} ({base})", measure.title())];
    let is_measured = shares.iter().any(Option::is_some);
    is_measured.then(|| Row { title, shares, target: as_share(bound) })
}

fn key(picture: &mut Picture, names: &[&str]) {
    // From the margin, because all peers do not fit right of the titles.
    let mut x = 24.0;
    for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
        picture.bar((x, 72), (12, 12), colour);
        picture.text((x + 18.0, 78), name, NAME);
        x += 40.0 + 8.0 * name.len() as f64;
    }
    picture.bar((x, 70), (3, 16), TARGET);
    picture.text((x + 9.0, 78), "target", NAME);
}

/// Where a share stands; the axis goes from 0 to `most`.
#[derive(Clone, Copy)]
struct Scale {
    most: f64,
}

impl Scale {
    /// Up to the longest bar, in halves.
    fn of(rows: &[Row]) -> Self {
        let shares = rows.iter().flat_map(|row| row.shares.iter().flatten());
        let longest = shares.copied().fold(1.0, f64::max);
        Self { most: ((longest * 2.0).ceil() / 2.0).min(MOST) }
    }

    fn position(self, share: f64) -> f64 {
        LEFT + share.min(self.most) / self.most * (WIDTH - LEFT - RIGHT)
    }
}

fn axis(picture: &mut Picture, scale: Scale, bottom: f64) {
    let quarters = (scale.most * 4.0).round() as u32;
    for quarter in 0..=quarters {
        let share = f64::from(quarter) / 4.0;
        let x = scale.position(share);
        let colour = if quarter == 4 { INK } else { FAINT };
        picture.bar((x - 0.5, TOP), (1, bottom - TOP), colour);
        picture.text((x, bottom + 16.0), &format!("{share:.2}"), TICK);
    }
}

fn draw_row(picture: &mut Picture, scale: Scale, row: &Row, top: f64) {
    let height = bars_height(row.shares.len());
    let [group, title] = &row.title;
    let middle = top + height / 2.0;
    picture.text((LEFT - 12.0, middle - 8.0), group, GROUP);
    picture.text((LEFT - 12.0, middle + 8.0), title, MEASURE);
    for (index, (share, colour)) in row.shares.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let Some(share) = share else { continue };
        let y = top + BAR * index as f64;
        picture.bar((LEFT, y + 1.0), (scale.position(*share) - LEFT, BAR - 2.0), colour);
        picture.text((WIDTH - 16.0, y + BAR / 2.0), &number(*share), GROUP);
    }
    picture.bar((scale.position(row.target) - 1.5, top - 2.0), (3, height + 4.0), TARGET);
}

#[cfg(test)]
mod tests {
    use sinew_svg::text_width;

    use super::*;

    #[test]
    fn no_title_is_cut_at_the_left() {
        for target in targets::ALL.iter().filter(|target| base(target).is_some()) {
            let mut results = Results::default();
            let sample = crate::Sample::default().with(target.metric, 1.0);
            for peer in ["sinew-tcp", "raw-mux", "raw-muxi"] {
                results.add(0, target.workload, peer, sample.clone());
            }
            let row = row(target, &["sinew-tcp"], &results).unwrap();
            for line in row.title {
                let width = text_width(&line, GROUP);
                assert!(width <= LEFT - 12.0 - 8.0, "{line:?} may take {width}");
            }
        }
    }

    #[test]
    fn the_key_fits_beside_its_last_name() {
        let words: f64 = DRAWN.iter().map(|name| 40.0 + 8.0 * name.len() as f64).sum();
        assert!(24.0 + words + 9.0 + text_width("target", NAME) < WIDTH, "{words}");
        for name in DRAWN {
            assert!(18.0 + text_width(name, NAME) < 40.0 + 8.0 * name.len() as f64, "{name}");
        }
    }
}
