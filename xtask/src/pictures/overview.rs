//! How one request becomes a stream, and how the stream goes on over a second connection when the
//! first one is lost.

use sinew_svg::{
    BLUE, BLUE_FILL, FAINT, GREEN, GREEN_FILL, GREY_FILL, INK, Picture, RED, SOFT_INK, Stroke,
    Type, text_width,
};

const TITLE: &str = "A request goes from the caller through the router to one of three instances. \
                     A stream of numbered items comes back. When the connection breaks after item 2, \
                     a second one carries on from item 3.";

const NAME: Type = Type { size: 17, colour: INK, bold: true, anchor: "middle" };
const NOTE: Type = Type { size: 14, colour: SOFT_INK, bold: false, anchor: "middle" };
const NUMBER: Type = Type { size: 15, colour: "#ffffff", bold: true, anchor: "middle" };

const REQUEST: Stroke = Stroke { colour: BLUE, width: 2.5, dashed: false, arrow: true };
const CARRIER: Stroke = Stroke { colour: GREEN, width: 2.5, dashed: false, arrow: true };
const DEAD_CARRIER: Stroke = Stroke { colour: FAINT, width: 2.5, dashed: false, arrow: false };
const NOT_CHOSEN: Stroke = Stroke { colour: FAINT, width: 1.5, dashed: false, arrow: false };
const BREAK: Stroke = Stroke { colour: RED, width: 3.5, dashed: false, arrow: false };

/// Heights of the three lanes between caller and instance.
const REQUEST_Y: i32 = 214;
const FIRST_Y: i32 = 318;
const SECOND_Y: i32 = 382;

/// The line of the legend, below the boxes.
const LEGEND_Y: i32 = 466;
/// How long its samples are, and how far a text stands from its sample.
const SAMPLE: i32 = 52;
const SAMPLE_GAP: i32 = 12;

/// What the kinds of line mean.
const LEGEND: [(Stroke, &str); 2] = [
    (CARRIER, "a connection that carries items"),
    (DEAD_CARRIER, "the rest of the lost connection"),
];

/// Left and right ends of the lanes.
const CALLER_X: i32 = 190;
const INSTANCE_X: i32 = 790;

const WIDTH: i32 = 1000;

/// Between two items.
const PITCH: i32 = 62;

pub(super) fn draw() -> String {
    let mut picture = Picture::new(WIDTH, 498);
    boxes(&mut picture);
    request(&mut picture);
    stream(&mut picture);
    legend(&mut picture);
    picture.finish(TITLE)
}

fn boxes(picture: &mut Picture) {
    let plain = (GREY_FILL, SOFT_INK);
    named(picture, (40, 174), (150, 258), plain, ("caller", "reads items"));
    named(picture, (370, 174), (170, 80), (BLUE_FILL, BLUE), ("router", "picks an instance"));
    named(picture, (370, 40), (170, 66), (BLUE_FILL, BLUE), ("discovery view", "who could serve"));
    named(picture, (INSTANCE_X, 34), (170, 50), plain, ("instance 1", ""));
    named(picture, (INSTANCE_X, 104), (170, 50), plain, ("instance 2", ""));
    let chosen = (GREEN_FILL, GREEN);
    named(picture, (INSTANCE_X, 174), (170, 258), chosen, ("instance 3", "sends items"));
}

fn named(
    picture: &mut Picture,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    colours: (&str, &str),
    (name, note): (&str, &str),
) {
    picture.rectangle((x, y), (width, height), colours);
    let (centre, middle) = (x + width / 2, y + height / 2);
    if note.is_empty() {
        picture.text((centre, middle), name, NAME);
    } else {
        picture.text((centre, middle - 11), name, NAME);
        picture.text((centre, middle + 12), note, NOTE);
    }
}

fn request(picture: &mut Picture) {
    picture.line((540, 190), (INSTANCE_X, 59), NOT_CHOSEN);
    picture.line((540, 202), (INSTANCE_X, 129), NOT_CHOSEN);
    picture.line((455, 106), (455, 174), Stroke { arrow: false, ..REQUEST });
    picture.line((CALLER_X, REQUEST_Y), (370, REQUEST_Y), REQUEST);
    picture.line((540, REQUEST_Y), (INSTANCE_X, REQUEST_Y), REQUEST);
    picture.text((280, REQUEST_Y - 17), "one request", NOTE);
    picture.text((672, REQUEST_Y + 17), "the same request", NOTE);
}

fn stream(picture: &mut Picture) {
    let item_x = |number: i32| CALLER_X + 66 + number * PITCH;
    let break_x = item_x(2) + PITCH;
    picture.line((break_x + 20, FIRST_Y), (INSTANCE_X, FIRST_Y), DEAD_CARRIER);
    picture.line((break_x - 16, FIRST_Y), (CALLER_X, FIRST_Y), CARRIER);
    picture.line((INSTANCE_X, SECOND_Y), (CALLER_X, SECOND_Y), CARRIER);
    for (from, to) in [((-9, -9), (9, 9)), ((-9, 9), (9, -9))] {
        let at = |(x, y): (i32, i32)| (break_x + x, FIRST_Y + y);
        picture.line(at(from), at(to), BREAK);
    }
    for number in 0..6 {
        let at = (item_x(number), if number < 3 { FIRST_Y } else { SECOND_Y });
        picture.circle(at, 16, GREEN);
        picture.text(at, &number.to_string(), NUMBER);
    }
    let note = Type { anchor: "end", ..NOTE };
    picture.text((INSTANCE_X - 20, FIRST_Y - 17), "the first connection breaks after item 2", note);
    picture.text((INSTANCE_X - 20, SECOND_Y + 30), "a second connection goes on with item 3", note);
}

/// In the middle below the boxes, as wide as its texts may be.
fn legend(picture: &mut Picture) {
    let set = Type { anchor: "start", ..NOTE };
    let width = |text: &str| text_width(text, set).ceil() as i32;
    let entry = |text: &str| SAMPLE + SAMPLE_GAP + width(text);
    let between = 3 * SAMPLE_GAP;
    let all: i32 = LEGEND.iter().map(|(_, text)| entry(text)).sum::<i32>() + between;
    let mut x = (WIDTH - all) / 2;
    for (stroke, text) in LEGEND {
        picture.line((x, LEGEND_Y), (x + SAMPLE, LEGEND_Y), Stroke { arrow: false, ..stroke });
        picture.text((x + SAMPLE + SAMPLE_GAP, LEGEND_Y), text, set);
        x += entry(text) + between;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_solid_and_the_legend_is_drawn() {
        let picture = draw();
        for (_, text) in LEGEND {
            assert!(picture.contains(&format!(">{text}</text>")), "{text}");
        }
        assert!(!picture.contains("stroke-dasharray"));
    }

    #[test]
    fn the_legend_fits_below_the_boxes() {
        let set = Type { anchor: "start", ..NOTE };
        let texts: f64 = LEGEND.iter().map(|(_, text)| text_width(text, set)).sum();
        let all = texts + f64::from(2 * (SAMPLE + SAMPLE_GAP) + 3 * SAMPLE_GAP);
        assert!(all < f64::from(WIDTH - 40), "{all}");
    }
}
