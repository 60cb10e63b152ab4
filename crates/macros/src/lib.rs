//! The derives of Squall's API: [`Tuple`](macro@Tuple), [`Inputs`](macro@Inputs), [`Outputs`](macro@Outputs).
//!
//! What they generate is ordinary code beside the type they stand on: it has the type's visibility, carries
//! docs, and is written with absolute paths only. It starts every path of ours at `::squall`; a crate that
//! depends on the API under another name says so with `extern crate squall_api as squall;` at its root, or on
//! one type with `#[squall(crate = some::path)]`.
//!
//! Invariants of the generated code:
//! - It compiles under `#![forbid(unsafe_code)]`, although it holds `unsafe` (impls of unsafe traits whose conditions
//!   the derive meets, and rkyv's own derives): the compiler attributes tokens with the macro's spans to the macro.
//!   So no `unsafe` token may ever take its span from the author's source.
//! - For the same reason generated identifiers keep the author's place, for messages and editors, but the macro's
//!   span context: lints of the author's crate (`dead_code`, `unreachable_pub`, …) do not fire on code nobody wrote.
//!   `#[allow]` would do that too, but is an error where the author forbids the lint.
//!
//! Deliberately absent: generic tuples (a schema has one id), tuple structs (fields have names), and tuples
//! that contain themselves (their schema would be infinite; use `Row` for data of free shape).

#![forbid(unsafe_code)]

mod inputs;
mod options;
mod outputs;
mod spelling;
mod tuple;

use proc_macro::TokenStream;
use syn::DeriveInput;

/// Makes a struct with named fields a tuple type.
///
/// `#[derive(Tuple)] struct Word { word: String, n: u64 }` writes, with the visibility of the struct and its fields:
/// - `ArchivedWord`, the archive that a bolt reads in place (`input.word`), fields in declaration order;
/// - `WordRef<'a>`, the borrowed twin, to emit without allocating: `String` becomes `&str`, `Vec<T>` becomes `&[T]`,
///   a nested tuple its own twin, everything else stays. It is `Copy`, and `Debug` where all field types are spelled
///   out of the standard library's;
/// - the impls that make both of them emittable on a stream of `Word`, and `Word` usable as a field of other tuples;
/// - `Word::WORD` and `Word::N`, a constant per field that can be a key, for groupings by field: numbers, `bool`,
///   `String`, `Vec<u8>` and options of those. A derive sees how a type is spelled, not what it is: put
///   `#[squall(key)]` on a field whose type is an alias of one of these. Other fields have no constant.
///
/// A constant hides a name that `Tuple` defines where a field is called `name`, `fields` or `id`:
/// `Word::NAME` is then the field, `<Word as Tuple>::NAME` the type's name.
///
/// Refused: enums, unions, structs without named fields, generics and lifetimes, a struct that contains itself, more
/// than 65535 fields, an archive that needs an alignment of more than 8, field types that are no `FieldType`.
#[proc_macro_derive(Tuple, attributes(squall))]
pub fn derive_tuple(input: TokenStream) -> TokenStream {
    run(input, tuple::expand)
}

/// Makes an enum the inputs of a bolt with several input streams.
///
/// Each variant holds the tuple of one stream: `enum Joined { Words(Word), Pods(Pod) }`. The derive writes
/// - `JoinedRef<'a>`, the borrowed twin that `Input` dereferences to (`Copy`; its variants hold `TupleRef`s);
/// - `Joined::ON_WORDS`, a constant per variant for subscriptions that name their port (`.on_port(..)`);
/// - `Accepts<T>` for each tuple type that exactly one variant holds, so that `.on(stream)` finds the port.
///   Two variants of one type are told apart by their `ON_…` constants only. Write such a type the same way in
///   both variants: hidden behind an alias, the compiler reports conflicting implementations of `Accepts`.
///
/// Refused: structs, empty enums, variants that do not hold exactly one tuple, generics.
#[proc_macro_derive(Inputs, attributes(squall))]
pub fn derive_inputs(input: TokenStream) -> TokenStream {
    run(input, inputs::expand)
}

/// Makes a struct the outputs of a component with several output streams.
///
/// Each field is a stream and names it: `struct Parsed { words: Stream<Word>, bad: Stream<Bad> }`. The derive
/// writes `ParsedStreams`, a struct with a handle per stream, which the topology builder's `streams()` returns.
///
/// Refused: enums, structs without named fields or without fields, generics.
#[proc_macro_derive(Outputs, attributes(squall))]
pub fn derive_outputs(input: TokenStream) -> TokenStream {
    run(input, outputs::expand)
}

fn run(input: TokenStream, expand: fn(&DeriveInput) -> syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
