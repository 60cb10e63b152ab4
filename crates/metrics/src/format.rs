//! Numbers for people: two or three digits and the unit that keeps them short.
//!
//! Rates and counts scale by 1000, memory by 1024, durations from ns to h. Amounts of input are decimal megabytes,
//! as files are listed. All results are plain text without padding; tables align them.

/// Shown where there is no number.
pub const NONE: &str = "–";

/// At most three digits, at most one of them after the point: `8.4`, `84.3`, `843`.
fn digits(value: f64) -> String {
    // Rounding can carry into one digit more: 99.96 is 100.
    if value.abs() < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.5 prints as 1000 with three digits, so it already takes the next unit.
    while value.abs() >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 && value.fract() == 0.0 {
        return format!("{value:.0} {}", units[0]);
    }
    format!("{} {}", digits(value), units[unit])
}

/// Events per second: `950 /s`, `12.3 M/s`. Not a finite number: `–`.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        return NONE.into();
    }
    scaled(per_second, 1000.0, &["/s", "k/s", "M/s", "G/s"])
}

/// A duration in nanoseconds: `84 ns`, `8.4 µs`, `1.3 ms`, `12.0 s`, `3.5 min`, `2.0 h`.
pub fn duration_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..60_000_000_000 => scaled(value, 1000.0, &["ns", "µs", "ms", "s"]),
        60_000_000_000..3_600_000_000_000 => format!("{} min", digits(value / 60e9)),
        _ => format!("{} h", digits(value / 3600e9)),
    }
}

/// A duration that may be unknown.
pub fn duration_ns_or_none(ns: Option<u64>) -> String {
    ns.map_or_else(|| NONE.into(), duration_ns)
}

/// Memory: `512 B`, `1.2 GiB`.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// An amount of input, decimal: `17.0 kB`, `200 MB`.
pub fn bytes_decimal(bytes: u64) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

/// A count in full with thousands separated: `12,345,678`.
pub fn count(count: u64) -> String {
    let plain = count.to_string();
    let mut text = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.char_indices() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in short: `950`, `12.3 M`.
pub fn count_short(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits_and_a_short_unit() {
        let seen: Vec<_> = [0.0, 0.5, 7.0, 950.0, 999.4, 999.6, 12_345.0, 12_345_678.0, 9.9e9, f64::NAN]
            .into_iter()
            .map(rate)
            .collect();
        let want = ["0 /s", "0.5 /s", "7 /s", "950 /s", "999 /s", "1.0 k/s", "12.3 k/s", "12.3 M/s", "9.9 G/s", "–"];
        assert_eq!(seen, want);
    }

    #[test]
    fn durations_choose_their_unit_and_never_print_a_thousand_of_it() {
        let seen: Vec<_> = [0, 84, 999, 8_400, 999_600, 1_260_000, 59_000_000_000, 210_000_000_000, 7_200_000_000_000]
            .into_iter()
            .map(duration_ns)
            .collect();
        let want = ["0 ns", "84 ns", "999 ns", "8.4 µs", "1.0 ms", "1.3 ms", "59.0 s", "3.5 min", "2.0 h"];
        assert_eq!(seen, want);
        assert_eq!(duration_ns_or_none(None), "–");
    }

    #[test]
    fn memory_is_binary_and_input_is_decimal() {
        assert_eq!([bytes(512), bytes(1536), bytes(1_288_490_189)], ["512 B", "1.5 KiB", "1.2 GiB"]);
        assert_eq!([bytes_decimal(17_000), bytes_decimal(200_000_000)], ["17.0 kB", "200 MB"]);
    }

    #[test]
    fn counts_are_grouped_by_thousands_or_shortened() {
        let seen: Vec<_> = [0, 999, 1_000, 12_345_678, u64::MAX].into_iter().map(count).collect();
        assert_eq!(seen, ["0", "999", "1,000", "12,345,678", "18,446,744,073,709,551,615"]);
        assert_eq!([count_short(950), count_short(12_345_678)], ["950", "12.3 M"]);
    }
}
