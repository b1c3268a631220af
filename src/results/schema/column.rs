//! Plain Rust rows to Arrow columns and back.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef};

/// A row that does not fit its table, or a table that does not fit its row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A table without a column that the rows need.
    #[error("column {column} is missing")]
    MissingColumn {
        /// Column name.
        column: String,
    },
    /// A column of another type.
    #[error("column {column} has type {got}, expected {expected}")]
    Type {
        /// Column name.
        column: String,
        /// Type in the schema.
        expected: String,
        /// Type found.
        got: String,
    },
    /// A null, or a negative count, where the schema allows none.
    #[error("column {column}, row {row}: {problem}")]
    Value {
        /// Column name.
        column: String,
        /// Row of the batch, from 0.
        row: usize,
        /// What is wrong.
        problem: String,
    },
}

/// A field type of a row: utf8, int32 or float64 in the table, `Option` for nullable.
pub trait Column: Sized {
    /// May be null.
    const NULLABLE: bool;
    /// Type of the column.
    fn data_type() -> DataType;
    /// The column of these values; `Err` holds the first row whose value does not fit and why.
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)>
    where
        Self: 'a;
    /// All values of a column of [`Column::data_type`].
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)>;
}

fn first_null(array: &ArrayRef) -> Result<(), (usize, String)> {
    match (0..array.len()).find(|&i| array.is_null(i)) {
        Some(i) => Err((i, "null, where a value is needed".to_string())),
        None => Ok(()),
    }
}

fn to_int32((row, &value): (usize, &u32)) -> Result<i32, (usize, String)> {
    i32::try_from(value).map_err(|_| (row, format!("{value} does not fit int32")))
}

fn to_u32(row: usize, value: i32) -> Result<u32, (usize, String)> {
    u32::try_from(value).map_err(|_| (row, format!("{value}, where none below 0 is expected")))
}

impl Column for String {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Utf8
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)> {
        Ok(Arc::new(StringArray::from_iter_values(values)))
    }
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)> {
        first_null(array)?;
        let strings = array.as_string::<i32>();
        Ok((0..strings.len())
            .map(|i| strings.value(i).to_string())
            .collect())
    }
}

impl Column for u32 {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Int32
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)> {
        let ints: Vec<i32> = values.enumerate().map(to_int32).collect::<Result<_, _>>()?;
        Ok(Arc::new(Int32Array::from(ints)))
    }
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)> {
        first_null(array)?;
        let ints = array.as_primitive::<Int32Type>().values();
        ints.iter()
            .enumerate()
            .map(|(i, &v)| to_u32(i, v))
            .collect()
    }
}

impl Column for Option<u32> {
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Int32
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)> {
        let ints: Vec<Option<i32>> = values
            .enumerate()
            .map(|(i, v)| v.as_ref().map(|v| to_int32((i, v))).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Int32Array::from(ints)))
    }
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)> {
        let ints = array.as_primitive::<Int32Type>();
        ints.iter()
            .enumerate()
            .map(|(i, v)| v.map(|v| to_u32(i, v)).transpose())
            .collect()
    }
}

impl Column for f64 {
    const NULLABLE: bool = false;
    fn data_type() -> DataType {
        DataType::Float64
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)> {
        Ok(Arc::new(Float64Array::from_iter_values(values.copied())))
    }
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)> {
        first_null(array)?;
        Ok(array.as_primitive::<Float64Type>().values().to_vec())
    }
}

impl Column for Option<f64> {
    const NULLABLE: bool = true;
    fn data_type() -> DataType {
        DataType::Float64
    }
    fn to_array<'a>(values: impl Iterator<Item = &'a Self>) -> Result<ArrayRef, (usize, String)> {
        Ok(Arc::new(values.copied().collect::<Float64Array>()))
    }
    fn from_array(array: &ArrayRef) -> Result<Vec<Self>, (usize, String)> {
        Ok(array.as_primitive::<Float64Type>().iter().collect())
    }
}

/// A row of one Parquet table.
pub trait Row: Sized {
    /// Stem of the table's file, `<stem>.parquet` in a finished run.
    const TABLE: &'static str;
    /// The table's schema, columns in field order.
    fn schema() -> SchemaRef;
    /// The rows as columns.
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, RowError>;
    /// The columns as rows; columns that the row does not know are passed over.
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, RowError>;
}

fn missing(column: &str) -> RowError {
    RowError::MissingColumn {
        column: column.to_string(),
    }
}

fn mistyped(column: &str, expected: &DataType, got: &ArrayRef) -> RowError {
    RowError::Type {
        column: column.to_string(),
        expected: expected.to_string(),
        got: got.data_type().to_string(),
    }
}

/// The batch as one of `schema`, with no null where none is allowed; columns that the schema lacks are left out.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, RowError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = field.name();
        let array = batch.column_by_name(name).ok_or_else(|| missing(name))?;
        if array.data_type() != field.data_type() {
            return Err(mistyped(name, field.data_type(), array));
        }
        if !field.is_nullable() {
            first_null(array).map_err(|(row, problem)| RowError::Value {
                column: name.clone(),
                row,
                problem,
            })?;
        }
        columns.push(array.clone());
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| RowError::Value {
        column: "(all)".to_string(),
        row: 0,
        problem: e.to_string(),
    })
}

/// The column `name` of `batch`, of the field's type.
pub(super) fn column<T: Column>(
    batch: &RecordBatch,
    name: &'static str,
) -> Result<Vec<T>, RowError> {
    let array = batch.column_by_name(name).ok_or_else(|| missing(name))?;
    if *array.data_type() != T::data_type() {
        return Err(mistyped(name, &T::data_type(), array));
    }
    T::from_array(array).map_err(|(row, problem)| RowError::Value {
        column: name.to_string(),
        row,
        problem,
    })
}

/// Declares a row struct together with its table.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident in $table:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::results::schema::Row for $name {
            const TABLE: &'static str = $table;

            fn schema() -> arrow_schema::SchemaRef {
                use $crate::results::schema::Column;
                std::sync::Arc::new(arrow_schema::Schema::new(vec![$(arrow_schema::Field::new(
                    stringify!($field), <$type as Column>::data_type(), <$type as Column>::NULLABLE,
                )),*]))
            }

            fn to_batch(rows: &[Self]) -> Result<arrow_array::RecordBatch, $crate::results::schema::RowError> {
                use $crate::results::schema::{Column, RowError};
                let columns = vec![$(
                    <$type as Column>::to_array(rows.iter().map(|r| &r.$field)).map_err(|(row, problem)| {
                        RowError::Value { column: stringify!($field).to_string(), row, problem }
                    })?
                ),*];
                arrow_array::RecordBatch::try_new(Self::schema(), columns).map_err(|e| RowError::Value {
                    column: "(all)".to_string(), row: 0, problem: e.to_string(),
                })
            }

            fn from_batch(batch: &arrow_array::RecordBatch) -> Result<Vec<Self>, $crate::results::schema::RowError> {
                $(let mut $field = $crate::results::schema::column::column::<$type>(batch, stringify!($field))?.into_iter();)*
                let mut rows = Vec::with_capacity(batch.num_rows());
                while let ($(Some($field),)*) = ($($field.next(),)*) {
                    rows.push(Self { $($field),* });
                }
                Ok(rows)
            }
        }
    };
}
pub(super) use table;
