//! Values from and to JSON.
//!
//! Integers that fit `i64` are integers, all other numbers floats. Bytes are written as text with U+FFFD for what is no UTF-8;
//! floats that JSON has no form for (NaN, infinities) as null. Objects keep the last of equal keys.

use std::io::Write as _;

use squall::{ArchivedRow, ArchivedValue, Value};

/// JSON as it is parsed.
type JsonValue = serde_json::Value;

/// Nesting that a row may have; see `Value::MAX_DEPTH`.
const DEPTH: usize = Value::MAX_DEPTH;

/// A value of a tuple.
///
/// # Errors
/// When it nests deeper than a tuple may.
fn from_json(json: JsonValue) -> Result<Value, String> {
    nested(json, DEPTH)
}

fn nested(json: JsonValue, depth: usize) -> Result<Value, String> {
    let too_deep = || format!("lists and objects nest more than {DEPTH} deep");
    Ok(match json {
        JsonValue::Null => Value::Null,
        JsonValue::Bool(b) => Value::Bool(b),
        JsonValue::Number(n) => match n.as_i64() {
            Some(n) => Value::I64(n),
            None => Value::F64(n.as_f64().unwrap_or(f64::NAN)),
        },
        JsonValue::String(s) => Value::Str(s),
        JsonValue::Array(items) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            Value::List(items.into_iter().map(|v| nested(v, depth)).collect::<Result<_, _>>()?)
        }
        JsonValue::Object(pairs) => {
            let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
            let pairs = pairs.into_iter().map(|(k, v)| nested(v, depth).map(|v| (k, v)));
            Value::map(pairs.collect::<Result<Vec<_>, _>>()?)
        }
    })
}

/// The values of these keys of a JSON object, null where it lacks one; all other keys are passed over.
///
/// # Errors
/// When the text is no JSON, or no object.
pub(crate) fn parse_object(text: &[u8], fields: &[String], into: &mut Vec<Value>) -> Result<(), String> {
    let json: JsonValue = serde_json::from_slice(text).map_err(|e| format!("no JSON: {e}"))?;
    let JsonValue::Object(mut object) = json else {
        return Err("JSON, but no object".to_owned());
    };
    into.clear();
    for field in fields {
        into.push(from_json(object.remove(field).unwrap_or_default())?);
    }
    Ok(())
}

/// Appends a value as JSON.
pub(crate) fn write_json(value: &ArchivedValue, out: &mut Vec<u8>) {
    match value {
        ArchivedValue::Null => out.extend_from_slice(b"null"),
        ArchivedValue::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        ArchivedValue::I64(n) => write_number(out, n.to_native()),
        ArchivedValue::F64(x) => write_float(out, x.to_native()),
        ArchivedValue::Str(s) => write_string(out, s.as_str()),
        ArchivedValue::Bytes(b) => write_string(out, &String::from_utf8_lossy(b)),
        ArchivedValue::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_json(item, out);
            }
            out.push(b']');
        }
        ArchivedValue::Map(pairs) => {
            let pairs = pairs.iter().map(|pair| (pair.0.as_str(), &pair.1));
            write_pairs(out, pairs, write_json);
        }
    }
}

/// Appends a row as a JSON object with the names of its fields, in their order.
pub(crate) fn write_object(row: &ArchivedRow, fields: &[String], out: &mut Vec<u8>) {
    let pairs = fields.iter().map(String::as_str).zip(row.iter());
    write_pairs(out, pairs, write_json);
}

fn write_pairs<'v, V: 'v>(
    out: &mut Vec<u8>,
    pairs: impl Iterator<Item = (&'v str, V)>,
    mut write: impl FnMut(V, &mut Vec<u8>),
) {
    out.push(b'{');
    for (i, (key, value)) in pairs.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, key);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn write_number(out: &mut Vec<u8>, n: i64) {
    write!(out, "{n}").expect("memory takes all");
}

fn write_float(out: &mut Vec<u8>, x: f64) {
    serde_json::to_writer(out, &x).expect("memory takes all");
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("memory takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_integers_where_they_fit_and_objects_are_sorted_maps() {
        let text = r#"{"b":[1,-2.5,"x\n\"",null,true],"a":{"c":9223372036854775808}}"#;
        let list = vec![Value::I64(1), Value::F64(-2.5), "x\n\"".into(), Value::Null, Value::Bool(true)];
        let map = Value::map([("c", Value::F64(9223372036854775808.0))]);
        let expect = Value::Map(vec![("a".into(), map), ("b".into(), list.into())]);
        assert_eq!(from_json(serde_json::from_str(text).unwrap()), Ok(expect));
    }

    #[test]
    fn what_nests_deeper_than_a_tuple_may_is_refused_not_emitted() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let parse = |n| from_json(serde_json::from_str(&deep(n)).unwrap());
        assert!(parse(Value::MAX_DEPTH).is_ok());
        assert!(parse(Value::MAX_DEPTH + 1).unwrap_err().contains("nest more than 24 deep"));
    }

    #[test]
    fn keys_that_an_object_lacks_are_null_and_others_are_passed_over() {
        let mut values = Vec::new();
        let fields = ["b".to_owned(), "z".to_owned()];
        parse_object(br#"{"a":1,"b":2}"#, &fields, &mut values).unwrap();
        assert_eq!(values, [Value::I64(2), Value::Null]);
        assert!(parse_object(b"[1]", &fields, &mut values).unwrap_err().contains("no object"));
        assert!(parse_object(b"{", &fields, &mut values).unwrap_err().contains("no JSON"));
    }
}
