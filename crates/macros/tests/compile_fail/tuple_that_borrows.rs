//~ `#[derive(Tuple)]` does not support generics or lifetimes
use squall::Tuple;

#[derive(Tuple)]
struct Word<'a> {
    word: &'a str,
}

fn main() {}
