//~ `#[derive(Tuple)]` needs a struct with named fields
//~ `Pair` is a struct with unnamed fields
use squall::Tuple;

#[derive(Tuple)]
struct Pair(u64, u64);

fn main() {}
