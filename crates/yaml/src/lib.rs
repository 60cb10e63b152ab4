//! YAML topologies, shaped like Storm's Flux: read with source positions, checked as a whole, declared with the registered
//! components.
//!
//! ```
//! use squall_components::registry::Registry;
//! use squall_yaml::{Document, Variables};
//!
//! let text = "name: numbers\nspouts:\n  - id: numbers\n    className: generator\n    config: { cuont: 5 }\n";
//! let document = Document::parse("topology.yaml", text, &Variables::default());
//! let topology = squall_api::Topology::new("");
//! let refused = document.declare(&Registry::standard(), &topology).unwrap_err();
//! assert!(refused.render(false).contains("topology.yaml:5:15"));
//! ```
//!
//! All faults of a file are found at once; each says where it is (`file:line:column`, the line with a caret), what is wrong
//! and what to do. What a file cannot say (custom groupings, direct streams, Java objects) is refused with what takes its
//! place.
//!
//! Limits: files of 4 MiB, 32 levels, 200,000 values; includes 8 deep.
//!
//! Deliberately absent: anything that runs. A file becomes a [`squall_api::Topology`], as a Rust program's does.
#![forbid(unsafe_code)]

mod build;
mod diag;
mod keys;
mod model;
mod names;
mod read;
mod reference;
mod resolve;
mod schema;
mod source;
mod tree;
mod vars;

use std::fmt;
use std::path::{Path, PathBuf};

use squall_api::Topology;
use squall_components::registry::Registry;

pub use build::ExpressionNote;
pub use diag::{Diagnostic, Diagnostics, Severity};
pub use reference::reference;
pub use schema::schema;
pub use source::{FileIx, Source, Sources, Span};
pub use squall_expr::Way;
pub use vars::{BadProperty, Variables};

use model::Model;

/// A file that has been read, with what it includes.
#[derive(Debug)]
pub struct Document {
    sources: Sources,
    diagnostics: Diagnostics,
    model: Option<Model>,
}

/// A topology that was declared.
#[derive(Debug)]
pub struct Declaration {
    /// Its expressions, in the order in which their components were declared.
    pub expressions: Vec<ExpressionNote>,
    /// Warnings, and nothing else.
    pub warnings: Diagnostics,
    /// The files that places refer to.
    pub sources: Sources,
}

/// A file that is wrong, with everything that is wrong with it.
#[derive(Debug)]
pub struct Refused {
    /// The faults.
    pub diagnostics: Diagnostics,
    /// The files that places refer to.
    pub sources: Sources,
}

/// A file that cannot be read at all.
#[derive(Debug)]
pub struct Unreadable {
    path: PathBuf,
    cause: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}; name a YAML file", self.path.display(), self.cause)
    }
}

impl std::error::Error for Unreadable {}

impl Refused {
    /// All faults as text; with colours for a terminal if `styled`.
    pub fn render(&self, styled: bool) -> String {
        self.diagnostics.render(&self.sources, styled)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Refused {}

impl Document {
    /// Reads a file and what it includes. Faults of the content are kept for [`Document::declare`].
    ///
    /// # Errors
    /// If the file cannot be read: it is not there, no text, or larger than 4 MiB.
    pub fn read(path: &Path, vars: &Variables) -> Result<Document, Unreadable> {
        match read::read_file(path) {
            Ok(text) => Ok(Document::parse(path, &text, vars)),
            Err(cause) => Err(Unreadable { path: path.to_owned(), cause }),
        }
    }

    /// Reads a text as if it were the file at `path`. The variable `DIR` is that file's folder, unless it is defined.
    pub fn parse(path: impl Into<PathBuf>, text: &str, vars: &Variables) -> Document {
        let path = path.into();
        let mut vars = vars.clone();
        vars.default_folder(path.parent().unwrap_or(Path::new("")));
        let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
        let mut loader = read::Loader { sources: &mut sources, vars: &vars, diagnostics: &mut diagnostics };
        let model = loader.topology(path, text.to_owned());
        Document { sources, diagnostics, model }
    }

    /// Declares the topology: its name, options, components and streams.
    ///
    /// # Errors
    /// Everything that is wrong with the file. `topology` is then of no use.
    pub fn declare(mut self, registry: &Registry, topology: &Topology) -> Result<Declaration, Box<Refused>> {
        let mut expressions = Vec::new();
        if let Some(model) = &self.model {
            build::configure(model, topology, &mut self.diagnostics);
            let graph = resolve::graph(model, registry, &mut self.diagnostics);
            expressions = build::declare(&graph, topology, &self.sources, &mut self.diagnostics);
        }
        let Document { sources, diagnostics, .. } = self;
        if diagnostics.has_errors() {
            return Err(Box::new(Refused { diagnostics, sources }));
        }
        Ok(Declaration { expressions, warnings: diagnostics, sources })
    }
}
