//! `results/schema.md` says of every table what the code writes: columns in order, types, and which may be null.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow_schema::DataType;
use quantbound::experiment::plan::Studies;
use quantbound::results::schema::tables;

/// Column, type, and whether it may be null.
type Columns = Vec<(String, String, bool)>;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/schema.md");
    std::fs::read_to_string(path).unwrap()
}

/// The columns under the heading of each section; several share a row where they share what is said of them.
fn described(page: &str) -> BTreeMap<String, Columns> {
    let mut found: BTreeMap<String, Columns> = BTreeMap::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.trim_matches('`').to_string();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(columns) = cells
            .get(1)
            .filter(|c| c.starts_with('`') && cells.len() == 6)
        else {
            continue;
        };
        let list = |cell: &str| -> Vec<String> {
            cell.split(',')
                .map(|name| name.trim().trim_matches('`').to_string())
                .collect()
        };
        let (columns, types) = (list(columns), list(cells[2]));
        assert!(
            types.len() == 1 || types.len() == columns.len(),
            "{section}: {line}"
        );
        let rows = found.entry(section.clone()).or_default();
        for (i, column) in columns.into_iter().enumerate() {
            let of_type = types.get(i).unwrap_or(&types[0]);
            rows.push((column, of_type.clone(), cells[3] != "never"));
        }
    }
    found
}

fn name(of_type: &DataType) -> &'static str {
    match of_type {
        DataType::Utf8 => "utf8",
        DataType::Int32 => "int32",
        DataType::Float64 => "float64",
        other => panic!("results/schema.md has no name for {other}"),
    }
}

fn written() -> BTreeMap<String, Columns> {
    let columns = |fields: &arrow_schema::Fields| -> Columns {
        let fields = fields.iter();
        fields
            .map(|f| {
                (
                    f.name().clone(),
                    name(f.data_type()).to_string(),
                    f.is_nullable(),
                )
            })
            .collect()
    };
    tables()
        .into_iter()
        .map(|(table, schema)| (format!("{table}.parquet"), columns(schema.fields())))
        .collect()
}

#[test]
fn every_column_of_every_table_is_on_the_page() {
    let mut told = described(&page());
    let cell = told.remove("Columns that name the cell").unwrap();
    for (table, columns) in written() {
        let here = told
            .remove(&table)
            .unwrap_or_else(|| panic!("results/schema.md has no section `{table}`"));
        let whole: Columns = cell.iter().chain(&here).cloned().collect();
        assert!(
            columns == here || columns == whole,
            "results/schema.md, `{table}`: the code writes {columns:#?}, the page says (beside the columns that name the \
             cell) {here:#?}"
        );
    }
    assert!(
        told.is_empty(),
        "results/schema.md describes no table of the code: {:?}",
        told.keys()
    );
}

#[test]
fn every_table_is_in_the_list_of_files() {
    let page = page();
    let list = page.split("\n## ").next().unwrap();
    for (table, _) in tables() {
        assert!(
            list.contains(&format!("`{table}.parquet`")),
            "results/schema.md, the first table: {table}.parquet is missing"
        );
    }
}

/// Every stem behind `Row in "..."` in the sources of the schema.
fn declared() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/results/schema");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let declared = text.split("Row in \"").skip(1);
        found.extend(declared.filter_map(|rest| Some(rest.split_once('"')?.0.to_string())));
    }
    found
}

#[test]
fn every_declared_table_is_in_the_list_and_every_study_removes_its_own() {
    let listed: BTreeSet<String> = tables().into_iter().map(|(t, _)| t.to_string()).collect();
    assert_eq!(declared(), listed, "src/results/schema/mod.rs: tables()");
    let always = [
        "measurements",
        "outputs",
        "bounds",
        "ledger",
        "required_bits",
    ];
    let of_studies = Studies::TABLES.iter().chain(&always);
    let of_studies: BTreeSet<String> = of_studies.map(|t| t.to_string()).collect();
    assert_eq!(
        of_studies, listed,
        "src/experiment/studies/mod.rs: Studies::TABLES"
    );
}
