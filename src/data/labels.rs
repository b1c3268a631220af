//! Where the labels of a folder of images come from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::labels_csv::{self, Row};

/// Name of the table that is taken when it lies among the images.
pub const TABLE: &str = "labels.csv";

/// A source of labels. As text: `file-name`, `folders`, or the path of a CSV file; a bare file name is looked for
/// among the images, a path with a folder in it starts at the working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Labels {
    /// The number at the end of the file name, as in `name_243.jpg`; where it is not asked for, only if no name looks as if
    /// its number counted images.
    FileName,
    /// One sub-folder per class. Its class index is its name if all names are numbers, else its rank among the
    /// sorted names: the usual order of the ImageNet classes, if all 1000 synset folders are there.
    Folders,
    /// A table with the columns `image` and `label`.
    Csv(PathBuf),
}

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file-name" => Ok(Self::FileName),
            "folders" => Ok(Self::Folders),
            path if path.to_ascii_lowercase().ends_with(".csv") => Ok(Self::Csv(path.into())),
            _ => Err(format!(
                "labels = {text:?}: expected \"file-name\", \"folders\" or the path of a .csv file"
            )),
        }
    }
}

impl TryFrom<String> for Labels {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Labels> for String {
    fn from(labels: Labels) -> Self {
        labels.to_string()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileName => f.write_str("file-name"),
            Self::Folders => f.write_str("folders"),
            Self::Csv(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Image names with their labels.
pub type Labelled = Vec<(String, Option<u32>)>;

/// What a folder of images looks like.
#[derive(Debug, Default)]
pub struct Listing {
    /// Image names: `x.jpg`, or `folder/x.jpg` one level down.
    pub images: Vec<String>,
    /// Sub-folders, hidden ones aside, sorted; with or without images.
    pub folders: Vec<String>,
    /// An image two levels down, where none is nearer.
    pub deeper: Option<String>,
    /// True when [`TABLE`] lies among the images.
    pub table: bool,
    /// Files that are neither images nor the table, hidden ones aside.
    pub others: Vec<String>,
    /// Entries of the folder.
    pub entries: usize,
}

impl Listing {
    /// Images in a sub-folder (`true`) or beside it.
    fn has(&self, nested: bool) -> bool {
        self.images.iter().any(|name| name.contains('/') == nested)
    }

    /// The source that the layout speaks for: a table, else sub-folders, else file names. An ambiguous layout is an
    /// error.
    pub fn automatic(&self, directory: &Path) -> Result<Labels, DataError> {
        let ambiguous = |what: &str| {
            Err(DataError::Labels {
                path: directory.display().to_string(),
                problem: format!(
                    "{what}; say which labels are meant: labels = \"file-name\", \"folders\" or \"{TABLE}\""
                ),
            })
        };
        match (self.table, self.has(true), self.has(false)) {
            (_, true, true) => ambiguous("there are images beside sub-folders with images"),
            (true, true, false) => ambiguous("there are a labels.csv and sub-folders with images"),
            (true, ..) => Ok(Labels::Csv(TABLE.into())),
            (false, true, false) => Ok(Labels::Folders),
            (false, false, _) => Ok(Labels::FileName),
        }
    }
}

/// The images that a source covers, each with its label, in name order, and a few words on where the labels come from.
pub fn assign(
    directory: &Path,
    listing: &Listing,
    source: &Labels,
    stated: bool,
) -> Result<(Labelled, String), DataError> {
    let mut images = Labelled::new();
    let mut named = String::new();
    match source {
        Labels::FileName => {
            let flat = listing.images.iter().filter(|name| !name.contains('/'));
            images.extend(flat.map(|name| (name.clone(), from_name(name))));
            named.push_str("file names");
            let counted = images.iter().find(|(name, _)| is_running_number(name));
            let counted = counted.or(images.iter().find(|(name, _)| !stated && is_counter(name)));
            if let Some((name, _)) = counted {
                let remedy = match stated {
                    true => "add a labels.csv",
                    false => "add a labels.csv, or say labels = \"file-name\" if they are",
                };
                named +=
                    &format!(" (numbers as in {name} count images and are no labels: {remedy})");
                // Where some are counters, so are the others.
                images.iter_mut().for_each(|(_, label)| *label = None);
            }
        }
        Labels::Folders => {
            let classes = classes(directory, &listing.folders)?;
            for name in &listing.images {
                if let Some((folder, _)) = name.split_once('/') {
                    images.push((name.clone(), classes.get(folder).copied()));
                }
            }
            let (first, last) = (listing.folders.first(), listing.folders.last());
            named = format!("{} sub-folders", classes.len());
            if let (Some(first), Some(last)) = (first, last) {
                let index = |folder: &String| classes.get(folder).copied().unwrap_or_default();
                named += &format!(
                    " ({first} is class {}, {last} is class {})",
                    index(first),
                    index(last)
                );
            }
        }
        Labels::Csv(path) => {
            let bare = path.components().count() == 1;
            let path = if bare {
                directory.join(path)
            } else {
                path.clone()
            };
            let rows = labels_csv::read(&path)?;
            let absent = match_rows(&path, listing, &rows, &mut images)?;
            named = path.display().to_string();
            if absent > 0 {
                named += &format!(" ({absent} of its rows name images that are not there)");
            }
        }
    }
    images.sort();
    Ok((images, named))
}

/// Every image gets the label of its row; returns how many rows name no image.
fn match_rows(
    path: &Path,
    listing: &Listing,
    rows: &BTreeMap<String, Row>,
    images: &mut Labelled,
) -> Result<usize, DataError> {
    let problem = |problem: String| DataError::Labels {
        path: path.display().to_string(),
        problem,
    };
    let mut bare = Vec::new();
    for name in &listing.images {
        match rows.get(name) {
            Some(row) => images.push((name.clone(), row.label)),
            None => bare.push(name),
        }
    }
    if let (true, Some((name, row))) = (images.is_empty(), rows.iter().min_by_key(|r| r.1.line)) {
        return Err(problem(format!(
            "line {}: names {name:?}, but neither that nor any other of its images is there; names stand as in the \
             folder, with the extension",
            row.line
        )));
    }
    if let Some(first) = bare.first() {
        return Err(problem(format!(
            "{} images have no row, first {first:?}; give them a row (with an empty label if there is none)",
            bare.len()
        )));
    }
    Ok(rows.len() - images.len())
}

/// Class index by folder name.
fn classes(directory: &Path, folders: &[String]) -> Result<BTreeMap<String, u32>, DataError> {
    let problem = |problem: String| DataError::Labels {
        path: directory.display().to_string(),
        problem,
    };
    let numeric = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
    for (kind, is) in [
        ("numbers", &numeric as &dyn Fn(&String) -> bool),
        ("synsets (n01440764)", &|name| is_synset(name)),
    ] {
        let (fits, stray): (Vec<_>, Vec<_>) = folders.iter().partition(|name| is(name));
        if let (Some(fit), Some(stray)) = (fits.first(), stray.first()) {
            return Err(problem(format!(
                "sub-folders are {kind} like {fit:?}, but {stray:?} is not one: it would shift the class indices; \
                 move it away"
            )));
        }
    }
    let by_number = folders.iter().all(numeric);
    let mut classes = BTreeMap::new();
    for (rank, folder) in folders.iter().enumerate() {
        let index = match by_number {
            true => folder
                .parse()
                .map_err(|_| problem(format!("{folder:?} is too large for a class index")))?,
            false => rank as u32,
        };
        classes.insert(folder.clone(), index);
    }
    Ok(classes)
}

fn is_synset(name: &str) -> bool {
    let digits = name.strip_prefix('n');
    digits.is_some_and(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_digit()))
}

/// The numbers of `ILSVRC2012_val_00000001.JPEG` count images.
fn is_running_number(name: &str) -> bool {
    ["ILSVRC2012_val_", "ILSVRC2012_test_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Numbers that cameras, phones and data sets count with: behind their usual words, behind a synset, with leading zeros, or
/// longer than a class index.
fn is_counter(name: &str) -> bool {
    const WORDS: [&str; 22] = [
        "dsc",
        "dscn",
        "dscf",
        "img",
        "image",
        "mvimg",
        "pxl",
        "pic",
        "picture",
        "photo",
        "p",
        "vid",
        "gopr",
        "frame",
        "scan",
        "screenshot",
        "wp",
        "imag",
        "train",
        "val",
        "test",
        "sample",
    ];
    let stem = Path::new(name).file_stem().and_then(|s| s.to_str());
    let Some((before, number)) = stem.and_then(|s| s.rsplit_once('_')) else {
        return false;
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let first = before
        .split('_')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let counted = |word: &str| WORDS.contains(&word) && !before.contains('_');
    let padded = number.len() > 1 && number.starts_with('0');
    padded || number.len() > 5 || is_synset(before) || counted(&first)
}

fn from_name(name: &str) -> Option<u32> {
    let (_, label) = Path::new(name).file_stem()?.to_str()?.rsplit_once('_')?;
    let number = !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit());
    match number && !is_running_number(name) {
        true => label.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_last_number_of_the_name() {
        assert_eq!(from_name("imagenet_00_243.jpg"), Some(243));
        assert_eq!(from_name("7.png"), None);
        assert_eq!(from_name("x_+7.png"), None);
        assert_eq!(from_name("x_y.png"), None);
        assert_eq!(from_name("x_99999999999.png"), None);
        assert_eq!(from_name("ILSVRC2012_val_00000001.JPEG"), None);
    }

    #[test]
    fn numbers_that_count_images_are_no_labels() {
        for name in [
            "IMG_20240131_174502.jpg",
            "DSC_0042.jpg",
            "DSC_42.jpg",
            "n01440764_10026.JPEG",
            "frame_12.png",
            "x_007.png",
        ] {
            assert!(is_counter(name), "{name}");
        }
        for name in [
            "imagenet_00_243.jpg",
            "a_0.png",
            "cat_3.jpg",
            "7.png",
            "x_y.png",
        ] {
            assert!(!is_counter(name), "{name}");
        }
    }

    #[test]
    fn sources_are_written_as_they_are_read() {
        for text in ["file-name", "folders", "labels.csv", "a/b.CSV"] {
            assert_eq!(text.parse::<Labels>().unwrap().to_string(), text);
        }
        assert!("folder".parse::<Labels>().is_err());
    }
}
