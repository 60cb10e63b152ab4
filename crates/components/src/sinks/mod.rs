//! The ends of topologies.

mod file;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "parquet")]
mod parquet;
mod shown;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tcp;
mod typed;

use crate::registry::Described;

pub use file::FileSink;
#[cfg(feature = "http")]
pub use http::HttpSink;
#[cfg(feature = "parquet")]
pub use parquet::{ParquetKind, ParquetSink};
pub use shown::{LogRows, NullRows, PrintRows};
#[cfg(feature = "sqlite")]
pub use sqlite::{Conflict, Sqlite};
pub use tcp::TcpSink;
pub use typed::{Null, Print};

pub(crate) fn described() -> Vec<Described> {
    let mut all = shown::described();
    all.extend(file::described());
    #[cfg(feature = "parquet")]
    all.push(parquet::described());
    all.push(tcp::described());
    #[cfg(feature = "http")]
    all.push(http::described());
    #[cfg(feature = "sqlite")]
    all.push(sqlite::described());
    all
}
