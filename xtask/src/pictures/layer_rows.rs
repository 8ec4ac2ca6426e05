//! The layer table, highest layer on top, as far as its crates exist.

use sinew_svg::{
    BLUE, BLUE_FILL, FAINT, GREEN, GREEN_FILL, INK, Picture, SOFT_INK, Stroke, Type, text_width,
};

use crate::layers::{LAYERS, Layer};

const TITLE: &str = "The crates of Sinew in their layers, the highest on top. A crate depends \
                     only on crates in lower layers.";

const NAME: Type = Type { size: 15, colour: INK, bold: false, anchor: "middle" };
const LEVEL: Type = Type { size: 20, colour: SOFT_INK, bold: true, anchor: "middle" };
const CAPTION: Type = Type { size: 14, colour: SOFT_INK, bold: false, anchor: "start" };
const RULE: Stroke = Stroke { colour: FAINT, width: 1.0, dashed: false, arrow: false };

const WIDTH: i32 = 1050;
/// Where crate names begin, and where they have to end; captions follow.
const NAMES: std::ops::Range<i32> = 84..690;
const CAPTIONS_X: i32 = 714;

const BOX_HEIGHT: i32 = 34;
/// Between a name and the sides of its box.
const SIDE: i32 = 10;
const GAP: i32 = 10;
const ROW_PADDING: i32 = 12;
const MARGIN: i32 = 14;

/// What stands beside the box of `testkit`.
const BESIDE: &str = "beside the layers, for tests only";

/// Draws the rows whose crates exist; `exists` is asked for each folder name.
pub(super) fn draw(exists: &dyn Fn(&str) -> bool) -> String {
    let rows: Vec<(&Layer, Vec<Placed>)> = LAYERS
        .iter()
        .rev()
        .map(|layer| (layer, placed(layer.crates.iter().copied().filter(|name| exists(name)))))
        .filter(|(_, names)| !names.is_empty())
        .collect();
    let testkit = exists("testkit");
    let mut height: i32 = rows.iter().map(|(_, names)| row_height(names)).sum();
    height += 2 * MARGIN + if testkit { row_height(&placed(["testkit"])) } else { 0 };
    let mut picture = Picture::new(WIDTH, height);
    let mut y = MARGIN;
    for (layer, names) in &rows {
        row(&mut picture, y, &layer.level.to_string(), names, layer.owns, (BLUE_FILL, BLUE));
        y += row_height(names);
        let is_last = layer.level == rows.last().map_or(0, |(last, _)| last.level);
        if testkit || !is_last {
            picture.line((24, y), (WIDTH - 24, y), RULE);
        }
    }
    if testkit {
        row(&mut picture, y, "", &placed(["testkit"]), BESIDE, (GREEN_FILL, GREEN));
    }
    picture.finish(TITLE)
}

/// A crate's box, from the top left of its row.
struct Placed {
    name: &'static str,
    x: i32,
    line: i32,
    width: i32,
}

/// Sets names side by side, on a new line when the space is used up.
fn placed(names: impl IntoIterator<Item = &'static str>) -> Vec<Placed> {
    let (mut x, mut line) = (NAMES.start, 0);
    let mut placed = Vec::new();
    for name in names {
        // A name is a few hundred units wide at the most.
        let width = text_width(name, NAME).ceil() as i32 + 2 * SIDE;
        if x > NAMES.start && x + width > NAMES.end {
            (x, line) = (NAMES.start, line + 1);
        }
        placed.push(Placed { name, x, line, width });
        x += width + GAP;
    }
    placed
}

fn row_height(names: &[Placed]) -> i32 {
    let lines = names.last().map_or(0, |last| last.line) + 1;
    lines * BOX_HEIGHT + (lines - 1) * GAP + 2 * ROW_PADDING
}

fn row(
    picture: &mut Picture,
    y: i32,
    level: &str,
    names: &[Placed],
    caption: &str,
    colours: (&str, &str),
) {
    let middle = y + row_height(names) / 2;
    picture.text((48, middle), level, LEVEL);
    picture.text((CAPTIONS_X, middle), caption, CAPTION);
    for Placed { name, x, line, width } in names {
        let top = y + ROW_PADDING + line * (BOX_HEIGHT + GAP);
        picture.rectangle((*x, top), (*width, BOX_HEIGHT), colours);
        picture.text((x + width / 2, top + BOX_HEIGHT / 2), name, NAME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_do_not_exist_are_not_shown() {
        let picture = draw(&|folder| ["codec", "cli"].contains(&folder));
        assert!(picture.contains(">codec</text>") && picture.contains(">cli</text>"));
        assert!(!picture.contains("router") && !picture.contains("testkit"));
    }

    #[test]
    fn names_stay_inside_their_column() {
        let all = LAYERS.iter().flat_map(|layer| placed(layer.crates.iter().copied()));
        for Placed { name, x, width, .. } in all {
            assert!(x >= NAMES.start && x + width <= NAMES.end, "{name}");
            assert!(f64::from(width) >= text_width(name, NAME) + 12.0, "{name} fills its box");
        }
    }

    #[test]
    fn captions_stay_on_the_sheet() {
        for caption in LAYERS.iter().map(|layer| layer.owns).chain([BESIDE]) {
            let end = f64::from(CAPTIONS_X) + text_width(caption, CAPTION);
            assert!(end <= f64::from(WIDTH) - 8.0, "{caption:?} ends at {end}");
        }
    }
}
