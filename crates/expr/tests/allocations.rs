//! A lowered expression allocates nothing per row; one in the library does, which shows that the count counts.
#![allow(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use squall_api::__rt::rkyv;
use squall_api::{ArchivedRow, Row, Value};
use squall_components::expression::Expression;
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
