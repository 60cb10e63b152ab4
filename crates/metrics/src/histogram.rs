//! Latency histograms: HDR, three significant digits, 1 ns to 100 s.
//!
//! The bounds are the same in every process, so histograms always merge. The encoded form is HdrHistogram's V2,
//! which other tools read; decoding checks the header first, so foreign bytes never size an allocation.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer as SerdeDeserializer, Serialize, Serializer as SerdeSerializer};

use crate::percentiles::Percentiles;

const LOWEST_NS: u64 = 1;
const HIGHEST_NS: u64 = 100_000_000_000;
const DIGITS: u8 = 3;

/// V2 header: cookie, payload length, normalizing offset, digits (u32 each), lowest, highest (u64), ratio (f64).
const HEADER_LEN: usize = 40;
const V2_COOKIE: u32 = 0x1c84_9303 | 0x10;
/// No more than 9 bytes a counter; 28 buckets of 1024 counters and the first one's second half.
const ENCODED_LEN_MAX: usize = HEADER_LEN + 9 * 1024 * 30;

/// A histogram of durations in nanoseconds, 1 ns to 100 s with three significant digits.
///
/// A plain value with one owner; see [`SharedHistogram`] for one that is written and read by two threads. A value
/// outside the bounds is recorded at the bound. `record` costs a few nanoseconds and never allocates.
/// Serde writes the V2 bytes (as hexadecimal text, so that JSON carries them).
#[derive(Clone)]
pub struct Histogram(Hdr<u64>);

/// Bytes that are not a histogram of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header, or more than the largest histogram needs.
    #[error("{len} bytes cannot hold an encoded histogram: was the message cut?")]
    Length {
        /// Length of the input.
        len: usize,
    },
    /// Another format, or other bounds than 1 ns … 100 s with three digits.
    #[error("not an HDR V2 histogram of 1 ns to 100 s with 3 digits: are both ends of one build?")]
    Format,
    /// The header is ours, the counters are not well-formed.
    #[error("the counters of an encoded histogram are damaged: {0}")]
    Counters(String),
}

impl Histogram {
    /// An empty histogram; allocates its counters once.
    pub fn new() -> Self {
        Self(Hdr::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).expect("the bounds are constants and legal"))
    }

    /// Records one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Records one duration `count` times, at the cost of once.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds all samples of `other`.
    pub fn merge(&mut self, other: &Histogram) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Number of samples.
    #[inline]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Mean in nanoseconds; 0 without samples.
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// Removes all samples, keeps the memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// The percentiles of a report; one that too few samples support is `None`.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles::of(&self.0)
    }

    /// HdrHistogram V2 bytes, uncompressed.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.0, &mut bytes).expect("writing to a Vec does not fail");
        bytes
    }

    /// Reads what [`Histogram::encode`] wrote. Never panics and allocates no more than one histogram needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !(HEADER_LEN..=ENCODED_LEN_MAX).contains(&bytes.len()) {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let ours = u32_at(0) == V2_COOKIE
            && u32_at(12) == u32::from(DIGITS)
            && u64_at(16) == LOWEST_NS
            && u64_at(24) == HIGHEST_NS;
        if !ours {
            return Err(DecodeError::Format);
        }
        if u32_at(4) as usize != bytes.len() - HEADER_LEN {
            return Err(DecodeError::Length { len: bytes.len() });
        }
        let mut rest = bytes;
        let histogram =
            Deserializer::new().deserialize(&mut rest).map_err(|error| DecodeError::Counters(error.to_string()))?;
        // A saturated total no longer is the sum of the counters, which the percentiles rely on.
        if histogram.len() == u64::MAX {
            return Err(DecodeError::Counters("their sum overflows".into()));
        }
        Ok(Self(histogram))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({:?})", self.percentiles())
    }
}

impl Serialize for Histogram {
    fn serialize<S: SerdeSerializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.encode()))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: SerdeDeserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = from_hex(&text).ok_or_else(|| D::Error::custom("a histogram is hexadecimal text"))?;
        Histogram::decode(&bytes).map_err(D::Error::custom)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGIT: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGIT[usize::from(byte >> 4)] as char);
        text.push(DIGIT[usize::from(byte & 15)] as char);
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A histogram that one thread writes and another reads now and then.
///
/// Clones share it. Recording takes an uncontended lock (about 10 ns); who records often keeps a [`Histogram`] of its
/// own and hands it over with [`SharedHistogram::drain`]. The reader holds the lock for one copy.
#[derive(Clone, Default)]
pub struct SharedHistogram(Arc<Mutex<Histogram>>);

impl SharedHistogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records one duration in nanoseconds.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.lock().record(ns);
    }

    /// Records one duration `count` times.
    #[inline]
    pub fn record_n(&self, ns: u64, count: u64) {
        self.lock().record_n(ns, count);
    }

    /// Moves all samples of `local` here and leaves it empty.
    pub fn drain(&self, local: &mut Histogram) {
        if !local.is_empty() {
            self.lock().merge(local);
            local.clear();
        }
    }

    /// A copy of the samples so far.
    pub fn snapshot(&self) -> Histogram {
        self.lock().clone()
    }

    /// A panic while the lock was held leaves counters that are complete numbers, so the poison carries no news.
    fn lock(&self) -> MutexGuard<'_, Histogram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        for &value in values {
            histogram.record(value);
        }
        histogram
    }

    #[test]
    fn values_beyond_the_bounds_are_recorded_at_the_bound() {
        let mut histogram = of(&[0]);
        histogram.record(u64::MAX);
        histogram.record_n(HIGHEST_NS + 1, 3);
        assert_eq!(histogram.count(), 5);
        let max = histogram.percentiles().max.expect("there are samples");
        assert!((HIGHEST_NS..HIGHEST_NS + HIGHEST_NS / 500).contains(&max), "{max}");
    }

    #[test]
    fn merging_adds_every_sample() {
        let mut left = of(&[10, 20, 30]);
        left.merge(&of(&[20, 5_000_000]));
        assert_eq!(left, of(&[10, 20, 20, 30, 5_000_000]));
    }

    #[test]
    fn draining_moves_the_samples_and_empties_the_source() {
        let shared = SharedHistogram::new();
        shared.record(7);
        let mut local = of(&[8, 9]);
        shared.drain(&mut local);
        shared.drain(&mut local);
        assert!(local.is_empty());
        assert_eq!(shared.snapshot(), of(&[7, 8, 9]));
    }

    #[test]
    fn an_empty_and_a_full_histogram_survive_encoding() {
        for histogram in [Histogram::new(), of(&[1, HIGHEST_NS]), {
            let mut all = Histogram::new();
            (0..37).for_each(|bit| all.record_n(1 << bit, u64::from(u32::MAX)));
            all
        }] {
            let bytes = histogram.encode();
            assert!(bytes.len() <= ENCODED_LEN_MAX);
            assert_eq!(Histogram::decode(&bytes), Ok(histogram));
        }
    }

    #[test]
    fn json_carries_a_histogram() {
        let histogram = of(&[1, 1_000, 77_777]);
        let text = serde_json::to_string(&histogram).expect("it serializes");
        assert_eq!(serde_json::from_str::<Histogram>(&text).expect("it comes back"), histogram);
        assert!(serde_json::from_str::<Histogram>("\"0\"").is_err());
        assert!(serde_json::from_str::<Histogram>("\"zz\"").is_err());
    }

    #[test]
    fn a_header_with_other_bounds_is_refused_before_anything_is_allocated_from_it() {
        let good = of(&[42]).encode();
        let mut huge_bounds = good.clone();
        huge_bounds[24..32].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(Histogram::decode(&huge_bounds), Err(DecodeError::Format));
        let mut huge_payload = good.clone();
        huge_payload[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Histogram::decode(&huge_payload), Err(DecodeError::Length { len: good.len() }));
        assert_eq!(Histogram::decode(&good[..39]), Err(DecodeError::Length { len: 39 }));
        assert_eq!(Histogram::decode(&vec![0; 1 << 20]), Err(DecodeError::Length { len: 1 << 20 }));
    }

    proptest! {
        #[test]
        fn encoding_is_identity(values in proptest::collection::vec(0u64..HIGHEST_NS, 0..200)) {
            let histogram = of(&values);
            prop_assert_eq!(Histogram::decode(&histogram.encode()), Ok(histogram));
        }

        #[test]
        fn damaged_bytes_never_panic(values in proptest::collection::vec(0u64..HIGHEST_NS, 0..50), at in 0usize..200, byte: u8) {
            let mut bytes = of(&values).encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Histogram::decode(&bytes);
        }
    }
}
