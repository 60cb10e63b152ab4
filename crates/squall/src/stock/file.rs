//! The topology's file as an argument: read, checked, declared.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use clap::Args;
use squall_api::Topology;
use squall_components::registry::Registry;
use squall_yaml::{BadProperty, Declaration, Document, Unreadable, Variables};

use crate::BoxError;

/// Which topology, and the values of its variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopologyFile {
    /// The topology in YAML
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub variables: VariableFlags,
}

/// Values of variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct VariableFlags {
    /// Define a variable: `${NAME}` in the file becomes VALUE
    #[arg(short = 'D', long = "define", value_name = "NAME=VALUE")]
    define: Vec<String>,
    /// Define variables by a property file (Flux's --filter)
    #[arg(long, alias = "filter", value_name = "FILE")]
    properties: Vec<PathBuf>,
}

/// Why a file is not run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A definition on the command line is none.
    Usage(BadProperty),
    /// It cannot be read.
    Unreadable(Unreadable),
    /// What is wrong with it, as text.
    Wrong(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Usage(error) => error.fmt(f),
            Refusal::Unreadable(error) => error.fmt(f),
            Refusal::Wrong(text) => f.write_str(text.trim_end()),
        }
    }
}

impl std::error::Error for Refusal {}

/// The components that a YAML topology may name.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::standard();
    squall_load::registry::add(&mut registry).expect("no stock component has the names of the load components");
    registry
}

/// Declares the topology of a file: the topology function of the `squall` binary.
pub(crate) fn declare(topology: &mut Topology, file: &TopologyFile) -> Result<(), BoxError> {
    file.declare(topology)?;
    Ok(())
}

impl VariableFlags {
    /// The environment, property files in their order, then definitions.
    fn variables(&self) -> Result<Variables, BadProperty> {
        let mut variables = Variables::from_env();
        for path in &self.properties {
            variables.read_properties(path)?;
        }
        for text in &self.define {
            variables.define_text(text)?;
        }
        Ok(variables)
    }
}

impl TopologyFile {
    /// Declares the topology.
    pub(crate) fn declare(&self, topology: &Topology) -> Result<Declaration, Refusal> {
        let variables = self.variables.variables().map_err(Refusal::Usage)?;
        let document = Document::read(&self.file, &variables).map_err(Refusal::Unreadable)?;
        let styled = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        document.declare(&registry(), topology).map_err(|refused| Refusal::Wrong(refused.render(styled)))
    }

    /// Checks the file; warnings as text.
    pub(crate) fn check(&self) -> Result<String, Refusal> {
        let declaration = self.declare(&Topology::new(""))?;
        Ok(declaration.warnings.render(&declaration.sources, stderr().is_terminal()))
    }
}
