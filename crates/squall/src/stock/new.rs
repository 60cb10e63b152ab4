//! `squall new`: a first topology that builds and runs at once.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::{EXIT_FAILED, EXIT_USAGE};
use crate::plan_cmd::show;
use crate::run::job::complain;

/// The checkout that built this binary: until there is a release, what a new crate depends on.
const BUILT_FROM: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Debug, Args)]
pub(crate) struct NewCommand {
    /// Name of the topology and of the folder that is made for it
    name: String,
    /// Make a topology in YAML, which needs no compiler
    #[arg(long)]
    yaml: bool,
    /// The checkout of Squall that the crate depends on [default: the one that built this binary]
    #[arg(long, value_name = "PATH", conflicts_with = "yaml")]
    squall: Option<PathBuf>,
}

/// Name within the folder, and text. `{{name}}`, `{{crate}}` and `{{squall}}` in the text are filled in.
type Template = (&'static str, &'static str);

const CRATE: [Template; 6] = [
    ("Cargo.toml", include_str!("templates/crate/Cargo.toml.in")),
    ("src/lib.rs", include_str!("templates/crate/lib.rs.in")),
    ("src/main.rs", include_str!("templates/crate/main.rs.in")),
    ("README.md", include_str!("templates/crate/README.md.in")),
    ("input.txt", include_str!("templates/input.txt")),
    (".gitignore", "/target\n"),
];

const YAML: [Template; 2] = [
    ("topology.yaml", include_str!("templates/yaml/topology.yaml.in")),
    ("README.md", include_str!("templates/yaml/README.md.in")),
];

/// Makes the folder.
pub(crate) fn new(command: &NewCommand) -> ExitCode {
    if let Err(usage) = check_name(&command.name) {
        complain(&usage);
        return ExitCode::from(EXIT_USAGE);
    }
    match make(command) {
        Ok(next) => show(&next),
        Err(error) => {
            complain(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// What is a name for a folder, a crate and a topology alike.
fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        && !["test", "core", "std", "alloc", "main", "lib", "squall"].contains(&name);
    if good {
        return Ok(());
    }
    Err(format!("`{name}` cannot name a crate; use lower-case letters, digits, `-` and `_`, such as `page-views`"))
}

fn make(command: &NewCommand) -> Result<String, String> {
    let folder = Path::new(&command.name);
    if folder.exists() {
        return Err(format!("{} exists already; choose another name, or remove it", folder.display()));
    }
    let (templates, squall): (&[Template], PathBuf) =
        if command.yaml { (&YAML, PathBuf::new()) } else { (&CRATE, dependency(command.squall.as_deref())?) };
    let crate_name = command.name.replace('-', "_");
    for (name, text) in templates {
        let text = text
            .replace("{{name}}", &command.name)
            .replace("{{crate}}", &crate_name)
            .replace("{{squall}}", &toml_escaped(&squall));
        write(&folder.join(name), &text).map_err(|e| {
            format!("{} cannot be written: {e}; choose a folder that you may write to", folder.join(name).display())
        })?;
    }
    let name = &command.name;
    Ok(if command.yaml {
        format!(
            "made {name}/topology.yaml; next:\n  cd {name}\n  squall validate topology.yaml\n  squall run topology.yaml\n"
        )
    } else {
        format!("made the crate {name}; next:\n  cd {name}\n  cargo test\n  cargo run --release -- run\n")
    })
}

/// The folder of the crate `squall` in a checkout.
fn dependency(checkout: Option<&Path>) -> Result<PathBuf, String> {
    let Some(checkout) = checkout else {
        let built = PathBuf::from(BUILT_FROM);
        return if built.join("Cargo.toml").is_file() {
            Ok(built)
        } else {
            Err(format!(
                "the checkout that built this binary, {}, is gone; name one with --squall PATH",
                built.display()
            ))
        };
    };
    for folder in [checkout.join("crates/squall"), checkout.to_owned()] {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if manifest.contains("name = \"squall\"") {
            return std::fs::canonicalize(&folder).map_err(|e| format!("{}: {e}; name another", folder.display()));
        }
    }
    Err(format!("{} is no checkout of Squall: it has no crates/squall; name its top folder", checkout.display()))
}

fn toml_escaped(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_a_crate() {
        assert!(check_name("page-views2").is_ok());
        for name in ["", "Page", "2views", "a/b", "../x", "test", "ä"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn another_checkout_is_found_by_its_top_or_its_crate() {
        let crate_folder = Path::new(BUILT_FROM);
        let top = crate_folder.ancestors().nth(2).expect("crates/squall lies in a checkout");
        assert_eq!(dependency(Some(top)), dependency(Some(crate_folder)));
        assert!(dependency(Some(&top.join("docs"))).unwrap_err().contains("is no checkout of Squall"));
    }
}
