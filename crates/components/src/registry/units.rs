//! Durations and sizes as people write them.

use std::time::Duration;

const DURATIONS: [(&str, f64); 7] =
    [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads a duration: a number of ns, us, ms, s, m or h, as in `10ms`, `1.5 s`, `2h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let (_, seconds) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// Reads a size: a number of bytes, or of B, KiB, MiB, GiB (powers of 1024), KB, MB, GB (powers of 1000), as in `64 MiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| *name == unit)?.1 };
    match number.parse::<u64>() {
        Ok(n) => n.checked_mul(factor),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            ((0.0..9e18).contains(&bytes) && bytes.fract() == 0.0).then_some(bytes as u64)
        }
    }
}

fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

/// Writes a duration as it would be read.
pub fn show_duration(d: Duration) -> String {
    let ns = d.as_nanos();
    let units =
        [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    let whole = units.into_iter().find(|(unit, _)| ns > 0 && ns.is_multiple_of(*unit));
    whole.map_or_else(
        || if ns == 0 { "0s".into() } else { format!("{ns}ns") },
        |(unit, name)| format!("{}{name}", ns / unit),
    )
}

/// Writes a size as it would be read.
pub fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_come_back_as_they_were_written() {
        for (text, ns) in [("10ms", 10_000_000), ("1.5 s", 1_500_000_000), ("250us", 250_000), ("7ns", 7)] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["10", "ms", "10 parsecs", "-1s", "", "1e9s", "1.2.3s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["2h", "90s", "1500ms", "0s", "3us"] {
            assert_eq!(parse_duration(&show_duration(parse_duration(text).unwrap())), parse_duration(text));
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        let read = [("64 MiB", 64 << 20), ("64MiB", 64 << 20), ("1.5 KiB", 1536), ("10 kB", 10_000), ("512", 512)];
        for (text, bytes) in read {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["MiB", "64 mb", "-1", "1.5", "99999999999 GiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(1000), "1000 B");
    }
}
