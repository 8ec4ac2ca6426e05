//! Drawing simple flat pictures as SVG text.

use std::fmt::Write;

/// Readable on any system without shipping a font.
const FONT: &str = "Helvetica, Arial, 'Liberation Sans', sans-serif";

/// Ink, from the darkest. Light enough fills that dark text on them is easy to read.
pub(crate) const INK: &str = "#1f2933";
pub(crate) const SOFT_INK: &str = "#5f6c7b";
pub(crate) const FAINT: &str = "#c3ccd6";
pub(crate) const BLUE: &str = "#2563a8";
pub(crate) const BLUE_FILL: &str = "#e3eefa";
pub(crate) const GREEN: &str = "#2b7a4b";
pub(crate) const GREEN_FILL: &str = "#e2f3e8";
pub(crate) const RED: &str = "#c0392b";
pub(crate) const GREY_FILL: &str = "#f1f4f7";

/// A picture on a white, rounded sheet, so that it reads on light and dark pages alike.
pub(crate) struct Picture {
    body: String,
    width: u32,
    height: u32,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) colour: &'static str,
    pub(crate) width: f32,
    pub(crate) dashed: bool,
    pub(crate) arrow: bool,
}

/// How a text is set.
#[derive(Clone, Copy)]
pub(crate) struct Type {
    pub(crate) size: u32,
    pub(crate) colour: &'static str,
    pub(crate) bold: bool,
    /// `start`, `middle` or `end`, seen from the given point.
    pub(crate) anchor: &'static str,
}

impl Picture {
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self { body: String::new(), width, height }
    }

    pub(crate) fn rectangle(
        &mut self,
        corner: (i32, i32),
        size: (i32, i32),
        colours: (&str, &str),
    ) {
        self.bordered(corner, size, colours, "");
    }

    pub(crate) fn dashed_rectangle(
        &mut self,
        corner: (i32, i32),
        size: (i32, i32),
        colours: (&str, &str),
    ) {
        self.bordered(corner, size, colours, r#" stroke-dasharray="7 4""#);
    }

    fn bordered(
        &mut self,
        (x, y): (i32, i32),
        (width, height): (i32, i32),
        (fill, border): (&str, &str),
        dashes: &str,
    ) {
        self.push(&format!(
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{border}" stroke-width="1.5"{dashes}/>"#
        ));
    }

    pub(crate) fn circle(&mut self, (x, y): (i32, i32), radius: i32, fill: &str) {
        self.push(&format!(r#"<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}"/>"#));
    }

    /// `y` is the middle of the letters.
    pub(crate) fn text(&mut self, (x, y): (i32, i32), text: &str, set: Type) {
        let Type { size, colour, bold, anchor } = set;
        let weight = if bold { r#" font-weight="bold""# } else { "" };
        // A third of the size below the middle is where the letters of these fonts stand.
        let y = y + size.cast_signed() / 3;
        self.push(&format!(
            r#"<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{weight}>{}</text>"#,
            escaped(text)
        ));
    }

    pub(crate) fn line(&mut self, from: (i32, i32), to: (i32, i32), stroke: Stroke) {
        let Stroke { colour, width, dashed, arrow } = stroke;
        let dashes = if dashed { r#" stroke-dasharray="9 6""# } else { "" };
        // The line stops inside its arrowhead, so that the tip is sharp.
        let end = if arrow { towards(to, from, 9.0) } else { (f64::from(to.0), f64::from(to.1)) };
        self.push(&format!(
            r#"<line x1="{}" y1="{}" x2="{:.1}" y2="{:.1}" stroke="{colour}" stroke-width="{width}"{dashes}/>"#,
            from.0, from.1, end.0, end.1
        ));
        if arrow {
            self.arrowhead(from, to, colour);
        }
    }

    /// Drawn as a shape, because some viewers do not know SVG markers.
    fn arrowhead(&mut self, from: (i32, i32), to: (i32, i32), colour: &str) {
        let (base_x, base_y) = towards(to, from, 12.0);
        let (tip_x, tip_y) = (f64::from(to.0), f64::from(to.1));
        let (along_x, along_y) = (tip_x - base_x, tip_y - base_y);
        // Half as wide as long.
        let (side_x, side_y) = (-along_y * 0.5, along_x * 0.5);
        self.push(&format!(
            r#"<polygon points="{tip_x:.1},{tip_y:.1} {:.1},{:.1} {:.1},{:.1}" fill="{colour}"/>"#,
            base_x + side_x,
            base_y + side_y,
            base_x - side_x,
            base_y - side_y
        ));
    }

    /// The finished file; `title` is what a screen reader says.
    pub(crate) fn finish(&self, title: &str) -> String {
        let (width, height) = (self.width, self.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" font-family=\"{FONT}\">\n\
             <title>{}</title>\n\
             <rect x=\"1\" y=\"1\" width=\"{}\" height=\"{}\" rx=\"16\" fill=\"#ffffff\" \
             stroke=\"{FAINT}\"/>\n{}</svg>\n",
            escaped(title),
            width - 2,
            height - 2,
            self.body
        )
    }

    fn push(&mut self, element: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// The most that a text of one line takes in any of the fonts, in the picture's units: DejaVu Sans,
/// which stands in on systems that have none of them, is the widest.
pub(crate) fn text_width(text: &str, set: Type) -> f64 {
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
fn towards(start: (i32, i32), goal: (i32, i32), distance: f64) -> (f64, f64) {
    let (x, y) = (f64::from(start.0), f64::from(start.1));
    let (dx, dy) = (f64::from(goal.0) - x, f64::from(goal.1) - y);
    let length = dx.hypot(dy).max(1.0);
    (x + dx / length * distance, y + dy / length * distance)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

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
    fn an_arrow_ends_at_its_goal() {
        let mut picture = Picture::new(200, 10);
        let stroke = Stroke { colour: INK, width: 2.0, dashed: true, arrow: true };
        picture.line((0, 5), (100, 5), stroke);
        let text = picture.finish("arrow");
        assert!(text.contains(r#"x2="91.0" y2="5.0""#), "{text}");
        assert!(text.contains(r#"points="100.0,5.0 88.0,11.0 88.0,-1.0""#), "{text}");
    }
}
