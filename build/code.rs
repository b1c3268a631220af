//! What stored rows depend on: the sources of each component, hashed by their tokens, so that a comment, a blank line
//! or a test changes nothing and a formula does.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Sources that one kind of rows follows from.
pub struct Component {
    /// Name of the constant that holds the hash.
    pub name: &'static str,
    /// Files and folders, relative to the crate.
    pub paths: &'static [&'static str],
    /// What of those folders belongs elsewhere.
    pub except: &'static [&'static str],
}

const fn component(name: &'static str, paths: &'static [&'static str]) -> Component {
    Component {
        name,
        paths,
        except: &[],
    }
}

/// The same of the bounds of the ladder: none asks what holds for most inputs, or in a box around one.
const fn bounding(name: &'static str, paths: &'static [&'static str]) -> Component {
    Component {
        name,
        paths,
        except: &["src/bounds/enclosure", "src/bounds/probabilistic"],
    }
}

/// All components. `MEASURE` (and `GPU` where a GPU measures, `ALLOCATION` where bounds say which layer gets how many
/// bits) stands in a cell's id; each of the others in the name of the parts that it makes.
pub const COMPONENTS: &[Component] = &[
    Component {
        name: "MEASURE",
        paths: &[
            "src/tensor",
            "src/network",
            "src/quant",
            "src/data",
            "src/engine",
            "src/experiment/subject/augment.rs",
            "src/experiment/subject/calibrating.rs",
            "src/experiment/subject/calibration.rs",
            "src/experiment/subject/context.rs",
            "src/experiment/subject/images.rs",
            "src/experiment/logits.rs",
            "src/experiment/studies/measure.rs",
            "src/experiment/plan/method.rs",
            "src/experiment/subject/model.rs",
            "src/experiment/sweep/pass.rs",
            "src/experiment/subject/preprocessing.rs",
            "src/experiment/subject/quantized_file.rs",
            "src/experiment/plan/quantizer_spec.rs",
            "src/experiment/plan/quantize.rs",
            "src/experiment/subject/quantizers.rs",
            "src/experiment/subject/saved.rs",
            "src/experiment/subject/sensitivity.rs",
            "src/results/schema/column.rs",
            "src/results/schema/rows.rs",
        ],
        except: &["src/engine/gpu"],
    },
    component("GPU", &["src/engine/gpu", "shaders"]),
    Component {
        name: "ALLOCATION",
        paths: &["src/bounds", "src/facts.rs"],
        except: &["src/bounds/enclosure"],
    },
    bounding(
        "BOUNDS",
        &[
            "src/bounds",
            "src/facts.rs",
            "src/experiment/studies/bounds.rs",
            "src/experiment/subject/kept_norms.rs",
        ],
    ),
    component(
        "SAMPLE_BOUNDS",
        &[
            "src/facts.rs",
            "src/experiment/studies/sample_bounds.rs",
            "src/results/schema/sample_bounds.rs",
        ],
    ),
    component(
        "ATTRIBUTION",
        &[
            "src/experiment/studies/attribution.rs",
            "src/results/schema/attribution.rs",
        ],
    ),
    component(
        "ISOLATED",
        &[
            "src/experiment/studies/isolated.rs",
            "src/results/schema/isolated.rs",
        ],
    ),
    bounding(
        "SEARCH",
        &[
            "src/bounds",
            "src/facts.rs",
            "src/experiment/search",
            "src/experiment/studies/search.rs",
            "src/results/schema/search.rs",
            "src/results/verdict.rs",
        ],
    ),
    component(
        "DYNAMICS",
        &[
            "src/experiment/dynamics",
            "src/experiment/subject/distributing.rs",
            "src/experiment/subject/spread.rs",
            "src/experiment/studies/dynamics.rs",
            "src/results/schema/dynamics.rs",
            "src/results/schema/dynamics_totals.rs",
        ],
    ),
    component(
        "GUARANTEES",
        &[
            "src/experiment/studies/guarantees",
            "src/results/schema/guarantees.rs",
        ],
    ),
    bounding(
        "RESCALING",
        &[
            "src/bounds",
            "src/facts.rs",
            "src/experiment/studies/rescaling.rs",
            "src/results/schema/rescaling.rs",
        ],
    ),
];

/// Sources that no stored row depends on: what they make is made anew whenever it is asked for, or is no number.
#[allow(
    dead_code,
    reason = "the build hashes, a test sees that nothing is left out"
)]
pub const NO_ROWS: &[&str] = &[
    "src/cli",
    "src/hub",
    "src/lib.rs",
    "src/main.rs",
    "src/report",
    "src/bounds/enclosure",
    "src/experiment/plan/annotated.rs",
    "src/experiment/cell.rs",
    "src/experiment/code.rs",
    "src/experiment/comparison",
    "src/experiment/derive",
    "src/experiment/subject/mod.rs",
    "src/experiment/subject/diagnosis.rs",
    "src/experiment/error.rs",
    "src/experiment/event.rs",
    "src/experiment/subject/labels.rs",
    "src/experiment/mod.rs",
    "src/experiment/subject/naming.rs",
    "src/experiment/subject/plans.rs",
    "src/experiment/parts.rs",
    "src/experiment/plan/error.rs",
    "src/experiment/plan/explained.rs",
    "src/experiment/plan/images.rs",
    "src/experiment/plan/keys.rs",
    "src/experiment/plan/mod.rs",
    "src/experiment/plan/model.rs",
    "src/experiment/plan/studies.rs",
    "src/experiment/plan/tails.rs",
    "src/experiment/provenance.rs",
    "src/experiment/share.rs",
    "src/experiment/studies/mod.rs",
    "src/experiment/sweep/failures.rs",
    "src/experiment/sweep/prepare.rs",
    "src/experiment/sweep/schedule.rs",
    "src/experiment/sweep/mod.rs",
    "src/results/promises.rs",
    "src/results/answers.rs",
    "src/results/compare",
    "src/results/headline.rs",
    "src/results/history",
    "src/results/layer_ranking.rs",
    "src/results/mod.rs",
    "src/results/provenance.rs",
    "src/results/schema/derived.rs",
    "src/results/schema/float.rs",
    "src/results/schema/mod.rs",
    "src/results/schema/summary.rs",
    "src/results/schema/tails.rs",
    "src/results/status.rs",
    "src/results/store",
];

/// Packages that compute what rows hold; another version of one is other code.
const COMPUTING: [&str; 10] = [
    "fast_image_resize",
    "gemm-common",
    "gemm-f32",
    "gemm-f64",
    "half",
    "image",
    "mozjpeg",
    "naga",
    "wgpu",
    "zip",
];

impl Component {
    /// The hash over its sources in `root`, 16 hexadecimal digits.
    ///
    /// # Errors
    /// A path that is not there, or a file that does not lex: what was moved must be named here anew.
    pub fn hash(&self, root: &Path) -> Result<String, String> {
        let mut hash = Fnv::default();
        for path in self.files(root)? {
            let text = read(&root.join(&path))?;
            hash.word(&path.to_string_lossy());
            if path.extension().is_some_and(|e| e == "rs") {
                rust(&text, &mut hash).map_err(|e| format!("{}: {e}", path.display()))?;
            } else {
                hash.word(&shader(&text));
            }
        }
        for package in packages(&read(&root.join("Cargo.lock"))?)? {
            hash.word(&package);
        }
        Ok(format!("{:016x}", hash.0))
    }

    /// Its Rust sources and shaders, relative to `root`, in name order.
    pub fn files(&self, root: &Path) -> Result<Vec<PathBuf>, String> {
        let mut found = Vec::new();
        for path in self.paths.iter().chain(self.except) {
            if !root.join(path).exists() {
                return Err(format!(
                    "{path}, of component {}, is not there: name what took its place in build/code.rs",
                    self.name
                ));
            }
        }
        for path in self.paths {
            walk(root, Path::new(path), &mut found)?;
        }
        found.retain(|f| !self.except.iter().any(|e| f.starts_with(e)));
        found.sort();
        Ok(found)
    }
}

fn walk(root: &Path, path: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let full = root.join(path);
    if !full.is_dir() {
        let source = path.extension().is_some_and(|e| e == "rs" || e == "wgsl");
        found.extend(source.then(|| path.to_path_buf()));
        return Ok(());
    }
    let entries = std::fs::read_dir(&full).map_err(|e| format!("{}: {e}", full.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", full.display()))?;
        walk(root, &path.join(entry.file_name()), found)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// `name version` of the computing packages in a `Cargo.lock`.
fn packages(lock: &str) -> Result<Vec<String>, String> {
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(rest.strip_suffix('"')?.to_string())
    };
    let mut found = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let Some(name) = value(line, "name").filter(|n| COMPUTING.contains(&n.as_str())) else {
            continue;
        };
        let version = lines.next().and_then(|l| value(l, "version"));
        let version = version.ok_or_else(|| format!("Cargo.lock: {name} has no version"))?;
        found.push(format!("{name} {version}"));
    }
    Ok(found)
}

/// FNV-1a of 64 bits.
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn word(&mut self, text: &str) {
        for &b in text.as_bytes().iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The hash of one Rust source by its tokens: comments, documentation and test modules left out.
fn rust(text: &str, hash: &mut Fnv) -> Result<(), String> {
    let tokens: TokenStream = text.parse().map_err(|e| format!("{e}"))?;
    absorb(tokens, hash);
    Ok(())
}

fn absorb(tokens: TokenStream, hash: &mut Fnv) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match attribute(&tokens[at..]) {
            Some((length, text)) if text.starts_with("doc") => at += length,
            Some((length, text)) if text == "cfg(test)" => {
                at += length + item(&tokens[at + length..])
            }
            _ => {
                at += 1;
                match token {
                    TokenTree::Group(group) => {
                        let (open, close) = match group.delimiter() {
                            Delimiter::Parenthesis => ("(", ")"),
                            Delimiter::Brace => ("{", "}"),
                            Delimiter::Bracket => ("[", "]"),
                            Delimiter::None => ("", ""),
                        };
                        hash.word(open);
                        absorb(group.stream(), hash);
                        hash.word(close);
                    }
                    // Spacing tells `a - -b` from `a --b`.
                    TokenTree::Punct(p) => hash.word(&format!("{}{:?}", p.as_char(), p.spacing())),
                    other => hash.word(&other.to_string()),
                }
            }
        }
    }
}

/// Tokens of the attribute that `tokens` begin with, and what stands in its brackets, without blanks.
fn attribute(tokens: &[TokenTree]) -> Option<(usize, String)> {
    let punct =
        |i: usize, c: char| matches!(tokens.get(i), Some(TokenTree::Punct(p)) if p.as_char() == c);
    if !punct(0, '#') {
        return None;
    }
    let at = 1 + usize::from(punct(1, '!'));
    match tokens.get(at) {
        Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Bracket => {
            let text: String = g.stream().to_string().split_whitespace().collect();
            Some((at + 1, text))
        }
        _ => None,
    }
}

/// Tokens of the item that `tokens` begin with: up to its body or its semicolon.
fn item(tokens: &[TokenTree]) -> usize {
    let ends = |t: &TokenTree| match t {
        TokenTree::Group(g) => g.delimiter() == Delimiter::Brace,
        TokenTree::Punct(p) => p.as_char() == ';',
        _ => false,
    };
    tokens.iter().position(ends).map_or(tokens.len(), |i| i + 1)
}

/// A shader without comments, and without blanks where they separate nothing.
fn shader(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = after_block(rest);
            bare.push(' ');
        } else {
            bare.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    let mut out = String::new();
    for word in bare.split_whitespace() {
        let alone = |c: char| matches!(c, '(' | ')' | '{' | '}' | '[' | ']' | ';' | ',');
        let class = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        if let (Some(a), Some(b)) = (out.chars().last(), word.chars().next())
            && !alone(a)
            && !alone(b)
            && class(a) == class(b)
        {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// What follows a block comment; WGSL nests them.
fn after_block(text: &str) -> &str {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    &text[at..]
}
