//! What a tuple holds beside its stamps: fields by their grammar, sentences, events, or the bytes of a trace.

use std::sync::Arc;

use squall_load::record::HEADER_BYTES;
use squall_load::{FieldType, Schema};

use super::dist::{Dist, ReadLines, Sample, top_level};
use super::rng::Rng;
use super::size::Size;

/// Writes bodies, one after another.
pub trait Body: Send {
    /// Appends the body of tuple `seq`, due at this offset.
    fn write(&mut self, seq: u64, offset_ns: u64, to: &mut Vec<u8>);

    /// What the bodies hold.
    fn schema(&self) -> Schema {
        Schema::default()
    }
}

/// Declared fields: `id:u64=seq,word:str=zipf(10k,1.1),x:f64=normal(100,5)`.
#[derive(Debug, Clone, Default)]
pub struct FieldSpecs(Vec<(String, FieldType, Dist)>);

impl FieldSpecs {
    /// Reads the fields; `file` reads the lines of one.
    ///
    /// # Errors
    /// What is wrong with the first wrong field.
    pub fn parse(text: &str, file: &ReadLines<'_>) -> Result<FieldSpecs, String> {
        let field = |part: &str| {
            let wrong = || format!("`{part}` is no field: write name:type=distribution, as in word:str=zipf(10k,1.1)");
            let (head, dist) = part.split_once('=').ok_or_else(wrong)?;
            let (name, ty) = head.split_once(':').ok_or_else(wrong)?;
            if name.trim().is_empty() || name.starts_with('_') {
                return Err(format!(
                    "`{part}`: a name is not empty and does not begin with `_`, which is for the stamps"
                ));
            }
            let ty: FieldType = ty.trim().parse().map_err(|e| format!("{e}"))?;
            Ok((name.trim().to_owned(), ty, Dist::parse(dist, file)?))
        };
        top_level(text, ',').into_iter().map(field).collect::<Result<_, _>>().map(FieldSpecs)
    }

    /// Has a distribution replace that of the named field, or of the first one: `--keys`.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn set_keys(&mut self, name: Option<&str>, dist: Dist) -> Result<(), String> {
        if self.0.is_empty() && name.is_none() {
            self.0.push(("key".to_owned(), FieldType::U64, dist));
            return Ok(());
        }
        let found = match name {
            None => self.0.first_mut(),
            Some(name) => self.0.iter_mut().find(|f| f.0 == name),
        };
        let known = || "give --fields a field of that name".to_owned();
        found.ok_or_else(known)?.2 = dist;
        Ok(())
    }

    /// Each field with its distribution.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Dist)> {
        self.0.iter().map(|(name, _, dist)| (name.as_str(), dist))
    }
}

/// Bodies of fields, padded to sizes.
#[derive(Debug, Clone)]
pub struct Fields {
    specs: FieldSpecs,
    size: Size,
    /// A stream for each field and one for the sizes: what one draws does not change the others.
    rngs: Vec<Rng>,
    sizes: Rng,
}

impl Fields {
    /// Bodies of this seed.
    pub fn new(specs: FieldSpecs, size: Size, seed: u64) -> Fields {
        let rngs = (0..specs.0.len()).map(|i| Rng::new(seed, 100 + i as u64)).collect();
        Fields { specs, size, rngs, sizes: Rng::new(seed, 2) }
    }
}

/// Appends a text as a body has it.
pub fn push_text(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u32).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// Appends a number as text, without an allocation.
fn push_number(to: &mut Vec<u8>, n: u64) {
    use std::io::Write as _;
    let at = to.len();
    to.extend_from_slice(&[0; 4]);
    // Writing to a Vec does not fail.
    let _ = write!(to, "k{n}");
    let len = (to.len() - at - 4) as u32;
    to[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

impl Body for Fields {
    #[inline]
    fn write(&mut self, seq: u64, offset_ns: u64, to: &mut Vec<u8>) {
        let start = to.len();
        for ((_, ty, dist), rng) in self.specs.0.iter().zip(&mut self.rngs) {
            let sample = dist.draw(seq, offset_ns, rng);
            let float = match sample {
                Sample::Int(n) => n as f64,
                Sample::Float(x) => x,
                Sample::Text(_) => 0.0,
            };
            match (ty, sample) {
                (FieldType::Str, Sample::Text(text)) => push_text(to, text),
                (FieldType::Str, Sample::Int(n)) => push_number(to, n),
                (FieldType::Str, Sample::Float(x)) => push_number(to, x.max(0.0) as u64),
                (FieldType::U64 | FieldType::I64, Sample::Int(n)) => to.extend_from_slice(&n.to_le_bytes()),
                (FieldType::U64, _) => to.extend_from_slice(&(float.round().max(0.0) as u64).to_le_bytes()),
                (FieldType::I64, _) => to.extend_from_slice(&(float.round() as i64).to_le_bytes()),
                (FieldType::F64, _) => to.extend_from_slice(&float.to_le_bytes()),
            }
        }
        let size = self.size.draw(&mut self.sizes) - HEADER_BYTES;
        if to.len() - start < size {
            to.resize(start + size, 0x5a);
        }
    }

    fn schema(&self) -> Schema {
        Schema(self.specs.0.iter().map(|(name, ty, _)| (name.clone(), *ty)).collect())
    }
}

/// Lines of a text in turn, as a text field named `sentence`.
#[derive(Debug, Clone)]
pub struct Sentences {
    lines: Arc<[String]>,
}

impl Sentences {
    /// Of these lines, of which there is one at least.
    pub fn new(lines: Arc<[String]>) -> Sentences {
        assert!(!lines.is_empty(), "there is a line");
        Sentences { lines }
    }

    /// The line of a tuple.
    pub fn line(&self, seq: u64) -> &str {
        &self.lines[(seq % self.lines.len() as u64) as usize]
    }
}

impl Body for Sentences {
    fn write(&mut self, seq: u64, _: u64, to: &mut Vec<u8>) {
        push_text(to, self.line(seq));
    }

    fn schema(&self) -> Schema {
        Schema(vec![("sentence".to_owned(), FieldType::Str)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_file(path: &str) -> Result<Arc<[String]>, String> {
        Err(format!("no {path}"))
    }

    fn specs(text: &str) -> FieldSpecs {
        FieldSpecs::parse(text, &no_file).unwrap()
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_a_further_field_does_not_change_the_first() {
        let bodies = |fields: &str, size: &str, seed| {
            let mut body = Fields::new(specs(fields), size.parse().unwrap(), seed);
            (0..100)
                .map(|n| {
                    let mut to = Vec::new();
                    body.write(n, n * 1000, &mut to);
                    to
                })
                .collect::<Vec<_>>()
        };
        let text = "id:u64=seq,word:str=zipf(10k,1.1),x:f64=normal(100,5)";
        assert_eq!(bodies(text, "64..256", 1), bodies(text, "64..256", 1));
        assert_ne!(bodies(text, "64..256", 1), bodies(text, "64..256", 2));
        let one = bodies("k:u64=uniform(1M)", "32", 1);
        let two = bodies("k:u64=uniform(1M),l:u64=uniform(5)", "32", 1);
        assert!(one.iter().zip(&two).all(|(a, b)| a[..8] == b[..8]));
    }

    #[test]
    fn bodies_are_padded_to_the_size_of_the_record_and_read_by_their_schema() {
        let mut body = Fields::new(specs("id:u64=seq,word:str=uniform(1),t:i64=const(-5)"), Size::Fixed(128), 1);
        let mut to = Vec::new();
        body.write(7, 0, &mut to);
        assert_eq!(to.len(), 128 - HEADER_BYTES);
        let mut seen = Vec::new();
        body.schema().read(&to, |v| seen.push(format!("{v:?}"))).unwrap();
        assert_eq!(seen, ["I64(7)", "Str(\"k0\")", "I64(-5)"]);
    }

    #[test]
    fn fields_that_are_none_are_refused() {
        for text in ["id", "id:u64", "id:u16=seq", "_seq:u64=seq", ":u64=seq", "a:u64=zipf(1)"] {
            assert!(FieldSpecs::parse(text, &no_file).is_err(), "{text}");
        }
        assert_eq!(FieldSpecs::parse("", &no_file).unwrap().iter().count(), 0);
        let mut keyed = specs("a:u64=seq,b:u64=seq");
        keyed.set_keys(Some("b"), Dist::Uniform(5)).unwrap();
        assert!(keyed.set_keys(Some("c"), Dist::Uniform(5)).is_err());
    }
}
