//~ a tuple cannot contain itself
//~ For data of free shape use `Row`
use squall::Tuple;

#[derive(Tuple)]
struct Node {
    children: Vec<Node>,
}

fn main() {}
