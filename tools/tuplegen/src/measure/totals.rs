//! All intervals of a run together: histograms, the line of time, the histogram log.

use std::fmt::Write as _;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::latency::{HOPS, Interval, histogram};

/// A percentile is shown only with at least so many samples beyond it.
pub const SAMPLES_BEYOND_MIN: u64 = 10;

/// A point on the line of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Offset of the interval's start, in seconds.
    pub from_s: f64,
    /// And of its end.
    pub to_s: f64,
    /// Tuples sent a second.
    pub sent_rate: f64,
    /// Tuples complete a second.
    pub complete_rate: f64,
    /// Median from the intended time, in nanoseconds.
    pub p50_ns: Option<u64>,
    /// 99 %.
    pub p99_ns: Option<u64>,
    /// The largest.
    pub max_ns: Option<u64>,
    /// 99 % of the generator's lateness.
    pub late_p99_ns: Option<u64>,
}

/// Everything that was measured.
pub struct Totals {
    /// From the intended time.
    pub intended: Histogram<u64>,
    /// From the time of sending.
    pub actual: Histogram<u64>,
    /// The generator's lateness.
    pub late: Histogram<u64>,
    /// Sampled hops.
    pub hops: [Histogram<u64>; 3],
    /// Gaps of the generating thread.
    pub gaps: Histogram<u64>,
    /// Interval by interval.
    pub timeline: Vec<Point>,
    log: String,
    complete_before: u64,
    serializer: V2DeflateSerializer,
}

/// The value at a quantile, where ten samples lie beyond it.
pub fn quantile(h: &Histogram<u64>, q: f64) -> Option<u64> {
    let beyond = ((1.0 - q) * h.len() as f64 + 1e-6).floor() as u64;
    (beyond >= SAMPLES_BEYOND_MIN).then(|| h.value_at_quantile(q))
}

/// The largest value, if there is any.
pub fn largest(h: &Histogram<u64>) -> Option<u64> {
    (!h.is_empty()).then(|| h.max())
}

impl Totals {
    /// None yet; `began` goes into the log.
    pub fn new(began: SystemTime) -> Totals {
        let epoch = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let log = format!(
            "#[Histogram log format version 1.3]\n#[StartTime: {epoch:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n"
        );
        let h = histogram;
        Totals {
            intended: h(),
            actual: h(),
            late: h(),
            hops: [h(), h(), h()],
            gaps: h(),
            timeline: Vec::new(),
            log,
            complete_before: 0,
            serializer: V2DeflateSerializer::new(),
        }
    }

    /// Adds an interval.
    pub fn absorb(&mut self, i: &Interval) {
        let same = "all histograms have the same bounds";
        self.intended.add(&i.intended).expect(same);
        self.actual.add(&i.actual).expect(same);
        self.late.add(&i.late).expect(same);
        self.gaps.add(&i.gaps).expect(same);
        self.hops.iter_mut().zip(&i.hops).for_each(|(all, h)| all.add(h).expect(same));
        let (from_s, to_s) = (i.from_ns as f64 / 1e9, i.to_ns as f64 / 1e9);
        let secs = (to_s - from_s).max(1e-9);
        self.timeline.push(Point {
            from_s,
            to_s,
            sent_rate: i.sent as f64 / secs,
            complete_rate: i.complete.saturating_sub(self.complete_before) as f64 / secs,
            p50_ns: quantile(&i.intended, 0.5),
            p99_ns: quantile(&i.intended, 0.99),
            max_ns: largest(&i.intended),
            late_p99_ns: quantile(&i.late, 0.99),
        });
        self.complete_before = i.complete;
        for (tag, h) in [("e2e", &i.intended), ("send", &i.actual), ("late", &i.late)] {
            self.log_line(tag, from_s, secs, h);
        }
        for (name, h) in HOPS.iter().zip(&i.hops) {
            self.log_line(&format!("hop:{}", name.replace(' ', "-")), from_s, secs, h);
        }
    }

    /// Adds a line of another kind to the log: hiccups, for example.
    pub fn log_line(&mut self, tag: &str, from_s: f64, secs: f64, h: &Histogram<u64>) {
        if h.is_empty() {
            return;
        }
        let mut bytes = Vec::new();
        self.serializer.serialize(h, &mut bytes).expect("writing to a Vec does not fail");
        // Writing to a String does not fail.
        let _ = write!(self.log, "Tag={tag},{from_s:.3},{secs:.3},{:.6},", h.max() as f64 / 1e6);
        base64(&bytes, &mut self.log);
        self.log.push('\n');
    }

    /// The histogram log (`.hlog`), times in milliseconds as its readers expect.
    pub fn log(&self) -> &str {
        &self.log
    }
}

fn base64(bytes: &[u8], to: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63] as char;
            to.push(if i <= three.len() { digit } else { '=' });
        }
    }
}

/// The percentile distribution as HdrHistogram's plotter reads it (`.hgrm`), values in microseconds.
pub fn hgrm(h: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let us = |ns: f64| ns / 1000.0;
    let mut seen = 0;
    for bin in h.iter_quantiles(5) {
        seen += bin.count_since_last_iteration();
        let q = bin.quantile_iterated_to();
        let value = us(h.highest_equivalent(bin.value_iterated_to()) as f64);
        let _ = match q < 1.0 {
            true => writeln!(text, "{value:>12.3} {q:>14.12} {seen:>10} {:>14.2}", 1.0 / (1.0 - q)),
            false => writeln!(text, "{value:>12.3} {q:>14.12} {seen:>10}"),
        };
    }
    let _ = writeln!(text, "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]", us(h.mean()), us(h.stdev()));
    let _ = writeln!(text, "#[Max     = {:>12.3}, Total count    = {:>12}]", us(h.max() as f64), h.len());
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", h.buckets(), 2048);
    text
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::latency::recorder;
    use super::*;

    #[test]
    fn the_log_is_read_back_by_a_reader_of_such_logs() {
        let (mut r, intervals) = recorder();
        let mut totals = Totals::new(SystemTime::UNIX_EPOCH);
        for n in 1..=3_u64 {
            (0..100).for_each(|i| r.now.intended.record(1000 * n + i).unwrap());
            r.now.actual.record(n).unwrap();
            r.turn(n * 1_000_000_000);
            intervals.next(|i| totals.absorb(i));
        }
        let mut read = histogram();
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(totals.log().as_bytes()) {
            if let LogEntry::Interval(line) = entry.unwrap() {
                tags.push(line.tag().unwrap().as_str().to_owned());
                if line.tag().unwrap().as_str() == "e2e" {
                    let bytes = decode(line.encoded_histogram());
                    let h: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                    read.add(h).unwrap();
                }
            }
        }
        assert_eq!(tags, ["e2e", "send"].repeat(3));
        assert!(read == totals.intended, "{} samples", read.len());
        assert_eq!(totals.timeline.len(), 3);
    }

    fn decode(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        for four in text.as_bytes().chunks(4) {
            let pads = four.iter().filter(|c| **c == b'=').count();
            let word = four.iter().fold(0_u32, |w, c| w << 6 | u32::from(if *c == b'=' { 0 } else { value(*c) }));
            bytes.extend_from_slice(&word.to_be_bytes()[1..4 - pads]);
        }
        bytes
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            let mut to = String::new();
            base64(bytes.as_bytes(), &mut to);
            assert_eq!(to, text);
        }
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut h = histogram();
        (1..=999).for_each(|v| h.record(v).unwrap());
        assert_eq!(quantile(&h, 0.99), None);
        h.record(1000).unwrap();
        assert_eq!(quantile(&h, 0.99), Some(990));
        assert_eq!(quantile(&histogram(), 0.5), None);
    }

    #[test]
    fn the_distribution_ends_with_all_samples() {
        let mut h = histogram();
        (1..=5000).for_each(|v| h.record(v * 1000).unwrap());
        let text = hgrm(&h);
        let last = text.lines().rfind(|l| !l.starts_with('#')).unwrap();
        assert_eq!(last.split_whitespace().nth(2), Some("5000"), "{last}");
        assert!(text.contains("Total count    =         5000"), "{text}");
    }
}
