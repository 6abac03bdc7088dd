//! Rows to Parquet and back: typed columns where the type holds every value exactly, otherwise the canonical text.
//! One object holds one row group, small enough to be held in memory on the way out and on the way in.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType as Annotation, Repetition, Type as Physical, ZstdLevel};
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};
use serde::{Deserialize, Serialize};

use crate::rows::{LogicalType, Row, Value};
use crate::store::TableSide;

/// How a column's values stand in Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Boolean,
    Int64,
    /// The bits of an unsigned number, annotated as such.
    UInt64,
    Double,
    Bytes,
    /// UTF-8, in the canonical spelling.
    Text,
}

/// One column of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// The source's own spelling of the type.
    #[serde(rename = "type")]
    pub native: String,
    pub nullable: bool,
    pub form: Form,
}

/// The columns of an archive of this table.
pub fn columns(side: &TableSide) -> Vec<Column> {
    side.columns
        .iter()
        .map(|column| Column {
            name: column.name.as_str().to_owned(),
            native: column.native.clone(),
            nullable: column.nullable,
            form: match (&column.logical, &column.carry) {
                (
                    LogicalType::Int {
                        bits: 64,
                        unsigned: true,
                    },
                    _,
                ) => Form::UInt64,
                (_, LogicalType::Int { .. } | LogicalType::Year) => Form::Int64,
                (_, LogicalType::Bool) => Form::Boolean,
                (_, LogicalType::Float32 | LogicalType::Float64) => Form::Double,
                (_, carry) if carry.is_binary() => Form::Bytes,
                _ => Form::Text,
            },
        })
        .collect()
}

/// One object with these rows.
pub fn encode(columns: &[Column], rows: &[Row]) -> Result<Bytes, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by("datamigration".to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(columns)?, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    let mut at = 0;
    while let Some(mut target) = group.next_column()? {
        let column = columns.get(at).ok_or_else(|| misfit("a column too many"))?;
        let cells = || rows.iter().map(move |row| row.values.get(at).unwrap_or(&Value::Null));
        write_column(&mut target, column, cells)?;
        target.close()?;
        at += 1;
    }
    group.close()?;
    writer.into_inner().map(Bytes::from)
}

/// The rows of one object.
pub fn decode(columns: &[Column], object: Bytes) -> Result<Vec<Row>, ParquetError> {
    let reader = SerializedFileReader::new(object)?;
    let expected = schema(columns)?;
    if reader.metadata().file_metadata().schema() != expected.as_ref() {
        return Err(misfit("its columns are not those of the manifest"));
    }
    let mut rows = Vec::new();
    for nth in 0..reader.num_row_groups() {
        let group = reader.get_row_group(nth)?;
        let count = usize::try_from(group.metadata().num_rows()).map_err(|_| misfit("a negative number of rows"))?;
        let first = rows.len();
        rows.resize_with(first + count, || Row {
            values: Vec::with_capacity(columns.len()),
        });
        for (at, column) in columns.iter().enumerate() {
            let cells = read_column(group.get_column_reader(at)?, column, count)?;
            for (row, cell) in rows[first..].iter_mut().zip(cells) {
                row.values.push(cell);
            }
        }
    }
    Ok(rows)
}

fn schema(columns: &[Column]) -> Result<TypePtr, ParquetError> {
    let fields = columns
        .iter()
        .map(|column| {
            let (physical, annotation) = match column.form {
                Form::Boolean => (Physical::BOOLEAN, None),
                Form::Int64 => (Physical::INT64, None),
                Form::UInt64 => (Physical::INT64, Some(Annotation::integer(64, false))),
                Form::Double => (Physical::DOUBLE, None),
                Form::Bytes => (Physical::BYTE_ARRAY, None),
                Form::Text => (Physical::BYTE_ARRAY, Some(Annotation::String)),
            };
            Type::primitive_type_builder(&column.name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(annotation)
                .build()
                .map(Arc::new)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder("row")
        .with_fields(fields)
        .build()
        .map(Arc::new)
}

fn write_column<'v, I>(
    target: &mut SerializedColumnWriter<'_>,
    column: &Column,
    cells: impl Fn() -> I,
) -> Result<(), ParquetError>
where
    I: Iterator<Item = &'v Value>,
{
    let wrong = |value: &Value| {
        misfit(&format!(
            "column {} holds {value:?}, which is no {:?}",
            column.name, column.form
        ))
    };
    match column.form {
        Form::Boolean => write::<BoolType, _>(target, cells(), |value| match value {
            Value::Int(0) => Ok(false),
            Value::Int(1) => Ok(true),
            other => Err(wrong(other)),
        }),
        Form::Int64 => write::<Int64Type, _>(target, cells(), |value| match value {
            Value::Int(n) => Ok(*n),
            other => Err(wrong(other)),
        }),
        Form::UInt64 => write::<Int64Type, _>(target, cells(), |value| match value {
            Value::Int(n) if *n >= 0 => Ok(*n),
            Value::UInt(n) => Ok(n.cast_signed()),
            other => Err(wrong(other)),
        }),
        Form::Double => write::<DoubleType, _>(target, cells(), |value| match value {
            Value::Float(x) => Ok(*x),
            other => Err(wrong(other)),
        }),
        Form::Bytes => write::<ByteArrayType, _>(target, cells(), |value| match value {
            Value::Bytes(bytes) => Ok(ByteArray::from(bytes.clone())),
            other => Err(wrong(other)),
        }),
        Form::Text => write::<ByteArrayType, _>(target, cells(), |value| match value {
            Value::Text(text) => Ok(ByteArray::from(text.as_bytes().to_vec())),
            other => Err(wrong(other)),
        }),
    }
}

fn write<'v, T: DataType, I: Iterator<Item = &'v Value>>(
    target: &mut SerializedColumnWriter<'_>,
    cells: I,
    plain: impl Fn(&Value) -> Result<T::T, ParquetError>,
) -> Result<(), ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(!cell.is_null()));
        if !cell.is_null() {
            values.push(plain(cell)?);
        }
    }
    target.typed::<T>().write_batch(&values, Some(&levels), None)?;
    Ok(())
}

fn read_column(source: ColumnReader, column: &Column, count: usize) -> Result<Vec<Value>, ParquetError> {
    match column.form {
        Form::Boolean => read::<BoolType>(source, count, |b| Ok(Value::Int(i64::from(b)))),
        Form::Int64 => read::<Int64Type>(source, count, |n| Ok(Value::Int(n))),
        Form::UInt64 => read::<Int64Type>(source, count, |n| Ok(Value::unsigned(n.cast_unsigned()))),
        Form::Double => read::<DoubleType>(source, count, |x| Ok(Value::Float(x))),
        Form::Bytes => read::<ByteArrayType>(source, count, |b| Ok(Value::Bytes(b.data().to_vec()))),
        Form::Text => read::<ByteArrayType>(source, count, |b| {
            let text = String::from_utf8(b.data().to_vec());
            text.map(Value::Text)
                .map_err(|_| misfit(&format!("column {} holds a text that is not UTF-8", column.name)))
        }),
    }
}

fn read<T: DataType>(
    source: ColumnReader,
    count: usize,
    value: impl Fn(T::T) -> Result<Value, ParquetError>,
) -> Result<Vec<Value>, ParquetError> {
    let mut source = get_typed_column_reader::<T>(source);
    let (mut levels, mut plain) = (Vec::new(), Vec::new());
    while levels.len() < count {
        let (records, _, _) = source.read_records(count - levels.len(), Some(&mut levels), None, &mut plain)?;
        if records == 0 {
            return Err(misfit("a column ends before its last row"));
        }
    }
    let mut plain = plain.into_iter();
    levels
        .into_iter()
        .map(|level| match level {
            0 => Ok(Value::Null),
            _ => plain
                .next()
                .map_or_else(|| Err(misfit("a column has fewer values than rows")), &value),
        })
        .collect()
}

fn misfit(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, form: Form) -> Column {
        Column {
            name: name.to_owned(),
            native: "x".to_owned(),
            nullable: true,
            form,
        }
    }

    fn table() -> (Vec<Column>, Vec<Row>) {
        let columns = [
            Form::Boolean,
            Form::Int64,
            Form::UInt64,
            Form::Double,
            Form::Bytes,
            Form::Text,
        ];
        let columns = columns
            .iter()
            .enumerate()
            .map(|(n, form)| column(&format!("c{n}"), *form))
            .collect();
        let rows = vec![
            vec![
                Value::Int(1),
                Value::Int(i64::MIN),
                Value::UInt(u64::MAX),
                Value::Float(-0.0),
                Value::Bytes(vec![0, 255]),
                Value::text(""),
            ],
            vec![Value::Null; 6],
            vec![
                Value::Int(0),
                Value::Int(i64::MAX),
                Value::Int(7),
                Value::Float(f64::NAN),
                Value::Bytes(vec![]),
                Value::text("0000-00-00 ð\u{0}"),
            ],
        ];
        (columns, rows.into_iter().map(|values| Row { values }).collect())
    }

    #[test]
    fn every_form_comes_back_bit_by_bit() {
        let (columns, rows) = table();
        let object = encode(&columns, &rows).unwrap();
        assert_eq!(decode(&columns, object).unwrap(), rows);
        assert_eq!(decode(&columns, encode(&columns, &[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn an_object_of_other_columns_or_a_cut_one_is_an_error() {
        let (mut columns, rows) = table();
        let object = encode(&columns, &rows).unwrap();
        assert!(decode(&columns, object.slice(..object.len() - 9)).is_err());
        columns.swap(0, 1);
        assert!(decode(&columns, object).is_err());
    }

    #[test]
    fn a_value_that_does_not_fit_its_column_is_an_error_not_a_guess() {
        for (form, value) in [
            (Form::Boolean, Value::Int(2)),
            (Form::Int64, Value::UInt(u64::MAX)),
            (Form::Text, Value::Int(1)),
        ] {
            assert!(
                encode(&[column("c", form)], &[Row { values: vec![value] }]).is_err(),
                "{form:?}"
            );
        }
    }
}
