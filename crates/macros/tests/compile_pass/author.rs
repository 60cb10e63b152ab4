//! An author's crate at its strictest: nothing that the derives write trips a lint, nor needs an `unsafe` or an `allow`
//! that the crate forbids.
#![forbid(unsafe_code, missing_docs, unreachable_pub, unused, private_interfaces, non_snake_case, non_camel_case_types)]
#![deny(warnings)]

use squall::prelude::*;

/// Public, with private parts.
#[derive(Tuple)]
pub struct Order {
    /// Its number.
    pub id: u64,
    lines: Vec<line::Line>,
    note: Option<String>,
}

mod line {
    use squall::Tuple;

    #[derive(Tuple)]
    pub(crate) struct Line {
        pub(super) article: [u8; 16],
        pub(super) count: u32,
        unit: char,
    }

    impl Line {
        pub(super) fn new(count: u32) -> Line {
            Line { article: [0; 16], count, unit: 'p' }
        }
    }
}

#[derive(Inputs)]
enum Till {
    Orders(Order),
    Lines(line::Line),
}

#[derive(Outputs)]
struct Receipts {
    printed: Stream<Order>,
    sent: Stream<Order>,
}

struct Desk;

/// Matches on the borrowed twin only, and emits on one stream only.
impl Bolt for Desk {
    type In = Till;
    type Out = Receipts;

    fn execute(&mut self, input: Input<'_, Till>, out: &mut Receipts) -> Result<(), BoltError> {
        match *input {
            TillRef::Orders(order) => out.printed.emit(order),
            TillRef::Lines(line) if line.count == 0 => out.sent.emit(OrderRef { id: 0, lines: &[], note: None }),
            TillRef::Lines(_) => {}
        }
        Ok(())
    }
}

fn main() {
    let order = Order { id: 1, lines: vec![line::Line::new(2)], note: None };
    let line = &order.lines[0];
    assert_eq!((order.id, line.count, line.article, order.note.is_some()), (1, 2, [0; 16], false));
    let topology = Topology::new("shop");
    let desk = topology.bolt("desk", || Desk).streams();
    let _ = (desk.printed.shuffle(), desk.sent.fields([Order::ID]));
}
