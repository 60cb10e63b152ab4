//! What the bodies of a stream hold: named fields, for topologies of rows.
//!
//! A body is its fields one after another: numbers as 8 bytes little-endian, text as its length in 4 bytes and its UTF-8. What
//! follows the last field is padding.

use std::fmt;
use std::str::FromStr;

use squall::ValueRef;

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Whole number from 0.
    U64,
    /// Whole number.
    I64,
    /// Floating point.
    F64,
    /// Text.
    Str,
}

impl FieldType {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            FieldType::U64 => "u64",
            FieldType::I64 => "i64",
            FieldType::F64 => "f64",
            FieldType::Str => "str",
        }
    }
}

impl FromStr for FieldType {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let all = [FieldType::U64, FieldType::I64, FieldType::F64, FieldType::Str];
        all.into_iter().find(|t| t.word() == text).ok_or_else(|| SchemaError::Type(text.to_owned()))
    }
}

/// Names and types of the fields, in the order of the bodies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema(pub Vec<(String, FieldType)>);

/// What is wrong with a schema or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No such type.
    #[error("`{0}` is no type of a field: write u64, i64, f64 or str")]
    Type(String),
    /// Not `name:type`.
    #[error("`{0}` is no field: write name:type, as in id:u64,word:str")]
    Field(String),
    /// A body ends within a field.
    #[error("the body ends within the field `{0}`: do both sides have the same fields?")]
    Short(String),
    /// Text that is not UTF-8.
    #[error("the field `{0}` is not UTF-8: do both sides have the same fields?")]
    Text(String),
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, ty)) in self.0.iter().enumerate() {
            write!(f, "{}{name}:{}", if i > 0 { "," } else { "" }, ty.word())?;
        }
        Ok(())
    }
}

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let field = |part: &str| {
            let (name, ty) = part.split_once(':').ok_or_else(|| SchemaError::Field(part.to_owned()))?;
            if name.is_empty() {
                return Err(SchemaError::Field(part.to_owned()));
            }
            Ok((name.to_owned(), ty.parse()?))
        };
        parts.map(field).collect::<Result<_, _>>().map(Schema)
    }
}

impl Schema {
    /// Calls `each` with the value of every field of a body.
    ///
    /// # Errors
    /// If the body does not hold them.
    pub fn read<'a>(&self, mut body: &'a [u8], mut each: impl FnMut(ValueRef<'a>)) -> Result<(), SchemaError> {
        for (name, ty) in &self.0 {
            let short = || SchemaError::Short(name.clone());
            if *ty == FieldType::Str {
                let (len, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
                let text = rest.get(..u32::from_le_bytes(*len) as usize).ok_or_else(short)?;
                body = &rest[text.len()..];
                each(ValueRef::Str(str::from_utf8(text).map_err(|_| SchemaError::Text(name.clone()))?));
                continue;
            }
            let (word, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
            body = rest;
            each(match ty {
                FieldType::F64 => ValueRef::F64(f64::from_le_bytes(*word)),
                // Rows have one kind of whole number.
                _ => ValueRef::I64(i64::from_le_bytes(*word)),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_read_as_it_is_written() {
        let schema: Schema = "id:u64, word:str,x:f64".parse().unwrap();
        assert_eq!(schema.to_string(), "id:u64,word:str,x:f64");
        assert_eq!("".parse::<Schema>(), Ok(Schema::default()));
        assert!(matches!("id:u32".parse::<Schema>(), Err(SchemaError::Type(_))));
        assert!(matches!("id".parse::<Schema>(), Err(SchemaError::Field(_))));
    }

    #[test]
    fn a_body_is_read_by_its_schema_and_a_short_one_is_refused() {
        let schema: Schema = "id:u64,word:str,x:f64".parse().unwrap();
        let mut body = 7_u64.to_le_bytes().to_vec();
        body.extend_from_slice(&2_u32.to_le_bytes());
        body.extend_from_slice(b"to");
        body.extend_from_slice(&1.5_f64.to_le_bytes());
        body.extend_from_slice(&[0; 3]);
        let mut seen = Vec::new();
        schema.read(&body, |v| seen.push(format!("{v:?}"))).unwrap();
        assert_eq!(seen, ["I64(7)", "Str(\"to\")", "F64(1.5)"]);
        for len in 0..body.len() - 3 {
            assert!(schema.read(&body[..len], |_| {}).is_err(), "{len}");
        }
    }
}
