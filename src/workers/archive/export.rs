//! The way out: a fenced table to Parquet objects of bounded size, and a manifest at the end. Then the way back: every
//! object is read again and compared with the source's rows, value by value.

use bytes::Bytes;
use object_store::path::Path;
use sha2::{Digest as _, Sha256};

use super::destination::Destination;
use super::manifest::{FORMAT, Manifest, Part};
use super::parquet::{columns, decode, encode};
use crate::rows::digest::hexadecimal;
use crate::rows::{ChunkDigest, Key, Row, Value};
use crate::store::{Database, TableSide, TxOptions};
use crate::workers::context::TaskContext;
use crate::workers::error::WorkError;
use std::time::Duration;

/// One object holds at most about so many bytes of values, and so many rows: it is held in memory as a whole.
const PART_BYTES: usize = 24 << 20;
const PART_ROWS: usize = 100_000;
/// What one statement may bring.
const READ_BYTES: usize = 4 << 20;
const READ_ROWS: u32 = 2_000;

/// A table of the source, and where its archive is.
pub struct Archived<'a> {
    pub context: &'a TaskContext,
    pub database: &'a Database,
    pub side: TableSide,
    pub destination: &'a Destination,
    /// The migration's tables in the same database.
    pub beside: Vec<String>,
    /// The directory of the table's objects.
    pub folder: Path,
}

impl Archived<'_> {
    /// Writes every row, and the manifest last. What an attempt that was cut off has left behind is removed first.
    pub async fn export(&self) -> Result<Manifest, WorkError> {
        let context = self.context;
        context
            .retry(async || self.destination.clear(&self.folder).await)
            .await?;
        let columns = columns(&self.side);
        let mut parts = Vec::new();
        let mut reader = Reader::new(self, None, None);
        loop {
            let rows = reader.part().await?;
            let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
                break;
            };
            let (first_key, last_key) = (self.side.key_of(first), self.side.key_of(last));
            let object = encode(&columns, &rows).map_err(|error| self.unfit(&error))?;
            let name = format!("part-{:06}.parquet", parts.len());
            let path = self.folder.clone().join(name.as_str());
            context
                .retry(async || self.destination.put(&path, object.clone()).await)
                .await?;
            parts.push(Part {
                object: name,
                rows: rows.len() as u64,
                bytes: object.len() as u64,
                sha256: sha256(&object),
                rows_digest: digest(&rows),
                first_key: first_key.to_json(),
                last_key: last_key.to_json(),
            });
            progress(context, rows.len(), object.len()).await;
        }
        let manifest = Manifest {
            format: FORMAT,
            migration: context.migration.id(),
            uid: context.migration.uid.clone(),
            database: self.database.label().to_owned(),
            engine: self.side.engine.to_string(),
            table: self.side.table.as_str().to_owned(),
            fingerprint: self.side.schema.fingerprint(),
            filter: self.side.filter.clone(),
            key: self
                .side
                .key_columns()
                .map(|column| column.name.as_str().to_owned())
                .collect(),
            columns,
            rows: parts.iter().map(|part| part.rows).sum(),
            exported_at: context.retry(async || Ok(self.database.clock().await?)).await?,
            parts,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| self.unfit(&error))?;
        let (path, text) = (self.manifest_path(), Bytes::from(text));
        context
            .retry(async || self.destination.put(&path, text.clone()).await)
            .await?;
        Ok(manifest)
    }

    /// The manifest, if the table was exported whole, and its checksum.
    pub async fn manifest(&self) -> Result<Option<(Manifest, String)>, WorkError> {
        read_manifest(self.context, self.destination, &self.folder).await
    }

    fn manifest_path(&self) -> Path {
        manifest_path(&self.folder)
    }

    /// Every object again, compared with the source's rows; and nothing in the source that no object has.
    pub async fn compare(&self, manifest: &Manifest) -> Result<(), WorkError> {
        self.check_shape(manifest)?;
        let mut after: Option<Key> = None;
        for part in &manifest.parts {
            let archived = part_rows(self.context, self.destination, &self.folder, manifest, part).await?;
            let last = archived.last().map(|row| self.side.key_of(row));
            let mut archived = archived.into_iter();
            let mut reader = Reader::new(self, after, last.clone());
            loop {
                let rows = reader.batch().await?;
                if rows.is_empty() {
                    break;
                }
                for row in rows {
                    match archived.next() {
                        Some(kept) if kept == row => {}
                        _ => return Err(self.differs(&row, part)),
                    }
                }
            }
            if let Some(lost) = archived.next() {
                return Err(self.differs(&lost, part));
            }
            after = last;
            self.context.status.publish_after(Duration::from_secs(5)).await;
        }
        match Reader::new(self, after, None).batch().await?.first() {
            None => Ok(()),
            Some(row) => Err(WorkError::permanent(
                "ArchiveDiffers",
                format!(
                    "the archive of table {} lacks the source's row with key {}: nothing is deleted; find out who wrote to the \
                     fenced source, remove {} and let the task run again",
                    self.side.table.as_str(),
                    self.side.key_of(row),
                    self.destination.url(&self.folder)
                ),
            )),
        }
    }

    /// The table still has the shape that was archived.
    pub fn check_shape(&self, manifest: &Manifest) -> Result<(), WorkError> {
        let same = manifest.fingerprint == self.side.schema.fingerprint()
            && manifest.filter == self.side.filter
            && manifest.columns == columns(&self.side);
        if same {
            return Ok(());
        }
        Err(WorkError::permanent(
            "SchemaDrift",
            format!(
                "table {} of the source (or its `where`) is no longer as {} describes it: nothing is deleted; undo the change, or \
                 remove that directory to archive the table as it is now",
                self.side.table.as_str(),
                self.destination.url(&self.folder)
            ),
        ))
    }

    pub fn differs(&self, row: &Row, part: &Part) -> WorkError {
        WorkError::permanent(
            "ArchiveDiffers",
            format!(
                "{} and table {} of the source differ at key {}: nothing more is deleted; find out who wrote to the fenced \
                 source, remove {} and let the task run again",
                part.object,
                self.side.table.as_str(),
                self.side.key_of(row),
                self.destination.url(&self.folder)
            ),
        )
    }

    fn unfit(&self, error: &dyn std::error::Error) -> WorkError {
        WorkError::permanent(
            "ArchiveFailed",
            format!(
                "a row of table {} cannot be written to the archive: {error}",
                self.side.table.as_str()
            ),
        )
    }
}

/// The manifest of a table's directory, and its checksum.
pub async fn read_manifest(
    context: &TaskContext,
    destination: &Destination,
    folder: &Path,
) -> Result<Option<(Manifest, String)>, WorkError> {
    let path = manifest_path(folder);
    let Some(text) = context.retry(async || destination.get(&path).await).await? else {
        return Ok(None);
    };
    match serde_json::from_slice::<Manifest>(&text) {
        Ok(manifest) if manifest.format == FORMAT => Ok(Some((manifest, sha256(&text)))),
        Ok(manifest) => Err(corrupt(
            destination,
            &path,
            &format!("it has format {}, expected {FORMAT}", manifest.format),
        )),
        Err(error) => Err(corrupt(destination, &path, &error.to_string())),
    }
}

/// The rows of one object, whose bytes and values are what the manifest says.
pub async fn part_rows(
    context: &TaskContext,
    destination: &Destination,
    folder: &Path,
    manifest: &Manifest,
    part: &Part,
) -> Result<Vec<Row>, WorkError> {
    context.go_on()?;
    let path = folder.clone().join(part.object.as_str());
    let found = context.retry(async || destination.get(&path).await).await?;
    let Some(object) = found else {
        return Err(corrupt(destination, &path, "it is not there"));
    };
    if object.len() as u64 != part.bytes || sha256(&object) != part.sha256 {
        let found = format!("{} bytes with SHA-256 {}", object.len(), sha256(&object));
        let expected = format!("the manifest says {} bytes with SHA-256 {}", part.bytes, part.sha256);
        return Err(corrupt(destination, &path, &format!("it has {found}, {expected}")));
    }
    let rows = decode(&manifest.columns, object).map_err(|error| corrupt(destination, &path, &error.to_string()))?;
    if rows.len() as u64 != part.rows || digest(&rows) != part.rows_digest {
        return Err(corrupt(destination, &path, "its rows are not those of the manifest"));
    }
    Ok(rows)
}

fn manifest_path(folder: &Path) -> Path {
    folder.clone().join("manifest.json")
}

fn corrupt(destination: &Destination, path: &Path, found: &str) -> WorkError {
    WorkError::permanent(
        "ArchiveCorrupt",
        format!(
            "{} is damaged: {found}; nothing more is deleted from the source. Restore the object; if nothing has been deleted \
             yet, remove the table's directory instead and let the task run again",
            destination.url(path)
        ),
    )
}

/// Reads a range of the table in key order, in statements of bounded size.
struct Reader<'a> {
    archived: &'a Archived<'a>,
    after: Option<Key>,
    upto: Option<Key>,
    limit: u32,
}

impl<'a> Reader<'a> {
    fn new(archived: &'a Archived<'a>, after: Option<Key>, upto: Option<Key>) -> Self {
        Self {
            archived,
            after,
            upto,
            limit: 100,
        }
    }

    /// The next rows; none at the end.
    async fn batch(&mut self) -> Result<Vec<Row>, WorkError> {
        let Archived {
            context,
            database,
            side,
            ..
        } = self.archived;
        let rows = context
            .retry(async || {
                let mut tx = database.begin(TxOptions::read_only()).await?;
                let rows = tx
                    .read_after(side, self.after.as_ref(), self.upto.as_ref(), self.limit)
                    .await?;
                tx.rollback().await;
                Ok(rows)
            })
            .await?;
        if let Some(last) = rows.last() {
            self.after = Some(side.key_of(last));
            let each = rows.iter().map(size).sum::<usize>() / rows.len() + 1;
            self.limit = u32::try_from(READ_BYTES / each)
                .unwrap_or(READ_ROWS)
                .clamp(1, READ_ROWS);
        }
        Ok(rows)
    }

    /// As many batches as fit into one object.
    async fn part(&mut self) -> Result<Vec<Row>, WorkError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while bytes < PART_BYTES && rows.len() < PART_ROWS {
            let batch = self.batch().await?;
            if batch.is_empty() {
                break;
            }
            bytes += batch.iter().map(size).sum::<usize>();
            rows.extend(batch);
        }
        Ok(rows)
    }
}

fn size(row: &Row) -> usize {
    let value = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 8,
    };
    row.values.iter().map(value).sum()
}

fn digest(rows: &[Row]) -> String {
    let mut digest = ChunkDigest::default();
    for row in rows {
        digest.add(row);
    }
    digest.finish()
}

pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Rows and bytes done, published now and then.
async fn progress(context: &TaskContext, rows: usize, bytes: usize) {
    context.status.note(|status| {
        let progress = status.progress.get_or_insert_default();
        progress.rows += rows as u64;
        progress.bytes += bytes as u64;
    });
    context.status.publish_after(Duration::from_secs(3)).await;
}
