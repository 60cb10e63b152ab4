//! Word count in one thread: no tuples, an ahash map that borrows to look up and allocates for a new word only.

use std::hint::black_box;

use ahash::AHashMap;

use crate::clock::now_ns;
use crate::error::BenchError;
use crate::machine::{Machine, pin};
use crate::measure::Outcome;
use crate::squall_side::words::{FLOOR, Totals};

/// One pass over the text.
pub(crate) fn run(machine: &Machine, text: &str) -> Result<Outcome, BenchError> {
    let core = *machine.cores.first().ok_or(BenchError::Cores(0))?;
    let pass = std::thread::scope(|s| {
        let thread = s.spawn(|| {
            pin(core);
            let began = now_ns();
            let counts = count(black_box(text));
            let ended = now_ns();
            (Totals::of(counts.iter().map(|(w, n)| (w.as_str(), *n))), ended - began)
        });
        thread.join()
    });
    let (totals, ns) = pass.map_err(|_| BenchError::Failed("the floor panicked, see above".to_owned()))?;
    FLOOR.get_or_init(|| totals);
    let rate = Some(totals.words as f64 / (ns.max(1) as f64 / 1e9));
    Ok(Outcome { rate, emitted: totals.words, ..Outcome::default() })
}

fn count(text: &str) -> AHashMap<String, u64> {
    let mut counts: AHashMap<String, u64> = AHashMap::new();
    for word in text.split_ascii_whitespace() {
        match counts.get_mut(word) {
            Some(n) => *n += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    counts
}

/// The totals alone.
pub(crate) fn count_words(text: &str) -> Totals {
    Totals::of(count(text).iter().map(|(w, n)| (w.as_str(), *n)))
}
