//! A directory of images, in a fixed order, with labels and content hashes.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use image::DynamicImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::labels::{self, Labels, Listing};
use super::{Choice, DataError, Drawn, Preprocessing, decode};
use crate::tensor::{Batch, memory};

/// One image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// File name, behind `folder/` if it lies in a sub-folder.
    pub name: String,
    /// Class index.
    pub label: Option<u32>,
    /// BLAKE3 of its size and decoded pixels, in hexadecimal.
    pub hash: String,
    /// Width and height in pixels.
    pub size: [u32; 2],
}

impl ImageFile {
    /// The picture in the channels that a network reads; an error when it is not the one that was listed.
    pub fn decode(&self, preprocessing: &Preprocessing) -> Result<DynamicImage, DataError> {
        let (image, hash) = decode::hashed(&self.path)?;
        match hash == self.hash {
            true => Ok(decode::converted(image, preprocessing.channels)),
            false => Err(DataError::Changed {
                path: self.path.display().to_string(),
            }),
        }
    }

    /// The same, resized and cropped.
    pub fn pixels(&self, preprocessing: &Preprocessing) -> Result<DynamicImage, DataError> {
        let image = self.decode(preprocessing)?;
        let pixels = preprocessing.resize_and_crop(&image);
        pixels.map_err(|e| e.of(&self.path))
    }
}

/// The images of a directory, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// The directory.
    pub directory: PathBuf,
    /// Its images; never empty.
    pub images: Vec<ImageFile>,
    /// Where the labels come from.
    source: String,
    /// Images that the source of labels covers; more than were taken under a limit.
    found: usize,
    /// Files that are no images of this set.
    others: Vec<String>,
    /// What they were drawn from, where a draw left some out.
    drawn: Option<Drawn>,
}

impl ImageSet {
    /// [`ImageSet::open_labelled`] with the labels that the layout speaks for.
    pub fn open(directory: &Path, limit: Option<usize>) -> Result<Self, DataError> {
        Self::open_labelled(directory, limit, None)
    }

    /// Lists `.jpg`, `.jpeg` and `.png` files (of any case, hidden ones aside), learns their labels and hashes them.
    /// Without `labels`: from a `labels.csv` among the images, else from sub-folders with images, else from file
    /// names; a layout that allows more than one is an error. File names label the images of the directory itself,
    /// sub-folders the images one level down, a table both.
    ///
    /// At most `limit` images are taken where one is given: the first in name order, from sub-folders the first of
    /// each, then the second of each, and so on.
    pub fn open_labelled(
        directory: &Path,
        limit: Option<usize>,
        labels: Option<&Labels>,
    ) -> Result<Self, DataError> {
        let (set, damaged) = Self::open_readable(directory, Choice::first(limit), labels)?;
        match damaged.into_iter().next() {
            None => Ok(set),
            Some((_, error)) => Err(error),
        }
    }

    /// [`ImageSet::open_labelled`] without the files that are no images or damaged ones, which are named beside it with
    /// what is wrong. The set is the same as if those were not in the folder, but for the choice, which counts them.
    ///
    /// # Errors
    /// Those of [`ImageSet::open_labelled`]; damaged files where no other is left; a choice of none.
    pub fn open_readable(
        directory: &Path,
        choice: Choice,
        labels: Option<&Labels>,
    ) -> Result<(Self, Vec<(String, DataError)>), DataError> {
        let listing = list(directory)?;
        let source = match labels {
            Some(source) => source.clone(),
            None => listing.automatic(directory)?,
        };
        let empty = || empty(directory, &listing, &source);
        if listing.images.is_empty() {
            return Err(empty());
        }
        let (found, named) = labels::assign(directory, &listing, &source, labels.is_some())?;
        if found.is_empty() {
            return Err(empty());
        }
        let count = found.len();
        let covered: HashSet<&String> = found.iter().map(|(name, _)| name).collect();
        let passed = listing.images.iter().filter(|name| !covered.contains(name));
        let others = listing.others.iter().chain(passed).cloned().collect();
        let (taken, drawn) = choice.of(found);
        if taken.is_empty() {
            return Err(DataError::Skipped {
                path: directory.display().to_string(),
                skip: choice.skip,
                images: count,
            });
        }
        let read: Vec<Result<ImageFile, (String, DataError)>> = taken
            .into_par_iter()
            .map(|(name, label)| {
                let path = directory.join(&name);
                match decode::hashed(&path) {
                    Ok((image, hash)) => Ok(ImageFile {
                        label,
                        hash,
                        size: [image.width(), image.height()],
                        path,
                        name,
                    }),
                    Err(error) => Err((name, error)),
                }
            })
            .collect();
        let (mut images, mut damaged) = (Vec::with_capacity(read.len()), Vec::new());
        for one in read {
            match one {
                Ok(image) => images.push(image),
                Err((name, error @ DataError::Decode { .. })) => damaged.push((name, error)),
                Err((_, error)) => return Err(error),
            }
        }
        if images.is_empty()
            && let Some((_, error)) = damaged.pop()
        {
            return Err(error);
        }
        let set = Self {
            directory: directory.to_path_buf(),
            images,
            source: named,
            found: count,
            others,
            drawn,
        };
        Ok((set, damaged))
    }

    /// Where the labels come from, how many images have one, and what was left out; for logs and provenance.
    pub fn labels(&self) -> String {
        let labelled = self.images.iter().filter(|i| i.label.is_some()).count();
        let mut line = format!(
            "labels from {}: {labelled} of {} images",
            self.source,
            self.len()
        );
        if self.len() < self.found {
            line += &format!(" (of {} in the folder)", self.found);
        }
        if let Some(first) = self.others.first() {
            let more = match self.others.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            line += &format!("; passed over: {first}{more}");
        }
        line
    }

    /// What the images were drawn from, where a draw left some out.
    pub fn drawn(&self) -> Option<&Drawn> {
        self.drawn.as_ref()
    }

    /// An error for the first image that this preprocessing cannot take, known from the images' sizes alone.
    pub fn check(&self, preprocessing: &Preprocessing) -> Result<(), DataError> {
        preprocessing.check()?;
        self.images.iter().try_for_each(|image| {
            let [width, height] = image.size;
            let resized = preprocessing.resized(width, height);
            resized.map(|_| ()).map_err(|e| e.of(&image.path))
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Never true for a set that was opened.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Hash over names, labels and pixels, in order: the container and its metadata do not count.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.images {
            hasher.update(format!("{}\0{:?}\0{}\n", file.name, file.label, file.hash).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Decodes and preprocesses a range of images, in parallel. An error names the first file that fails, or that is not
    /// the one that was listed any more.
    pub fn load(
        &self,
        range: Range<usize>,
        preprocessing: &Preprocessing,
    ) -> Result<Batch, DataError> {
        preprocessing.check()?;
        let (shape, count) = (preprocessing.shape(), range.len());
        let bytes = count.saturating_mul(2 * 4 * shape.len());
        memory::check(&format!("a batch of {count} images"), bytes).map_err(DataError::Memory)?;
        let images: Vec<Result<Vec<f32>, DataError>> = self.images[range]
            .par_iter()
            .map(|file| Ok(preprocessing.normalize(file.pixels(preprocessing)?.as_bytes())))
            .collect();
        let mut data = Vec::with_capacity(count * shape.len());
        for image in images {
            data.extend(image?);
        }
        Ok(Batch { shape, data })
    }
}

fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> DataError + use<> {
    let path = path.display().to_string();
    move |problem| DataError::Read { path, problem }
}

/// Files and folders of a directory, hidden ones aside, sorted, and how many entries there are in all.
struct Entries {
    files: Vec<String>,
    folders: Vec<String>,
    all: usize,
}

fn entries(directory: &Path) -> Result<Entries, DataError> {
    let (mut files, mut folders, mut all) = (Vec::new(), Vec::new(), 0);
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let entry = entry.map_err(unreadable(directory))?;
        all += 1;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str().map(str::to_string) else {
            if is_image(&name.to_string_lossy()) {
                return Err(DataError::Labels {
                    path: path.display().to_string(),
                    problem: "a name that is no UTF-8 cannot stand in tables; rename the file"
                        .into(),
                });
            }
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        match path.is_dir() {
            true => folders.push(name),
            false if path.is_file() => files.push(name),
            false => {}
        }
    }
    files.sort();
    folders.sort();
    Ok(Entries {
        files,
        folders,
        all,
    })
}

fn list(directory: &Path) -> Result<Listing, DataError> {
    let top = entries(directory)?;
    let mut listing = Listing {
        table: top.files.iter().any(|name| name == labels::TABLE),
        entries: top.all,
        ..Listing::default()
    };
    let (images, others) = top.files.into_iter().partition(|n| is_image(n));
    (listing.images, listing.others) = (images, others);
    listing.others.retain(|name| name != labels::TABLE);
    let mut below = Vec::new();
    for folder in &top.folders {
        let inner = entries(&directory.join(folder))?;
        for name in inner.files {
            let kind = match is_image(&name) {
                true => &mut listing.images,
                false => &mut listing.others,
            };
            kind.push(format!("{folder}/{name}"));
        }
        below.extend(inner.folders.into_iter().map(|f| format!("{folder}/{f}")));
    }
    listing.folders = top.folders;
    if listing.images.is_empty() {
        for folder in below {
            let inner = entries(&directory.join(&folder))?;
            if let Some(name) = inner.files.iter().find(|n| is_image(n)) {
                listing.deeper = Some(format!("{folder}/{name}"));
                break;
            }
        }
    }
    listing.images.sort();
    Ok(listing)
}

/// Why no image fits: none at all, or none at the depth that the labels ask for.
fn empty(directory: &Path, listing: &Listing, source: &Labels) -> DataError {
    let path = directory.display().to_string();
    let labels = |problem: String| DataError::Labels {
        path: path.clone(),
        problem,
    };
    if let Some(deeper) = &listing.deeper {
        let folder = deeper.split('/').next().unwrap_or_default();
        return labels(format!(
            "images lie two levels down ({deeper}); name the folder of the class folders, perhaps {}",
            directory.join(folder).display()
        ));
    }
    match (listing.images.first(), source) {
        (Some(name), Labels::FileName) => labels(format!(
            "images lie in sub-folders ({name}), not in the folder itself; take labels = \"folders\", or name the \
             folder of the images"
        )),
        (Some(name), Labels::Folders) => labels(format!(
            "images lie in the folder itself ({name}), not in a sub-folder per class; take labels = \"file-name\" or \
             a table, or name the folder above"
        )),
        _ => DataError::Empty {
            path,
            entries: listing.entries,
        },
    }
}

fn is_image(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    ["jpg", "jpeg", "png"]
        .iter()
        .any(|known| extension.is_some_and(|e| e.eq_ignore_ascii_case(known)))
}
