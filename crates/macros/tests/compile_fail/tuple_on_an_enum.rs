//~ `#[derive(Tuple)]` needs a struct with named fields
//~ `Shape` is an enum
use squall::Tuple;

#[derive(Tuple)]
enum Shape {
    Circle(f64),
}

fn main() {}
