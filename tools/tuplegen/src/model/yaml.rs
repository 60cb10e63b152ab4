//! YAML (and so JSON) as values, for files that others wrote: captures, jobs.
//!
//! Small on purpose: `squall-yaml` reads topologies with places, variables and includes, and brings the expressions' compiler along, which a load
//! generator has no use for.
//!
//! Limits: [`BYTES_MAX`], [`DEPTH_MAX`] levels, no aliases (so that a short file stays a small value), one document.

use std::path::Path;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, Span, StrInput};
use serde_json::{Map, Value};

/// The longest file that is read.
pub const BYTES_MAX: u64 = 4 << 20;
/// The deepest nesting.
pub const DEPTH_MAX: usize = 32;

/// Reads a file.
///
/// # Errors
/// What is wrong with it, with its name and the line.
pub fn read(path: &Path) -> Result<Value, String> {
    let told = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
    let length = std::fs::metadata(path).map_err(|e| told(&e))?.len();
    if length > BYTES_MAX {
        return Err(told(&format!("it has {length} bytes, and at most {BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| told(&e))?;
    parse(&text).map_err(|e| format!("{}:{e}", path.display()))
}

/// Reads a text. A text without a value is null.
///
/// # Errors
/// `LINE:COLUMN: what is wrong`.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut events = Events(Parser::new_from_str(text));
    let mut root = None;
    loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::StreamEnd, _) => return Ok(root.unwrap_or(Value::Null)),
            (_, span) if root.is_some() => return Err(at(&span, "a second document begins here; keep one")),
            (event, span) => root = Some(events.value(event, &span, 0)?),
        }
    }
}

fn at(span: &Span, what: &str) -> String {
    format!("{}:{}: {what}", span.start.line(), span.start.col() + 1)
}

struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.0.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(e)) => {
                Err(format!("{}:{}: this is not YAML: {}", e.marker().line(), e.marker().col() + 1, e.info()))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn value(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(at(span, &format!("values nest more than {DEPTH_MAX} levels deep here; flatten them")));
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                let read = Scalar::parse_from_cow_and_metadata(text, style, tag.as_ref());
                Ok(match read.ok_or_else(|| at(span, "the tag does not fit the value; remove it"))? {
                    Scalar::Null => Value::Null,
                    Scalar::Boolean(b) => b.into(),
                    Scalar::Integer(n) => n.into(),
                    Scalar::FloatingPoint(x) => match serde_json::Number::from_f64(x.into_inner()) {
                        Some(n) => Value::Number(n),
                        None => return Err(at(span, "this number is not finite")),
                    },
                    Scalar::String(s) => s.into_owned().into(),
                })
            }
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                        (event, span) => list.push(self.value(event, &span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut map = Map::new();
                loop {
                    let (event, span) = self.next()?;
                    let key = match event {
                        Event::MappingEnd => return Ok(Value::Object(map)),
                        Event::Scalar(text, ..) => text.into_owned(),
                        _ => return Err(at(&span, "a key must be text: write `name: value`")),
                    };
                    let (event, value_span) = self.next()?;
                    let value = self.value(event, &value_span, depth + 1)?;
                    if map.insert(key.clone(), value).is_some() {
                        return Err(at(&span, &format!("the key `{key}` is given twice; keep one of them")));
                    }
                }
            }
            Event::Alias(_) => Err(at(span, "aliases (`*name`) are not read; write the value out")),
            _ => Err(at(span, "a value is missing here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_become_the_same_values() {
        let yaml = "a: 1\nb: [x, 2.5, true, null]\nc: {d: '5', e: 1.7976931348623157E308}\n";
        let wanted = json!({ "a": 1, "b": ["x", 2.5, true, null], "c": { "d": "5", "e": f64::MAX } });
        assert_eq!(parse(yaml).unwrap(), wanted);
        assert_eq!(parse(&wanted.to_string()).unwrap(), wanted);
        assert_eq!(parse("").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        for (text, what) in [
            ("a: 1\na: 2\n", "2:1: the key `a` is given twice"),
            ("a: &x 1\nb: *x\n", "2:4: aliases"),
            ("a: [1\n", "this is not YAML"),
            ("a: .inf\n", "1:4: this number is not finite"),
            ("a: 1\n---\nb: 1\n", "a second document"),
            (deep.as_str(), "levels deep"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(what), "{text}: {told}");
        }
    }
}
