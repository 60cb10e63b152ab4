//! A join, on a stream that none of its variants holds.
//~ error[E0277]: this bolt does not take a stream of `Line`
//~ the bolt's `In` is `Both`
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::{Pod, Word};

#[derive(Tuple)]
struct Line {
    text: String,
}

#[derive(Inputs)]
enum Both {
    Words(Word),
    Pods(Pod),
}

struct Join;

impl Bolt for Join {
    type In = Both;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Both>, (): &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

fn wire(t: &Topology, lines: StreamHandle<Line>) {
    t.bolt("join", || Join).on(lines.shuffle());
}

fn main() {
    let _ = wire;
}
