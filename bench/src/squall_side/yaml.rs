//! Topologies in YAML, on rows: read, checked and declared as `squall run` does it, of stock components between a spout that has
//! its rows in memory and a sink that measures, which are registered here.

use std::hint::black_box;

use squall::{
    Bolt, BoltError, Context, Finish, Input, Next, Row, RowRef, RowStream, RowStreams, Spout, SpoutError, Topology,
    ValueRef,
};
use squall_components::registry::{Described, Kind, Registry};
use squall_yaml::{Document, Variables, Way};

use super::stream::Null;
use super::words::{Share, Totals, text};
use super::{Job, Place, Tallied};
use crate::clock::now_ns;

/// As the typed one: two executors of each, one per reactor, and pieces of text to the split of the same reactor.
const WORD_COUNT: &str = "
name: wordcount
spouts:
  - { id: pieces, className: pieces, parallelism: 2 }
bolts:
  - { id: split, className: split, parallelism: 2, config: { field: text } }
  - { id: count, className: count, parallelism: 2, config: { by: word, emit: end } }
  - { id: totals, className: totals, parallelism: 2 }
streams:
  - { from: pieces, to: split, grouping: { type: LOCAL_OR_SHUFFLE } }
  - { from: split, to: count, grouping: { type: FIELDS, args: [word] } }
  - { from: count, to: totals, grouping: { type: LOCAL_OR_SHUFFLE } }
";

const FILTER: &str = "
name: filter
spouts:
  - { id: rows, className: rows }
bolts:
  - { id: filter, className: filter, config: { where: n >= 0 && room == 'kitchen' } }
  - { id: measure, className: measure }
streams:
  - { from: rows, to: filter }
  - { from: filter, to: measure }
";

/// Declares a file with what it registers. What is wrong with it is wrong with this program.
fn declare(t: &Topology, yaml: &str, own: impl IntoIterator<Item = Described>) {
    let mut registry = Registry::standard();
    own.into_iter().for_each(|component| registry.add(component).expect("the stock components have other names"));
    let document = Document::parse("bench.yaml", yaml, &Variables::default());
    let declaration = document.declare(&registry, t).unwrap_or_else(|refused| panic!("{}", refused.render(false)));
    for note in &declaration.expressions {
        assert_eq!(note.way, Way::Lowered, "`{}` is to be measured lowered", note.text);
    }
}

fn spout<S, F>(name: &'static str, fields: &'static [&'static str], make: F) -> Described
where
    S: Spout<Out = RowStreams>,
    F: Fn() -> S + Clone + Send + Sync + 'static,
{
    Described {
        factory: Box::new(move |_, place| {
            let stream = RowStream { name: "default".into(), fields: fields.iter().map(|f| (*f).into()).collect() };
            Ok(place.spout(vec![stream], make.clone()))
        }),
        ..described(name, Kind::Spout)
    }
}

fn sink<B, F>(name: &'static str, make: F) -> Described
where
    B: Bolt<In = Row, Out = RowStreams>,
    F: Fn() -> B + Clone + Send + Sync + 'static,
{
    Described {
        factory: Box::new(move |_, place| Ok(place.bolt(Vec::new(), None, make.clone()))),
        ..described(name, Kind::Sink)
    }
}

fn described(name: &'static str, kind: Kind) -> Described {
    Described {
        name,
        aliases: &[],
        kind,
        summary: "Part of a benchmark.",
        options: Vec::new(),
        outputs: "",
        example: "",
        example_fields: &[],
        factory: Box::new(|_, _| Err(Vec::new())),
    }
}

struct Pieces(Share);

impl Spout for Pieces {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.0.prepare(ctx);
        Ok(())
    }

    #[inline]
    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let Some(text) = self.0.next() else { return Ok(Next::End) };
        out[0].emit(RowRef(&[ValueRef::Str(text)]));
        Ok(Next::Emitted)
    }
}

/// Adds up the rows of `count`: a word and how often it was seen.
struct AddUp {
    totals: Totals,
    tally: Tallied,
}

impl Bolt for AddUp {
    type In = Row;
    type Out = RowStreams;

    fn execute(&mut self, row: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        let [word, count] = row.get().values() else { return Err(BoltError::fatal("a row of two values")) };
        let (Some(word), Some(count)) = (word.as_str(), count.as_i64()) else {
            return Err(BoltError::fatal("a word and its count"));
        };
        self.totals.add(&Totals::of(std::iter::once((word, count as u64))));
        Ok(())
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        let ended = now_ns();
        self.tally.note(|t| {
            t.note_span(ended, ended);
            t.words.get_or_insert_default().add(&self.totals);
        });
        Ok(Finish::Done)
    }
}

/// wordcount of rows.
pub(super) fn word_count(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, sinks, text) = (tally.clone(), tally.clone(), text(job.text_bytes));
    let pieces = spout("pieces", &["text"], move || Pieces(Share::of(text.clone(), spouts.clone())));
    let totals = sink("totals", move || AddUp { totals: Totals::default(), tally: sinks.clone() });
    declare(t, WORD_COUNT, [pieces, totals]);
    Vec::new()
}

struct Rows {
    emitted: u64,
    tally: Tallied,
}

impl Spout for Rows {
    type Out = RowStreams;

    #[inline]
    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        self.emitted += 1;
        out[0].emit(RowRef(&[ValueRef::I64(self.emitted as i64), ValueRef::Str("kitchen")]));
        Ok(Next::Emitted)
    }

    fn deactivate(&mut self) {
        self.tally.note(|t| t.emitted += self.emitted);
    }
}

struct Measure(Null<Row>);

impl Bolt for Measure {
    type In = Row;
    type Out = RowStreams;

    #[inline]
    fn execute(&mut self, row: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        if let [n, room] = row.get().values() {
            black_box((n.as_i64(), room.as_str()));
            self.0.count();
        }
        Ok(())
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.0.batch();
        Ok(())
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.0.end();
        Ok(Finish::Done)
    }
}

/// rows → filter → measure on one reactor.
pub(super) fn filter(t: &Topology, job: &Job, tally: &Tallied) -> Vec<Place> {
    let (spouts, sinks, warmup_ns) = (tally.clone(), tally.clone(), job.warmup_ns);
    let rows = spout("rows", &["n", "room"], move || Rows { emitted: 0, tally: spouts.clone() });
    let measure = sink("measure", move || Measure(Null::new(warmup_ns, sinks.clone())));
    declare(t, FILTER, [rows, measure]);
    vec![("rows", 0), ("filter", 0), ("measure", 0)]
}
