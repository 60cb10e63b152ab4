//! Plans and topologies for people and other programs.
//!
//! [`text`] is the table of `plan`, [`json`] its machine-readable twin; [`dot`] and [`mermaid`] draw the graph. All are
//! pure and stable: equal plans give equal bytes. Component settings (`config`) are shown by none of them, since they may
//! hold secrets.

mod graph;
mod json;
mod text;

pub use graph::{Edge, dot, edges, mermaid};
pub use json::json;
pub use text::text;

use crate::spec::{Grouping, SchemaSpec, SubscriptionSpec};

/// Bytes for people: `512 B`, `16 KiB`, `1.5 MiB`. At most one digit behind the point, rounded.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut tenths = tenths_of(count, 0);
    // Compared after rounding: 1023.99 KiB is 1 MiB, not 1024 KiB.
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        unit += 1;
        tenths = tenths_of(count, unit);
    }
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        digit => format!("{}.{digit} {}", tenths / 10, UNITS[unit]),
    }
}

fn tenths_of(count: u64, unit: usize) -> u128 {
    let size = 1u128 << (10 * (unit + 1));
    (u128::from(count) * 10 + size / 2) / size
}

/// `fields(word, lang)`, `custom(by-size)`, `shuffle, feedback`.
fn grouping(subscription: &SubscriptionSpec, schema: &SchemaSpec) -> String {
    let field = |&at: &u16| schema.fields.get(at as usize).map_or_else(|| format!("#{at}"), |(name, _)| name.clone());
    let word = subscription.grouping.word();
    let mut text = match &subscription.grouping {
        Grouping::Fields(fields) | Grouping::PartialKey(fields) => {
            format!("{word}({})", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Grouping::Custom(name) => format!("{word}({name})"),
        _ => word.to_string(),
    };
    if subscription.feedback {
        text.push_str(", feedback");
    }
    text
}

/// `3 tasks`, `1 task`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_take_the_unit_that_reads_best() {
        let expected = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (16 << 10, "16 KiB"),
            ((1 << 20) - 1, "1 MiB"),
            (8 << 20, "8 MiB"),
            ((5 << 30) + (1 << 29), "5.5 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (count, text) in expected {
            assert_eq!(bytes(count), text);
        }
    }
}
