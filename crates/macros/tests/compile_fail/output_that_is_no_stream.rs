//~ `u64` is not an output stream
//~ expected `Stream<T>` or `DirectStream<T>`
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::Word;

#[derive(Outputs)]
struct Parsed {
    words: Stream<Word>,
    count: u64,
}

fn main() {}
