//! The output shapes of the simulator's components, behind one trait.

use squall::Sub;
use squall::{Anchor, DirectStream, Field, Outputs, Row, Stream, StreamHandle, TaskId};

use crate::grouping::ByMask;
use crate::scenario::{GroupScript, OutputShape};
use crate::tuples::{Arrived, Draft, FIELDS, Item, KEY, Many, ManyStreams, row_twin};
use crate::world::RootIx;

/// A subscription of either kind of stream.
pub(crate) enum AnySub {
    Items(Sub<Item>),
    Rows(Sub<Row>),
}

impl AnySub {
    pub(crate) fn feedback(self) -> AnySub {
        match self {
            AnySub::Items(s) => AnySub::Items(s.feedback()),
            AnySub::Rows(s) => AnySub::Rows(s.feedback()),
        }
    }
}

/// In which form a tuple is emitted: all must come to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// By value.
    Owned,
    /// As its borrowed twin.
    Twin,
}

/// What an emit is tied to.
#[derive(Clone, Copy)]
pub(crate) enum Tie<'a> {
    /// The input being executed.
    Input,
    /// Nothing.
    Nothing,
    /// Kept tuples.
    Kept(&'a [&'a Anchor]),
    /// A root of its own, under this id.
    Id(RootIx),
}

/// What is emitted.
#[derive(Clone, Copy)]
pub(crate) enum What<'a> {
    New(Draft, Form),
    /// The incoming tuple, unchanged.
    Forward(Arrived<'a>),
}

/// The outputs of a component of the simulator.
pub(crate) trait SimOut: Outputs {
    const SHAPE: OutputShape;

    /// Emits on the stream at this place; `to` on a direct one.
    fn send(&mut self, stream: usize, what: What<'_>, tie: Tie<'_>, to: Option<TaskId>);

    /// Tasks that the direct stream at this place can name.
    fn direct_targets(&self, stream: usize) -> Vec<TaskId> {
        let _ = stream;
        Vec::new()
    }

    /// Names the fields of the streams of rows.
    fn name_rows(handles: &Self::Handles);

    /// A subscription to the stream at this place; `name` for a custom grouping.
    fn subscribe(handles: &Self::Handles, stream: usize, grouping: GroupScript, name: &str) -> AnySub;
}

fn send_item(stream: &mut Stream<Item>, what: What<'_>, tie: Tie<'_>) {
    macro_rules! emit {
        ($tuple:expr) => {
            match tie {
                Tie::Input => stream.emit($tuple),
                Tie::Nothing => stream.unanchored($tuple),
                Tie::Kept(anchors) => stream.anchored(anchors, $tuple),
                Tie::Id(id) => stream.emit_with_id(u64::from(id), $tuple),
            }
        };
    }
    match what {
        What::New(draft, Form::Owned) => emit!(draft.item()),
        What::New(draft, Form::Twin) => emit!(draft.item_twin()),
        What::Forward(Arrived::Item(tuple)) => emit!(tuple),
        What::Forward(Arrived::Row(_)) => unreachable!("a row is not forwarded to a typed stream"),
    }
}

fn send_row(stream: &mut Stream<Row>, what: What<'_>, tie: Tie<'_>) {
    macro_rules! emit {
        ($tuple:expr) => {
            match tie {
                Tie::Input => stream.emit($tuple),
                Tie::Nothing => stream.unanchored($tuple),
                Tie::Kept(anchors) => stream.anchored(anchors, $tuple),
                Tie::Id(id) => stream.emit_with_id(u64::from(id), $tuple),
            }
        };
    }
    match what {
        What::New(draft, Form::Owned) => {
            let item = draft.item();
            let values = vec![
                (item.id as i64).into(),
                (item.key as i64).into(),
                item.name.into(),
                item.pad.into(),
                item.depth.into(),
            ];
            emit!(Row(values));
        }
        What::New(draft, Form::Twin) => emit!(row_twin(&draft.row())),
        What::Forward(Arrived::Row(tuple)) => emit!(tuple),
        What::Forward(Arrived::Item(_)) => unreachable!("a typed tuple is not forwarded to a stream of rows"),
    }
}

fn send_direct(stream: &mut DirectStream<Item>, what: What<'_>, tie: Tie<'_>, to: TaskId) -> bool {
    macro_rules! emit {
        ($tuple:expr) => {
            match tie {
                Tie::Id(id) => stream.emit_to_with_id(to, u64::from(id), $tuple),
                _ => stream.emit_to(to, $tuple),
            }
        };
    }
    match what {
        What::New(draft, Form::Owned) => emit!(draft.item()),
        What::New(draft, Form::Twin) => emit!(draft.item_twin()),
        What::Forward(Arrived::Item(tuple)) => emit!(tuple),
        What::Forward(Arrived::Row(_)) => unreachable!("a row is not forwarded to a typed stream"),
    }
}

fn sub_items(stream: &StreamHandle<Item>, grouping: GroupScript, name: &str) -> AnySub {
    AnySub::Items(match grouping {
        GroupScript::Shuffle => stream.shuffle(),
        GroupScript::LoadAware => stream.load_aware(),
        GroupScript::LocalOrShuffle => stream.local_or_shuffle(),
        GroupScript::ByKey => stream.fields([Item::KEY]),
        GroupScript::ByName => stream.fields([Item::NAME]),
        GroupScript::ByBoth => stream.fields([Item::NAME, Item::KEY]),
        GroupScript::PartialKey => stream.partial_key([Item::KEY]),
        GroupScript::All => stream.all(),
        GroupScript::Global => stream.global(),
        GroupScript::None => stream.none(),
        GroupScript::Direct => stream.direct(),
        GroupScript::Custom(salt) => stream.custom(name, move || ByMask::new(salt)),
    })
}

fn sub_rows(stream: &StreamHandle<Row>, grouping: GroupScript, name: &str) -> AnySub {
    let field = |at: u16| FIELDS[at as usize];
    AnySub::Rows(match grouping {
        GroupScript::Shuffle => stream.shuffle(),
        GroupScript::LoadAware => stream.load_aware(),
        GroupScript::LocalOrShuffle => stream.local_or_shuffle(),
        GroupScript::ByKey => stream.fields_named([field(KEY)]),
        GroupScript::ByName => stream.fields_named(["name"]),
        GroupScript::ByBoth => stream.fields_named(["name", "key"]),
        GroupScript::PartialKey => stream.partial_key([Field::new(KEY)]),
        GroupScript::All => stream.all(),
        GroupScript::Global => stream.global(),
        GroupScript::None => stream.none(),
        GroupScript::Direct => stream.direct(),
        GroupScript::Custom(salt) => stream.custom(name, move || ByMask::new(salt)),
    })
}

impl SimOut for () {
    const SHAPE: OutputShape = OutputShape::Nothing;

    fn send(&mut self, _: usize, _: What<'_>, _: Tie<'_>, _: Option<TaskId>) {
        unreachable!("a component without streams emits nothing")
    }

    fn name_rows((): &()) {}

    fn subscribe((): &(), _: usize, _: GroupScript, _: &str) -> AnySub {
        unreachable!("a component without streams has no subscriber")
    }
}

impl SimOut for Stream<Item> {
    const SHAPE: OutputShape = OutputShape::Items;

    fn send(&mut self, _: usize, what: What<'_>, tie: Tie<'_>, _: Option<TaskId>) {
        send_item(self, what, tie);
    }

    fn name_rows(_: &StreamHandle<Item>) {}

    fn subscribe(handle: &StreamHandle<Item>, _: usize, grouping: GroupScript, name: &str) -> AnySub {
        sub_items(handle, grouping, name)
    }
}

impl SimOut for Stream<Row> {
    const SHAPE: OutputShape = OutputShape::Rows;

    fn send(&mut self, _: usize, what: What<'_>, tie: Tie<'_>, _: Option<TaskId>) {
        send_row(self, what, tie);
    }

    fn name_rows(handle: &StreamHandle<Row>) {
        handle.clone().named(FIELDS);
    }

    fn subscribe(handle: &StreamHandle<Row>, _: usize, grouping: GroupScript, name: &str) -> AnySub {
        sub_rows(handle, grouping, name)
    }
}

impl SimOut for Many {
    const SHAPE: OutputShape = OutputShape::Many;

    fn send(&mut self, stream: usize, what: What<'_>, tie: Tie<'_>, to: Option<TaskId>) {
        match stream {
            0 => send_item(&mut self.first, what, tie),
            1 => send_item(&mut self.second, what, tie),
            2 => send_row(&mut self.rows, what, tie),
            _ => {
                let to = to.expect("a direct emit names its task");
                assert!(send_direct(&mut self.direct, what, tie, to), "the task was one of the subscribers");
            }
        }
    }

    fn direct_targets(&self, stream: usize) -> Vec<TaskId> {
        if stream == 3 { self.direct.tasks().collect() } else { Vec::new() }
    }

    fn name_rows(handles: &ManyStreams) {
        handles.rows.clone().named(FIELDS);
    }

    fn subscribe(handles: &ManyStreams, stream: usize, grouping: GroupScript, name: &str) -> AnySub {
        match stream {
            0 => sub_items(&handles.first, grouping, name),
            1 => sub_items(&handles.second, grouping, name),
            2 => sub_rows(&handles.rows, grouping, name),
            _ => sub_items(&handles.direct, grouping, name),
        }
    }
}
