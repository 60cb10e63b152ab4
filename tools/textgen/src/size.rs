//! Byte sizes as people write them.

/// Reads `200M`, `64KiB`, `1G` or `1000` as bytes: `k`, `M`, `G` are powers of 1000, `Ki`, `Mi`, `Gi`
/// powers of 1024; a `B` may follow; upper and lower case are equal.
///
/// # Errors
/// A sentence that names the accepted forms, for anything else and for what exceeds 2⁶⁴ − 1.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write for example 1000, 64KiB, 200M or 2G");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = text[digits..].to_ascii_lowercase();
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn decimal_and_binary_units_are_told_apart() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("7B", 7),
            ("200M", 200_000_000),
            ("200mb", 200_000_000),
            ("2G", 2_000_000_000),
            ("64KiB", 65_536),
            ("1Mi", 1 << 20),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for text in ["", "M", "-1", "1.5M", "10T", "99999999999999999999", "99999999999G"] {
            assert!(parse_bytes(text).unwrap_err().contains("200M"), "{text}");
        }
    }
}
