//! What can be told of a type from its spelling. A derive sees tokens, not types: an alias is opaque to it.

use syn::{GenericArgument, Path, PathArguments, Type};

const NUMBERS: [&str; 11] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "bool"];

/// A field type as it is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// A number, `bool`, `String`, `Vec<u8>`, or an option of those: it can be a key.
    Key,
    /// Put together from the standard library's types only, and not a key.
    Std,
    /// Some other type: a nested tuple, or an alias of anything.
    Unknown,
}

impl Spelling {
    pub(crate) fn of(ty: &Type) -> Spelling {
        match ty {
            // A type that came through a macro's `$ty:ty` sits in an invisible group.
            Type::Group(group) => Spelling::of(&group.elem),
            Type::Paren(paren) => Spelling::of(&paren.elem),
            Type::Array(array) => Spelling::of(&array.elem).as_part(),
            Type::Tuple(tuple) => tuple.elems.iter().map(Spelling::of).fold(Spelling::Std, Spelling::beside),
            Type::Path(path) if path.qself.is_none() => Spelling::of_path(&path.path),
            _ => Spelling::Unknown,
        }
    }

    fn of_path(path: &Path) -> Spelling {
        let Some((name, argument)) = std_name(path) else {
            return Spelling::Unknown;
        };
        match (name.as_str(), argument) {
            ("String", None) => Spelling::Key,
            ("char", None) => Spelling::Std,
            (number, None) if NUMBERS.contains(&number) => Spelling::Key,
            ("Option", Some(inner)) => Spelling::of(inner),
            ("Vec", Some(inner)) if is_u8(inner) => Spelling::Key,
            ("Vec", Some(inner)) => Spelling::of(inner).as_part(),
            _ => Spelling::Unknown,
        }
    }

    /// Of a list or an array of this.
    fn as_part(self) -> Spelling {
        match self {
            Spelling::Unknown => Spelling::Unknown,
            Spelling::Key | Spelling::Std => Spelling::Std,
        }
    }

    /// Of a tuple that holds both.
    fn beside(self, other: Spelling) -> Spelling {
        match (self, other) {
            (Spelling::Unknown, _) | (_, Spelling::Unknown) => Spelling::Unknown,
            _ => Spelling::Std,
        }
    }
}

/// What to write instead of a well-known type that cannot be a field, wherever in the type it stands. Without this the
/// compiler says so as well, by the traits that are missing, but dozens of times.
pub(crate) fn refused(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Group(group) => refused(&group.elem),
        Type::Paren(paren) => refused(&paren.elem),
        Type::Array(array) => refused(&array.elem),
        Type::Tuple(tuple) if tuple.elems.is_empty() => Some("`()` says nothing; leave the field out, or use `bool`"),
        Type::Tuple(tuple) if !(2..=4).contains(&tuple.elems.len()) => {
            Some("tuples of 2 to 4 can be fields; for more, derive `Tuple` for a struct of its own")
        }
        Type::Tuple(tuple) => tuple.elems.iter().find_map(refused),
        Type::Reference(_) | Type::Slice(_) => Some(
            "a tuple owns its data: use `String` or `Vec<T>`; the borrowed twin (`…Ref`) then takes `&str` or `&[T]`",
        ),
        Type::Ptr(_) => Some("a pointer means nothing in another process"),
        Type::Path(path) if path.qself.is_none() => refused_path(&path.path),
        _ => None,
    }
}

fn refused_path(path: &Path) -> Option<&'static str> {
    let first = path.segments.first()?;
    let last = path.segments.last()?;
    if path.segments.len() > 1 && !["std", "core", "alloc"].iter().any(|root| first.ident == root) {
        return None;
    }
    match last.ident.to_string().as_str() {
        "usize" | "isize" => Some("its size is not the same everywhere: use `u64` or `i64`"),
        "u128" | "i128" => Some("128-bit numbers need an alignment of 16: use `[u8; 16]` or two fields"),
        "str" => Some("use `String`"),
        "HashMap" | "BTreeMap" => Some("use `Vec<(K, V)>`, sorted if order matters"),
        "HashSet" | "BTreeSet" | "VecDeque" => Some("use `Vec<T>`"),
        "Box" | "Rc" | "Arc" | "Cow" => {
            Some("use the type inside, or `String` and `Vec<T>` for what has no fixed size")
        }
        "Instant" | "SystemTime" | "Duration" => Some("use a number with its unit in the field's name: `sent_ns: u64`"),
        "Vec" | "Option" => match &last.arguments {
            PathArguments::AngleBracketed(args) => args.args.iter().find_map(|arg| match arg {
                GenericArgument::Type(ty) => refused(ty),
                _ => None,
            }),
            _ => None,
        },
        _ => None,
    }
}

/// The last name of a bare or `std::…` path, and its only type argument if it has one.
fn std_name(path: &Path) -> Option<(String, Option<&Type>)> {
    let first = path.segments.first()?;
    let last = path.segments.last()?;
    let of_std = ["std", "core", "alloc"].iter().any(|root| first.ident == root);
    if path.segments.len() > 1 && !of_std {
        return None;
    }
    let argument = match &last.arguments {
        PathArguments::None => None,
        PathArguments::AngleBracketed(args) if args.args.len() == 1 => match args.args.first()? {
            GenericArgument::Type(ty) => Some(ty),
            _ => return None,
        },
        _ => return None,
    };
    Some((last.ident.to_string(), argument))
}

fn is_u8(ty: &Type) -> bool {
    match ty {
        Type::Group(group) => is_u8(&group.elem),
        Type::Path(path) => matches!(std_name(&path.path), Some((name, None)) if name == "u8"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn keys_are_numbers_text_bytes_and_options_of_those_however_spelled() {
        let keys: Vec<Type> = vec![
            parse_quote!(u8),
            parse_quote!(i64),
            parse_quote!(bool),
            parse_quote!(f32),
            parse_quote!(String),
            parse_quote!(std::string::String),
            parse_quote!(::std::vec::Vec<u8>),
            parse_quote!(Option<u64>),
            parse_quote!(core::option::Option<Option<(Vec<u8>)>>),
            parse_quote!((u64)),
        ];
        for ty in &keys {
            assert_eq!(Spelling::of(ty), Spelling::Key, "{}", quote::quote!(#ty));
        }
    }

    #[test]
    fn composed_standard_types_are_not_keys_and_other_names_are_unknown() {
        let std: Vec<Type> = vec![
            parse_quote!(char),
            parse_quote!(Vec<String>),
            parse_quote!([u8; 16]),
            parse_quote!((u8, String)),
            parse_quote!(Option<[u8; 4]>),
        ];
        for ty in &std {
            assert_eq!(Spelling::of(ty), Spelling::Std, "{}", quote::quote!(#ty));
        }
        let unknown: Vec<Type> = vec![
            parse_quote!(Point),
            parse_quote!(my::String),
            parse_quote!(Vec<Point>),
            parse_quote!(Option<Point>),
            parse_quote!((u8, Point)),
            parse_quote!(<A as B>::C),
        ];
        for ty in &unknown {
            assert_eq!(Spelling::of(ty), Spelling::Unknown, "{}", quote::quote!(#ty));
        }
    }

    #[test]
    fn well_known_types_that_cannot_be_fields_are_refused_wherever_they_stand() {
        let refusals: Vec<(Type, &str)> = vec![
            (parse_quote!(usize), "`u64`"),
            (parse_quote!(Vec<Option<i128>>), "`[u8; 16]`"),
            (parse_quote!(&'static str), "owns its data"),
            (parse_quote!((u8, [&'a [u8]; 2])), "owns its data"),
            (parse_quote!(std::collections::HashMap<String, u64>), "`Vec<(K, V)>`"),
            (parse_quote!(Arc<str>), "the type inside"),
            (parse_quote!(()), "leave the field out"),
            (parse_quote!((u8, u8, u8, u8, u8)), "2 to 4"),
            (parse_quote!(Duration), "sent_ns: u64"),
        ];
        for (ty, remedy) in &refusals {
            let text = refused(ty).unwrap_or_default();
            assert!(text.contains(remedy), "{}: `{text}`", quote::quote!(#ty));
        }
        let allowed: Vec<Type> = vec![
            parse_quote!(Vec<(u8, Point)>),
            parse_quote!(my::Duration),
            parse_quote!([u8; 16]),
            parse_quote!(char),
        ];
        for ty in &allowed {
            assert_eq!(refused(ty), None, "{}", quote::quote!(#ty));
        }
    }
}
