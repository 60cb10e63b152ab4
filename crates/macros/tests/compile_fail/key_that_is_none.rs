//! `#[squall(key)]` is for aliases of types that can be keys.
//~ a field of type `Vec<String>` cannot be a key
use squall::Tuple;

type Tags = Vec<String>;

#[derive(Tuple)]
struct Post {
    #[squall(key)]
    tags: Tags,
}

fn main() {}
