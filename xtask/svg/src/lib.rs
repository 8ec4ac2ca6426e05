//! Drawing simple flat pictures as SVG text.
//!
//! Places and sizes are in pixels, from the top left, and are written to a tenth of one.

use std::fmt::Write;

/// Readable on any system without shipping a font.
const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";

/// The darkest ink, for text.
pub const INK: &str = "#1f2933";
/// Ink of captions.
pub const SOFT_INK: &str = "#5f6c7b";
/// Ink of rules and axes.
pub const FAINT: &str = "#c3ccd6";
/// For what is usual.
pub const BLUE: &str = "#2563a8";
/// Inside of a blue border; dark text on it is easy to read, as on the other fills.
pub const BLUE_FILL: &str = "#e3eefa";
/// For what is of another kind.
pub const GREEN: &str = "#2b7a4b";
/// Inside of a green border.
pub const GREEN_FILL: &str = "#e2f3e8";
/// For what has to be seen.
pub const RED: &str = "#c0392b";
/// Inside of a grey border.
pub const GREY_FILL: &str = "#f1f4f7";

/// A picture on a white, rounded sheet, so that it reads on light and dark pages alike.
#[derive(Debug)]
pub struct Picture {
    body: String,
    width: f64,
    height: f64,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Stroke {
    /// Of the line and its arrowhead.
    pub colour: &'static str,
    /// Of the line.
    pub width: f32,
    /// In dashes.
    pub dashed: bool,
    /// With an arrowhead at its end.
    pub arrow: bool,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    /// Of the font.
    pub size: u32,
    /// Of the letters.
    pub colour: &'static str,
    /// In bold letters.
    pub bold: bool,
    /// `start`, `middle` or `end`, seen from the given point.
    pub anchor: &'static str,
}

impl Picture {
    /// An empty sheet.
    pub fn new(width: impl Into<f64>, height: impl Into<f64>) -> Self {
        Self { body: String::new(), width: tenth(width), height: tenth(height) }
    }

    /// A box with round corners, in the colours of its inside and its border.
    pub fn rectangle(
        &mut self,
        corner: (impl Into<f64>, impl Into<f64>),
        size: (impl Into<f64>, impl Into<f64>),
        colours: (&str, &str),
    ) {
        self.bordered(corner, size, colours, "");
    }

    /// The same with a dashed border.
    pub fn dashed_rectangle(
        &mut self,
        corner: (impl Into<f64>, impl Into<f64>),
        size: (impl Into<f64>, impl Into<f64>),
        colours: (&str, &str),
    ) {
        self.bordered(corner, size, colours, r#" stroke-dasharray="7 4""#);
    }

    fn bordered(
        &mut self,
        corner: (impl Into<f64>, impl Into<f64>),
        size: (impl Into<f64>, impl Into<f64>),
        (fill, border): (&str, &str),
        dashes: &str,
    ) {
        let look = format!(r#"rx="8" fill="{fill}" stroke="{border}" stroke-width="1.5"{dashes}"#);
        self.rect(corner, size, &look);
    }

    /// A bar of a chart: no border, sharp corners.
    pub fn bar(
        &mut self,
        corner: (impl Into<f64>, impl Into<f64>),
        size: (impl Into<f64>, impl Into<f64>),
        fill: &str,
    ) {
        self.rect(corner, size, &format!(r#"fill="{fill}""#));
    }

    fn rect(
        &mut self,
        (x, y): (impl Into<f64>, impl Into<f64>),
        (width, height): (impl Into<f64>, impl Into<f64>),
        look: &str,
    ) {
        let (x, y, width, height) = (tenth(x), tenth(y), tenth(width), tenth(height));
        self.push(&format!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" {look}/>"#));
    }

    /// A disc.
    pub fn circle(
        &mut self,
        (x, y): (impl Into<f64>, impl Into<f64>),
        radius: impl Into<f64>,
        fill: &str,
    ) {
        let (x, y, radius) = (tenth(x), tenth(y), tenth(radius));
        self.push(&format!(r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>"#));
    }

    /// One line of text; `y` is the middle of the letters.
    pub fn text(&mut self, (x, y): (impl Into<f64>, impl Into<f64>), text: &str, set: Type) {
        let Type { size, colour, bold, anchor } = set;
        let weight = if bold { r#" font-weight="bold""# } else { "" };
        // A third of the size below the middle is where the letters of these fonts stand.
        let (x, y) = (tenth(x), tenth(y.into() + f64::from(size / 3)));
        self.push(&format!(
            r#"<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{}</text>"#,
            escaped(text)
        ));
    }

    /// A straight line or arrow.
    pub fn line(
        &mut self,
        (x, y): (impl Into<f64>, impl Into<f64>),
        (to_x, to_y): (impl Into<f64>, impl Into<f64>),
        stroke: Stroke,
    ) {
        let (from, to) = ((x.into(), y.into()), (to_x.into(), to_y.into()));
        let Stroke { colour, width, dashed, arrow } = stroke;
        let dashes = if dashed { r#" stroke-dasharray="9 6""# } else { "" };
        // The line stops inside its arrowhead, so that the tip is sharp.
        let end = if arrow { towards(to, from, 9.0) } else { to };
        self.push(&format!(
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{colour}" stroke-width="{width}"{dashes}/>"#,
            tenth(from.0),
            tenth(from.1),
            tenth(end.0),
            tenth(end.1)
        ));
        if arrow {
            self.arrowhead(from, to, colour);
        }
    }

    /// Drawn as a shape, because some viewers do not know SVG markers.
    fn arrowhead(&mut self, from: (f64, f64), tip: (f64, f64), colour: &str) {
        let base = towards(tip, from, 12.0);
        // Half as wide as long.
        let (side_x, side_y) = ((base.1 - tip.1) * 0.5, (tip.0 - base.0) * 0.5);
        self.push(&format!(
            r#"<polygon points="{},{} {},{} {},{}" fill="{colour}"/>"#,
            tenth(tip.0),
            tenth(tip.1),
            tenth(base.0 + side_x),
            tenth(base.1 + side_y),
            tenth(base.0 - side_x),
            tenth(base.1 - side_y)
        ));
    }

    /// The finished file; `title` is what a screen reader says.
    pub fn finish(&self, title: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" font-family=\"{FONT}\">\n\
             <title>{}</title>\n\
             <rect x=\"1\" y=\"1\" width=\"{}\" height=\"{}\" rx=\"16\" fill=\"#ffffff\" \
             stroke=\"{FAINT}\"/>\n{}</svg>\n",
            escaped(title),
            tenth(width - 2.0),
            tenth(height - 2.0),
            self.body
        )
    }

    fn push(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// Rounded as it is written. Zero has no sign.
fn tenth(length: impl Into<f64>) -> f64 {
    (length.into() * 10.0).round() / 10.0 + 0.0
}

/// The most that a text of one line takes in any of the fonts, in the picture's units: DejaVu Sans,
/// which stands in on systems that have none of them, is the widest.
pub fn text_width(text: &str, set: Type) -> f64 {
    let bold = if set.bold { 1.14 } else { 1.0 };
    text.chars().map(letter_width).sum::<f64>() * f64::from(set.size) * bold
}

/// Of one letter, as a share of the size.
fn letter_width(letter: char) -> f64 {
    match letter {
        'i' | 'j' | 'l' => 0.28,
        ' ' | '.' | ',' | ':' | ';' | '\'' | '(' | ')' | '-' | 'f' | 'r' | 't' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' => 0.99,
        letter if letter.is_uppercase() => 0.79,
        _ => 0.64,
    }
}

/// The point `distance` away from `start` on the way to `goal`.
fn towards((x, y): (f64, f64), goal: (f64, f64), distance: f64) -> (f64, f64) {
    let (dx, dy) = (goal.0 - x, goal.1 - y);
    let length = dx.hypot(dy).max(1.0);
    (x + dx / length * distance, y + dy / length * distance)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_the_markup() {
        let mut picture = Picture::new(10, 10);
        let set = Type { size: 12, colour: INK, bold: false, anchor: "start" };
        picture.text((0, 0), "a < b & c", set);
        assert!(picture.finish("<x>").contains(">a &lt; b &amp; c</text>"));
        assert!(picture.finish("<x>").contains("<title>&lt;x&gt;</title>"));
    }

    #[test]
    fn a_width_covers_the_widest_font() {
        let set = Type { size: 100, colour: INK, bold: false, anchor: "start" };
        // As DejaVu Sans has them.
        for (text, measured) in [("compat-dynamo", 811.0), ("mmm", 292.2), ("router", 306.7)] {
            let width = text_width(text, set);
            assert!(width >= measured && width < measured * 1.15, "{text}: {width}");
        }
        let bold = Type { bold: true, ..set };
        assert!(text_width("instance 1", bold) > text_width("instance 1", set));
    }

    #[test]
    fn places_are_written_to_a_tenth() {
        let mut picture = Picture::new(10, 10);
        picture.bar((1.0 / 3.0, -0.04), (5, 2.25), INK);
        let text = picture.finish("bar");
        assert!(text.contains(r#"<rect x="0.3" y="0" width="5" height="2.3" "#), "{text}");
    }

    #[test]
    fn an_arrow_ends_at_its_goal() {
        let mut picture = Picture::new(200, 10);
        let stroke = Stroke { colour: INK, width: 2.0, dashed: true, arrow: true };
        picture.line((0, 5), (100, 5), stroke);
        let text = picture.finish("arrow");
        assert!(text.contains(r#"x2="91" y2="5""#), "{text}");
        assert!(text.contains(r#"points="100,5 88,11 88,-1""#), "{text}");
    }
}
