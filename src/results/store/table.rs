//! Rows to Parquet and back: Snappy, dictionary-encoded strings, types that any reader opens.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::{StoreError, atomic, encode};
use crate::results::schema::{Row, conform};

/// Rows decoded at a time.
const BATCH: usize = 8192;
/// Rows of a row group: what a writer holds in memory.
const GROUP: usize = 1 << 17;
/// Bytes of a file that is read as a whole.
const SMALL: u64 = 1 << 20;

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(true)
        .set_max_row_group_row_count(Some(GROUP))
        .build()
}

pub fn read_error(path: &Path, error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::Missing {
            path: path.to_path_buf(),
        },
        _ => StoreError::Read {
            path: path.to_path_buf(),
            problem: format!("cannot be read ({error})"),
        },
    }
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Read {
        path: path.to_path_buf(),
        problem: format!("is no intact Parquet file ({error}); finish the sweep again"),
    }
}

/// A table's encoded file and its number of rows.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub rows: u64,
}

/// A table of these record batches, at least one and all of one schema, in memory; `path` is for errors.
pub fn encode_batches(batches: &[RecordBatch], path: &Path) -> Result<Encoded, StoreError> {
    let fail = |e: ParquetError| atomic::write_error(path, e);
    let schema = batches.first().map(RecordBatch::schema);
    let schema = schema.unwrap_or_else(|| Schema::empty().into());
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties())).map_err(fail)?;
    for batch in batches {
        writer.write(batch).map_err(fail)?;
    }
    let bytes = writer.into_inner().map_err(fail)?;
    let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
    Ok(Encoded { bytes, rows })
}

/// Streams whole tables into one of `schema`; a part of another schema is an error that names its column. Errors of
/// `out` carry an empty path for the caller to fill in.
pub fn merge(
    schema: SchemaRef,
    parts: &[PathBuf],
    out: &mut BufWriter<File>,
) -> Result<(), StoreError> {
    let fail = |e: ParquetError| atomic::write_error(Path::new(""), e);
    let out = out as &mut (dyn Write + Send);
    let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(properties())).map_err(fail)?;
    for path in parts {
        for batch in batches(path)? {
            let batch = batch.map_err(|e| damaged(path, e))?;
            let batch = conform(&batch, &schema).map_err(|source| StoreError::Row {
                path: path.clone(),
                source,
            })?;
            writer.write(&batch).map_err(fail)?;
        }
    }
    writer.close().map_err(fail)?;
    Ok(())
}

/// Writes the rows of all pieces as one table. Errors of `out` carry an empty path for the caller to fill in.
pub fn write<R: Row, P: AsRef<[R]>>(
    pieces: impl Iterator<Item = P>,
    out: &mut BufWriter<File>,
) -> Result<(), StoreError> {
    let fail = |e: ParquetError| atomic::write_error(Path::new(""), e);
    let out = out as &mut (dyn Write + Send);
    let mut writer = ArrowWriter::try_new(out, R::schema(), Some(properties())).map_err(fail)?;
    for rows in pieces {
        writer.write(&encode(rows.as_ref())?).map_err(fail)?;
    }
    writer.close().map_err(fail)?;
    Ok(())
}

fn batches(path: &Path) -> Result<ParquetRecordBatchReader, StoreError> {
    let mut file = File::open(path).map_err(|e| read_error(path, &e))?;
    let size = file.metadata().map_err(|e| read_error(path, &e))?.len();
    let reader = if size <= SMALL {
        // The reader asks a file for a page at a time, by several calls to the system each.
        let mut bytes = Vec::with_capacity(size as usize);
        let read = file.read_to_end(&mut bytes);
        read.map_err(|e| read_error(path, &e))?;
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))
            .and_then(|builder| builder.with_batch_size(BATCH).build())
    } else {
        ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
    };
    reader.map_err(|e| damaged(path, e))
}

/// Hands every row of a table to `visit`, in file order, a few thousand in memory at a time.
pub fn for_each_row<R: Row>(path: &Path, mut visit: impl FnMut(R)) -> Result<(), StoreError> {
    for batch in batches(path)? {
        let batch = batch.map_err(|e| damaged(path, e))?;
        let rows = R::from_batch(&batch).map_err(|source| StoreError::Row {
            path: path.to_path_buf(),
            source,
        })?;
        rows.into_iter().for_each(&mut visit);
    }
    Ok(())
}
