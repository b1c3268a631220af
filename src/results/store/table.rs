//! Rows to files and back. Tables of a run are Parquet: Snappy, dictionary-encoded strings, types that any reader opens.
//! Small tables in parts are Arrow streams, which are written and read at a tenth of what Parquet takes for few rows.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
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
/// Rows of a table in a part that are no Parquet file: a row takes some 200 bytes in them, and 60 in Parquet.
const FEW: usize = 128;
/// What a Parquet file begins with.
const MAGIC: &[u8] = b"PAR1";

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

/// The error of a part whose file is not as it was written.
pub fn damaged_part(path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Read {
        path: path.to_path_buf(),
        problem: format!("is no intact part ({error}); finish the sweep again"),
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

/// A table of a part; `path` is for errors.
pub fn encode_batch(batch: &RecordBatch, path: &Path) -> Result<Encoded, StoreError> {
    let rows = batch.num_rows() as u64;
    let bytes = if batch.num_rows() <= FEW {
        let fail = |e: ArrowError| atomic::write_error(path, e);
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).map_err(fail)?;
        writer.write(batch).map_err(fail)?;
        writer.into_inner().map_err(fail)?
    } else {
        let fail = |e: ParquetError| atomic::write_error(path, e);
        let mut writer =
            ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties())).map_err(fail)?;
        writer.write(batch).map_err(fail)?;
        writer.into_inner().map_err(fail)?
    };
    Ok(Encoded { bytes, rows })
}

/// Hands what [`encode_batch`] has encoded to `visit`, some thousand rows at a time; `path` is for errors.
pub fn decode(
    bytes: Bytes,
    path: &Path,
    mut visit: impl FnMut(RecordBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if bytes.starts_with(MAGIC) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(BATCH).build())
            .map_err(|e| damaged_part(path, e))?;
        for batch in reader {
            visit(batch.map_err(|e| damaged_part(path, e))?)?;
        }
    } else {
        let reader = StreamReader::try_new(Cursor::new(bytes), None);
        for batch in reader.map_err(|e| damaged_part(path, e))? {
            visit(batch.map_err(|e| damaged_part(path, e))?)?;
        }
    }
    Ok(())
}

/// The rows of such a table; `path` is for errors.
pub fn rows<R: Row>(bytes: Bytes, path: &Path) -> Result<Vec<R>, StoreError> {
    let mut rows = Vec::new();
    decode(bytes, path, |batch| {
        let found = R::from_batch(&batch).map_err(|source| StoreError::Row {
            path: path.to_path_buf(),
            source,
        })?;
        rows.extend(found);
        Ok(())
    })?;
    Ok(rows)
}

/// Streams tables of parts, each with the path for its errors, into one of `schema`; a part of another schema is an error
/// that names its column. Errors of `out` carry an empty path for the caller to fill in.
pub fn merge(
    schema: SchemaRef,
    parts: impl Iterator<Item = Result<(PathBuf, Bytes), StoreError>>,
    out: &mut BufWriter<File>,
) -> Result<(), StoreError> {
    let fail = |e: ParquetError| atomic::write_error(Path::new(""), e);
    let out = out as &mut (dyn Write + Send);
    let mut writer = ArrowWriter::try_new(out, schema.clone(), Some(properties())).map_err(fail)?;
    for part in parts {
        let (path, bytes) = part?;
        decode(bytes, &path, |batch| {
            let batch = conform(&batch, &schema).map_err(|source| StoreError::Row {
                path: path.clone(),
                source,
            })?;
            writer.write(&batch).map_err(fail)
        })?;
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
