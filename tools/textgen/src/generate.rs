//! The text generator: lines of 5–12 words, drawn from a fixed vocabulary by Zipf's law.
//!
//! Determinism is the point: a test that names a seed must see the same bytes on any machine and in
//! any later version. So the random numbers are our own SplitMix64, and the distribution is computed
//! with `+ − × ÷ √` only, which IEEE 754 defines to the last bit (`powf` and `ln` are not: they
//! differ between C libraries).
//!
//! The vocabulary depends on a word's rank alone, not on the seed: word `r` is the same in every
//! text, and a text ten times as long has (at most) the same words. Frequent words are short. A few
//! words end in letters that take two, three or four bytes in UTF-8.
//!
//! Deliberately absent: punctuation, paragraphs, empty lines, invalid UTF-8. Tests that need those
//! write them by hand.

use std::io;

/// Fewest words of a line.
pub const LINE_WORDS_MIN: u64 = 5;
/// Most words of a line.
pub const LINE_WORDS_MAX: u64 = 12;
/// Longest line in bytes, the newline included: twelve of the longest words.
pub const LINE_BYTES_MAX: usize = LINE_WORDS_MAX as usize * (WORD_BYTES_MAX + 1);
/// Longest word in bytes: four syllables and the longest ending.
pub const WORD_BYTES_MAX: usize = 4 * 2 + 9;
/// Most words a vocabulary may have.
pub const WORDS_MAX: u32 = 10_000_000;
/// Largest Zipf exponent.
pub const ZIPF_MAX: f64 = 8.0;

/// The exponent is rounded to a multiple of 2⁻¹⁶ so that powers are products of square roots.
const ZIPF_FRACTION_BITS: u32 = 16;

/// What text to make. The default is 200 MB over 50,000 words, exponent 1, seed 7.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// Length of the text in bytes, exact. Default 200,000,000.
    pub bytes: u64,
    /// Seed of the random numbers; every value is good. Default 7.
    pub seed: u64,
    /// Size of the vocabulary, 1 ..= [`WORDS_MAX`]. Default 50,000.
    pub words: u32,
    /// Zipf exponent, 0 (all words equally frequent) ..= [`ZIPF_MAX`]: the word of rank `r` (from
    /// one) has a weight of `r` to the power of minus this. Default 1.
    pub zipf: f64,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        GeneratorOptions { bytes: 200_000_000, seed: 7, words: 50_000, zipf: 1.0 }
    }
}

/// Why a [`Generator`] refused its options.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionsError {
    /// The vocabulary is empty or too large; carries the number of words asked for.
    Words(u32),
    /// The exponent is out of range or not a number; carries it.
    Zipf(f64),
}

impl std::fmt::Display for OptionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OptionsError::Words(n) => {
                write!(f, "a vocabulary of {n} words: choose 1 to {WORDS_MAX} words")
            }
            OptionsError::Zipf(s) => {
                write!(f, "a Zipf exponent of {s}: choose one from 0 to {ZIPF_MAX}")
            }
        }
    }
}

impl std::error::Error for OptionsError {}

/// Makes text line by line. Memory: the vocabulary and 8 bytes a word.
#[derive(Debug, Clone)]
pub struct Generator {
    random: SplitMix64,
    ranks: AliasTable,
    vocabulary: Vocabulary,
    /// Bytes still to make.
    left: u64,
    line: Vec<u8>,
}

impl Generator {
    /// A generator at the start of its text.
    ///
    /// # Errors
    /// When an option is out of its range; nothing is allocated then.
    pub fn new(options: &GeneratorOptions) -> Result<Generator, OptionsError> {
        if options.words == 0 || options.words > WORDS_MAX {
            return Err(OptionsError::Words(options.words));
        }
        if !(0.0..=ZIPF_MAX).contains(&options.zipf) {
            return Err(OptionsError::Zipf(options.zipf));
        }
        Ok(Generator {
            random: SplitMix64(options.seed),
            ranks: AliasTable::zipf(options.words, options.zipf),
            vocabulary: Vocabulary::new(options.words),
            left: options.bytes,
            line: Vec::with_capacity(LINE_BYTES_MAX),
        })
    }

    /// The next line with its newline; `None` once all bytes are made.
    ///
    /// The last line keeps the words that fit (perhaps none) and is filled with spaces, so that the
    /// text has exactly the length asked for and ends with a newline, never inside a word.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        if self.left == 0 {
            return None;
        }
        self.line.clear();
        let words = LINE_WORDS_MIN + self.random.below(LINE_WORDS_MAX - LINE_WORDS_MIN + 1);
        for _ in 0..words {
            let word = self.vocabulary.word(self.ranks.pick(self.random.next()));
            // One more byte for the separator, which is the newline after the last word.
            if (self.line.len() + word.len() + 1) as u64 > self.left {
                self.line.resize(self.left as usize, b' ');
                break;
            }
            self.line.extend_from_slice(word);
            self.line.push(b' ');
        }
        *self.line.last_mut().expect("a word, or a space for each byte left") = b'\n';
        self.left -= self.line.len() as u64;
        Some(&self.line)
    }

    /// Writes the rest of the text; returns how many bytes that were.
    ///
    /// # Errors
    /// The writer's. Lines are written one by one: give a buffered writer.
    pub fn write_to(&mut self, out: &mut dyn io::Write) -> io::Result<u64> {
        let mut written = 0;
        while let Some(line) = self.next_line() {
            out.write_all(line)?;
            written += line.len() as u64;
        }
        Ok(written)
    }
}

/// The whole text in memory.
///
/// ```
/// use squall_textgen::{GeneratorOptions, generate_text};
/// let options = GeneratorOptions { bytes: 1000, words: 20, ..Default::default() };
/// let text = generate_text(&options).unwrap();
/// assert_eq!(text.len(), 1000);
/// assert_eq!(text, generate_text(&options).unwrap());
/// ```
///
/// # Errors
/// As [`Generator::new`].
pub fn generate_text(options: &GeneratorOptions) -> Result<String, OptionsError> {
    let mut generator = Generator::new(options)?;
    let mut text = Vec::with_capacity(options.bytes as usize);
    while let Some(line) = generator.next_line() {
        text.extend_from_slice(line);
    }
    Ok(String::from_utf8(text).expect("the vocabulary is UTF-8"))
}

/// All words, end to end, word `r` at `bounds[r] .. bounds[r + 1]`.
#[derive(Debug, Clone)]
struct Vocabulary {
    text: Vec<u8>,
    bounds: Vec<u32>,
}

const CONSONANTS: &[u8; 18] = b"tnsrhldcmfpgwbvkzj";
const VOWELS: &[u8; 5] = b"eaoiu";
const SYLLABLES: u32 = (CONSONANTS.len() * VOWELS.len()) as u32;

impl Vocabulary {
    fn new(words: u32) -> Vocabulary {
        let mut text = Vec::with_capacity(words as usize * 7);
        let mut bounds = Vec::with_capacity(words as usize + 1);
        bounds.push(0);
        for rank in 0..words {
            push_word(rank, &mut text);
            bounds.push(text.len() as u32);
        }
        Vocabulary { text, bounds }
    }

    #[inline]
    fn word(&self, rank: u32) -> &[u8] {
        let rank = rank as usize;
        &self.text[self.bounds[rank] as usize..self.bounds[rank + 1] as usize]
    }
}

/// The word of a rank: the rank in bijective base 90, a digit being a syllable of two letters, so
/// that words differ and frequent ones are short. Some ranks get an ending that is not ASCII; as
/// plain words end in an ASCII vowel, these differ from all others too.
fn push_word(rank: u32, text: &mut Vec<u8>) {
    let mut rest = rank;
    loop {
        // The digits are spread over the letters by a step that has no divisor in common with 90,
        // so that neighbours in rank do not look alike.
        let syllable = (rest % SYLLABLES * 37 + 11) % SYLLABLES;
        text.push(CONSONANTS[syllable as usize / VOWELS.len()]);
        text.push(VOWELS[syllable as usize % VOWELS.len()]);
        rest /= SYLLABLES;
        if rest == 0 {
            break;
        }
        rest -= 1;
    }
    let ending = match rank {
        r if r % 41 == 17 => "é",
        r if r % 67 == 29 => "ß",
        r if r % 151 == 40 => "λό",
        r if r % 307 == 100 => "日本語",
        r if r % 1009 == 500 => "🌧",
        _ => "",
    };
    text.extend_from_slice(ending.as_bytes());
}

/// Draws ranks by weight in constant time (Walker's alias method): a column is chosen evenly, then
/// either its own rank or its alias.
#[derive(Debug, Clone)]
struct AliasTable {
    /// The own rank is kept when 32 random bits are below `keep`; a column that is never given up
    /// has itself as alias.
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    keep: u32,
    alias: u32,
}

impl AliasTable {
    fn zipf(words: u32, exponent: f64) -> AliasTable {
        let exponent = (exponent * f64::from(1u32 << ZIPF_FRACTION_BITS)).round() as u32;
        let weights: Vec<f64> = (1..=words).map(|r| 1.0 / power(f64::from(r), exponent)).collect();
        let mean = weights.iter().sum::<f64>() / f64::from(words);
        // 1.0 is an average column.
        let mut share: Vec<f64> = weights.iter().map(|w| w / mean).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..words).partition(|&r| share[r as usize] < 1.0);
        let mut columns: Vec<Column> = (0..words).map(|rank| Column { keep: 0, alias: rank }).collect();
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            let kept = share[less as usize];
            columns[less as usize] = Column { keep: (kept * 4_294_967_296.0) as u32, alias: more };
            share[more as usize] -= 1.0 - kept;
            if share[more as usize] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        AliasTable { columns }
    }

    /// The rank for 64 random bits: the upper half chooses the column, the lower half the side.
    #[inline]
    fn pick(&self, random: u64) -> u32 {
        let column = ((random >> 32) * self.columns.len() as u64) >> 32;
        let Column { keep, alias } = self.columns[column as usize];
        if (random as u32) < keep { column as u32 } else { alias }
    }
}

/// `base` to the power of `exponent × 2⁻¹⁶`, by products and square roots only.
fn power(base: f64, exponent: u32) -> f64 {
    let mut result = 1.0;
    for _ in 0..exponent >> ZIPF_FRACTION_BITS {
        result *= base;
    }
    let mut root = base;
    for bit in (0..ZIPF_FRACTION_BITS).rev() {
        root = root.sqrt();
        if exponent >> bit & 1 == 1 {
            result *= root;
        }
    }
    result
}

/// Steele, Lea and Flood's SplitMix64: one addition and three multiplications a number.
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must be small (the bias is `bound` ÷ 2³²).
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn options(bytes: u64) -> GeneratorOptions {
        GeneratorOptions { bytes, ..GeneratorOptions::default() }
    }

    /// FNV-1a: a second, unrelated way to name the bytes in the golden test.
    fn fingerprint(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn the_bytes_of_a_seed_never_change() {
        let text = generate_text(&options(1_000_000)).unwrap();
        let first: Vec<&str> = text.lines().take(3).collect();
        assert_eq!(first, GOLDEN_FIRST_LINES);
        assert_eq!(fingerprint(text.as_bytes()), 13_846_935_083_290_932_526);
        let other = GeneratorOptions { bytes: 100_000, seed: 8, words: 1000, zipf: 1.2 };
        assert_eq!(fingerprint(generate_text(&other).unwrap().as_bytes()), 10_741_827_824_261_333_287);
    }
    const GOLDEN_FIRST_LINES: [&str; 3] = [
        "goco vopié po pi sa te pofifi feso",
        "mesi sila caco cabu satubu luwoje sobu fi",
        "mesa nomodo jujo je bu jopi wela luji bu",
    ];

    #[test]
    fn seeds_differ() {
        let other = GeneratorOptions { seed: 8, ..options(1000) };
        assert_ne!(generate_text(&options(1000)).unwrap(), generate_text(&other).unwrap());
    }

    #[test]
    fn every_length_is_met_exactly_and_ends_with_a_newline() {
        for bytes in 0..700 {
            let text = generate_text(&GeneratorOptions { words: 300, ..options(bytes) }).unwrap();
            assert_eq!(text.len() as u64, bytes);
            assert!(bytes == 0 || text.ends_with('\n'), "{bytes} bytes");
        }
    }

    #[test]
    fn lines_have_five_to_twelve_words_but_the_last_may_have_fewer() {
        let text = generate_text(&options(300_000)).unwrap();
        let mut counts: Vec<usize> = text.lines().map(|l| l.split(' ').count()).collect();
        counts.pop();
        assert_eq!(counts.iter().min(), Some(&5));
        assert_eq!(counts.iter().max(), Some(&12));
        assert!(text.lines().all(|line| line.len() < LINE_BYTES_MAX));
    }

    #[test]
    fn all_words_of_a_vocabulary_differ_and_hold_no_space() {
        let vocabulary = Vocabulary::new(200_000);
        let mut seen = HashSet::new();
        for rank in 0..200_000 {
            let word = std::str::from_utf8(vocabulary.word(rank)).unwrap();
            assert_eq!(word.split_whitespace().count(), 1);
            assert!(word.len() <= WORD_BYTES_MAX);
            assert!(seen.insert(word.to_owned()), "{word} twice");
        }
        assert!(seen.iter().any(|w| w.contains('é')));
        assert!(seen.iter().any(|w| w.contains("日本語")));
        assert!(seen.iter().any(|w| w.contains('🌧')));
    }

    #[test]
    fn word_frequencies_follow_zipfs_law() {
        let text =
            generate_text(&GeneratorOptions { bytes: 4_000_000, words: 1000, ..GeneratorOptions::default() }).unwrap();
        let mut counts: HashMap<&str, u64> = HashMap::new();
        text.split_whitespace().for_each(|w| *counts.entry(w).or_default() += 1);
        let total: u64 = counts.values().sum();
        let harmonic: f64 = (1..=1000).map(|r| 1.0 / f64::from(r)).sum();
        let vocabulary = Vocabulary::new(1000);
        for rank in [1u32, 2, 3, 10, 100] {
            let word = std::str::from_utf8(vocabulary.word(rank - 1)).unwrap();
            let expected = total as f64 / harmonic / f64::from(rank);
            let found = counts[word] as f64;
            assert!((found / expected - 1.0).abs() < 0.1, "{word}: {found}, not {expected}");
        }
    }

    #[test]
    fn an_exponent_of_zero_makes_all_words_equally_frequent() {
        let table = AliasTable::zipf(8, 0.0);
        assert!(table.columns.iter().enumerate().all(|(i, c)| c.alias as usize == i));
    }

    #[test]
    fn powers_agree_with_the_math_library() {
        for base in [1.0f64, 2.0, 3.0, 1000.0, 1e7] {
            for exponent in [0.0f64, 0.5, 0.75, 1.0, 1.25, 2.0] {
                let ours = power(base, (exponent * 65536.0) as u32);
                assert!((ours / base.powf(exponent) - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn options_out_of_range_are_refused_with_the_range() {
        let words = Generator::new(&GeneratorOptions { words: 0, ..options(1) }).unwrap_err();
        assert!(words.to_string().contains("choose 1 to"));
        for zipf in [-0.1, 8.5, f64::NAN] {
            let refused = Generator::new(&GeneratorOptions { zipf, ..options(1) }).unwrap_err();
            assert!(refused.to_string().contains("from 0 to 8"), "{refused}");
        }
    }
}
