//! An input lives for the call; what must live longer is kept.
//~ borrowed data escapes outside of method
//~ `input` escapes the method body here
#[path = "../compile_support/words.rs"]
mod words;

use squall::prelude::*;
use words::Word;

struct Hold {
    held: Vec<Input<'static, Word>>,
}

impl Bolt for Hold {
    type In = Word;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Word>, (): &mut ()) -> Result<(), BoltError> {
        self.held.push(input);
        Ok(())
    }
}

fn main() {
    let _ = Hold { held: Vec::new() };
}
