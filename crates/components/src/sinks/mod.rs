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

use squall::BoltError;

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

/// What could not be written of a batch.
///
/// A row is acknowledged when its call returns, and may lie in a buffer until its batch ends. So it is not the row whose write fails
/// that is lost, but rows before it: the error is kept until `batch_end`, which fails all rows of the batch. The rows between are not
/// written.
#[derive(Default)]
struct Torn(Option<BoltError>);

impl Torn {
    /// Writes, unless something of this batch could not be written.
    fn write(&mut self, write: impl FnOnce() -> Result<(), BoltError>) {
        if self.0.is_none() {
            self.0 = write().err();
        }
    }

    /// The batch ends.
    fn end(&mut self) -> Result<(), BoltError> {
        self.0.take().map_or(Ok(()), Err)
    }
}

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
