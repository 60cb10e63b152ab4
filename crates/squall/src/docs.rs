//! The Rust on the pages under `docs/`, as tests of this crate's documentation: what a page shows compiles and holds.

macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {$(
        #[doc = include_str!(concat!("../../../docs/", $path))]
        struct $name;
    )*};
}

pages! {
    Readme: "../README.md",
    Tutorial: "tutorial/rust.md",
    ReadAFolder: "how-to/read-a-folder.md",
    BlockingService: "how-to/blocking-service.md",
    TestABolt: "how-to/test-a-bolt.md",
}
