//! Parts of made-up cells, stored and merged as a sweep does.

use quantbound::results::schema::{BoundRow, MeasurementRow, OutputRow, Row};
use quantbound::results::store::{Part, PartMeta, RunStore, StoreError, encode};

pub fn measured(cell: &str, batch: u32) -> Part {
    Part::new(cell, "measure", "", Some(batch))
}

pub fn bounds(cell: &str) -> Part {
    Part::new(cell, "bounds", "all", None)
}

pub fn write_measured(
    store: &RunStore,
    part: &Part,
    measurements: &[MeasurementRow],
    outputs: &[OutputRow],
    meta: &PartMeta,
) -> Result<(), StoreError> {
    let tables = [
        (MeasurementRow::TABLE, encode(measurements)?),
        (OutputRow::TABLE, encode(outputs)?),
    ];
    store.write(part, &tables, Some(meta))
}

pub fn write_bounds(store: &RunStore, part: &Part, rows: &[BoundRow]) -> Result<(), StoreError> {
    store.write(part, &[(BoundRow::TABLE, encode(rows)?)], None)
}

/// The three tables of these `(cell, batches)`.
pub fn finish(store: &RunStore, cells: &[(&str, u32)]) -> Result<(), StoreError> {
    let each = cells
        .iter()
        .flat_map(|&(cell, batches)| (0..batches).map(move |b| measured(cell, b)));
    let batches: Vec<Part> = each.collect();
    let whole: Vec<Part> = cells.iter().map(|(cell, _)| bounds(cell)).collect();
    store.merge(MeasurementRow::TABLE, MeasurementRow::schema(), &batches)?;
    store.merge(OutputRow::TABLE, OutputRow::schema(), &batches)?;
    store.merge(BoundRow::TABLE, BoundRow::schema(), &whole)
}
