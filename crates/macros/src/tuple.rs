//! `#[derive(Tuple)]`: what a struct of named fields needs to travel.
//!
//! `squall_tuple::sample` holds the generated code written out for two types; the two must say the same. In short, for
//! a struct `X`: `ArchivedX` (`repr(C)`, read in place), `XRef<'a>` (the borrowed twin, which archives to the same
//! type), rkyv's `Archive` and `Serialize<TupleWriter>` of both, `Tuple`, `FieldType` (so that it nests), `Emit<X>` of
//! both, and a `Field<X>` constant for each field that can be a key.
//!
//! Fields lie in the archive in declaration order. A struct of numbers is written by one check for room and the stores
//! of its fields: serializing them does nothing, and resolving writes them in place.
//!
//! Soundness: `Tuple`, `FieldType` and `Emit` are unsafe traits. Their conditions hold because each field is archived
//! by its own type's impls into its own place of a zeroed root, `ArchivedX` is checked as a whole by `CheckBytes`, and
//! name, fields and id come from the same tokens as the layout.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, Type, Visibility, spanned::Spanned};

use crate::options::{self, Options};
use crate::spelling::{self, Spelling};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let tuple = Tuple::parse(input)?;
    let parts = [
        // First, so that the compiler's first message is the one that helps.
        tuple.assertions(),
        tuple.archived_struct(),
        tuple.borrowed_struct(),
        tuple.archive_impls(),
        tuple.tuple_impl(),
        tuple.field_type_impl(),
        tuple.emit_impls(),
        tuple.field_constants(),
    ];
    Ok(parts.into_iter().collect())
}

/// The struct, checked, with the names that the generated parts share.
struct Tuple<'a> {
    name: &'a Ident,
    text: String,
    vis: &'a Visibility,
    archived: Ident,
    borrowed: Ident,
    fields: Vec<TupleField<'a>>,
    /// `::squall::__rt::tuple`
    tuple: TokenStream,
    /// `::squall::__rt::rkyv`
    rkyv: TokenStream,
}

struct TupleField<'a> {
    source: &'a Field,
    name: &'a Ident,
    ty: &'a Type,
    /// The constant `X::NAME`, for fields that can be keys.
    constant: Option<Ident>,
}

impl<'a> Tuple<'a> {
    fn parse(input: &'a DeriveInput) -> Result<Tuple<'a>> {
        let options = Options::parse(input)?;
        let name = &input.ident;
        let fields = named_fields(input)?;
        options::refuse_generics(
            input,
            "`#[derive(Tuple)]` does not support generics or lifetimes: a schema is one type with one id. A tuple owns its \
             data; its borrowed twin (`…Ref<'a>`) is generated",
        )?;
        if fields.is_empty() {
            return Err(Error::new_spanned(name, format!("`{name}` has no fields; a tuple has at least one")));
        }
        for field in &fields {
            if let Some(remedy) = spelling::refused(field.ty) {
                let ty = field.ty.to_token_stream().to_string().replace(' ', "");
                return Err(Error::new_spanned(
                    field.ty,
                    format!("`{ty}` cannot be the type of a tuple's field: {remedy}"),
                ));
            }
            if options::mentions_itself(field.ty, name) {
                return Err(Error::new_spanned(
                    field.ty,
                    format!(
                        "a tuple cannot contain itself, nor name its types by `Self`: the schema of `{name}` would be infinite. \
                         For data of free shape use `Row`"
                    ),
                ));
            }
        }
        let text = options::plain(name);
        let root = &options.root;
        Ok(Tuple {
            name,
            vis: &input.vis,
            archived: options::ident_at(&format!("Archived{text}"), name),
            borrowed: options::ident_at(&format!("{text}Ref"), name),
            text,
            fields,
            tuple: quote!(#root::__rt::tuple),
            rkyv: quote!(#root::__rt::rkyv),
        })
    }

    /// `ArchivedX`. rkyv's derives write the unsafe impls, with their own spans (see the crate's docs).
    fn archived_struct(&self) -> TokenStream {
        let Tuple { name, vis, archived, rkyv, .. } = self;
        let doc = format!("The archived form of [`{name}`], read in place.");
        let fields = self.fields.iter().map(|field| {
            let (twin, vis, ty) = (field.twin(), &field.source.vis, field.ty);
            let doc = format!("The archived `{}`.", options::plain(field.name));
            let docs = options::docs(&field.source.attrs);
            quote! { #[doc = #doc] #(#docs)* #vis #twin: <#ty as #rkyv::Archive>::Archived }
        });
        let bytecheck = quote!(#rkyv::bytecheck);
        quote! {
            #[doc = #doc]
            #[derive(::core::fmt::Debug, #rkyv::Portable, #bytecheck::CheckBytes)]
            #[rkyv(crate = #rkyv)]
            #[bytecheck(crate = #bytecheck)]
            #[repr(C)]
            #vis struct #archived { #(#fields,)* }
        }
    }

    /// `XRef<'a>`. It can be printed where the fields' spelling shows that they can.
    fn borrowed_struct(&self) -> TokenStream {
        let Tuple { name, vis, borrowed, tuple, .. } = self;
        let doc = format!("The borrowed twin of [`{name}`]: emits the same tuple without owning its data.");
        let fields = self.fields.iter().map(|field| {
            let (twin, vis, ty) = (field.twin(), &field.source.vis, field.ty);
            let doc = format!("The borrowed `{}`.", options::plain(field.name));
            let docs = options::docs(&field.source.attrs);
            quote! { #[doc = #doc] #(#docs)* #vis #twin: <#ty as #tuple::FieldType>::Ref<'a> }
        });
        let printable = self.fields.iter().all(|field| Spelling::of(field.ty) != Spelling::Unknown);
        let debug = printable.then(|| quote!(#[derive(::core::fmt::Debug)]));
        quote! {
            #[doc = #doc]
            #debug
            #vis struct #borrowed<'a> { #(#fields,)* }

            #[automatically_derived]
            impl ::core::clone::Clone for #borrowed<'_> {
                #[inline]
                fn clone(&self) -> Self {
                    *self
                }
            }

            #[automatically_derived]
            impl ::core::marker::Copy for #borrowed<'_> {}
        }
    }

    /// `Archive` and `Serialize` of `X` and of `XRef`. Both resolve from one list of the fields' resolvers: a struct, not a
    /// tuple, because an associated type that is a tuple would leak the private types of private fields.
    ///
    /// Places are projected by hand, as rkyv's own derive does: `munge!` puts `#[allow]`s into the author's crate. The
    /// condition of `from_field_unchecked` holds because the pointer is taken to a field of the place itself, which is
    /// aligned (`repr(C)`, not packed) and initialized as a whole.
    fn archive_impls(&self) -> TokenStream {
        let Tuple { name, archived, borrowed, tuple, rkyv, .. } = self;
        let (names, types) = (self.names(), self.types());
        let places: Vec<TokenStream> = names
            .iter()
            .map(|field| {
                quote! {
                    unsafe { #rkyv::Place::from_field_unchecked(__out, &raw mut (*__out.ptr()).#field) }
                }
            })
            .collect();
        let indices: Vec<Literal> = (0..names.len()).map(Literal::usize_unsuffixed).collect();
        let pair = |target: TokenStream, copy: TokenStream, serialize: TokenStream, resolve: TokenStream| {
            quote! {
                #[automatically_derived]
                impl #rkyv::Archive for #target {
                    #copy
                    type Archived = #archived;
                    type Resolver = __Resolvers;

                    #[inline]
                    fn resolve(&self, __resolver: Self::Resolver, __out: #rkyv::Place<#archived>) {
                        #resolve
                    }
                }

                #[automatically_derived]
                impl #rkyv::Serialize<#tuple::TupleWriter> for #target {
                    #[inline]
                    fn serialize(
                        &self,
                        __w: &mut #tuple::TupleWriter,
                    ) -> ::core::result::Result<Self::Resolver, #tuple::Full> {
                        ::core::result::Result::Ok(__Resolvers(#serialize))
                    }
                }
            }
        };
        let owned = pair(
            quote!(#name),
            self.copy_optimization(),
            quote!(#(#rkyv::Serialize::serialize(&self.#names, __w)?,)*),
            quote!(#(#rkyv::Archive::resolve(&self.#names, __resolver.#indices, #places);)*),
        );
        let lent = pair(
            quote!(#borrowed<'_>),
            TokenStream::new(),
            quote!(#(<#types as #tuple::FieldType>::serialize_ref(self.#names, __w)?,)*),
            quote!(#(<#types as #tuple::FieldType>::resolve_ref(self.#names, __resolver.#indices, #places);)*),
        );
        quote! {
            const _: () = {
                pub struct __Resolvers(#(<#types as #rkyv::Archive>::Resolver,)*);
                #owned
                #lent
            };
        }
    }

    /// Lets a list of `X` be copied as one block where `X` and `ArchivedX` are the same bytes: every field is plain
    /// data and lies where its archived twin lies, and the fields fill the struct, so that no padding is copied.
    fn copy_optimization(&self) -> TokenStream {
        let Tuple { name, archived, rkyv, .. } = self;
        let (names, types) = (self.names(), self.types());
        quote! {
            const COPY_OPTIMIZATION: #rkyv::traits::CopyOptimization<Self> = unsafe {
                #rkyv::traits::CopyOptimization::enable_if(
                    ::core::mem::size_of::<#name>() == ::core::mem::size_of::<#archived>()
                        && ::core::mem::size_of::<#name>() == 0 #(+ ::core::mem::size_of::<#types>())*
                        #(&& <#types as #rkyv::Archive>::COPY_OPTIMIZATION.is_enabled())*
                        #(&& ::core::mem::offset_of!(#name, #names) == ::core::mem::offset_of!(#archived, #names))*
                )
            };
        }
    }

    fn tuple_impl(&self) -> TokenStream {
        let Tuple { name, text, archived, tuple, .. } = self;
        let (names, types) = (self.names(), self.types());
        let texts = self.fields.iter().map(|field| options::plain(field.name));
        let archived_keys = self.match_field(|name, probe| quote!(#probe::archived_key(&__archived.#name)));
        let owned_keys = self.match_field(|name, probe| quote!(#probe::key(&self.#name)));
        quote! {
            #[automatically_derived]
            unsafe impl #tuple::Tuple for #name {
                const NAME: &'static ::core::primitive::str = #text;
                const FIELDS: &'static [#tuple::FieldDef] =
                    &[#(#tuple::FieldDef { name: #texts, ty: <#types as #tuple::FieldType>::TYPE }),*];
                const ID: ::core::primitive::u64 =
                    #tuple::schema::tuple_id(<Self as #tuple::Tuple>::NAME, <Self as #tuple::Tuple>::FIELDS);

                #[inline]
                fn key_of(__archived: &#archived, __field: ::core::primitive::u16) -> #tuple::Key<'_> {
                    #archived_keys
                }

                #[inline]
                fn key_of_owned(&self, __field: ::core::primitive::u16) -> #tuple::Key<'_> {
                    #owned_keys
                }

                fn validate(
                    __bytes: &[::core::primitive::u8],
                ) -> ::core::result::Result<(), #tuple::InvalidTuple> {
                    #tuple::schema::check_archive::<#archived>(__bytes)
                }

                #[inline]
                fn to_owned(__archived: &#archived) -> Self {
                    Self { #(#names: <#types as #tuple::FieldType>::from_archived(&__archived.#names),)* }
                }
            }
        }
    }

    fn field_type_impl(&self) -> TokenStream {
        let Tuple { name, archived, borrowed, tuple, rkyv, .. } = self;
        let (names, types) = (self.names(), self.types());
        quote! {
            #[automatically_derived]
            unsafe impl #tuple::FieldType for #name {
                const TYPE: &'static ::core::primitive::str = const {
                    &#tuple::schema::TypeText::signature(
                        <#name as #tuple::Tuple>::NAME,
                        <#name as #tuple::Tuple>::FIELDS,
                    )
                }
                .as_str();
                type Ref<'a> = #borrowed<'a>;

                #[inline]
                fn to_ref(&self) -> #borrowed<'_> {
                    #borrowed { #(#names: <#types as #tuple::FieldType>::to_ref(&self.#names),)* }
                }

                #[inline]
                fn serialize_ref(
                    __value: #borrowed<'_>,
                    __w: &mut #tuple::TupleWriter,
                ) -> ::core::result::Result<<Self as #rkyv::Archive>::Resolver, #tuple::Full> {
                    #rkyv::Serialize::serialize(&__value, __w)
                }

                #[inline]
                fn resolve_ref(
                    __value: #borrowed<'_>,
                    __resolver: <Self as #rkyv::Archive>::Resolver,
                    __out: #rkyv::Place<#archived>,
                ) {
                    #rkyv::Archive::resolve(&__value, __resolver, __out)
                }

                #[inline]
                fn from_archived(__archived: &#archived) -> Self {
                    <Self as #tuple::Tuple>::to_owned(__archived)
                }
            }
        }
    }

    fn emit_impls(&self) -> TokenStream {
        let Tuple { name, borrowed, tuple, .. } = self;
        let borrowed_keys = self.match_field(|name, probe| quote!(#probe::ref_key(self.#name)));
        let owned_keys = quote!(#tuple::Tuple::key_of_owned(self, __field));
        let emit = |target: TokenStream, keys: TokenStream| {
            quote! {
                #[automatically_derived]
                unsafe impl #tuple::Emit<#name> for #target {
                    #[inline(always)]
                    fn write(&self, __w: &mut #tuple::TupleWriter) -> ::core::result::Result<(), #tuple::Full> {
                        __w.root(self)
                    }

                    #[inline]
                    fn key(&self, __field: ::core::primitive::u16) -> #tuple::Key<'_> {
                        #keys
                    }
                }
            }
        };
        let owned = emit(quote!(#name), owned_keys);
        let lent = emit(quote!(#borrowed<'_>), borrowed_keys);
        quote! { #owned #lent }
    }

    fn field_constants(&self) -> TokenStream {
        let Tuple { name, tuple, .. } = self;
        let constants = self.fields.iter().enumerate().filter_map(|(index, field)| {
            let (constant, index) = (field.constant.as_ref()?, index as u16);
            let doc = format!("The field `{}`, to group tuples by.", options::plain(field.name));
            Some(quote! {
                #[doc = #doc]
                pub const #constant: #tuple::Field<#name> = #tuple::Field::new(#index);
            })
        });
        quote! {
            #[automatically_derived]
            impl #name { #(#constants)* }
        }
    }

    /// What cannot be told from tokens: that fields can be fields, that fields with a constant can be keys, and how the
    /// archive is aligned.
    fn assertions(&self) -> TokenStream {
        let Tuple { name, archived, tuple, .. } = self;
        let too_aligned =
            format!("`{name}` cannot be a tuple: a field's archived type needs an alignment of more than 8 bytes");
        // The compiler's message points at the bound: so the bound lies at the field's type.
        let bound = |ty: &Type, bound: TokenStream| {
            let place = Span::call_site().located_at(ty.span());
            let bound = bound.into_iter().map(move |mut token| {
                token.set_span(place);
                token
            });
            let bound: TokenStream = bound.collect();
            quote!(#ty: #bound)
        };
        let fields = self.fields.iter().map(|field| bound(field.ty, quote!(#tuple::FieldType)));
        let keys = self.fields.iter().filter(|field| field.constant.is_some());
        let keys = keys.map(|field| bound(field.ty, quote!(#tuple::KeyField)));
        quote! {
            const _: () = {
                fn __fields() where #(#fields,)* {}
                fn __keys() where #(#keys,)* {}
                ::core::assert!(::core::mem::align_of::<#archived>() <= 8, #too_aligned);
            };
        }
    }

    /// `match` over the field index, by `call` of a function of `KeyField`. Fields that cannot be keys, and indices out of
    /// range, give no key. A type of unknown spelling is asked through `Probe`, which answers for any type.
    fn match_field(&self, call: impl Fn(&Ident, TokenStream) -> TokenStream) -> TokenStream {
        let tuple = &self.tuple;
        let arms = self.fields.iter().enumerate().filter_map(|(index, field)| {
            let (index, ty) = (index as u16, field.ty);
            let key = match Spelling::of(ty) {
                _ if field.constant.is_some() => call(field.name, quote!(<#ty as #tuple::KeyField>)),
                Spelling::Unknown => {
                    let key = call(field.name, quote!(#tuple::key::Probe::<#ty>));
                    quote!({ use #tuple::key::NoKey as _; #key })
                }
                Spelling::Key | Spelling::Std => return None,
            };
            Some(quote!(#index => #key))
        });
        quote! {
            match __field {
                #(#arms,)*
                _ => #tuple::Key::Null,
            }
        }
    }

    fn names(&self) -> Vec<&'a Ident> {
        self.fields.iter().map(|field| field.name).collect()
    }

    fn types(&self) -> Vec<&'a Type> {
        self.fields.iter().map(|field| field.ty).collect()
    }
}

impl TupleField<'_> {
    /// The field's name in the generated structs.
    fn twin(&self) -> Ident {
        options::same(self.name)
    }
}

fn named_fields(input: &DeriveInput) -> Result<Vec<TupleField<'_>>> {
    let name = &input.ident;
    let refuse = |what: &str| {
        Error::new_spanned(
            name,
            format!(
                "`#[derive(Tuple)]` needs a struct with named fields, `struct {name} {{ word: String, n: u64 }}`: the fields' \
                 names are the schema; `{name}` is {what}"
            ),
        )
    };
    let fields = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => &fields.named,
            Fields::Unnamed(_) => return Err(refuse("a struct with unnamed fields")),
            Fields::Unit => return Err(refuse("a struct without fields")),
        },
        Data::Enum(_) => {
            return Err(refuse("an enum (for a bolt with several input streams, derive `Inputs`)"));
        }
        Data::Union(_) => return Err(refuse("a union")),
    };

    options::refuse_too_many(fields.len(), name, "fields")?;
    let mut keys = Vec::with_capacity(fields.len());
    for field in fields {
        keys.push(marked_as_key(field)? || Spelling::of(&field.ty) == Spelling::Key);
    }
    let names: Vec<&Ident> = fields.iter().filter_map(|field| field.ident.as_ref()).collect();
    let key_names = names.iter().zip(&keys).filter(|(_, key)| **key).map(|(name, _)| *name);
    let mut constants = options::constant_names(key_names, "")?.into_iter();
    Ok(fields
        .iter()
        .zip(names)
        .zip(keys)
        .map(|((source, name), key)| TupleField {
            source,
            name,
            ty: &source.ty,
            constant: if key { constants.next() } else { None },
        })
        .collect())
}

/// Whether the field says `#[squall(key)]`: its type can be a key, although its spelling does not show it.
fn marked_as_key(field: &Field) -> Result<bool> {
    let mut key = false;
    for attr in options::squall_attrs(&field.attrs) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("key") {
                return Err(meta.error(format!(
                    "unknown option `{}` on a field; the only one is `#[squall(key)]`, which gives a field whose type is an \
                     alias its constant for grouping",
                    options::path_text(&meta.path)
                )));
            }
            key = true;
            Ok(())
        })?;
    }
    Ok(key)
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
    fn the_twins_have_the_visibility_of_the_struct_and_its_fields() {
        let code = expanded(parse_quote!(
            pub(crate) struct Word {
                pub word: String,
                n: u64,
            }
        ));
        for part in [
            "pub (crate) struct ArchivedWord {",
            "pub (crate) struct WordRef < 'a > {",
            "pub word : < String as :: squall :: __rt :: rkyv :: Archive > :: Archived , # [doc = \"The archived `n`.\"] n : <",
            "pub word : < String as :: squall :: __rt :: tuple :: FieldType > :: Ref < 'a > ,",
            "# [repr (C)]",
        ] {
            assert!(code.contains(part), "missing `{part}` in {code}");
        }
    }

    #[test]
    fn every_path_begins_at_the_root_that_the_type_names() {
        let input: DeriveInput = parse_quote!(
            #[squall(crate = crate::support)]
            struct A {
                a: u64,
                b: Vec<Point>,
            }
        );
        let code = expanded(input);
        assert!(!code.contains(":: squall"), "{code}");
        assert!(code.contains("unsafe impl crate :: support :: __rt :: tuple :: Tuple for A"), "{code}");
    }

    #[test]
    fn fields_that_can_be_keys_have_a_constant_with_their_index() {
        let code = expanded(parse_quote!(
            struct A {
                tags: Vec<String>,
                at: u64,
                point: Point,
                #[squall(key)]
                user: UserId,
            }
        ));
        assert!(code.contains("pub const AT : :: squall :: __rt :: tuple :: Field < A >"), "{code}");
        assert!(code.contains("pub const USER") && code.contains("Field :: new (3u16)"), "{code}");
        assert!(!code.contains("const TAGS") && !code.contains("const POINT"), "{code}");
        // The spelling says that a list is no key; a name of its own has to be asked.
        assert!(code.contains("2u16 => { use") && !code.contains("0u16 =>"), "{code}");
    }

    #[test]
    fn the_authors_docs_are_repeated_on_the_twins() {
        let code = expanded(parse_quote!(
            struct A {
                /// Cents.
                price: u64,
            }
        ));
        assert_eq!(code.matches("\" Cents.\"").count(), 2, "{code}");
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
                "`E` is an enum (for a bolt with several input streams, derive `Inputs`)",
            ),
            (
                parse_quote!(
                    struct S(u64);
                ),
                "`S` is a struct with unnamed fields",
            ),
            (
                parse_quote!(
                    struct S;
                ),
                "`S` is a struct without fields",
            ),
            (
                parse_quote!(
                    struct S {}
                ),
                "`S` has no fields",
            ),
            (parse_quote!(union U { a: u64 }), "`U` is a union"),
            (
                parse_quote!(
                    struct S<T> {
                        a: T,
                    }
                ),
                "does not support generics or lifetimes",
            ),
            (
                parse_quote!(
                    struct S<'a> {
                        a: &'a str,
                    }
                ),
                "does not support generics or lifetimes",
            ),
            (
                parse_quote!(
                    struct S {
                        a: Vec<S>,
                    }
                ),
                "a tuple cannot contain itself",
            ),
            (
                parse_quote!(
                    struct S {
                        a: [u8; Self::N],
                    }
                ),
                "nor name its types by `Self`",
            ),
            (
                parse_quote!(
                    struct S {
                        a: Vec<usize>,
                    }
                ),
                "`Vec<usize>` cannot be the type of a tuple's field: ",
            ),
            (
                parse_quote!(
                    struct S {
                        #[squall(name = "b")]
                        a: u8,
                    }
                ),
                "unknown option `name` on a field",
            ),
            (
                parse_quote!(
                    #[squall(key)]
                    struct S {
                        a: u8,
                    }
                ),
                "unknown option `key` in `#[squall(..)]`",
            ),
            (
                parse_quote!(
                    struct S {
                        a_b: u8,
                        aB: u8,
                    }
                ),
                "both give the constant `A_B`",
            ),
        ] {
            let message = refused(input);
            assert!(message.contains(phrase), "`{message}` lacks `{phrase}`");
        }
    }

    #[test]
    fn more_fields_than_an_index_can_name_are_refused() {
        let names = (0..65_536).map(|i| quote::format_ident!("f{i}"));
        let wide: DeriveInput = parse_quote!(struct Wide { #(#names: u8),* });
        assert_eq!(refused(wide), "`Wide` has 65536 fields; at most 65535 can be numbered");
    }
}
