//! A grouping by a field that the stream's tuples do not have.
//~ expected `Field<Word>`, found `Field<Pod>`
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::{Count, Pod, Word};

fn wire(t: &Topology, words: StreamHandle<Word>) {
    t.bolt("count", || Count).on(words.fields([Pod::A]));
}

fn main() {
    let _ = wire;
}
