//~ `Pod` cannot be emitted on a stream of `Word`
//~ this stream carries `Word`
use squall::{Stream, Tuple};

#[derive(Tuple)]
struct Word {
    word: String,
}

#[derive(Tuple)]
struct Pod {
    a: u64,
}

fn emit(out: &mut Stream<Word>) {
    out.emit(Pod { a: 1 });
}

fn main() {
    let _ = emit;
}
