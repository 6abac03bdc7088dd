//! Pure data vocabulary: values, keys, rows, logical types, and how two of them are compared, digested and converted.
//! Nothing here waits, reads a clock or knows a database driver.

pub mod canonical;
mod capacity;
pub mod compare;
pub mod convert;
pub mod digest;
mod json;
mod logical;
mod network;
mod numbered;
mod sharding;
mod sketch;
mod value;

pub use compare::Comparison;
pub use convert::{Carriage, Verdict, judge};
pub use digest::{ChunkDigest, RowDigest};
pub use logical::{LogicalType, NativeForm, Network};
pub use numbered::{TemplateError, is_template, numbered};
pub use sharding::{PlaceError, ShardBy, ShardFunction};
pub use sketch::Sketch;
pub use value::{Key, KeyError, Row, Value};
