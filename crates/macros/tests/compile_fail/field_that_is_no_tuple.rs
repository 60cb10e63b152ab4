//! A nested struct must derive `Tuple` too; the first message points at the field's type.
//~ error[E0277]: `Point` cannot be the type of a tuple's field
//~ structs that derive `Tuple`
use squall::Tuple;

struct Point {
    x: f64,
}

#[derive(Tuple)]
struct Place {
    name: String,
    at: Point,
}

fn main() {}
