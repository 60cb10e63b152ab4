//~ `Option<usize>` cannot be the type of a tuple's field: its size is not the same everywhere: use `u64` or `i64`
use squall::Tuple;

#[derive(Tuple)]
struct Count {
    n: Option<usize>,
}

fn main() {}
