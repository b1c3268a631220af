//! One page and its figures, from the stored results alone: no engine, no network, no clock.
//!
//! [`build`] reads the run directory's tables and writes `report.html`, which needs nothing beside itself, and
//! `figures/*.svg` and `figures/*.png` for use elsewhere, in the place of an earlier plan's. Equal results give an equal report.

mod apart;
mod attribution;
mod comparison;
mod data;
mod draw;
mod dynamics;
mod figures;
mod font;
mod guarantees;
mod history;
mod isolated;
mod layout;
mod ledger;
mod most;
mod night;
mod number;
mod page;
pub mod paper;
mod pdf;
mod plain;
mod plot;
mod radius;
mod required_bits;
mod rescaling;
mod sample_bounds;
mod scale;
mod search;
mod section;
mod style;
mod tails;
mod verdicts;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use apart::Apart;
pub use comparison::compared;
use figures::{AtMost, Figure};
pub use history::history;
pub use night::night;
use section::Section;
use style::Styles;

use crate::results::store::{self, StoreError};

/// What can keep a report from being made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file of the run is missing, damaged or cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two files of the run contradict each other.
    #[error("{path}: {problem}")]
    Inconsistent {
        /// The file that cannot be right.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A figure cannot be turned into pixels.
    #[error("figure {name}: {problem}")]
    Figure {
        /// File stem.
        name: String,
        /// What the rasterizer said.
        problem: String,
    },
    /// The page's template failed.
    #[error("report page: {0}")]
    Page(#[from] minijinja::Error),
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// `report.html`.
    pub html: PathBuf,
    /// `figures/*.svg` and `figures/*.png`, in page order.
    pub figures: Vec<PathBuf>,
}

/// Figures of each kind, and of each study, that are drawn unless told otherwise: a page with thousands opens slowly.
pub const FIGURES: usize = 24;

/// Makes the report of a finished run and stores it in the run directory, replacing an older one.
pub fn build(run_dir: impl AsRef<Path>) -> Result<Built, ReportError> {
    build_at(&run_dir, run_dir.as_ref(), FIGURES)
}

/// Makes the report of a finished run, which is left as it is, and stores it in the folder `out`, with at most so many
/// `figures` of each kind.
pub fn build_at(run_dir: impl AsRef<Path>, out: &Path, most: usize) -> Result<Built, ReportError> {
    let dir = run_dir.as_ref();
    let run = data::Run::read(dir)?;
    let styles = Styles::new(run.bound_ids());
    let (mut figures, mut undrawn) = figures::all(&run, &styles, most);
    let (mut sections, left) = sections(dir, &run, &styles, most)?;
    undrawn += left;
    let studied = sections.iter_mut().flat_map(|s| &mut s.figures);
    name_apart(figures.iter_mut().chain(studied));

    let figure_dir = out.join("figures");
    std::fs::create_dir_all(&figure_dir).map_err(|e| StoreError::Write {
        path: figure_dir.clone(),
        cause: e.to_string(),
    })?;
    let drawn = Drawn::open(&figure_dir);
    let mut files = Vec::new();
    let studied = sections.iter().flat_map(|s| &s.figures);
    for figure in figures.iter().chain(studied) {
        let svg = figure_dir.join(format!("{}.svg", figure.name));
        let png = figure_dir.join(format!("{}.png", figure.name));
        let text = draw::svg(&figure.plot);
        if !drawn.has(&svg, &text, &png) {
            let pixels = draw::png(&figure.plot).map_err(|problem| ReportError::Figure {
                name: figure.name.clone(),
                problem,
            })?;
            store::write_unsynced(&png, &pixels)?;
            store::write_unsynced(&svg, text.as_bytes())?;
        }
        files.extend([svg, png]);
    }
    drawn.close()?;
    if dir == out {
        remove_others(&figure_dir, &files)?;
    }
    let html = out.join("report.html");
    store::write_bytes(
        &html,
        page::render(&run, &styles, (&figures, &sections), (dir == out, undrawn))?.as_bytes(),
    )?;
    Ok(Built {
        html,
        figures: files,
    })
}

/// Figures of an earlier report by the same program: pixels follow from a figure as its SVG does, and take longer to make
/// than all else of a report.
struct Drawn {
    file: PathBuf,
    same: bool,
}

impl Drawn {
    const PROGRAM: &str = concat!(
        env!("CARGO_PKG_VERSION"),
        " ",
        env!("QUANTBOUND_COMMIT"),
        "\n"
    );

    fn open(figures: &Path) -> Self {
        let file = figures.join("drawn-by.txt");
        let same = std::fs::read_to_string(&file).is_ok_and(|by| by == Self::PROGRAM);
        Self { file, same }
    }

    /// Whether a figure of this SVG is there, with its pixels.
    fn has(&self, svg: &Path, text: &str, png: &Path) -> bool {
        self.same && png.is_file() && std::fs::read_to_string(svg).is_ok_and(|known| known == text)
    }

    /// All figures are by this program now.
    fn close(&self) -> Result<(), StoreError> {
        store::write_unsynced(&self.file, Self::PROGRAM.as_bytes())
    }
}

/// Gives figures names of their own where two models are spelt alike but for signs that file names have not.
fn name_apart<'a>(figures: impl Iterator<Item = &'a mut Figure>) {
    let mut names = HashSet::new();
    for figure in figures {
        let stem = figure.name.clone();
        let mut count = 1;
        while !names.insert(figure.name.clone()) {
            count += 1;
            figure.name = format!("{stem}-{count}");
        }
    }
}

/// Removes figures that an earlier plan of this run directory has made.
fn remove_others(figures: &Path, made: &[PathBuf]) -> Result<(), StoreError> {
    let fail = |e: std::io::Error| store::write_error(figures, e);
    for entry in std::fs::read_dir(figures).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let drawn = path.extension().is_some_and(|e| e == "svg" || e == "png");
        if drawn && !made.contains(&path) {
            std::fs::remove_file(&path).map_err(|e| store::write_error(&path, e))?;
        }
    }
    Ok(())
}

/// Makes a study's section; `None` where the run has no such table.
type Maker = fn(&Path, &data::Run, &Styles) -> Result<Option<Section>, ReportError>;

/// In page order, below the ledger.
const MAKERS: &[Maker] = &[
    required_bits::section,
    sample_bounds::section,
    radius::section,
    search::section,
    isolated::section,
    attribution::section,
    dynamics::section,
    guarantees::section,
    rescaling::section,
];

/// The sections of all studies that the run has, with at most so many figures each, and how many are left out.
fn sections(
    dir: &Path,
    run: &data::Run,
    styles: &Styles,
    most: usize,
) -> Result<(Vec<Section>, usize), ReportError> {
    let mut sections: Vec<Section> = tails::section(run).into_iter().collect();
    sections.iter_mut().for_each(|s| most::rows(s, 0));
    let mut undrawn = 0;
    if let Some((ledger, left)) = ledger::section(dir, run, most)? {
        sections.push(ledger);
        undrawn += left;
    }
    for make in MAKERS {
        let Some(mut section) = make(dir, run, styles)? else {
            continue;
        };
        let mut figures = AtMost::new(most);
        for figure in std::mem::take(&mut section.figures) {
            figures.push(figure.first, || figure);
        }
        let left;
        (section.figures, left) = figures.into_parts();
        undrawn += left;
        most::rows(&mut section, 0);
        sections.push(section);
    }
    Ok((sections, undrawn))
}
