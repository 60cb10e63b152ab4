//~ unknown option `skip` on a field; the only one is `#[squall(key)]`
use squall::Tuple;

#[derive(Tuple)]
struct Word {
    word: String,
    #[squall(skip)]
    n: u64,
}

fn main() {}
