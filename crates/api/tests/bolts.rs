//! Bolts in the harness: emits, anchors, acks, ticks, finish, several inputs and outputs.
#![allow(missing_docs, dead_code)]

extern crate squall_api as squall;

use std::time::Duration;

use squall::prelude::*;
use squall::testing::BoltHarness;

#[derive(Tuple, Debug, Clone, PartialEq)]
struct Line {
    text: String,
}

#[derive(Tuple, Debug, Clone, PartialEq)]
struct Word {
    word: String,
    n: u64,
}

struct Split;

impl Bolt for Split {
    type In = Line;
    type Out = Stream<Word>;

    fn execute(&mut self, line: Input<'_, Line>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        if line.text.contains('\0') {
            return Err(BoltError::fail("a NUL in the text"));
        }
        for word in line.text.split_whitespace() {
            out.emit(WordRef { word, n: 1 });
        }
        Ok(())
    }
}

fn words(text: &[&str]) -> Vec<Word> {
    text.iter().map(|w| Word { word: (*w).into(), n: 1 }).collect()
}

#[test]
fn a_bolt_emits_anchored_to_its_input_and_acknowledges_it() {
    let mut h = BoltHarness::new(|| Split);
    let root = h.send(Line { text: "to be or".into() });
    let out = h.emitted::<Word>("default");
    assert_eq!(out.iter().map(|e| e.tuple.clone()).collect::<Vec<_>>(), words(&["to", "be", "or"]));
    assert!(out.iter().all(|e| e.roots == [root]));
    assert_eq!(h.acked(), [root]);
    assert!(h.balanced());
}

#[test]
fn a_failed_tuple_is_failed_once_and_the_bolt_goes_on() {
    let mut h = BoltHarness::new(|| Split);
    let bad = h.send(Line { text: "a\0b".into() });
    let good = h.send(Line { text: "c".into() });
    assert_eq!((h.failed(), h.acked()), (&[bad][..], &[good][..]));
    assert_eq!(h.outputs::<Word>("default"), words(&["c"]));
}

#[derive(Default)]
struct Pairs {
    held: Option<(Word, Anchor)>,
}

impl Bolt for Pairs {
    type In = Word;
    type Out = Stream<Word>;

    fn execute(&mut self, input: Input<'_, Word>, out: &mut Stream<Word>) -> Result<(), BoltError> {
        let (second, second_anchor) = input.keep();
        let Some((first, first_anchor)) = self.held.take() else {
            self.held = Some((second, second_anchor));
            return Ok(());
        };
        let word = format!("{}-{}", first.word, second.word);
        out.anchored(&[&first_anchor, &second_anchor], Word { word, n: first.n + second.n });
        first_anchor.ack();
        second_anchor.ack();
        Ok(())
    }
}

#[test]
fn a_tuple_anchored_to_two_kept_ones_belongs_to_both_trees() {
    let mut h = BoltHarness::new(Pairs::default);
    let a = h.send(Word { word: "a".into(), n: 1 });
    assert!(h.acked().is_empty());
    let b = h.send(Word { word: "b".into(), n: 2 });
    let out = h.emitted::<Word>("default");
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].tuple, Word { word: "a-b".into(), n: 3 });
    assert_eq!(out[0].roots, [a, b]);
    assert_eq!(h.acked(), [a, b]);
    assert!(h.balanced());
}

struct DropsAnchor;

impl Bolt for DropsAnchor {
    type In = Word;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        drop(input.keep());
        Ok(())
    }
}

#[test]
fn a_dropped_anchor_fails_its_tuple() {
    let mut h = BoltHarness::new(|| DropsAnchor);
    let root = h.send(Word { word: "a".into(), n: 1 });
    assert_eq!((h.acked().len(), h.failed()), (0, &[root][..]));
}

#[derive(Inputs)]
enum Either {
    Words(Word),
    Lines(Line),
}

#[derive(Outputs)]
struct Two {
    words: Stream<Word>,
    lines: Stream<Line>,
}

struct Swap;

impl Bolt for Swap {
    type In = Either;
    type Out = Two;

    fn execute(&mut self, input: Input<'_, Either>, out: &mut Two) -> Result<(), BoltError> {
        match *input {
            EitherRef::Words(w) if w.n == 0 => out.words.emit(w),
            EitherRef::Words(w) => out.lines.unanchored(LineRef { text: &w.word }),
            EitherRef::Lines(l) => out.words.emit(WordRef { word: &l.text, n: 7 }),
        }
        Ok(())
    }
}

#[test]
fn an_enum_input_knows_its_streams_and_named_outputs_go_their_own_ways() {
    let mut h = BoltHarness::new(|| Swap);
    h.send(Word { word: "same".into(), n: 0 });
    h.send(Word { word: "w".into(), n: 1 });
    h.send(Line { text: "l".into() });
    let out = h.emitted::<Word>("words");
    assert_eq!(out[0].tuple, Word { word: "same".into(), n: 0 });
    assert_eq!(out[1].tuple, Word { word: "l".into(), n: 7 });
    let lines = h.emitted::<Line>("lines");
    assert_eq!(lines[0].tuple.text, "w");
    assert!(lines[0].roots.is_empty(), "unanchored");
    assert!(h.balanced());
}

#[derive(Default)]
struct Sum {
    n: u64,
    ticks: u64,
    left: u64,
}

impl Bolt for Sum {
    type In = Word;
    type Out = Stream<Word>;

    fn execute(&mut self, input: Input<'_, Word>, _: &mut Stream<Word>) -> Result<(), BoltError> {
        self.n += u64::from(input.n);
        Ok(())
    }

    fn tick(&mut self, out: &mut Stream<Word>) -> Result<(), BoltError> {
        self.ticks += 1;
        out.emit(WordRef { word: "tick", n: self.n });
        Ok(())
    }

    fn finish(&mut self, out: &mut Stream<Word>) -> Result<Finish, BoltError> {
        out.emit(WordRef { word: "part", n: self.left });
        self.left += 1;
        Ok(if self.left < 3 { Finish::More } else { Finish::Done })
    }
}

#[test]
fn ticks_come_at_their_period_and_finish_is_called_until_it_is_done() {
    let tick = |c| squall_topology::ComponentSpec { tick_ms: Some(10), ..c };
    let mut h = BoltHarness::with(Sum::default, tick);
    h.send(Word { word: "a".into(), n: 5 });
    h.advance(Duration::from_millis(35));
    let ticks: Vec<u64> = h.outputs::<Word>("default").iter().map(|w| w.n).collect();
    assert_eq!(ticks, [5, 5, 5]);
    h.finish();
    let parts: Vec<u64> = h.outputs::<Word>("default").iter().map(|w| w.n).collect();
    assert_eq!(parts, [0, 1, 2]);
}

struct Fatal;

impl Bolt for Fatal {
    type In = Word;
    type Out = ();

    fn execute(&mut self, input: Input<'_, Word>, _: &mut ()) -> Result<(), BoltError> {
        assert!(input.n != 2, "two is too much");
        if input.n == 1 { Err(BoltError::fatal("disk gone")) } else { Ok(()) }
    }
}

#[test]
fn a_fatal_error_and_a_panic_end_the_executor_and_name_it() {
    let fault = BoltHarness::new(|| Fatal).try_send(Word { word: String::new(), n: 1 }).unwrap_err();
    assert!(fault.to_string().contains("bolt (task 0) ended with a fatal error: disk gone"), "{fault}");
    assert!(fault.to_string().contains("tuple 1 of 1"), "{fault}");
    let fault = BoltHarness::new(|| Fatal).try_send(Word { word: String::new(), n: 2 }).unwrap_err();
    assert!(fault.to_string().contains("panicked: two is too much"), "{fault}");
}
