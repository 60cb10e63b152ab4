//! The most frequent values with a bounded number of counters: Space-Saving (Metwally, Agrawal, El Abbadi 2005).
//!
//! While there are no more values than counters, counts are exact. Then a new value takes the counter of a least frequent one,
//! with its count as the error: a count is never too low, and too high by at most its error, which is at most rows / counters.

use squall::{Key, Value};

use super::key::{KeyBytes, key_values, write_key};

pub(crate) struct Top {
    capacity: usize,
    scratch: Vec<u8>,
    /// Counter of each value.
    index: hashbrown::HashMap<KeyBytes, usize, ahash::RandomState>,
    counters: Vec<Counter>,
    /// A heap of counters by count, the least first. Invariant: `counters[heap[i]].place == i`.
    heap: Vec<usize>,
}

struct Counter {
    item: KeyBytes,
    count: u64,
    error: u64,
    place: usize,
}

impl Top {
    pub(crate) fn new(capacity: usize) -> Top {
        assert!(capacity > 0, "a counter is needed");
        Top { capacity, scratch: Vec::new(), index: Default::default(), counters: Vec::new(), heap: Vec::new() }
    }

    pub(crate) fn add(&mut self, item: Key<'_>) {
        self.scratch.clear();
        write_key(item, &mut self.scratch);
        if let Some(&known) = self.index.get(&self.scratch[..]) {
            self.counters[known].count += 1;
            return self.sink(self.counters[known].place);
        }
        let item: KeyBytes = self.scratch[..].into();
        if self.counters.len() < self.capacity {
            let new = self.counters.len();
            self.index.insert(item.clone(), new);
            self.counters.push(Counter { item, count: 1, error: 0, place: new });
            self.heap.push(new);
            return self.rise(new);
        }
        let least = self.heap[0];
        let counter = &mut self.counters[least];
        self.index.remove(&counter.item);
        self.index.insert(item.clone(), least);
        counter.item = item;
        counter.error = counter.count;
        counter.count += 1;
        self.sink(0);
    }

    /// The `k` most frequent values with count and error, the most frequent first; of equally frequent ones the least first.
    pub(crate) fn top(&self, k: usize) -> Vec<(Value, u64, u64)> {
        let mut all: Vec<&Counter> = self.counters.iter().collect();
        all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.item.cmp(&b.item)));
        let value = |item: &[u8]| key_values(item).pop().unwrap_or_default();
        all.into_iter().take(k).map(|c| (value(&c.item), c.count, c.error)).collect()
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.counters[self.heap[a]].place = a;
        self.counters[self.heap[b]].place = b;
    }

    fn count(&self, place: usize) -> u64 {
        self.counters[self.heap[place]].count
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.count((place - 1) / 2) > self.count(place) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let least = children.into_iter().filter(|c| *c < self.heap.len()).min_by_key(|c| self.count(*c));
            match least {
                Some(child) if self.count(child) < self.count(place) => {
                    self.swap(place, child);
                    place = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn counted(items: &[u8], capacity: usize) -> (Top, HashMap<u8, u64>) {
        let mut top = Top::new(capacity);
        let mut model = HashMap::new();
        for item in items {
            top.add(Key::I64(i64::from(*item)));
            *model.entry(*item).or_default() += 1;
        }
        (top, model)
    }

    proptest! {
        #[test]
        fn with_a_counter_for_each_value_the_top_is_that_of_a_plain_count(
            items in proptest::collection::vec(0u8..40, 0..600),
            k in 1usize..12,
        ) {
            let (top, model) = counted(&items, 64);
            let mut plain: Vec<(u8, u64)> = model.into_iter().collect();
            plain.sort_by_key(|(item, count)| (std::cmp::Reverse(*count), *item));
            let plain: Vec<_> =
                plain.into_iter().take(k).map(|(item, count)| (Value::I64(i64::from(item)), count, 0)).collect();
            prop_assert_eq!(top.top(k), plain);
        }

        #[test]
        fn with_fewer_counters_no_count_is_too_low_nor_off_by_more_than_its_error(
            items in proptest::collection::vec(0u8..100, 0..800),
            capacity in 1usize..20,
        ) {
            let (top, model) = counted(&items, capacity);
            for (item, count, error) in top.top(capacity) {
                let Value::I64(item) = item else { panic!("an integer went in") };
                let true_count = model[&(item as u8)];
                prop_assert!(count >= true_count && count - error <= true_count);
                prop_assert!(error <= (items.len() / capacity) as u64);
            }
            // A value more frequent than the bound of the error cannot be missing.
            let shown: Vec<Value> = top.top(capacity).into_iter().map(|(item, ..)| item).collect();
            for (item, count) in model {
                if count > (items.len() / capacity) as u64 {
                    prop_assert!(shown.contains(&Value::I64(i64::from(item))));
                }
            }
        }
    }
}
