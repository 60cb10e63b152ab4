//! What all three derives share: the `#[squall(..)]` attributes, names made from names, and the refusals that
//! do not depend on the derive.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, DeriveInput, Error, Ident, Path, Result, Type, ext::IdentExt};

/// Indices of fields and ports travel as `u16`, and the largest one is kept free.
pub(crate) const INDEX_MAX: usize = 65_535;

/// The `#[squall(..)]` options of a type.
pub(crate) struct Options {
    /// Where generated code finds the API: `::squall`, or the path of `#[squall(crate = path)]`.
    pub(crate) root: TokenStream,
}

impl Options {
    /// Reads the options of the type and refuses the ones that do not exist, on fields and variants as well:
    /// an option that is silently ignored is a bug nobody sees.
    pub(crate) fn parse(input: &DeriveInput) -> Result<Options> {
        let mut root: Option<Path> = None;
        for attr in squall_attrs(&input.attrs) {
            attr.parse_nested_meta(|meta| {
                if !meta.path.is_ident("crate") {
                    return Err(meta.error(format!(
                        "unknown option `{}` in `#[squall(..)]`; the only one is `crate = path::to::squall`",
                        path_text(&meta.path)
                    )));
                }
                let path = meta.value()?.call(Path::parse_mod_style)?;
                if root.replace(path).is_some() {
                    return Err(meta.error("`crate` is given twice"));
                }
                Ok(())
            })?;
        }
        Ok(Options { root: root.map_or_else(|| quote!(::squall), ToTokens::into_token_stream) })
    }
}

/// Refuses any `#[squall(..)]` on a field or variant that has no options.
pub(crate) fn refuse_attrs(attrs: &[Attribute], place: &str) -> Result<()> {
    match squall_attrs(attrs).next() {
        Some(attr) => Err(Error::new_spanned(
            attr,
            format!("`#[squall(..)]` has no options on a {place}; put `#[squall(crate = path)]` on the type"),
        )),
        None => Ok(()),
    }
}

/// Refuses generic parameters, lifetimes included, with the reason that is the derive's own.
pub(crate) fn refuse_generics(input: &DeriveInput, reason: &str) -> Result<()> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, reason));
    }
    match &input.generics.where_clause {
        Some(clause) => Err(Error::new_spanned(clause, reason)),
        None => Ok(()),
    }
}

/// Refuses more fields or variants than an index can name.
pub(crate) fn refuse_too_many(count: usize, ident: &Ident, what: &str) -> Result<()> {
    if count > INDEX_MAX {
        return Err(Error::new_spanned(
            ident,
            format!("`{ident}` has {count} {what}; at most {INDEX_MAX} can be numbered"),
        ));
    }
    Ok(())
}

/// Whether the type mentions `Self` or, as a bare name, the type being derived.
pub(crate) fn mentions_itself(ty: &Type, itself: &Ident) -> bool {
    fn walk(tokens: TokenStream, itself: &Ident) -> bool {
        let mut after_colons = 0;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match &token {
                proc_macro2::TokenTree::Group(group) if walk(group.stream(), itself) => {
                    return true;
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    after_colons += 1;
                    continue;
                }
                // `other::Node` and `Node::Part` are names of something else.
                proc_macro2::TokenTree::Ident(ident)
                    if ident == "Self" || (ident == itself && after_colons < 2 && !starts_path(tokens.peek())) =>
                {
                    return true;
                }
                _ => {}
            }
            after_colons = 0;
        }
        false
    }
    fn starts_path(next: Option<&proc_macro2::TokenTree>) -> bool {
        matches!(next, Some(proc_macro2::TokenTree::Punct(punct)) if punct.as_char() == ':')
    }
    walk(ty.to_token_stream(), itself)
}

/// An identifier of ours at the user's place: messages and editors point at the source, while lints and
/// hygiene see the macro (see the crate's docs).
pub(crate) fn ident_at(name: &str, place: &Ident) -> Ident {
    Ident::new(name, Span::call_site().located_at(place.span()))
}

/// The same name, raw or not, as an identifier of ours.
pub(crate) fn same(ident: &Ident) -> Ident {
    let mut ours = ident.clone();
    ours.set_span(Span::call_site().located_at(ident.span()));
    ours
}

/// The name as it is spoken: without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// `key_group` → `KEY_GROUP`, `LeftWord` → `LEFT_WORD`, `HTTPLog2` → `HTTP_LOG2`.
pub(crate) fn screaming(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        let starts_word = c.is_uppercase()
            && i > 0
            && chars[i - 1] != '_'
            && (!chars[i - 1].is_uppercase() || chars.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if starts_word {
            out.push('_');
        }
        out.extend(c.to_uppercase());
    }
    out
}

/// The constants' names, checked: two names that give one constant are refused at the second.
pub(crate) fn constant_names<'a>(names: impl Iterator<Item = &'a Ident>, prefix: &str) -> Result<Vec<Ident>> {
    let mut seen = std::collections::HashMap::new();
    names
        .map(|ident| {
            let constant = format!("{prefix}{}", screaming(&plain(ident)));
            if let Some(first) = seen.insert(constant.clone(), ident) {
                return Err(Error::new_spanned(
                    ident,
                    format!("`{ident}` and `{first}` both give the constant `{constant}`; rename one of them"),
                ));
            }
            Ok(ident_at(&constant, ident))
        })
        .collect()
}

/// The `#[doc = ..]` attributes, to repeat the author's words on the generated twin.
pub(crate) fn docs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("doc"))
}

pub(crate) fn squall_attrs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("squall"))
}

pub(crate) fn path_text(path: &Path) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::format_ident;
    use syn::parse_quote;

    #[test]
    fn constants_are_screaming_snake_case_of_fields_and_variants() {
        for (name, constant) in [
            ("word", "WORD"),
            ("key_group", "KEY_GROUP"),
            ("LeftWord", "LEFT_WORD"),
            ("HTTPLog2", "HTTP_LOG2"),
            ("W", "W"),
            ("X_Y", "X_Y"),
            ("_n", "_N"),
            ("größe", "GRÖSSE"),
        ] {
            assert_eq!(screaming(name), constant);
        }
    }

    #[test]
    fn two_names_of_one_constant_are_refused() {
        let names = [format_ident!("a_b"), format_ident!("aB")];
        let error = constant_names(names.iter(), "").unwrap_err().to_string();
        assert!(error.contains("`aB` and `a_b` both give the constant `A_B`"), "{error}");
    }

    #[test]
    fn as_many_fields_as_an_index_can_name_are_taken() {
        let wide = format_ident!("Wide");
        assert!(refuse_too_many(INDEX_MAX, &wide, "fields").is_ok());
        assert!(refuse_too_many(INDEX_MAX + 1, &wide, "fields").is_err());
    }

    #[test]
    fn raw_names_lose_their_prefix() {
        let names = [Ident::new_raw("type", Span::call_site())];
        assert_eq!(constant_names(names.iter(), "ON_").unwrap()[0], "ON_TYPE");
    }

    #[test]
    fn a_type_that_mentions_itself_is_found_and_namesakes_are_not() {
        let node = format_ident!("Node");
        for ty in [parse_quote!(Vec<Node>), parse_quote!(Option<Box<Self>>), parse_quote!([(u8, Node); 2])] {
            assert!(mentions_itself(&ty, &node), "{}", ty.to_token_stream());
        }
        for ty in [parse_quote!(other::Node), parse_quote!(Node::Part), parse_quote!(Vec<NodeId>)] {
            assert!(!mentions_itself(&ty, &node), "{}", ty.to_token_stream());
        }
    }

    #[test]
    fn the_root_is_squall_unless_told_otherwise() {
        let options = Options::parse(&parse_quote!(
            struct A {
                a: u8,
            }
        ))
        .unwrap();
        assert_eq!(options.root.to_string(), ":: squall");
        let options = Options::parse(&parse_quote!(
            #[squall(crate = crate::support)]
            struct A {
                a: u8,
            }
        ))
        .unwrap();
        assert_eq!(options.root.to_string(), "crate :: support");
    }

    #[test]
    fn unknown_and_repeated_options_are_refused() {
        let unknown = Options::parse(&parse_quote!(
            #[squall(krate = a::b)]
            struct A {
                a: u8,
            }
        ));
        let unknown = unknown.err().unwrap().to_string();
        assert!(unknown.contains("unknown option `krate` in `#[squall(..)]`"), "{unknown}");
        let twice = Options::parse(&parse_quote!(
            #[squall(crate = a)]
            #[squall(crate = b)]
            struct A {
                a: u8,
            }
        ));
        assert_eq!(twice.err().unwrap().to_string(), "`crate` is given twice");
        let attrs: Vec<Attribute> = vec![parse_quote!(#[squall(skip)])];
        let on_field = refuse_attrs(&attrs, "field").unwrap_err().to_string();
        assert!(on_field.contains("no options on a field"), "{on_field}");
    }
}
