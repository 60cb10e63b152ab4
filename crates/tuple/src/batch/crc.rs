//! CRC-32C (Castagnoli), eight bytes at a time by tables made at compile time.

const POLYNOMIAL: u32 = 0x82F6_3B78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut i = 0;
    while i < 256 {
        let mut slice = 1;
        while slice < 8 {
            let before = tables[slice - 1][i];
            tables[slice][i] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            slice += 1;
        }
        i += 1;
    }
    tables
}

/// Continues from the CRC of what came before; start with 0.
pub(super) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let x = u64::from_le_bytes(*word) ^ crc as u64;
        crc = 0;
        for (i, table) in TABLES.iter().rev().enumerate() {
            crc ^= table[(x >> (8 * i)) as usize & 0xFF];
        }
    }
    for byte in rest {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ *byte as u32) & 0xFF) as usize];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_vectors_of_rfc_3720_come_out() {
        assert_eq!(crc32c(0, b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(0, &[0xFF; 32]), 0x62A8_AB43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(0, &ascending), 0x46DD_794E);
    }

    #[test]
    fn any_split_gives_the_crc_of_the_whole() {
        let bytes: Vec<u8> = (0..97u32).map(|i| (i * 31) as u8).collect();
        for split in 0..=bytes.len() {
            assert_eq!(crc32c(crc32c(0, &bytes[..split]), &bytes[split..]), crc32c(0, &bytes), "at {split}");
        }
    }
}
