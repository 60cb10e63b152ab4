//! Two variants hold words, so `.on` cannot tell which is meant; `.on_port` says it.
//~ a variant type that occurs twice is subscribed with `.on_port(…)`
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::Word;

#[derive(Inputs)]
enum Twice {
    Early(Word),
    Late(Word),
}

struct Merge;

impl Bolt for Merge {
    type In = Twice;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Twice>, (): &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}

fn wire(t: &Topology, words: StreamHandle<Word>) {
    t.bolt("merge", || Merge).on_port(Twice::ON_LATE, words.shuffle()).on(words.all());
}

fn main() {
    let _ = wire;
}
