//! The crates of the plan: solid what is there, dashed what is to come, red what has to go.

use sinew_svg::{BLUE, BLUE_FILL, INK, Picture, RED, SOFT_INK, Stroke, Type, text_width};

use crate::layers::coming::PLAN;

const TITLE: &str = "The planned crates around the mux and the split exchange, the highest on top; \
                     arrows show which crate is to use which. Solid is there today. Dashed is to \
                     come. Red is an edge of today that has to go.";

const NAME: Type = Type { size: 15, colour: INK, bold: false, anchor: "middle" };
const NOTE: Type = Type { size: 12, colour: SOFT_INK, bold: false, anchor: "middle" };
const LEGEND_TYPE: Type = Type { size: 14, colour: SOFT_INK, bold: false, anchor: "start" };

const THERE: Stroke = Stroke { colour: BLUE, width: 1.8, dashed: false, arrow: true };
const TO_COME: Stroke = Stroke { dashed: true, ..THERE };
const TO_GO: Stroke = Stroke { colour: RED, ..THERE };

const LEGEND: [(Stroke, &str); 3] = [
    (THERE, "there today"),
    (TO_COME, "planned, not there yet"),
    (TO_GO, "there today, has to go"),
];

const WIDTH: i32 = 1050;
const BOX_HEIGHT: i32 = 50;
/// Between the middles of two rows.
const PITCH: i32 = 100;
const MARGIN: i32 = 44;

/// Where each crate stands: the middle of its box from the left, and its row from the top.
const PLACES: &[(&str, i32, i32)] = &[
    ("runtime-facade", 400, 0),
    ("compat-dynamo", 900, 1),
    ("split", 900, 2),
    ("transport-tcp", 150, 3),
    ("plane-call-home", 390, 3),
    ("plane-request-tcp", 640, 3),
    ("mux-driver", 150, 4),
    ("mux", 150, 5),
    ("net", 460, 5),
    ("dynamo-wire", 770, 5),
    ("plane", 300, 6),
    ("folder", 540, 7),
    ("codec", 770, 7),
];

/// What the drawing has to know of the tree.
pub(super) struct Tree<'t> {
    pub(super) has_crate: &'t dyn Fn(&str) -> bool,
    /// If the first crate names the second as a dependency.
    pub(super) has_edge: &'t dyn Fn(&str, &str) -> bool,
    /// Edges that the checks allow as exceptions.
    pub(super) exceptions: Vec<(&'static str, &'static str)>,
}

pub(super) fn draw(tree: &Tree<'_>) -> String {
    let rows = PLACES.iter().map(|(_, _, row)| row + 1).max().unwrap_or_default();
    let legend_y = MARGIN + rows * PITCH - PITCH / 4;
    let mut picture = Picture::new(WIDTH, legend_y + MARGIN / 2);
    for planned in PLAN {
        for used in planned.uses {
            let stroke = if (tree.has_edge)(planned.name, used) { THERE } else { TO_COME };
            edge(&mut picture, planned.name, used, stroke);
        }
    }
    for (from, to) in &tree.exceptions {
        if (tree.has_edge)(from, to) {
            edge(&mut picture, from, to, TO_GO);
        }
    }
    for planned in PLAN {
        let is_there = (tree.has_crate)(planned.name);
        name(&mut picture, planned.name, planned.owns, is_there);
    }
    legend(&mut picture, legend_y);
    picture.finish(TITLE)
}

/// The middle of a crate's box.
fn place(name: &str) -> Option<(i32, i32)> {
    let (_, x, row) = PLACES.iter().find(|(known, _, _)| *known == name)?;
    Some((*x, MARGIN + row * PITCH))
}

fn box_width(name: &str, owns: &str) -> i32 {
    // A few hundred units at the most.
    text_width(name, NAME).max(text_width(owns, NOTE)).ceil() as i32 + 16
}

/// From the lower side of one box to the upper side of another.
fn edge(picture: &mut Picture, from: &str, to: &str, stroke: Stroke) {
    let (Some((x, y)), Some((end_x, end_y))) = (place(from), place(to)) else { return };
    // Towards the other box, so that the lines of one box do not begin in one point.
    let towards = |from: i32, to: i32| from + ((to - from) / 8).clamp(-45, 45);
    let start = (towards(x, end_x), y + BOX_HEIGHT / 2);
    picture.line(start, (towards(end_x, x), end_y - BOX_HEIGHT / 2), stroke);
}

fn name(picture: &mut Picture, name: &str, owns: &str, is_there: bool) {
    let Some((x, y)) = place(name) else { return };
    let width = box_width(name, owns);
    let corner = (x - width / 2, y - BOX_HEIGHT / 2);
    if is_there {
        picture.rectangle(corner, (width, BOX_HEIGHT), (BLUE_FILL, BLUE));
    } else {
        picture.dashed_rectangle(corner, (width, BOX_HEIGHT), ("#ffffff", BLUE));
    }
    picture.text((x, y - 9), name, NAME);
    picture.text((x, y + 11), owns, NOTE);
}

fn legend(picture: &mut Picture, y: i32) {
    let mut x = 150;
    for (stroke, text) in LEGEND {
        picture.line((x, y), (x + 52, y), stroke);
        picture.text((x + 64, y), text, LEGEND_TYPE);
        x += 64 + text_width(text, LEGEND_TYPE).ceil() as i32 + 36;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_planned_crate_has_a_place_above_what_it_uses() {
        assert_eq!(PLAN.len(), PLACES.len());
        for planned in PLAN {
            let (_, y) = place(planned.name).unwrap();
            assert!(planned.uses.iter().all(|used| place(used).unwrap().1 > y), "{}", planned.name);
        }
    }

    #[test]
    fn boxes_stay_apart_and_on_the_sheet() {
        let ends = |name: &str| {
            let planned = PLAN.iter().find(|planned| planned.name == name).unwrap();
            let (half, (x, y)) = (box_width(name, planned.owns) / 2, place(name).unwrap());
            (x - half, x + half, y)
        };
        for (name, ..) in PLACES {
            let (left, right, y) = ends(name);
            assert!(left > 8 && right < WIDTH - 8, "{name}: {left} to {right}");
            for (other, ..) in PLACES.iter().filter(|(other, ..)| other != name) {
                let (start, end, row) = ends(other);
                assert!(row != y || right + 8 < start || end + 8 < left, "{name} and {other}");
            }
        }
    }

    #[test]
    fn what_is_planned_is_dashed_and_what_has_to_go_is_red() {
        let drawn = |there: bool| {
            let exceptions = vec![("compat-dynamo", "transport-tcp")];
            draw(&Tree { has_crate: &|_| there, has_edge: &|_, _| there, exceptions })
        };
        let edges: usize = PLAN.iter().map(|planned| planned.uses.len()).sum();
        let dashes = |picture: &str| picture.matches("stroke-dasharray").count();
        assert_eq!(dashes(&drawn(true)), 1, "the sample of the legend");
        assert_eq!(dashes(&drawn(false)), 1 + edges + PLAN.len());
        // A line and its head, and the sample with its head.
        assert_eq!(drawn(true).matches(RED).count(), 4);
        assert_eq!(drawn(false).matches(RED).count(), 2);
    }
}
