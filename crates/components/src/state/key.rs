//! State by key: one map, looked up by the bytes of a row's key fields, without an allocation once a key is known.
//!
//! Keys are compared as groupings compare them: integers by value, floats with one zero and one NaN, text and bytes apart;
//! lists, maps and fields that do not exist are null.

use squall::{ArchivedRow, Key, Value, ValueRef};

use crate::rows::at;

/// The bytes of a key: for each field a tag, and the value; text and bytes with their length before them.
pub(crate) type KeyBytes = Vec<u8>;

/// State by key.
pub(crate) struct KeyMap<V> {
    fields: Box<[u16]>,
    scratch: Vec<u8>,
    map: hashbrown::HashMap<KeyBytes, V, ahash::RandomState>,
}

impl<V> KeyMap<V> {
    pub(crate) fn new(fields: &[u16]) -> KeyMap<V> {
        KeyMap { fields: fields.into(), scratch: Vec::new(), map: hashbrown::HashMap::default() }
    }

    /// The state of a row's key, made if there is none yet and fewer than `most` keys are known; else `None`.
    #[inline]
    pub(crate) fn of(&mut self, row: &ArchivedRow, most: usize, make: impl FnOnce() -> V) -> Option<&mut V> {
        self.scratch.clear();
        for field in &self.fields {
            write_key(at(row, *field).key(), &mut self.scratch);
        }
        let len = self.map.len();
        match self.map.entry_ref(&self.scratch[..]) {
            hashbrown::hash_map::EntryRef::Occupied(entry) => Some(entry.into_mut()),
            hashbrown::hash_map::EntryRef::Vacant(entry) if len < most => Some(entry.insert(make())),
            hashbrown::hash_map::EntryRef::Vacant(_) => None,
        }
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> Vec<(KeyBytes, V)> {
        self.map.drain().collect()
    }

    /// Takes out the states for which `which` is true.
    pub(crate) fn take(&mut self, which: impl FnMut(&KeyBytes, &mut V) -> bool) -> Vec<(KeyBytes, V)> {
        self.map.extract_if(which).collect()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&KeyBytes, &mut V)> {
        self.map.iter_mut()
    }
}

/// Appends a key's bytes.
#[inline]
pub(crate) fn write_key(key: Key<'_>, out: &mut Vec<u8>) {
    out.push(key.tag());
    match key {
        Key::Null => {}
        Key::Bool(b) => out.push(u8::from(b)),
        Key::I64(n) => out.extend_from_slice(&n.to_le_bytes()),
        Key::U64(n) => out.extend_from_slice(&n.to_le_bytes()),
        Key::F64(x) => {
            let one = if x == 0.0 {
                0.0
            } else if x.is_nan() {
                f64::NAN
            } else {
                x
            };
            out.extend_from_slice(&one.to_le_bytes());
        }
        Key::Str(s) => write_bytes(s.as_bytes(), out),
        Key::Bytes(b) => write_bytes(b, out),
    }
}

#[inline]
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The values of a key, borrowed from its bytes.
pub(crate) fn read_key(mut bytes: &[u8], mut each: impl FnMut(usize, &[u8], u8)) {
    let mut field = 0;
    while let Some((&tag, rest)) = bytes.split_first() {
        let (len, head) = match tag {
            0 => (0, 0),
            1 => (1, 0),
            5 | 6 => (u32::from_le_bytes(rest[..4].try_into().expect("four bytes")) as usize, 4),
            _ => (8, 0),
        };
        each(field, &rest[head..head + len], tag);
        bytes = &rest[head + len..];
        field += 1;
    }
}

/// Values of a key, in the order of its fields.
pub(crate) fn key_values(bytes: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    read_key(bytes, |_, raw, tag| values.push(crate::expression::Evaluated::Scalar(value_of(raw, tag)).into_value()));
    values
}

fn value_of(raw: &[u8], tag: u8) -> ValueRef<'_> {
    let eight = || raw.try_into().expect("eight bytes");
    match tag {
        1 => ValueRef::Bool(raw[0] != 0),
        2 => ValueRef::I64(i64::from_le_bytes(eight())),
        // Values have no larger integers; a key made elsewhere may.
        3 => ValueRef::F64(u64::from_le_bytes(eight()) as f64),
        4 => ValueRef::F64(f64::from_le_bytes(eight())),
        5 => ValueRef::Str(std::str::from_utf8(raw).unwrap_or_default()),
        6 => ValueRef::Bytes(raw),
        _ => ValueRef::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_its_values_and_keys_that_differ_have_bytes_that_differ() {
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::I64(-7),
            Value::F64(2.5),
            "".into(),
            "a".into(),
            Value::Bytes(b"a".to_vec()),
            Value::I64(0),
            Value::F64(0.0),
        ];
        let mut all = Vec::new();
        for a in &values {
            for b in &values {
                let mut bytes = Vec::new();
                write_key(a.key(), &mut bytes);
                write_key(b.key(), &mut bytes);
                assert_eq!(key_values(&bytes), [a.clone(), b.clone()]);
                all.push(bytes);
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn zeros_are_one_key_and_so_are_nans() {
        let bytes = |x: f64| {
            let mut bytes = Vec::new();
            write_key(Key::F64(x), &mut bytes);
            bytes
        };
        assert_eq!(bytes(0.0), bytes(-0.0));
        assert_eq!(bytes(f64::NAN), bytes(-f64::NAN));
    }
}
