//! `quantbound figure RUN_DIR`: figures for print, and the numbers behind them.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Outcome;
use super::output::say;
use crate::report::paper::{self, Request};

/// Arguments of `figure`.
#[derive(clap::Args)]
#[command(
    after_help = "quantbound figure results/runs/quickstart --what depth --only mobilenet_v2 --only '8 bits' --format pdf,csv"
)]
pub struct Args {
    /// A run directory, as `sweep` leaves it
    run_dir: PathBuf,
    /// What is drawn
    #[arg(long, value_enum)]
    what: What,
    /// Files of each figure: pictures, its points, or a table
    #[arg(long, value_enum, value_delimiter = ',', default_value = "svg,pdf,csv")]
    format: Vec<Format>,
    /// Width of the column
    #[arg(long, default_value = "3.3in", value_parser = inches)]
    width: f64,
    /// Bounds that are drawn [default: gonon2023,houache2025-conv,best]
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    curves: Vec<String>,
    /// Only figures whose titles have these words, as a model's name
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// Folder for the files [default: RUN_DIR/print]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a figure shows.
#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Measurement and bounds against depth
    Depth,
    /// The same at the output against bits
    Bits,
    /// Where the slack comes from, step by step
    Ledger,
    /// What most images stay under, against depth
    Tails,
    /// Gains of errors beside norms, against depth
    Gain,
}

/// A file.
#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Svg,
    Pdf,
    Png,
    /// Every point
    Csv,
    /// A LaTeX table with booktabs
    Tex,
    /// A Markdown table
    Md,
}

impl Args {
    /// Draws and names the files.
    pub fn run(self) -> anyhow::Result<Outcome> {
        for id in &self.curves {
            crate::bounds::find(id)?;
        }
        let request = Request {
            what: match self.what {
                What::Depth => paper::What::Depth,
                What::Bits => paper::What::Bits,
                What::Ledger => paper::What::Ledger,
                What::Tails => paper::What::Tails,
                What::Gain => paper::What::Gain,
            },
            formats: self
                .format
                .iter()
                .map(|f| match f {
                    Format::Svg => paper::Format::Svg,
                    Format::Pdf => paper::Format::Pdf,
                    Format::Png => paper::Format::Png,
                    Format::Csv => paper::Format::Csv,
                    Format::Tex => paper::Format::Latex,
                    Format::Md => paper::Format::Markdown,
                })
                .collect(),
            width: self.width,
            curves: self.curves,
            only: self.only,
        };
        let out = self.out.unwrap_or_else(|| self.run_dir.join("print"));
        for file in paper::figures_for_print(&self.run_dir, &out, &request)? {
            say!("{}", file.display());
        }
        Ok(Outcome::Fine)
    }
}

/// `3.3in`, `84mm`, `8.4cm` or `240pt`, in inches.
fn inches(text: &str) -> Result<f64, String> {
    let units = [("in", 1.0), ("mm", 25.4), ("cm", 2.54), ("pt", 72.0)];
    let found = units.iter().find_map(|(unit, per_inch)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        Some(number / per_inch)
    });
    found
        .filter(|width| (1.0..=20.0).contains(width))
        .ok_or_else(|| {
            "expected a width of 1 to 20 inches, as in 3.3in, 84mm, 8.4cm or 240pt".into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_have_units() {
        assert_eq!(inches("3.3in"), Ok(3.3));
        assert_eq!(inches("254mm"), Ok(10.0));
        assert_eq!(inches("72 pt"), Ok(1.0));
        for wrong in ["3.3", "0in", "NaNin", "in", "1km", "1e9in"] {
            assert!(inches(wrong).is_err(), "{wrong}");
        }
    }
}
