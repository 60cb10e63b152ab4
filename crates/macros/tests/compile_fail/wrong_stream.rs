//! A bolt that takes words, on a stream of something else.
//~ expected `Sub<Word>`, found `Sub<Pod>`
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::{Count, Pod};

fn wire(t: &Topology, pods: StreamHandle<Pod>) {
    t.bolt("count", || Count).on(pods.shuffle());
}

fn main() {
    let _ = wire;
}
