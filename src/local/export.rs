//! Every differing key in a file, as CSV or Parquet by the file's name: what the budget of a report leaves out. The file
//! appears under its name only when it is whole.

use super::LocalError;
use crate::workers::{Difference, WorkError};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The columns of an export.
const COLUMNS: [&str; 7] = [
    "table",
    "key",
    "kind",
    "base_version",
    "follower_version",
    "columns",
    "reason",
];
/// Differences in one row group.
const GROUP: usize = 10_000;

/// A file that is being written.
pub struct Export {
    path: PathBuf,
    partial: PathBuf,
    writer: Writer,
}

enum Writer {
    Csv(Box<csv::Writer<BufWriter<File>>>),
    Parquet {
        file: Box<SerializedFileWriter<BufWriter<File>>>,
        held: Vec<Line>,
    },
}

/// One difference as it is written: the texts of `COLUMNS`, and whether it was repaired.
struct Line {
    texts: [Option<String>; COLUMNS.len()],
    repaired: bool,
}

impl Line {
    fn of(difference: &Difference) -> Self {
        let seen = &difference.seen;
        Self {
            texts: [
                Some(difference.table.clone()),
                Some(difference.key.to_json()),
                Some(difference.kind.as_str().to_owned()),
                seen.base.clone(),
                seen.follower.clone(),
                Some(seen.columns.join(" ")),
                difference.kind.reason().map(str::to_owned),
            ],
            repaired: difference.repaired,
        }
    }
}

impl Export {
    /// Begins a file; its kind is its name's end.
    pub fn create(path: &Path) -> Result<Self, LocalError> {
        let usage = |why: String| LocalError::Usage(format!("--export {}: {why}", path.display()));
        let kind = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let create = || {
            File::create(&partial)
                .map(BufWriter::new)
                .map_err(|error| usage(error.to_string()))
        };
        let writer = match kind {
            "csv" => {
                let mut writer = csv::Writer::from_writer(create()?);
                writer
                    .write_record(COLUMNS.iter().chain(&["repaired"]))
                    .map_err(|error| usage(error.to_string()))?;
                Writer::Csv(Box::new(writer))
            }
            "parquet" => {
                let file = parquet_file(create()?).map_err(|error| usage(error.to_string()))?;
                Writer::Parquet {
                    file: Box::new(file),
                    held: Vec::new(),
                }
            }
            _ => return Err(usage("expected a name that ends in .csv or .parquet".to_owned())),
        };
        Ok(Self {
            path: path.to_owned(),
            partial,
            writer,
        })
    }

    /// Adds a difference.
    pub fn add(&mut self, difference: &Difference) -> Result<(), String> {
        let line = Line::of(difference);
        let written = match &mut self.writer {
            Writer::Csv(writer) => {
                let repaired = line.repaired.to_string();
                let cells = line.texts.iter().map(|text| text.as_deref().unwrap_or_default());
                writer
                    .write_record(cells.chain([repaired.as_str()]))
                    .map_err(|error| error.to_string())
            }
            Writer::Parquet { file, held } => {
                held.push(line);
                if held.len() < GROUP {
                    Ok(())
                } else {
                    write_group(file, held).map_err(|error| error.to_string())
                }
            }
        };
        written.map_err(|why| format!("{}: the export cannot be written: {why}", self.partial.display()))
    }

    /// Ends the file. `whole`: every table was compared to its end; otherwise what there is stays under its partial name.
    pub fn finish(self, whole: bool) -> Result<(), LocalError> {
        let failed = |why: String| {
            LocalError::Work(WorkError::permanent(
                "ExportFailed",
                format!("{}: the export cannot be written: {why}", self.path.display()),
            ))
        };
        match self.writer {
            Writer::Csv(mut writer) => writer.flush().map_err(|error| failed(error.to_string()))?,
            Writer::Parquet { mut file, mut held } => {
                write_group(&mut file, &mut held).map_err(|error| failed(error.to_string()))?;
                file.close().map_err(|error| failed(error.to_string()))?;
            }
        }
        if whole {
            std::fs::rename(&self.partial, &self.path).map_err(|error| failed(error.to_string()))?;
        } else {
            eprintln!(
                "the run did not come to its end: what was found is in {}",
                self.partial.display()
            );
        }
        Ok(())
    }
}

fn parquet_file(file: BufWriter<File>) -> Result<SerializedFileWriter<BufWriter<File>>, ParquetError> {
    let mut fields = Vec::with_capacity(COLUMNS.len() + 1);
    for name in COLUMNS {
        fields.push(Arc::new(
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::String))
                .build()?,
        ));
    }
    fields.push(Arc::new(
        Type::primitive_type_builder("repaired", Physical::BOOLEAN)
            .with_repetition(Repetition::REQUIRED)
            .build()?,
    ));
    let schema = Type::group_type_builder("differences").with_fields(fields).build()?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("datamigration".to_owned())
        .build();
    SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))
}

fn write_group(file: &mut SerializedFileWriter<BufWriter<File>>, held: &mut Vec<Line>) -> Result<(), ParquetError> {
    if held.is_empty() {
        return Ok(());
    }
    let mut group = file.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        if at < COLUMNS.len() {
            let cells: Vec<&Option<String>> = held.iter().map(|line| &line.texts[at]).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let values: Vec<ByteArray> = cells
                .into_iter()
                .flatten()
                .map(|text| ByteArray::from(text.as_str()))
                .collect();
            column
                .typed::<ByteArrayType>()
                .write_batch(&values, Some(&levels), None)?;
        } else {
            let values: Vec<bool> = held.iter().map(|line| line.repaired).collect();
            column.typed::<BoolType>().write_batch(&values, None, None)?;
        }
        column.close()?;
        at += 1;
    }
    group.close()?;
    held.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Key, Value};
    use crate::workers::{Kind, Mismatch, Seen};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    fn differences() -> Vec<Difference> {
        let seen = |base: Option<&str>, follower: Option<&str>, columns: &[&str]| Seen {
            base: base.map(str::to_owned),
            follower: follower.map(str::to_owned),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
        };
        let one = |key: Value, kind, seen, repaired| Difference {
            table: "orders".to_owned(),
            key: Key(vec![key]),
            kind,
            seen,
            repaired,
        };
        vec![
            one(
                Value::Int(1),
                Kind::Differs(Mismatch::TargetMissing),
                seen(Some("v1"), None, &[]),
                true,
            ),
            one(
                Value::text("a,\"b\"\nc"),
                Kind::Differs(Mismatch::Neq),
                seen(Some("v1"), Some("v2"), &["note", "amount"]),
                false,
            ),
            one(
                Value::Int(3),
                Kind::Refused("out of range".to_owned()),
                seen(None, None, &[]),
                false,
            ),
        ]
    }

    #[test]
    fn csv_holds_every_key_and_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let mut export = Export::create(&path).unwrap();
        for difference in differences() {
            export.add(&difference).unwrap();
        }
        assert!(!path.exists());
        export.finish(true).unwrap();
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let lines: Vec<Vec<String>> = reader
            .records()
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(lines[0], ["orders", "[1]", "target_missing", "v1", "", "", "", "true"]);
        assert_eq!(Key::from_json(&lines[1][1]).unwrap(), differences()[1].key);
        assert_eq!(lines[1][2..], ["neq", "v1", "v2", "note amount", "", "false"]);
        assert_eq!(lines[2][2..], ["refused", "", "", "", "out of range", "false"]);
    }

    #[test]
    fn parquet_holds_every_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let mut export = Export::create(&path).unwrap();
        for difference in differences() {
            export.add(&difference).unwrap();
        }
        export.finish(true).unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let rows: Vec<String> = reader
            .get_row_iter(None)
            .unwrap()
            .map(|row| row.unwrap().to_string())
            .collect();
        assert_eq!(rows.len(), 3);
        assert!(
            rows[0].contains("target_missing") && rows[0].contains("follower_version: null"),
            "{rows:?}"
        );
    }

    #[test]
    fn an_unfinished_run_leaves_no_file_under_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        Export::create(&path).unwrap().finish(false).unwrap();
        assert!(!path.exists() && folder.path().join("out.csv.partial").exists());
        assert!(matches!(
            Export::create(&folder.path().join("out.txt")),
            Err(LocalError::Usage(_))
        ));
    }
}
