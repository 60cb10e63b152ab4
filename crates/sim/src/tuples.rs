//! The tuples of the simulator, typed and dynamic, with contents that can be checked on arrival.

use std::sync::LazyLock;

use squall::{DirectStream, Inputs, Key, Outputs, Row, RowRef, Stream, Tuple, TupleRef, ValueRef};

/// A typed tuple. A row has the same fields, so both have the same keys.
#[derive(Tuple, Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) key: u64,
    pub(crate) name: String,
    pub(crate) pad: Vec<u8>,
    pub(crate) depth: u32,
}

/// Names of the fields, for streams of rows.
pub(crate) const FIELDS: [&str; 5] = ["id", "key", "name", "pad", "depth"];
/// Index of the integer key.
pub(crate) const KEY: u16 = 1;
/// Index of the text key.
pub(crate) const NAME: u16 = 2;

#[derive(Inputs)]
pub(crate) enum Any {
    Left(Item),
    Right(Item),
    Rows(Row),
}

#[derive(Outputs)]
pub(crate) struct Many {
    pub(crate) first: Stream<Item>,
    pub(crate) second: Stream<Item>,
    pub(crate) rows: Stream<Row>,
    pub(crate) direct: DirectStream<Item>,
}

/// What identifies a tuple and all that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) id: u64,
    pub(crate) key: u64,
    pub(crate) depth: u32,
    pub(crate) pad: u32,
}

const PATTERN_PERIOD: u64 = 251;
/// Bytes that repeat with a period prime to every batch and tuple size.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..66_000_u64).map(|i| (i % PATTERN_PERIOD) as u8).collect());
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| (0..64).map(|k| format!("key number {k}")).collect());

impl Draft {
    /// The padding: starts elsewhere in the pattern for each tuple.
    pub(crate) fn pad(&self) -> &'static [u8] {
        let start = (self.id % PATTERN_PERIOD) as usize;
        &PATTERN[start..start + self.pad as usize]
    }

    pub(crate) fn name(&self) -> &'static str {
        &NAMES[self.key as usize]
    }

    pub(crate) fn row(&self) -> [ValueRef<'static>; 5] {
        [
            ValueRef::I64(self.id as i64),
            ValueRef::I64(self.key as i64),
            ValueRef::Str(self.name()),
            ValueRef::Bytes(self.pad()),
            ValueRef::I64(self.depth.into()),
        ]
    }

    pub(crate) fn item_twin(&self) -> ItemRef<'static> {
        ItemRef { id: self.id, key: self.key, name: self.name(), pad: self.pad(), depth: self.depth }
    }

    pub(crate) fn item(&self) -> Item {
        Item { id: self.id, key: self.key, name: self.name().into(), pad: self.pad().into(), depth: self.depth }
    }

    /// The hash of key fields, as a grouping computes it.
    pub(crate) fn key_hash(&self, fields: &[u16]) -> u64 {
        let key = |f: &u16| if *f == KEY { Key::I64(self.key as i64) } else { Key::Str(self.name()) };
        match fields {
            [one] => squall_tuple::hash_key(key(one)),
            many => squall_tuple::hash_keys(many.iter().map(key)),
        }
    }
}

/// A tuple that arrived.
#[derive(Clone, Copy)]
pub(crate) enum Arrived<'a> {
    Item(TupleRef<'a, Item>),
    Row(TupleRef<'a, Row>),
}

impl Arrived<'_> {
    /// What it is, or `None` if its contents are not those of any tuple that was emitted.
    pub(crate) fn draft(&self) -> Option<Draft> {
        let (draft, name, pad) = match self {
            Arrived::Item(t) => {
                let draft = Draft {
                    id: t.id.to_native(),
                    key: t.key.to_native(),
                    depth: t.depth.to_native(),
                    pad: t.pad.len() as u32,
                };
                (draft, t.name.as_str(), t.pad.as_slice())
            }
            Arrived::Row(t) => {
                let int = |at: usize| t.values().get(at).and_then(|v| v.as_i64()).map(|n| n as u64);
                let (Some(ValueRef::Str(name)), Some(ValueRef::Bytes(pad))) =
                    (t.values().get(2)?.scalar(), t.values().get(3)?.scalar())
                else {
                    return None;
                };
                (Draft { id: int(0)?, key: int(1)?, depth: int(4)? as u32, pad: pad.len() as u32 }, name, pad)
            }
        };
        let known = (draft.key as usize) < NAMES.len() && pad.len() + PATTERN_PERIOD as usize <= PATTERN.len();
        (known && name == draft.name() && pad == draft.pad()).then_some(draft)
    }

    /// The owned tuple, emitted by value.
    pub(crate) fn is_row(&self) -> bool {
        matches!(self, Arrived::Row(_))
    }
}

/// A borrowed row of a draft.
pub(crate) fn row_twin<'a>(values: &'a [ValueRef<'a>; 5]) -> RowRef<'a> {
    RowRef(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_whose_padding_was_changed_is_not_believed() {
        let draft = Draft { id: 7, key: 3, depth: 0, pad: 40 };
        let mut item = draft.item();
        let mut buf = squall_tuple::BatchBuf::with_capacity(4096);
        let open = squall_tuple::OpenBatch {
            kind: squall_tuple::BatchKind::Data,
            stream: 0,
            schema_id: <Item as Tuple>::ID,
            dynamic: false,
            source_reactor: 0,
            epoch: 0,
        };
        buf.open(&open);
        buf.push_plain::<Item, Item>(0, 0, 0, &item).unwrap();
        item.pad[39] ^= 1;
        buf.push_plain::<Item, Item>(0, 0, 0, &item).unwrap();
        let seen: Vec<_> = buf.view().iter().map(|f| Arrived::Item(f.tuple::<Item>()).draft()).collect();
        assert_eq!(seen, [Some(draft), None]);
    }
}
