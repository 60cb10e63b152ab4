//! A stream that the component does not have: the compiler knows the ones it has.
//~ no field `wrods` on type `ParsedStreams`
//~ a field with a similar name exists
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::{Count, Pod, Word};

#[derive(Outputs)]
struct Parsed {
    words: Stream<Word>,
    pods: Stream<Pod>,
}

struct Parse;

impl Bolt for Parse {
    type In = Word;
    type Out = Parsed;

    fn execute(&mut self, _: Input<'_, Word>, _: &mut Parsed) -> Result<(), BoltError> {
        Ok(())
    }
}

fn wire(t: &Topology) {
    let parsed = t.bolt("parse", || Parse).streams();
    t.bolt("count", || Count).on(parsed.wrods.shuffle());
}

fn main() {
    let _ = wire;
}
