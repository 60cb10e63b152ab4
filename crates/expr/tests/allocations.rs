//! A lowered expression allocates nothing per row; one in the library does, which shows that the count counts.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use squall_api::__rt::rkyv;
use squall_api::testing::run;
use squall_api::{ArchivedRow, Row, Topology, Value};
use squall_components::expression::Expression;
use squall_components::registry::{Place, Rows};
use squall_components::{Filter, Generator, Keyed, NullRows};
use squall_expr::Language;

thread_local! {
    /// Calls of the allocator by this thread: tests run on threads of their own.
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

/// Allocations of a thousand evaluations, after the first.
fn allocations(text: &str) -> u64 {
    let fields = ["sensor", "celsius", "ok", "at"].map(str::to_owned);
    let at = Value::map([("room", Value::from("a room with a name longer than what is kept inline"))]);
    let row = Row(vec!["out-side-sensor-7".into(), Value::F64(31.5), true.into(), at]);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&row).expect("archived");
    let row = rkyv::access::<ArchivedRow, rkyv::rancor::Error>(&bytes).expect("valid");
    let mut expression = Language::new().compile(text, &fields).expect("an expression").instance();
    let mut evaluate = || drop(std::hint::black_box(expression.evaluate(row).expect("a value")));
    evaluate();
    let before = CALLS.get();
    for _ in 0..1000 {
        evaluate();
    }
    CALLS.get() - before
}

#[test]
fn lowered_expressions_allocate_nothing_once_warm() {
    for text in [
        "celsius > 30 && ok",
        "celsius * 1.8 + 32",
        "sensor.startsWith('out') && sensor != 'out-side-sensor-8'",
        "sensor.matches('^out-.*-[0-9]+$')",
        "at.room == 'kitchen' || sensor in ['a', 'b']",
        "ok ? sensor : at.room",
        "at",
    ] {
        assert_eq!(allocations(text), 0, "{text}");
    }
    assert!(allocations("sensor.upperAscii()") >= 1000, "what the library does is counted");
}

/// Calls of the allocator in a whole run of so many rows: generator, filter by this text, count by key.
fn calls(text: &str, rows: u64) -> u64 {
    let topology = Topology::new("warm");
    let place = |id| Place::new(&topology, id);
    let generator = Generator::new(rows).words((0..50).map(|i| format!("a-word-too-long-for-inline-{i}")));
    let numbers = generator.declare(place("numbers")).unwrap();
    let Rows { fields, handle, .. } = numbers.stream("default").unwrap();
    let compiled = Language::new().compile(text, fields).expect("an expression");
    let mut filter = Filter::new(compiled.factory()).declare(place("filter").reads(fields)).unwrap();
    filter.subscribe(handle.shuffle());
    let passed = filter.stream("default").unwrap();
    let mut count = Keyed::count().by(["key"]).declare(place("count").reads(&passed.fields)).unwrap();
    count.subscribe(passed.handle.fields_named(["key"]));
    let counts = count.stream("default").unwrap();
    let mut null = NullRows.declare(place("null").reads(&counts.fields)).unwrap();
    null.subscribe(counts.handle.shuffle());
    let before = CALLS.get();
    let outcome = run(topology).unwrap();
    let calls = CALLS.get() - before;
    assert_eq!(outcome.components["null"].executed, rows * 4 / 5);
    calls
}

/// Calls of the allocator for 40,000 more rows.
fn more_calls(text: &str) -> u64 {
    let (short, long) = (calls(text, 20_000), calls(text, 60_000));
    long.saturating_sub(short)
}

#[test]
fn a_lowered_filter_and_a_count_allocate_nothing_per_tuple() {
    // What is left is the harness's, a few calls for each batch of some dozens of tuples.
    let lowered = more_calls("n % 5 != 0");
    assert!(lowered < 4_000, "40000 more rows made {lowered} more calls of the allocator");
    let library = more_calls("n % 5 != 0 && key.upperAscii() != ''");
    assert!(library > 40_000, "what the library does is counted: {library} more calls");
}
