//! A field that does not exist: the compiler knows the similar one.
//~ no associated item named `WRD` found for struct `Word`
//~ `WORD`
use squall::{Field, Tuple};

#[derive(Tuple)]
struct Word {
    word: String,
    n: u64,
}

fn main() {
    let _: [Field<Word>; 1] = [Word::WRD];
}
