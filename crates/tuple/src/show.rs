//! Tuples as text for people: samples of what passes a component.
//!
//! Not a format: no program reads it. A tuple is shown as `{word: "the", n: 3}`. Values of a typed tuple that cannot be keys
//! (lists, nested tuples) are shown by their type, as `<list<string>>`; rows are shown whole.

use std::fmt::{self, Write};

use crate::key::Key;
use crate::schema::{InvalidTuple, Tuple};
use crate::value::{ArchivedValue, Row};
use crate::view::TupleRef;

/// How a tuple type shows one of its archives, with the names and types of its fields.
pub(crate) type Show = fn(&[u8], &[(String, String)], &mut Text) -> Result<(), InvalidTuple>;

/// Text of bounded length.
pub(crate) struct Text {
    text: String,
    bytes_max: usize,
}

impl Text {
    pub(crate) fn new(bytes_max: usize) -> Text {
        Text { text: String::new(), bytes_max }
    }

    /// The text, with `…` where it was cut.
    pub(crate) fn into_string(self) -> String {
        self.text
    }
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes_max.saturating_sub(self.text.len());
        if s.len() <= room {
            self.text.push_str(s);
            return Ok(());
        }
        self.text.push_str(&s[..s.floor_char_boundary(room)]);
        self.text.push('…');
        // Ends the writing: whatever follows has no room either.
        self.bytes_max = 0;
        Err(fmt::Error)
    }
}

pub(crate) fn typed<T: Tuple>(bytes: &[u8], fields: &[(String, String)], text: &mut Text) -> Result<(), InvalidTuple> {
    let tuple = TupleRef::<T>::from_bytes(bytes)?;
    // An error is a text that was cut.
    let _ = write_typed(&tuple, fields, text);
    Ok(())
}

fn write_typed<T: Tuple>(tuple: &TupleRef<'_, T>, fields: &[(String, String)], text: &mut Text) -> fmt::Result {
    for (at, (name, ty)) in fields.iter().enumerate() {
        write!(text, "{}{name}: ", if at == 0 { "{" } else { ", " })?;
        match tuple.key(at as u16) {
            Key::Null if ty.starts_with("option<") => text.write_str("null")?,
            Key::Null => write!(text, "<{ty}>")?,
            Key::Bool(b) => write!(text, "{b}")?,
            Key::I64(n) => write!(text, "{n}")?,
            Key::U64(n) => write!(text, "{n}")?,
            Key::F64(x) => write!(text, "{x:?}")?,
            Key::Str(s) => quoted(s, text)?,
            Key::Bytes(b) => write!(text, "{} bytes", b.len())?,
        }
    }
    text.write_str(if fields.is_empty() { "{}" } else { "}" })
}

pub(crate) fn row(bytes: &[u8], fields: &[(String, String)], text: &mut Text) -> Result<(), InvalidTuple> {
    let row = TupleRef::<Row>::from_bytes(bytes)?;
    let names = fields.iter().map(|(name, _)| name.as_str()).chain(std::iter::repeat("?"));
    let _ = write_map(names.zip(row.values()), text);
    Ok(())
}

fn write_map<'a>(pairs: impl Iterator<Item = (&'a str, &'a ArchivedValue)>, text: &mut Text) -> fmt::Result {
    text.write_str("{")?;
    for (at, (name, value)) in pairs.enumerate() {
        write!(text, "{}{name}: ", if at == 0 { "" } else { ", " })?;
        write_value(value, text)?;
    }
    text.write_str("}")
}

/// Values nest no deeper than the check of the archive admits.
fn write_value(value: &ArchivedValue, text: &mut Text) -> fmt::Result {
    match value {
        ArchivedValue::Null => text.write_str("null"),
        ArchivedValue::Bool(b) => write!(text, "{b}"),
        ArchivedValue::I64(n) => write!(text, "{}", n.to_native()),
        ArchivedValue::F64(x) => write!(text, "{:?}", x.to_native()),
        ArchivedValue::Str(s) => quoted(s.as_str(), text),
        ArchivedValue::Bytes(b) => write!(text, "{} bytes", b.len()),
        ArchivedValue::List(items) => {
            text.write_str("[")?;
            for (at, item) in items.iter().enumerate() {
                text.write_str(if at == 0 { "" } else { ", " })?;
                write_value(item, text)?;
            }
            text.write_str("]")
        }
        ArchivedValue::Map(pairs) => write_map(pairs.iter().map(|pair| (pair.0.as_str(), &pair.1)), text),
    }
}

/// In quotes, with what would break the line escaped; character by character, so that long text is not copied to be cut.
fn quoted(s: &str, text: &mut Text) -> fmt::Result {
    text.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' | '\\' => write!(text, "\\{c}")?,
            c if c.is_control() => write!(text, "{}", c.escape_default())?,
            c => text.write_char(c)?,
        }
    }
    text.write_char('"')
}

#[cfg(test)]
mod tests {
    use crate::sample::Word;
    use crate::{BatchBuf, BatchKind, Dest, Emit, OpenBatch, Row, Tuple, TupleHead, TupleType, Value};

    fn text<T: Tuple, E: Emit<T>>(ty: &TupleType, value: &E, bytes_max: usize) -> String {
        let mut batch = BatchBuf::with_capacity(4096);
        let (stream, source_reactor, epoch) = (0, 0, 0);
        batch.open(&OpenBatch {
            kind: BatchKind::Data,
            stream,
            schema_id: ty.schema_id(),
            dynamic: ty.dynamic(),
            source_reactor,
            epoch,
        });
        let head = TupleHead { dest: Dest::Task(0), ..TupleHead::plain(0, 0, 0) };
        batch.push::<T, E>(&head, value).expect("it fits");
        let frame = batch.view().iter().next().expect("one was pushed");
        ty.text(frame.payload(), bytes_max).expect("it is valid")
    }

    #[test]
    fn a_typed_tuple_is_shown_by_its_fields() {
        let word = Word { word: "a \"b\"\n".into(), n: 7 };
        assert_eq!(text::<Word, _>(&TupleType::of::<Word>(), &word, 100), r#"{word: "a \"b\"\n", n: 7}"#);
    }

    #[test]
    fn a_row_is_shown_whole_with_the_names_of_its_stream() {
        let row = Row(vec![
            Value::Str("x".into()),
            Value::Null,
            Value::List(vec![Value::I64(-1), Value::F64(2.0)]),
            Value::map([("k", true)]),
            Value::Bytes(vec![1, 2]),
        ]);
        let ty = TupleType::row(["a", "b", "c", "d"]);
        let want = r#"{a: "x", b: null, c: [-1, 2.0], d: {k: true}, ?: 2 bytes}"#;
        assert_eq!(text::<Row, _>(&ty, &row, 100), want);
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let word = Word { word: "ä".repeat(1000), n: 7 };
        assert_eq!(text::<Word, _>(&TupleType::of::<Word>(), &word, 12), "{word: \"ää…");
    }

    #[test]
    fn bytes_that_are_no_tuple_are_refused() {
        assert!(TupleType::of::<Word>().text(&[], 100).is_err());
    }
}
