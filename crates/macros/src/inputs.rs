//! `#[derive(Inputs)]`: an enum with one variant per input stream of a bolt.
//!
//! A port is the index of its variant. A tuple's port is known per subscription, so the view is made without
//! looking at the tuple. `Accepts<T>` (what lets `.on(stream)` find the port by type) is written only for types
//! that one variant names; where two variants share a type the builder takes the `ON_…` constants.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, Type, Variant};

use crate::options::{self, Options};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let options = Options::parse(input)?;
    let name = &input.ident;
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(
            name,
            format!(
                "`#[derive(Inputs)]` needs an enum with one variant per input stream: `enum {name} {{ Words(Word), .. }}`; \
                 a bolt with a single input names the tuple itself: `type In = Word;`"
            ),
        ));
    };
    options::refuse_generics(
        input,
        "`#[derive(Inputs)]` does not support generics: the input streams of a bolt have one type each",
    )?;
    let ports = data.variants.iter().map(Port::parse).collect::<Result<Vec<_>>>()?;
    if ports.is_empty() {
        return Err(Error::new_spanned(
            name,
            format!("`{name}` has no variants; give it one per input stream, each holding that stream's tuple"),
        ));
    }
    options::refuse_too_many(ports.len(), name, "variants")?;
    let constants = options::constant_names(ports.iter().map(|port| port.name), "ON_")?;

    let view = view_enum(input, &options, &ports);
    let inputs = inputs_impl(name, &options, &ports);
    let accepts = accepts_impls(name, &options, &ports);
    let constants = port_constants(name, &options, &ports, &constants);
    Ok(quote! { #view #inputs #accepts #constants })
}

/// One variant: the port's name and the type of its tuples.
struct Port<'a> {
    variant: &'a Variant,
    name: &'a Ident,
    ty: &'a Type,
}

impl<'a> Port<'a> {
    fn parse(variant: &'a Variant) -> Result<Port<'a>> {
        options::refuse_attrs(&variant.attrs, "variant")?;
        let name = &variant.ident;
        let fields = match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => fields,
            other => {
                let found = match other {
                    Fields::Unit => "nothing".to_owned(),
                    Fields::Named(_) => "named fields".to_owned(),
                    Fields::Unnamed(fields) => format!("{} fields", fields.unnamed.len()),
                };
                return Err(Error::new_spanned(
                    variant,
                    format!(
                        "a variant of `#[derive(Inputs)]` holds exactly one tuple, `{name}(Word)`; `{name}` holds {found}"
                    ),
                ));
            }
        };
        let Field { attrs, ty, .. } = &fields.unnamed[0];
        options::refuse_attrs(attrs, "field")?;
        Ok(Port { variant, name, ty })
    }
}

fn view_name(name: &Ident) -> Ident {
    options::ident_at(&format!("{}Ref", options::plain(name)), name)
}

fn view_enum(input: &DeriveInput, options: &Options, ports: &[Port<'_>]) -> TokenStream {
    let root = &options.root;
    let (vis, view) = (&input.vis, view_name(&input.ident));
    let doc = format!("The borrowed twin of [`{}`]: what `Input` gives a bolt to match on.", input.ident);
    let variants = ports.iter().map(|Port { variant, name, ty }| {
        let docs = options::docs(&variant.attrs);
        let doc = format!("A tuple that came in on the port `{name}`.");
        let variant = options::same(name);
        quote! { #[doc = #doc] #(#docs)* #variant(#root::__rt::tuple::TupleRef<'a, #ty>) }
    });
    quote! {
        #[doc = #doc]
        #[derive(::core::clone::Clone, ::core::marker::Copy)]
        #vis enum #view<'a> { #(#variants,)* }
    }
}

/// A bolt may only ever match on the twin, and the compiler would then call the variants' fields unread: so `to_owned`
/// looks at what it made, which costs nothing.
fn inputs_impl(name: &Ident, options: &Options, ports: &[Port<'_>]) -> TokenStream {
    let root = &options.root;
    let view = view_name(name);
    let names: Vec<&Ident> = ports.iter().map(|port| port.name).collect();
    let types: Vec<&Type> = ports.iter().map(|port| port.ty).collect();
    let texts = names.iter().map(|name| options::plain(name));
    let indices = 0..ports.len() as u16;
    let wrong_port = format!("`{name}` has no port {{}}; this is a fault of the engine");
    quote! {
        #[automatically_derived]
        impl #root::Inputs for #name {
            type View<'a> = #view<'a>;

            fn ports() -> ::std::vec::Vec<#root::PortDef> {
                ::std::vec![#(#root::PortDef::of::<#types>(#texts)),*]
            }

            #[inline]
            fn view<'a>(
                __port: ::core::primitive::u16,
                __frame: &#root::__rt::tuple::Frame<'a>,
            ) -> Self::View<'a> {
                match __port {
                    #(#indices => #view::#names(__frame.tuple::<#types>()),)*
                    __other => ::core::panic!(#wrong_port, __other),
                }
            }

            fn to_owned(__view: Self::View<'_>) -> Self {
                let __owned = match __view {
                    #(#view::#names(__tuple) => Self::#names(
                        <#types as #root::__rt::tuple::Tuple>::to_owned(::core::ops::Deref::deref(&__tuple)),
                    ),)*
                };
                match &__owned {
                    #(Self::#names(__read) => { let _ = __read; })*
                }
                __owned
            }
        }
    }
}

/// Two variants of one type are told apart by their tokens: a type behind an alias is not seen, and then the
/// compiler reports the two `Accepts` impls as conflicting.
fn accepts_impls(name: &Ident, options: &Options, ports: &[Port<'_>]) -> TokenStream {
    let root = &options.root;
    let texts: Vec<String> = ports.iter().map(|port| port.ty.to_token_stream().to_string()).collect();
    let occurs_once = |text: &String| texts.iter().filter(|other| *other == text).count() == 1;
    ports
        .iter()
        .enumerate()
        .filter(|(index, _)| occurs_once(&texts[*index]))
        .map(|(index, Port { ty, .. })| {
            let index = index as u16;
            quote! {
                #[automatically_derived]
                impl #root::Accepts<#ty> for #name {
                    const PORT: ::core::primitive::u16 = #index;
                }
            }
        })
        .collect()
}

fn port_constants(name: &Ident, options: &Options, ports: &[Port<'_>], constants: &[Ident]) -> TokenStream {
    let root = &options.root;
    let constants = ports.iter().zip(constants).enumerate().map(|(index, (port, constant))| {
        let (Port { name: variant, ty, .. }, index) = (port, index as u16);
        let doc = format!("The input port of [`{name}::{variant}`], for subscriptions that name their port.");
        quote! {
            #[doc = #doc]
            pub const #constant: #root::InputPort<#name, #ty> = #root::InputPort::new(#index);
        }
    });
    quote! {
        #[automatically_derived]
        impl #name { #(#constants)* }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn expanded(input: DeriveInput) -> String {
        let file: syn::File = syn::parse2(expand(&input).unwrap()).unwrap();
        file.to_token_stream().to_string()
    }

    fn refused(input: DeriveInput) -> String {
        expand(&input).unwrap_err().to_string()
    }

    #[test]
    fn each_variant_gets_a_port_a_view_and_a_constant() {
        let code = expanded(parse_quote!(
            pub(crate) enum Wp {
                W(Word),
                LateP(Pod),
            }
        ));
        for part in [
            "pub (crate) enum WpRef < 'a >",
            "LateP (:: squall :: __rt :: tuple :: TupleRef < 'a , Pod >)",
            "0u16 => WpRef :: W (",
            "PortDef :: of :: < Pod > (\"LateP\")",
            "impl :: squall :: Accepts < Pod > for Wp { const PORT : :: core :: primitive :: u16 = 1u16 ; }",
            "pub const ON_LATE_P : :: squall :: InputPort < Wp , Pod >",
        ] {
            assert!(code.contains(part), "missing `{part}` in {code}");
        }
        assert!(!code.contains("unsafe"), "{code}");
    }

    #[test]
    fn types_that_occur_twice_are_accepted_by_port_only() {
        let code = expanded(parse_quote!(
            enum Two {
                A(Word),
                B(Pod),
                C(Word),
            }
        ));
        assert!(!code.contains("Accepts < Word >"), "{code}");
        assert!(code.contains("Accepts < Pod >") && code.contains("ON_C"), "{code}");
    }

    #[test]
    fn misuse_is_refused_with_what_to_write_instead() {
        for (input, phrase) in [
            (
                parse_quote!(
                    struct S {
                        a: Word,
                    }
                ),
                "needs an enum with one variant per input stream",
            ),
            (
                parse_quote!(
                    enum E {}
                ),
                "`E` has no variants",
            ),
            (
                parse_quote!(
                    enum E {
                        A,
                    }
                ),
                "`A` holds nothing",
            ),
            (
                parse_quote!(
                    enum E {
                        A(Word, Pod),
                    }
                ),
                "`A` holds 2 fields",
            ),
            (
                parse_quote!(
                    enum E {
                        A { w: Word },
                    }
                ),
                "`A` holds named fields",
            ),
            (
                parse_quote!(
                    enum E<T> {
                        A(T),
                    }
                ),
                "does not support generics",
            ),
            (
                parse_quote!(
                    enum E {
                        #[squall(x)]
                        A(Word),
                    }
                ),
                "no options on a variant",
            ),
            (
                parse_quote!(
                    enum E {
                        AbC(Word),
                        Ab_C(Pod),
                    }
                ),
                "both give the constant `ON_AB_C`",
            ),
        ] {
            let message = refused(input);
            assert!(message.contains(phrase), "`{message}` lacks `{phrase}`");
        }
    }
}
