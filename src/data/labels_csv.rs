//! Tables of labels: CSV with a header, at least the columns `image` and `label`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::DataError;
use crate::tensor::memory;

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Class index; `None` when the field is empty.
    pub label: Option<u32>,
    /// Number of the line, the header being 1.
    pub line: usize,
}

/// Rows by image name. Fields may be quoted, lines may end in CRLF, empty lines are skipped, further columns ignored;
/// anything else that is not of this form is an error that names the line.
pub fn read(path: &Path) -> Result<BTreeMap<String, Row>, DataError> {
    let shown = path.display().to_string();
    let read = memory::read_file(path, "the table", 3).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| io::Error::other("no text in UTF-8"))
    });
    let text = read.map_err(|problem| DataError::Read {
        path: shown.clone(),
        problem,
    })?;
    parse(&text).map_err(|problem| DataError::Labels {
        path: shown,
        problem,
    })
}

fn parse(text: &str) -> Result<BTreeMap<String, Row>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    let (_, header) = lines.next().unwrap_or((1, ""));
    let header = fields(header).map_err(|e| format!("line 1: {e}"))?;
    let column = |name: &str| {
        let found = header.iter().position(|h| h.trim() == name);
        found.ok_or_else(|| {
            format!("line 1: expected a header with the columns image and label, got {header:?}")
        })
    };
    let (image, label) = (column("image")?, column("label")?);
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let fields = fields(text).map_err(|e| format!("line {line}: {e}"))?;
        if fields.len() != header.len() {
            return Err(format!(
                "line {line}: expected {} fields as in the header, got {}",
                header.len(),
                fields.len()
            ));
        }
        let (name, label) = (fields[image].trim(), fields[label].trim());
        if name.is_empty() {
            return Err(format!("line {line}: the image has no name"));
        }
        let label = match label {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                format!("line {line}: expected a class index (0, 1, 2, ...), got {text:?}")
            })?),
        };
        if let Some(first) = rows.insert(name.to_string(), Row { label, line }) {
            return Err(format!(
                "line {line}: {name:?} stands in line {} already",
                first.line
            ));
        }
    }
    if rows.is_empty() {
        Err("no rows below the header".into())
    } else {
        Ok(rows)
    }
}

/// Splits a line at commas outside quotes; a doubled quote within quotes is one quote.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        let field = &mut fields[last];
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted {
        Err("a quote is not closed on this line")
    } else {
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let rows =
            parse("\u{feff}note,label,image\r\n\"a, \"\"b\"\"\",3,x.jpg\r\n\r\n,,\"y,z.jpg\"\r\n");
        let rows = rows.unwrap();
        assert_eq!(
            rows["x.jpg"],
            Row {
                label: Some(3),
                line: 2
            }
        );
        assert_eq!(
            rows["y,z.jpg"],
            Row {
                label: None,
                line: 4
            }
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            ("", "line 1: expected a header"),
            ("x.jpg,3\ny.jpg,4\n", "line 1: expected a header"),
            ("image,label\n", "no rows"),
            ("image,label\nx.jpg,3\ny.jpg\n", "line 3: expected 2 fields"),
            (
                "image,label\nx.jpg,3\ny.jpg,4,5\n",
                "line 3: expected 2 fields",
            ),
            ("image,label\nx.jpg,-1\n", "line 2: expected a class index"),
            ("image,label\nx.jpg,cat\n", "got \"cat\""),
            ("image,label\n,1\n", "line 2: the image has no name"),
            (
                "image,label\nx.jpg,1\n\nx.jpg,2\n",
                "line 4: \"x.jpg\" stands in line 2",
            ),
            ("image,label\n\"x.jpg,1\n", "line 2: a quote"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
