//! `docs/benchmarks.svg`: how much of the raw muxes' performance each peer reaches.
//!
//! One row per target that is a ratio to a raw mux, a bar per peer: 1 is as good as the raw mux
//! in the same round, for latencies, CPU and memory turned around, so that longer is better
//! everywhere. The target is a mark across the row.

use std::fmt::Write;

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

const INK: &str = "#1f2933";
const SOFT_INK: &str = "#5f6c7b";
const FAINT: &str = "#d5dce4";
const TARGET: &str = "#c0392b";

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
    let mut picture = Picture::default();
    picture.text(24.0, 36.0, 19, INK, "start", "Share of the raw mux that is reached");
    let legend = "1 is as good as the raw mux named in the row, measured in the same round; \
                  longer is better";
    picture.text(24.0, 58.0, 13, SOFT_INK, "start", legend);
    key(&mut picture, &names);
    let scale = Scale::of(&rows);
    axis(&mut picture, scale, bottom);
    for (index, row) in rows.iter().enumerate() {
        draw_row(&mut picture, scale, row, TOP + row_height * index as f64 + GAP / 2.0);
    }
    picture.finish(bottom + 44.0)
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
        picture.rectangle(x, 72.0, 12.0, 12.0, colour);
        picture.text(x + 18.0, 82.0, 13, INK, "start", name);
        x += 40.0 + 8.0 * name.len() as f64;
    }
    picture.rectangle(x, 70.0, 3.0, 16.0, TARGET);
    picture.text(x + 9.0, 82.0, 13, INK, "start", "target");
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
        picture.rectangle(x - 0.5, TOP, 1.0, bottom - TOP, colour);
        picture.text(x, bottom + 20.0, 12, SOFT_INK, "middle", &format!("{share:.2}"));
    }
}

fn draw_row(picture: &mut Picture, scale: Scale, row: &Row, top: f64) {
    let height = bars_height(row.shares.len());
    let [group, title] = &row.title;
    picture.text(LEFT - 12.0, top + height / 2.0 - 4.0, 12, INK, "end", group);
    picture.text(LEFT - 12.0, top + height / 2.0 + 12.0, 12, SOFT_INK, "end", title);
    for (index, (share, colour)) in row.shares.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let Some(share) = share else { continue };
        let y = top + BAR * index as f64;
        picture.rectangle(LEFT, y + 1.0, scale.position(*share) - LEFT, BAR - 2.0, colour);
        picture.text(WIDTH - 16.0, y + BAR - 2.5, 12, INK, "end", &number(*share));
    }
    picture.rectangle(scale.position(row.target) - 1.5, top - 2.0, 3.0, height + 4.0, TARGET);
}

#[derive(Default)]
struct Picture(String);

impl Picture {
    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        // Writing to a String cannot fail; the same below.
        let _ = writeln!(
            self.0,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        );
    }

    fn text(&mut self, x: f64, y: f64, size: u32, fill: &str, anchor: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.0,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    fn finish(&self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n\
             <title>Share of the raw mux that is reached</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that a line takes, in the widest font that stands in for the named ones.
    fn widest(text: &str, size: f64) -> f64 {
        let letter = |letter| match letter {
            'i' | 'j' | 'l' => 0.28,
            ' ' | '.' | ',' | ':' | '(' | ')' | '-' | 'f' | 'r' | 't' => 0.42,
            'm' | 'w' | 'M' | 'W' | '%' => 0.99,
            letter if letter.is_uppercase() => 0.79,
            _ => 0.64,
        };
        text.chars().map(letter).sum::<f64>() * size
    }

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
                let width = widest(&line, 12.0);
                assert!(width <= LEFT - 12.0 - 8.0, "{line:?} may take {width}");
            }
        }
    }

    #[test]
    fn the_key_fits_beside_its_last_name() {
        let words: f64 = DRAWN.iter().map(|name| 40.0 + 8.0 * name.len() as f64).sum();
        assert!(24.0 + words + 9.0 + widest("target", 13.0) < WIDTH, "{words}");
        for name in DRAWN {
            assert!(18.0 + widest(name, 13.0) < 40.0 + 8.0 * name.len() as f64, "{name}");
        }
    }
}
