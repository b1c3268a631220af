//! A drawn scene as a page of PDF: lines, areas and text in Helvetica, which every reader of PDF has.

use std::fmt::Write as _;

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

/// Widths of the characters from space to `~` of Helvetica, in thousandths of its size.
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];
/// Size and lift of raised digits, as shares of the text's size.
const RAISED: (f64, f64) = (0.7, 0.35);

/// The scene on a page of `width` points, as high as it comes to.
pub fn page(scene: &Scene, width: f64) -> Vec<u8> {
    let scale = width / scene.width;
    let height = scene.height * scale;
    let mut content = format!("{scale:.5} 0 0 {:.5} 0 {height:.3} cm 1 J 1 j\n", -scale);
    for element in &scene.elements {
        draw(&mut content, element);
    }
    let font = |name: &str| {
        format!("<</Type/Font/Subtype/Type1/BaseFont/{name}/Encoding/WinAnsiEncoding>>")
    };
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_string(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_string(),
        format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width:.3} {height:.3}]/Contents 4 0 R/Resources<</Font<</F 5 0 R/B 6 0 \
             R>>/ExtGState<</Full<</ca 1>>/Pale<</ca 0.22>>>>>>>>"
        ),
        format!("<</Length {}>>\nstream\n{content}endstream", content.len()),
        font("Helvetica"),
        font("Helvetica-Bold"),
    ];
    let mut file = "%PDF-1.4\n".to_string();
    let mut places = Vec::new();
    for (i, object) in objects.iter().enumerate() {
        places.push(file.len());
        let _ = write!(file, "{} 0 obj\n{object}\nendobj\n", i + 1);
    }
    let table = file.len();
    let _ = write!(file, "xref\n0 {}\n0000000000 65535 f \n", places.len() + 1);
    for place in &places {
        // Twenty bytes each, the end of the line included.
        let _ = writeln!(file, "{place:010} 00000 n ");
    }
    let _ = write!(
        file,
        "trailer\n<</Size {}/Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n",
        places.len() + 1
    );
    // Text is WinAnsi; everything else is ASCII.
    file.chars().map(|c| c as u32 as u8).collect()
}

fn draw(out: &mut String, element: &Primitive) {
    match element {
        Primitive::Line {
            x1,
            y1,
            x2,
            y2,
            stroke,
            stroke_width,
            stroke_dasharray,
        } => {
            pen(out, stroke, *stroke_width, stroke_dasharray.as_deref());
            let _ = writeln!(out, "{x1:.2} {y1:.2} m {x2:.2} {y2:.2} l S");
        }
        Primitive::PolyLine {
            points,
            stroke,
            stroke_width,
            stroke_dasharray,
        } => {
            pen(out, stroke, *stroke_width, stroke_dasharray.as_deref());
            for (i, (x, y)) in points.iter().enumerate() {
                let _ = write!(out, "{x:.2} {y:.2} {} ", if i == 0 { 'm' } else { 'l' });
            }
            out.push_str("S\n");
        }
        Primitive::Path(path) => {
            let Some(fill) = &path.fill else { return };
            ink(out, fill, "rg");
            let pale = path.opacity.is_some_and(|o| o < 1.0);
            out.push_str(if pale { "/Pale gs " } else { "/Full gs " });
            let mut numbers = Vec::new();
            for word in path.d.split_whitespace() {
                match word.parse::<f64>() {
                    Ok(number) => numbers.push(number),
                    Err(_) => numbers.clear(),
                }
                if let [x, y] = numbers[..] {
                    let first = !out.ends_with(" l ") && !out.ends_with(" m ");
                    let _ = write!(out, "{x:.2} {y:.2} {} ", if first { 'm' } else { 'l' });
                    numbers.clear();
                }
            }
            out.push_str("h f /Full gs\n");
        }
        Primitive::Rect {
            x,
            y,
            width,
            height,
            fill,
            stroke,
            stroke_width,
            opacity,
        } => {
            let area = format!("{x:.2} {y:.2} {width:.2} {height:.2} re");
            if ink(out, fill, "rg") {
                let pale = opacity.is_some_and(|o| o < 1.0);
                let state = if pale { "/Pale gs" } else { "/Full gs" };
                let _ = writeln!(out, "{state} {area} f /Full gs");
            }
            if let Some(stroke) = stroke {
                pen(out, stroke, stroke_width.unwrap_or(1.0), None);
                let _ = writeln!(out, "{area} S");
            }
        }
        Primitive::Circle {
            cx, cy, r, fill, ..
        } if ink(out, fill, "rg") => circle(out, *cx, *cy, *r),
        Primitive::Text {
            x,
            y,
            content,
            size,
            anchor,
            rotate,
            bold,
            color,
        } => {
            let black = Color::Rgb(0, 0, 0);
            ink(out, color.as_ref().unwrap_or(&black), "rg");
            let size = f64::from(*size);
            let pieces = pieces(&content.replace("\\$", "$"));
            let width: f64 = pieces
                .iter()
                .map(|(text, up)| advance(text, size, *up))
                .sum();
            let back = match anchor {
                TextAnchor::Start => 0.0,
                TextAnchor::Middle => width / 2.0,
                TextAnchor::End => width,
            };
            // Upright again in the flipped page, and turned about its place.
            let angle = rotate.unwrap_or(0.0).to_radians();
            let (sin, cos) = angle.sin_cos();
            let start = (x - back * cos, y - back * sin);
            let _ = write!(
                out,
                "BT {cos:.4} {sin:.4} {sin:.4} {:.4} {:.2} {:.2} Tm ",
                -cos, start.0, start.1
            );
            for (text, up) in &pieces {
                let (share, lift) = if *up { RAISED } else { (1.0, 0.0) };
                let font = if *bold { 'B' } else { 'F' };
                let _ = write!(
                    out,
                    "/{font} {:.2} Tf {:.2} Ts ({}) Tj ",
                    size * share,
                    size * lift,
                    text.replace('\\', "\\\\")
                        .replace('(', "\\(")
                        .replace(')', "\\)")
                );
            }
            out.push_str("ET\n");
        }
        _ => {}
    }
}

/// Four curves.
fn circle(out: &mut String, x: f64, y: f64, r: f64) {
    let k = 0.5523 * r;
    let _ = writeln!(
        out,
        "{:.2} {y:.2} m {:.2} {:.2} {:.2} {:.2} {x:.2} {:.2} c {:.2} {:.2} {:.2} {:.2} {:.2} {y:.2} c {:.2} {:.2} {:.2} {:.2} {x:.2} \
         {:.2} c {:.2} {:.2} {:.2} {:.2} {:.2} {y:.2} c f",
        x + r,
        x + r,
        y + k,
        x + k,
        y + r,
        y + r,
        x - k,
        y + r,
        x - r,
        y + k,
        x - r,
        x - r,
        y - k,
        x - k,
        y - r,
        y - r,
        x + k,
        y - r,
        x + r,
        y - k,
        x + r
    );
}

fn pen(out: &mut String, colour: &Color, width: f64, dash: Option<&str>) {
    ink(out, colour, "RG");
    let _ = write!(out, "{width:.2} w [{}] 0 d ", dash.unwrap_or(""));
}

/// Sets a colour; false for none.
fn ink(out: &mut String, colour: &Color, operator: &str) -> bool {
    let share = |c: u8| f64::from(c) / 255.0;
    match colour {
        Color::Rgb(r, g, b) => {
            let _ = write!(
                out,
                "{:.3} {:.3} {:.3} {operator} ",
                share(*r),
                share(*g),
                share(*b)
            );
            true
        }
        _ => false,
    }
}

/// The text in WinAnsi, cut where digits are raised or not.
fn pieces(text: &str) -> Vec<(String, bool)> {
    let mut pieces: Vec<(String, bool)> = Vec::new();
    for c in text.chars() {
        let (c, up) = plain(c);
        match pieces.last_mut() {
            Some((piece, same)) if *same == up => piece.push(c),
            _ => pieces.push((c.to_string(), up)),
        }
    }
    pieces
}

/// A character that WinAnsi has, and whether it is raised.
fn plain(c: char) -> (char, bool) {
    match c {
        '⁰' => ('0', true),
        '¹' => ('1', true),
        '²' => ('2', true),
        '³' => ('3', true),
        '⁴'..='⁹' => (char::from(b'4' + (c as u32 - '⁴' as u32) as u8), true),
        '⁻' => ('-', true),
        '′' => ('\'', false),
        '−' | '–' => ('\u{96}', false),
        '’' => ('\u{92}', false),
        '→' => ('>', false),
        ' '..='~' | '\u{a0}'..='\u{ff}' => (c, false),
        _ => ('?', false),
    }
}

fn advance(text: &str, size: f64, up: bool) -> f64 {
    let width = |c: char| {
        let known = (c as usize).checked_sub(32).and_then(|i| WIDTHS.get(i));
        known.copied().map_or(556.0, f64::from)
    };
    let size = if up { size * RAISED.0 } else { size };
    text.chars().map(width).sum::<f64>() / 1000.0 * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_size_its_lines_and_its_text() {
        let mut scene = Scene::new(400.0, 200.0);
        scene.add(Primitive::Text {
            x: 10.0,
            y: 20.0,
            content: "10⁻⁵ (y′)".into(),
            size: 10,
            anchor: TextAnchor::Start,
            rotate: None,
            bold: false,
            color: None,
        });
        scene.add(Primitive::PolyLine {
            points: vec![(0.0, 0.0), (400.0, 200.0)],
            stroke: Color::Rgb(255, 0, 0),
            stroke_width: 1.5,
            stroke_dasharray: Some("4 2".into()),
        });
        let file = page(&scene, 200.0);
        let text = String::from_utf8_lossy(&file);
        assert!(text.starts_with("%PDF-1.4") && text.ends_with("%%EOF\n"));
        assert!(text.contains("/MediaBox[0 0 200.000 100.000]"), "{text}");
        assert!(text.contains("(10) Tj"), "{text}");
        assert!(text.contains("7.00 Tf 3.50 Ts (-5) Tj"), "{text}");
        assert!(text.contains("( \\(y'\\)) Tj"), "{text}");
        assert!(
            text.contains("1.000 0.000 0.000 RG 1.50 w [4 2] 0 d"),
            "{text}"
        );
        // Every object stands where the table of places says.
        let table = text.split("xref\n").nth(1).unwrap();
        for (i, line) in table.lines().skip(2).take(6).enumerate() {
            let place: usize = line[..10].parse().unwrap();
            assert!(file[place..].starts_with(format!("{} 0 obj", i + 1).as_bytes()));
        }
    }
}
