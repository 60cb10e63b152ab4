//! Numbers as people write them on a command line.

/// A number with an optional suffix of thousands: `100k`, `2.5M`, `1G`, `800`.
///
/// # Errors
/// A sentence with examples.
pub fn parse_number(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no number: write for example 800, 100k, 2.5M or 1G");
    let (digits, factor) = match text.trim().char_indices().last() {
        Some((at, 'k' | 'K')) => (&text.trim()[..at], 1e3),
        Some((at, 'M')) => (&text.trim()[..at], 1e6),
        Some((at, 'G')) => (&text.trim()[..at], 1e9),
        _ => (text.trim(), 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if number.is_finite() && number >= 0.0 { Ok(number * factor) } else { Err(wrong()) }
}

/// A whole number of things, with the same suffixes.
///
/// # Errors
/// A sentence with examples.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let number = parse_number(text)?;
    if number.fract() == 0.0 && number <= 9e15 {
        Ok(number as u64)
    } else {
        Err(format!("`{text}` is no whole number: write for example 800, 100k or 2M"))
    }
}

/// A length of time in nanoseconds: `500ns`, `50us`, `1.5ms`, `10s`, `2m`, `1h`; without a unit seconds.
///
/// # Errors
/// A sentence with examples.
pub fn parse_duration_ns(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no length of time: write for example 500ns, 50us, 1.5ms, 10s or 2m");
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..at].parse().map_err(|_| wrong())?;
    let factor = match &text[at..] {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "" | "s" => 1e9,
        "m" | "min" => 6e10,
        "h" => 3.6e12,
        _ => return Err(wrong()),
    };
    let ns = number * factor;
    if ns.is_finite() && ns <= 9e18 { Ok(ns.round() as u64) } else { Err(wrong()) }
}

/// A size in bytes: `128`, `1k`, `4KiB`, `1M`.
///
/// # Errors
/// A sentence with examples.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    squall_textgen::size::parse_bytes(text.trim())
}

/// A share: `1%` or `0.01`.
///
/// # Errors
/// A sentence with examples.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no share: write for example 1% or 0.01");
    let text = text.trim();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map_err(|_| wrong())? / 100.0,
        None => text.parse::<f64>().map_err(|_| wrong())?,
    };
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_thousands_and_units_of_time() {
        assert_eq!([parse_count("800"), parse_count("100k"), parse_count("2M")], [Ok(800), Ok(100_000), Ok(2_000_000)]);
        assert_eq!(parse_number("2.5M"), Ok(2.5e6));
        let times = ["500ns", "50us", "1.5ms", "10s", "2m", "3"].map(parse_duration_ns);
        assert_eq!(
            times,
            [Ok(500), Ok(50_000), Ok(1_500_000), Ok(10_000_000_000), Ok(120_000_000_000), Ok(3_000_000_000)]
        );
        assert_eq!([parse_share("1%"), parse_share("0.5")], [Ok(0.01), Ok(0.5)]);
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for text in ["", "k", "-1", "1x", "NaN", "inf"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert!(parse_count("1.5").unwrap_err().contains("whole"));
        for text in ["", "ms", "1y", "1 fortnight"] {
            assert!(parse_duration_ns(text).unwrap_err().contains("50us"), "{text}");
        }
        assert!(parse_share("101%").is_err());
    }
}
