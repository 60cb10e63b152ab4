//! `#[derive(Inputs)]` and `#[derive(Outputs)]`: ports by variant, streams by field.

#![forbid(unsafe_code)]

mod support;

use squall_macros::{Inputs, Outputs, Tuple};
use squall_tuple::Tuple as _;
use support::{Accepts, InputPort, Inputs as _, Outputs as _, OutputsBuilder, OutputsDecl, PortDef, Stream, pushed};

#[derive(Tuple, Debug, Clone, PartialEq)]
#[squall(crate = crate::support)]
struct Word {
    word: String,
    n: u64,
}

#[derive(Tuple, Debug, Clone, PartialEq)]
#[squall(crate = crate::support)]
struct Pod {
    a: u64,
}

/// What a join takes.
#[derive(Inputs, Debug, PartialEq)]
#[squall(crate = crate::support)]
enum Joined {
    Words(Word),
    /// Words that came too late.
    LateWords(Word),
    Pods(Pod),
}

fn port_of<I: Accepts<T>, T: squall_tuple::Tuple>() -> u16 {
    I::PORT
}

#[test]
fn ports_are_the_variants_in_order() {
    let expected = [
        PortDef { name: "Words", schema: Word::ID },
        PortDef { name: "LateWords", schema: Word::ID },
        PortDef { name: "Pods", schema: Pod::ID },
    ];
    assert_eq!(Joined::ports(), expected);
}

#[test]
fn a_type_that_one_variant_holds_finds_its_port_and_the_others_have_constants() {
    assert_eq!(port_of::<Joined, Pod>(), 2);
    let words: [InputPort<Joined, Word>; 2] = [Joined::ON_WORDS, Joined::ON_LATE_WORDS];
    assert_eq!(words.map(|port| port.port), [0, 1]);
    let pods: InputPort<Joined, Pod> = Joined::ON_PODS;
    assert_eq!(pods.port, 2);
}

#[test]
fn a_frame_is_seen_as_the_variant_of_its_port_and_can_be_kept() {
    let word = Word { word: "late".into(), n: 2 };
    pushed::<Word, _>(&word, |frame| {
        let view = Joined::view(1, &frame);
        let copy = view;
        match view {
            JoinedRef::LateWords(seen) => {
                assert_eq!((seen.word.as_str(), seen.n.to_native()), ("late", 2))
            }
            JoinedRef::Words(_) | JoinedRef::Pods(_) => panic!("port 1 is `LateWords`"),
        }
        assert_eq!(Joined::to_owned(copy), Joined::LateWords(word.clone()));
        assert_eq!(Joined::to_owned(Joined::view(0, &frame)), Joined::Words(word.clone()));
    });
    pushed::<Pod, _>(&Pod { a: 1 }, |frame| {
        assert_eq!(Joined::to_owned(Joined::view(2, &frame)), Joined::Pods(Pod { a: 1 }));
    });
}

#[test]
#[should_panic(expected = "`Joined` has no port 3")]
fn a_port_that_does_not_exist_is_a_fault_of_the_engine() {
    pushed::<Pod, _>(&Pod { a: 1 }, |frame| drop(Joined::to_owned(Joined::view(3, &frame))));
}

mod shop {
    /// Private tuples in public-looking enums and structs keep to their module.
    #[derive(squall_macros::Tuple)]
    #[squall(crate = crate::support)]
    pub(super) struct Sale {
        pub(super) cents: u64,
    }

    #[derive(squall_macros::Inputs)]
    #[squall(crate = crate::support)]
    pub(super) enum Till {
        Sales(Sale),
    }

    #[derive(squall_macros::Outputs)]
    #[squall(crate = crate::support)]
    pub(super) struct Receipts {
        printed: crate::Stream<Sale>,
    }

    impl Receipts {
        pub(super) fn printed(&self) -> &crate::Stream<Sale> {
            &self.printed
        }
    }
}

#[test]
fn derives_work_behind_a_module_and_their_handles_are_open_to_it() {
    let till = shop::Till::view;
    pushed::<shop::Sale, _>(&shop::SaleRef { cents: 5 }, |frame| {
        let shop::TillRef::Sales(sale) = till(0, &frame);
        assert_eq!(sale.cents, 5);
    });
    assert_eq!(shop::Till::ON_SALES.port, port_of::<shop::Till, shop::Sale>());
    let shop::Till::Sales(kept) = shop::Till::Sales(shop::Sale { cents: 7 });
    assert_eq!(kept.cents, 7);

    let handles = shop::Receipts::declare(&mut OutputsDecl::default());
    assert_eq!(handles.printed.name, "printed");
    assert_eq!(shop::Receipts::build(&mut OutputsBuilder::default()).printed().port.0, "printed");
}

#[derive(Outputs)]
#[squall(crate = crate::support)]
struct Parsed {
    words: Stream<Word>,
    /// Raw names are spoken without their prefix.
    r#type: Stream<Pod>,
    again: Stream<Word>,
}

#[test]
fn streams_are_declared_built_and_visited_in_field_order_under_their_names() {
    let mut decl = OutputsDecl::default();
    let handles: ParsedStreams = Parsed::declare(&mut decl);
    assert_eq!(decl.names, ["words", "type", "again"]);
    let copy = handles.clone();
    assert_eq!([copy.words.name, copy.r#type.name, copy.again.name], ["words", "type", "again"]);

    let mut builder = OutputsBuilder::default();
    let mut parsed = Parsed::build(&mut builder);
    assert_eq!(builder.names, ["words", "type", "again"]);
    let mut visited = Vec::new();
    parsed.visit(&mut |port| visited.push(port.0.clone()));
    assert_eq!(visited, ["words", "type", "again"]);
    assert_eq!(parsed.r#type.port.0, "type");
    assert_eq!((parsed.words.port.0, parsed.again.port.0), ("words".to_owned(), "again".to_owned()));
}
