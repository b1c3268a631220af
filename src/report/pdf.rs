//! A drawn scene as a page of PDF: lines, areas and text, with the letters that it has.

use std::fmt::Write as _;

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::font::{Font, Weight, stream};

/// The scene on a page of `width` points, as high as it comes to.
///
/// # Errors
/// A font that cannot be read or cut.
pub fn page(scene: &Scene, width: f64) -> Result<Vec<u8>, String> {
    let scale = width / scene.width;
    let height = scene.height * scale;
    let mut fonts = [Font::new(Weight::Regular)?, Font::new(Weight::Bold)?];
    let mut content = format!("{scale:.5} 0 0 {:.5} 0 {height:.3} cm 1 J 1 j\n", -scale);
    for element in &scene.elements {
        draw(&mut content, element, &mut fonts);
    }
    let mut objects = vec![
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>".to_vec(),
        Vec::new(),
        stream("", content.as_bytes()),
    ];
    let mut named = String::new();
    for (font, name) in fonts.iter().zip(NAMES) {
        if font.is_used() {
            let first = objects.len() + 1;
            let _ = write!(named, "/{name} {first} 0 R");
            objects.extend(font.objects(first)?);
        }
    }
    objects[2] = format!(
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 {width:.3} {height:.3}]/Contents 4 0 R/Resources<</Font<<{named}>>/ExtGState\
         <</Full<</ca 1>>/Pale<</ca 0.22>>>>>>>>"
    )
    .into_bytes();
    Ok(file(&objects))
}

/// Names of the fonts on a page.
const NAMES: [char; 2] = ['F', 'B'];

/// The objects in their places, the first of which is the catalog.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    // Bytes over 127 in a note tell that the file is no text.
    let mut file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (i, object) in objects.iter().enumerate() {
        // Twenty bytes each, the end of the line included.
        let _ = writeln!(table, "{:010} 00000 n ", file.len());
        file.extend(format!("{} 0 obj\n", i + 1).into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let end = format!(
        "{table}trailer\n<</Size {}/Root 1 0 R>>\nstartxref\n{}\n%%EOF\n",
        objects.len() + 1,
        file.len()
    );
    file.extend(end.into_bytes());
    file
}

fn draw(out: &mut String, element: &Primitive, fonts: &mut [Font; 2]) {
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
            let (codes, ems) = fonts[usize::from(*bold)].write(&content.replace("\\$", "$"));
            let width = ems * size;
            let back = match anchor {
                TextAnchor::Start => 0.0,
                TextAnchor::Middle => width / 2.0,
                TextAnchor::End => width,
            };
            // Upright again in the flipped page, and turned about its place.
            let angle = rotate.unwrap_or(0.0).to_radians();
            let (sin, cos) = angle.sin_cos();
            let start = (x - back * cos, y - back * sin);
            let _ = writeln!(
                out,
                "BT {cos:.4} {sin:.4} {sin:.4} {:.4} {:.2} {:.2} Tm /{} {size:.2} Tf <{codes}> Tj ET",
                -cos,
                start.0,
                start.1,
                NAMES[usize::from(*bold)]
            );
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
        let file = page(&scene, 200.0).unwrap();
        let text = String::from_utf8_lossy(&file);
        assert!(text.starts_with("%PDF-1.4") && text.ends_with("%%EOF\n"));
        assert!(text.contains("/MediaBox[0 0 200.000 100.000]"), "{text}");
        // Nine characters, none of them without a glyph; bold is not there, as nothing is bold.
        assert!(
            text.contains("/F 10.00 Tf <00010002000300040005000600070008"),
            "{text}"
        );
        assert!(text.contains("/Font<</F 5 0 R>>"), "{text}");
        assert!(text.contains("/FontFile2 8 0 R"), "{text}");
        assert!(
            text.contains("1.000 0.000 0.000 RG 1.50 w [4 2] 0 d"),
            "{text}"
        );
        // Every object stands where the table of places says.
        let table = file.windows(6).rposition(|w| w == b"\nxref\n").unwrap();
        let table = String::from_utf8_lossy(&file[table + 1..]);
        for (i, line) in table.lines().skip(3).take(9).enumerate() {
            let place: usize = line[..10].parse().unwrap();
            assert!(file[place..].starts_with(format!("{} 0 obj", i + 1).as_bytes()));
        }
    }
}
