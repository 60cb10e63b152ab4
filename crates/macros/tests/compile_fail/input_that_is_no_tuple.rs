//~ `#[derive(Inputs)]` holds exactly one tuple, `Tick(Word)`; `Tick` holds nothing
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::Word;

#[derive(Inputs)]
enum Both {
    Words(Word),
    Tick,
}

fn main() {}
