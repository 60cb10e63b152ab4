//! Bolts that take each row by itself: choose, change, take apart, parse, format.

mod csv;
mod enrich;
mod format;
mod parse;
mod select;
mod split;
mod table;

use crate::registry::Described;

pub(crate) use csv::CsvFields;
pub use enrich::{Enrich, Missing};
pub(crate) use format::Writer;
pub use format::{Format, FormatTo};
pub use parse::{Column, Parse, ParseFrom};
pub(crate) use parse::{csv_lines, delimiter, delimiter_option};
pub use select::{Code, Filter, FlatMap, Map, Route};
pub use split::Split;
pub use table::TableFormat;

pub(crate) fn described() -> Vec<Described> {
    let groups = [
        select::described(),
        vec![split::described()],
        parse::described(),
        format::described(),
        vec![enrich::described()],
    ];
    groups.into_iter().flatten().collect()
}
