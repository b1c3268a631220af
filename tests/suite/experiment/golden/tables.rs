//! A run's tables as text: one line per row, cells by their number.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use quantbound::results::schema::CellKey;

/// Columns that say again what the cell is.
const OF_THE_CELL: [&str; 5] = ["cell_id", "model", "quantizer", "bits", "granularity"];

/// The table's rows, its columns first. Fields are separated by blanks; the names hold none. Rows of no cell keep all of
/// their columns.
pub fn lines(path: &Path, cells: &[CellKey]) -> Vec<String> {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut lines = Vec::new();
    let schema = reader.schema().clone();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let of_cells = names.contains(&"cell_id");
    let own = names
        .iter()
        .filter(|n| !of_cells || !OF_THE_CELL.contains(n));
    let head: Vec<&str> = of_cells
        .then_some("cell")
        .into_iter()
        .chain(own.copied())
        .collect();
    lines.push(head.join(" "));
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        lines.extend((0..batch.num_rows()).map(|row| line(&batch, row, cells)));
    }
    lines
}

fn line(batch: &RecordBatch, row: usize, cells: &[CellKey]) -> String {
    let mut known = HashMap::new();
    let mut fields = Vec::new();
    let schema = batch.schema();
    let of_cells = schema.column_with_name("cell_id").is_some();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let text = text(column, field.data_type(), row);
        if of_cells && OF_THE_CELL.contains(&field.name().as_str()) {
            known.insert(field.name().clone(), text);
        } else {
            fields.push(text);
        }
    }
    if of_cells {
        let cell = number_of(&known, cells);
        fields.insert(0, format!("c{cell}"));
    }
    fields.join(" ")
}

/// The cell that a row says it is of: by its id, and by every other column that says so.
fn number_of(known: &HashMap<String, String>, cells: &[CellKey]) -> usize {
    let is_same = |key: &CellKey| {
        let is = |name: &str, value: &str| known.get(name).is_none_or(|k| k == value);
        is("cell_id", &key.cell_id)
            && is("model", &key.model.replace(' ', "_"))
            && is("quantizer", &key.quantizer.replace(' ', "_"))
            && is("bits", &key.bits.to_string())
            && is("granularity", key.granularity.name())
    };
    let found = cells.iter().position(is_same);
    found.unwrap_or_else(|| panic!("a row of no cell: {known:?}"))
}

fn text(column: &dyn Array, kind: &DataType, row: usize) -> String {
    if column.is_null(row) {
        return "-".into();
    }
    match kind {
        DataType::Utf8 => column.as_string::<i32>().value(row).replace(' ', "_"),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Float64 => number(column.as_primitive::<Float64Type>().value(row)),
        other => panic!("a column of {other}"),
    }
}

/// Nine digits.
fn number(x: f64) -> String {
    if x.is_finite() {
        // Through f64 again, so that 0.5 is no 5.00000000e-1.
        let short: f64 = format!("{x:.8e}").parse().unwrap();
        format!("{short:?}")
    } else {
        x.to_string()
    }
}

/// What is not equal: words must be, numbers to within `tolerance` of 1 or of the larger one.
pub fn difference(found: &str, golden: &str, tolerance: f64) -> Option<String> {
    let (found, golden): (Vec<&str>, Vec<&str>) =
        (found.lines().collect(), golden.lines().collect());
    for (i, (f, g)) in found.iter().zip(&golden).enumerate() {
        let (words, expected) = (f.split(' '), g.split(' '));
        let same = words.clone().count() == expected.clone().count()
            && words.zip(expected).all(|(w, e)| {
                let numbers = w.parse::<f64>().ok().zip(e.parse::<f64>().ok());
                w == e
                    || numbers.is_some_and(|(a, b)| {
                        (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
                    })
            });
        if !same {
            return Some(format!("line {}:\n  found    {f}\n  expected {g}", i + 1));
        }
    }
    let (f, g) = (found.len(), golden.len());
    (f != g).then(|| format!("{f} lines, expected {g}"))
}
