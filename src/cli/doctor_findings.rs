//! What `quantbound doctor` finds: told as it is found, or one JSON object at the end.

use std::io;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::output::say;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Fine.
    Ok,
    /// Wrong.
    Fail,
    /// Not checked.
    Skip,
    /// Nothing was judged.
    Note,
}

impl Mark {
    /// At the start of a line, and its name in JSON.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok    ", "ok"),
            Self::Fail => ("FAIL  ", "fail"),
            Self::Skip => ("skip  ", "skip"),
            Self::Note => ("", "note"),
        }
    }
}

/// What was found so far.
pub struct Findings {
    as_json: bool,
    fine: bool,
    findings: Vec<Value>,
    tables: Map<String, Value>,
}

impl Findings {
    /// Nothing yet.
    pub fn new(as_json: bool) -> Self {
        Self {
            as_json,
            fine: true,
            findings: Vec::new(),
            tables: Map::new(),
        }
    }

    /// A line of a check.
    ///
    /// # Errors
    /// Standard output that cannot be written.
    pub fn tell(&mut self, mark: Mark, check: &str, text: &str) -> io::Result<()> {
        let (start, name) = mark.texts();
        self.fine &= mark != Mark::Fail;
        if self.as_json {
            let finding = json!({"check": check, "outcome": name, "text": text});
            self.findings.push(finding);
        } else {
            say!("{start}{text}");
        }
        Ok(())
    }

    /// A table: `rows` in JSON, or what `print` prints.
    ///
    /// # Errors
    /// Those of `print`.
    pub fn table(
        &mut self,
        name: &str,
        rows: Value,
        print: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.as_json {
            self.tables.insert(name.into(), rows);
            return Ok(());
        }
        print()
    }

    /// Ends the telling.
    ///
    /// # Errors
    /// Standard output that cannot be written.
    pub fn finish(self) -> io::Result<Outcome> {
        if self.as_json {
            let mut object = self.tables;
            object.insert("fine".into(), self.fine.into());
            object.insert("findings".into(), self.findings.into());
            say!("{:#}", Value::Object(object));
        }
        Ok(if self.fine {
            Outcome::Fine
        } else {
            Outcome::Failed
        })
    }
}
