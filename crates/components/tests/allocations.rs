//! Once warm, counting by key and filtering allocate nothing per row: a run three times as long makes hardly more calls of the
//! allocator, and those are the harness's, a few for each batch.

extern crate squall_api as squall;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use squall::Topology;
use squall::testing::run;
use squall_components::expression::test;
use squall_components::registry::{Place, Rows};
use squall_components::{Filter, Generator, Keyed, NullRows, Split};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes everything on to `System`; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator in a whole run of so many rows.
fn calls(rows: u64) -> u64 {
    let topology = Topology::new("warm");
    let place = |id| Place::new(&topology, id);
    let generator = Generator::new(rows).words((0..50).map(|i| format!("a longer word {i}")));
    let numbers = generator.declare(place("numbers")).unwrap();
    let Rows { fields, handle, .. } = numbers.stream("default").unwrap();
    let half = test(|row| row[0].as_i64().is_some_and(|n| n % 2 == 0));
    let mut filter = Filter::new(half).declare(place("filter").reads(fields)).unwrap();
    filter.subscribe(handle.shuffle());
    let mut split = Split::words("key").keep().declare(place("split").reads(fields)).unwrap();
    split.subscribe(filter.stream("default").unwrap().handle.shuffle());
    let words = split.stream("default").unwrap();
    let mut count = Keyed::count().by(["word"]).declare(place("count").reads(&words.fields)).unwrap();
    count.subscribe(words.handle.fields_named(["word"]));
    let counts = count.stream("default").unwrap();
    let mut null = NullRows.declare(place("null").reads(&counts.fields)).unwrap();
    null.subscribe(counts.handle.shuffle());
    let before = CALLS.get();
    let outcome = run(topology).unwrap();
    let calls = CALLS.get() - before;
    assert_eq!(outcome.components["null"].executed, rows / 2 * 4);
    calls
}

#[test]
fn count_filter_and_split_allocate_nothing_per_row() {
    let (short, long) = (calls(20_000), calls(60_000));
    let more = long.saturating_sub(short);
    // 40,000 more rows make 180,000 more tuples in some thousand batches.
    assert!(more < 10_000, "40000 more rows made {more} more calls of the allocator ({short}, then {long})");
}
