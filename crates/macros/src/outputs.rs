//! `#[derive(Outputs)]`: a struct with one field per output stream of a component.
//!
//! A stream's name is its field's name, and its place in the declaration is the field's place. The handles of
//! the streams (what the topology builder's `streams()` returns) form a second struct with the same field names,
//! so that a stream that does not exist is a field that does not exist.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, Result, Type};

use crate::options::{self, Options};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Options { root } = Options::parse(input)?;
    let (name, vis) = (&input.ident, &input.vis);
    options::refuse_generics(
        input,
        "`#[derive(Outputs)]` does not support generics: each output stream has one tuple type",
    )?;
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            _ => return Err(refusal(name)),
        },
        _ => return Err(refusal(name)),
    };
    if fields.is_empty() {
        return Err(Error::new_spanned(
            name,
            format!("`{name}` has no streams; a component that emits nothing says `type Out = ();`"),
        ));
    }
    options::refuse_too_many(fields.len(), name, "streams")?;
    for field in fields {
        options::refuse_attrs(&field.attrs, "field")?;
    }

    let names: Vec<&Ident> = fields.iter().filter_map(|field| field.ident.as_ref()).collect();
    let types: Vec<&Type> = fields.iter().map(|field| &field.ty).collect();
    let texts: Vec<String> = names.iter().map(|name| options::plain(name)).collect();
    let handles = options::ident_at(&format!("{}Streams", options::plain(name)), name);
    let handles_doc = format!("The output streams of a component whose outputs are [`{name}`], to subscribe to.");
    let handle_docs = texts.iter().map(|text| format!("The stream `{text}`."));
    let author_docs = fields.iter().map(|field| options::docs(&field.attrs));
    let author_docs = author_docs.map(|docs| quote!(#(#docs)*));
    let handle_names = names.iter().map(|name| options::same(name));

    Ok(quote! {
        #[doc = #handles_doc]
        #[derive(::core::clone::Clone)]
        #vis struct #handles {
            #(
                #[doc = #handle_docs]
                #author_docs
                pub #handle_names: <#types as #root::OutputStream>::Handle,
            )*
        }

        #[automatically_derived]
        impl #root::Outputs for #name {
            type Handles = #handles;

            fn declare(__decl: &mut #root::OutputsDecl<'_>) -> Self::Handles {
                #handles { #(#names: <#types as #root::OutputStream>::declare(#texts, __decl),)* }
            }

            fn build(__builder: &mut #root::OutputsBuilder<'_>) -> Self {
                Self { #(#names: <#types as #root::OutputStream>::build(#texts, __builder),)* }
            }

            fn visit(&mut self, __visit: &mut dyn ::core::ops::FnMut(&mut #root::Port)) {
                #(__visit(<#types as #root::OutputStream>::port(&mut self.#names));)*
            }
        }
    })
}

fn refusal(name: &Ident) -> Error {
    Error::new_spanned(
        name,
        format!(
            "`#[derive(Outputs)]` needs a struct with one named field per output stream: \
             `struct {name} {{ words: Stream<Word> }}`; the field names are the stream names"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::ToTokens;
    use syn::parse_quote;

    fn expanded(input: DeriveInput) -> String {
        let file: syn::File = syn::parse2(expand(&input).unwrap()).unwrap();
        file.to_token_stream().to_string()
    }

    #[test]
    fn streams_are_declared_built_and_visited_in_field_order_under_their_field_names() {
        let code = expanded(parse_quote!(
            pub struct Two {
                words: Stream<Word>,
                r#type: Stream<Pod>,
            }
        ));
        for part in [
            "pub struct TwoStreams",
            "pub words : < Stream < Word > as :: squall :: OutputStream > :: Handle",
            "type Handles = TwoStreams",
            "declare (\"words\" , __decl) , r#type : < Stream < Pod > as :: squall :: OutputStream > :: declare (\"type\" , __decl)",
            "build (\"type\" , __builder)",
            "port (& mut self . words)) ; __visit",
        ] {
            assert!(code.contains(part), "missing `{part}` in {code}");
        }
    }

    #[test]
    fn misuse_is_refused_with_what_to_write_instead() {
        for (input, phrase) in [
            (
                parse_quote!(
                    enum E {
                        A,
                    }
                ),
                "needs a struct with one named field per output stream",
            ),
            (
                parse_quote!(
                    struct S(Stream<Word>);
                ),
                "needs a struct with one named field per output stream",
            ),
            (
                parse_quote!(
                    struct S {}
                ),
                "says `type Out = ();`",
            ),
            (
                parse_quote!(
                    struct S<T> {
                        a: Stream<T>,
                    }
                ),
                "does not support generics",
            ),
            (
                parse_quote!(
                    struct S {
                        #[squall(name = "x")]
                        a: Stream<Word>,
                    }
                ),
                "no options on a field",
            ),
        ] {
            let message = expand(&input).unwrap_err().to_string();
            assert!(message.contains(phrase), "`{message}` lacks `{phrase}`");
        }
    }
}
