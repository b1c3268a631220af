//! The letters of a PDF: DejaVu Sans, which the drawing library brings, cut to the glyphs that a page has and embedded.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;
use subsetter::GlyphRemapper;
use ttf_parser::{Face, GlyphId};

/// One of the two weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Regular,
    Bold,
}

impl Weight {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Regular, Self::Bold];

    /// How the drawing library writes it, and the font's name.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Regular => ("normal", "DejaVuSans"),
            Self::Bold => ("bold", "DejaVuSans-Bold"),
        }
    }

    /// The TrueType file. The library hands it out inside a drawing alone.
    fn file(self) -> Option<&'static [u8]> {
        static FILES: OnceLock<[Option<Vec<u8>>; 2]> = OnceLock::new();
        let files = FILES.get_or_init(|| {
            let backend = SvgBackend::new().with_embedded_font(true);
            let svg = backend.render_scene(&Scene::new(1.0, 1.0));
            Self::ALL.map(|weight| {
                let style = format!("font-weight:{};font-style:normal", weight.texts().0);
                let mut fonts = svg.split("base64,").skip(1);
                let font = fonts.find(|f| f.split('}').next().is_some_and(|f| f.contains(&style)));
                STANDARD.decode(font?.split('\'').next()?).ok()
            })
        });
        files[self as usize].as_deref()
    }
}

/// A font, and what of it was used.
pub struct Font {
    weight: Weight,
    file: &'static [u8],
    face: Face<'static>,
    /// From the font's glyphs to those of the page.
    glyphs: GlyphRemapper,
    /// The character of each glyph of the page.
    characters: Vec<char>,
}

impl Font {
    /// Nothing used yet.
    ///
    /// # Errors
    /// A font that cannot be read.
    pub fn new(weight: Weight) -> Result<Self, String> {
        let missing = || format!("the drawing library has no font {}", weight.texts().1);
        let file = weight.file().ok_or_else(missing)?;
        let face = Face::parse(file, 0).map_err(|e| format!("{}: {e}", weight.texts().1))?;
        Ok(Self {
            weight,
            file,
            face,
            glyphs: GlyphRemapper::new(),
            characters: vec!['\u{fffd}'],
        })
    }

    /// Was any of it used?
    pub fn is_used(&self) -> bool {
        self.characters.len() > 1
    }

    /// The text in glyphs of the page, four hexadecimal digits each, and its width in ems.
    pub fn write(&mut self, text: &str) -> (String, f64) {
        let (mut codes, mut units) = (String::new(), 0.0);
        for character in text.chars() {
            let glyph = self.face.glyph_index(character).unwrap_or_default();
            let code = self.glyphs.remap(glyph.0);
            if usize::from(code) == self.characters.len() {
                self.characters.push(character);
            }
            codes += &format!("{code:04x}");
            units += self.advance(glyph.0);
        }
        (codes, units / 1000.0)
    }

    /// In thousandths of an em.
    fn advance(&self, glyph: u16) -> f64 {
        let units = self.face.glyph_hor_advance(GlyphId(glyph));
        self.thousandths(f64::from(units.unwrap_or(0)))
    }

    fn thousandths(&self, units: f64) -> f64 {
        1000.0 * units / f64::from(self.face.units_per_em())
    }

    /// The objects of PDF that embed it: the font itself, which stands at `first`, and four that follow.
    ///
    /// # Errors
    /// A font that cannot be cut.
    pub fn objects(&self, first: usize) -> Result<[Vec<u8>; 5], String> {
        let name = format!("QUANTB+{}", self.weight.texts().1);
        let [descendant, descriptor, file, unicode] = [1, 2, 3, 4].map(|i| first + i);
        let cut = subsetter::subset(self.file, 0, &self.glyphs);
        let cut = cut.map_err(|e| format!("{name}: {e}"))?;
        let widths = self.glyphs.remapped_gids();
        let widths: Vec<String> = widths.map(|g| format!("{:.0}", self.advance(g))).collect();
        let bounds = self.face.global_bounding_box();
        let bounds = [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max];
        let bounds = bounds.map(|v| format!("{:.0}", self.thousandths(f64::from(v))));
        let height = |units: i16| self.thousandths(f64::from(units));
        let ascent = self.face.ascender();
        let stem = if self.weight == Weight::Bold { 140 } else { 80 };
        let map = self.unicode();
        let texts = [
            format!(
                "<</Type/Font/Subtype/Type0/BaseFont/{name}/Encoding/Identity-H/DescendantFonts[{descendant} 0 R]/ToUnicode \
                 {unicode} 0 R>>"
            ),
            format!(
                "<</Type/Font/Subtype/CIDFontType2/BaseFont/{name}/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)\
                 /Supplement 0>>/FontDescriptor {descriptor} 0 R/CIDToGIDMap/Identity/DW 600/W[0[{}]]>>",
                widths.join(" ")
            ),
            format!(
                "<</Type/FontDescriptor/FontName/{name}/Flags 4/FontBBox[{}]/ItalicAngle 0/Ascent {:.0}/Descent {:.0}\
                 /CapHeight {:.0}/StemV {stem}/FontFile2 {file} 0 R>>",
                bounds.join(" "),
                height(ascent),
                height(self.face.descender()),
                height(self.face.capital_height().unwrap_or(ascent)),
            ),
        ];
        let [font, descendant, descriptor] = texts.map(String::into_bytes);
        let entries = format!("/Length1 {}", cut.len());
        Ok([
            font,
            descendant,
            descriptor,
            stream(&entries, &cut),
            stream("", map.as_bytes()),
        ])
    }

    /// Which character each glyph is, for whoever searches or copies the text.
    fn unicode(&self) -> String {
        let mut map = "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n/CIDSystemInfo <</Registry(Adobe)\
                       /Ordering(UCS)/Supplement 0>> def\n/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n\
                       1 begincodespacerange\n<0000> <ffff>\nendcodespacerange\n"
            .to_string();
        let known: Vec<(usize, &char)> = self.characters.iter().enumerate().skip(1).collect();
        // Blocks have a hundred entries at most.
        for block in known.chunks(100) {
            map += &format!("{} beginbfchar\n", block.len());
            for (code, character) in block {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units).iter();
                let units: String = units.map(|u| format!("{u:04x}")).collect();
                map += &format!("<{code:04x}> <{units}>\n");
            }
            map += "endbfchar\n";
        }
        map + "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    }
}

/// A stream with further entries in its dictionary.
pub fn stream(entries: &str, content: &[u8]) -> Vec<u8> {
    let mut object = format!("<</Length {}{entries}>>\nstream\n", content.len()).into_bytes();
    object.extend_from_slice(content);
    object.extend_from_slice(b"\nendstream");
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyphs_are_numbered_as_they_come_and_have_widths() {
        let mut font = Font::new(Weight::Regular).unwrap();
        assert!(!font.is_used());
        let (codes, width) = font.write("aba");
        assert_eq!(codes, "000100020001");
        // Of DejaVu Sans, 2048 units to the em: a has 1255, b has 1300.
        assert!(
            (width - (2.0 * 1255.0 + 1300.0) / 2048.0).abs() < 1e-12,
            "{width}"
        );
        let (raised, _) = font.write("10⁻⁵ y′ −∞");
        assert!(!raised.contains("0000"), "{raised}");
        let objects = font.objects(5).unwrap();
        let text = objects.map(|o| String::from_utf8_lossy(&o).into_owned());
        assert!(
            text[0].contains("/DescendantFonts[6 0 R]/ToUnicode 9 0 R"),
            "{}",
            text[0]
        );
        assert!(text[1].contains("/FontDescriptor 7 0 R"), "{}", text[1]);
        assert!(text[2].contains("/FontFile2 8 0 R"), "{}", text[2]);
        assert!(
            text[4].contains("<0001> <0061>\n<0002> <0062>\n"),
            "{}",
            text[4]
        );
        assert!(text[4].contains("<207b>"), "{}", text[4]);
    }

    #[test]
    fn a_page_holds_its_own_letters_alone() {
        for weight in Weight::ALL {
            let whole = weight.file().unwrap().len();
            let mut font = Font::new(weight).unwrap();
            font.write("measured 0.1");
            let [.., file, _] = font.objects(1).unwrap();
            assert!(file.len() < whole / 10, "{} of {whole}", file.len());
            let start = file.windows(7).position(|w| w == b"stream\n").unwrap() + 7;
            let length = file.len() - start - "\nendstream".len();
            let face = Face::parse(&file[start..start + length], 0).unwrap();
            // One more for what has no glyph, and `a e` and others are whole: no parts follow.
            assert!(face.number_of_glyphs() >= 11, "{}", face.number_of_glyphs());
        }
    }
}
