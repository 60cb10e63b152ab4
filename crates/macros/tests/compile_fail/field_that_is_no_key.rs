//! Only fields that can be keys have a constant.
//~ no associated item named `TAGS` found for struct `Post`
use squall::{Field, Tuple};

#[derive(Tuple)]
struct Post {
    id: u64,
    tags: Vec<String>,
}

fn main() {
    let _: Field<Post> = Post::TAGS;
}
