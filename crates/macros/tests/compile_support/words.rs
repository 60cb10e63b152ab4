//! Two tuple types, and a bolt for one of them: what the cases misuse.

#![allow(dead_code, reason = "each case uses its own part")]

use squall::prelude::*;

#[derive(Tuple, Clone)]
pub struct Word {
    pub word: String,
    pub n: u64,
}

#[derive(Tuple, Clone)]
pub struct Pod {
    pub a: u64,
}

pub struct Words;

impl Spout for Words {
    type Out = Stream<Word>;

    fn next(&mut self, out: &mut Stream<Word>) -> Result<Next, SpoutError> {
        out.emit(WordRef { word: "w", n: 1 });
        Ok(Next::End)
    }
}

pub struct Count;

impl Bolt for Count {
    type In = Word;
    type Out = ();

    fn execute(&mut self, _: Input<'_, Word>, (): &mut ()) -> Result<(), BoltError> {
        Ok(())
    }
}
