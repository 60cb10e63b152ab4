//! Both components for topologies of rows. The spout's rows have the generator's fields, and the columns of [`COLUMNS`], which a
//! topology carries along to the sink; that finds them by name.

use std::time::Duration;

use squall::{
    ArchivedValue, Bolt, BoltError, Context, Finish, Input, Next, Row, RowRef, RowStreams, Spout, SpoutError, ValueRef,
};
use squall_machine::now_ns;

use crate::egress::{Outflow, To, corrupt_flag};
use crate::ingest::{Intake, Source, Taken};
use crate::record::{Stamps, Way};
use crate::schema::Schema;

/// Columns of the ingest's rows behind the generator's fields. `_intact` is false where the checksum did not fit.
pub(crate) const COLUMNS: [&str; 5] = ["_seq", "_due", "_sent", "_ingest", "_intact"];
/// Columns that say whose part a row is, where one load became several; optional.
pub(crate) const PART_COLUMNS: [&str; 2] = ["_part", "_parts"];

/// A spout of rows.
pub(crate) struct IngestRows {
    intake: Intake,
    fields: Schema,
}

impl IngestRows {
    pub(crate) fn new(source: &Source, fields: &Schema) -> IngestRows {
        IngestRows { intake: Intake::new(source.clone()), fields: fields.clone() }
    }
}

impl Spout for IngestRows {
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), SpoutError> {
        self.intake.prepare(ctx)
    }

    fn next(&mut self, out: &mut RowStreams) -> Result<Next, SpoutError> {
        let fields = &self.fields;
        let taken = self.intake.poll(|r, ingest_ns| {
            let mut cells = [ValueRef::Null; 32];
            let mut count = 0;
            let intact = r.intact();
            // A damaged body need not hold the fields: its row has nulls.
            if intact {
                let read = fields.read(r.body, |value| {
                    if let Some(cell) = cells.get_mut(count) {
                        *cell = value;
                        count += 1;
                    }
                });
                read.map_err(|e| SpoutError::new(e.to_string()))?;
            }
            let stamps = [r.seq, r.due_ns, r.sent_ns, ingest_ns].map(|n| ValueRef::I64(n as i64));
            let at = fields.0.len();
            cells[at..at + 4].copy_from_slice(&stamps);
            cells[at + 4] = ValueRef::Bool(intact);
            out[0].emit(RowRef(&cells[..at + COLUMNS.len()]));
            Ok(())
        })?;
        Ok(match taken {
            Taken::One => Next::Emitted,
            Taken::Nothing(next) => {
                let sent = &self.intake.schema;
                if !sent.0.is_empty() && *sent != self.fields {
                    return Err(SpoutError::new(format!(
                        "the generator sends the fields {sent}, and this spout has {}; give `--fields` accordingly",
                        self.fields
                    )));
                }
                next
            }
        })
    }
}

/// Where the sink finds its columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub(crate) stamps: [u16; 5],
    pub(crate) parts: Option<[u16; 2]>,
}

/// A sink of rows.
pub(crate) struct EgressRows {
    outflow: Outflow,
    columns: Columns,
}

impl EgressRows {
    pub(crate) fn new(to: To, columns: Columns) -> EgressRows {
        EgressRows { outflow: Outflow::new(to), columns }
    }
}

fn number(row: &squall::ArchivedRow, at: u16) -> Result<u64, BoltError> {
    match row.get(at as usize) {
        Some(ArchivedValue::I64(n)) => Ok(n.to_native() as u64),
        _ => Err(BoltError::fail("a column of the ingest spout is missing or no integer: carry it along unchanged")),
    }
}

impl Bolt for EgressRows {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.outflow.prepare(ctx)
    }

    fn execute(&mut self, input: Input<'_, Row>, _: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let [seq, due, sent, ingest, intact] = self.columns.stamps;
        let stamps = Stamps { seq: number(row, seq)?, due_ns: number(row, due)?, sent_ns: number(row, sent)? };
        let intact = !matches!(row.get(intact as usize), Some(ArchivedValue::Bool(false)));
        let (part, parts) = match self.columns.parts {
            Some([part, parts]) => (number(row, part)? as u16, number(row, parts)? as u16),
            None => (0, 1),
        };
        let flags = corrupt_flag(intact);
        let way = Way { part, parts, flags, ingest_ns: number(row, ingest)?, egress_ns: now_ns() };
        self.outflow.give(way, stamps, None);
        Ok(())
    }

    fn batch_end(&mut self, _: &mut RowStreams) -> Result<(), BoltError> {
        self.outflow.flush();
        Ok(())
    }

    fn finish(&mut self, _: &mut RowStreams) -> Result<Finish, BoltError> {
        self.outflow.end();
        Ok(Finish::Done)
    }
}

/// A period that the sink could tick at; it needs none.
pub(crate) const NO_TICK: Option<Duration> = None;
