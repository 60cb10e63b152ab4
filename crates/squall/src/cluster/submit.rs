//! `squall submit`: everything is checked before anything is sent, and nothing has happened until nimbus says so.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use squall_control::record::{ComponentShape, Shape, valid_name};
use squall_scheduler::Resources;

use super::api::SubmitBody;
use super::client::{Client, ClientError, NimbusFlags, random_hex};
use super::output::{Output, rows, table, text};
use super::talk::{Described, PROTOCOL};
use super::{Arguments, Kind};

/// Options of `submit`.
#[derive(Debug, Args)]
pub(crate) struct SubmitCommand {
    /// A program made with Squall, or a topology in YAML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Name of the topology [default: its own]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its spouts wait for `activate`
    #[arg(long)]
    inactive: bool,
    /// Check everything and show where it would be placed, without submitting it
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Format of what `--dry-run` shows
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Return when it is accepted, without waiting for its workers to run
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    pub(super) nimbus: NimbusFlags,
    /// Options for the topology, as after `run`: --workers, --reactors, -D, its own
    #[arg(last = true, value_name = "OPTIONS")]
    args: Vec<String>,
}

/// What was submitted.
pub(super) struct Submitted {
    pub(super) id: String,
    pub(super) name: String,
    /// Its workers are waited for.
    pub(super) wait: bool,
}

/// What is to be submitted.
struct Checked {
    body: SubmitBody,
    path: PathBuf,
    hash: String,
    size: u64,
}

/// Submits.
///
/// # Errors
/// What is wrong; nothing was changed.
pub(super) fn submit(command: &SubmitCommand) -> Result<Submitted, ClientError> {
    // Known before the upload of what might be large.
    let client = Client::new(&command.nimbus)?;
    let Checked { body, path, hash, size } = check(command, Some(&client))?;
    upload(&client, &path, &hash, size)?;
    let answer = client.post("/api/v2/topologies", json!(body).to_string().as_bytes())?;
    let id = answer["id"].as_str().unwrap_or_default().to_owned();
    Ok(Submitted { id, name: body.name, wait: !command.no_wait })
}

/// What would be submitted, and where nimbus would place it if there is one.
///
/// # Errors
/// What is wrong.
pub(super) fn dry_run(command: &SubmitCommand) -> Result<String, ClientError> {
    let Checked { body, .. } = check(command, None)?;
    let asked =
        Client::new(&command.nimbus).and_then(|client| client.post("/api/v2/plan", json!(body).to_string().as_bytes()));
    let (placement, why) = match asked {
        Ok(placement) => (placement, None),
        Err(ClientError::Away(why)) => (Value::Null, Some(why)),
        Err(error) => return Err(error),
    };
    let value = json!({ "version": 1, "submission": body, "placement": placement });
    Ok(command.output.of(&value, |value| placed(value, why.as_deref())))
}

/// A dry run for people.
fn placed(value: &Value, why: Option<&str>) -> String {
    let (body, placement) = (&value["submission"], &value["placement"]);
    let component = |c: &Value| ["name", "tasks", "executors"].map(|key| text(&c[key])).to_vec();
    let components: Vec<Vec<String>> = rows(&body["shape"], "components").map(component).collect();
    let mut out = format!("{} would be accepted\n\n", text(&body["name"]));
    if let Some(why) = why {
        out = format!("{} is right; where it would be placed is not known: {why}\n\n", text(&body["name"]));
    }
    out += &table(&["COMPONENT", "TASKS", "EXECUTORS"], &components);
    if why.is_some() {
        return out;
    }
    let worker = |w: &Value| {
        let runs = w["components"].as_object().into_iter().flatten();
        let runs: Vec<String> = runs.map(|(name, executors)| format!("{executors} {name}")).collect();
        vec![text(&w["worker"]), format!("{}:{}", text(&w["node"]), text(&w["slot"])), runs.join(", ")]
    };
    let workers: Vec<Vec<String>> = rows(placement, "workers").map(worker).collect();
    out += &format!("\n{}\n", table(&["WORKER", "SLOT", "EXECUTORS"], &workers));
    let moved: Vec<String> = rows(placement, "moved").map(text).collect();
    out += &match moved.as_slice() {
        [] => "nothing that runs would move\n".to_owned(),
        moved => format!("workers of {} would move\n", moved.join(", ")),
    };
    out
}

/// Checks everything that can be checked here, and with a nimbus that nobody has the name.
fn check(command: &SubmitCommand, client: Option<&Client>) -> Result<Checked, ClientError> {
    let wrong = ClientError::Refused;
    if let Some(name) = command.name.as_ref().filter(|name| !valid_name(name)) {
        return Err(wrong(format!(
            "{name:?} is no name of a topology: letters, digits, `_`, `.` and `-`, at most 128, beginning with a letter, a digit or `_`"
        )));
    }
    let (kind, path) = artifact(&command.file).map_err(wrong)?;
    let described = describe(kind, &path, &command.args).map_err(wrong)?;
    let name = command.name.clone().unwrap_or_else(|| described.name.clone());
    if let Some(client) = client {
        vacant(client, &name)?;
    }
    let (hash, size) = hash(&path).map_err(wrong)?;
    let folder = std::env::current_dir().map(|folder| folder.display().to_string()).unwrap_or_default();
    let mut args = command.args.clone();
    let mut environment = BTreeMap::new();
    if kind == Kind::Yaml {
        // What the file takes from where it lies, and from whom it was submitted by, is not so where its workers run.
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        if text.lines().any(|line| line.starts_with("includes:")) {
            let shown = command.file.display();
            return Err(wrong(format!(
                "{shown} includes other files, which cannot be submitted yet: put all of it into one file"
            )));
        }
        let folder = path.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        args.splice(0..0, ["-D".to_owned(), format!("DIR={folder}")]);
        environment = named_environment(&text, |name| std::env::var(name).ok());
    }
    args.extend(["--name".to_owned(), name.clone()]);
    let body = SubmitBody {
        name,
        submission: random_hex().map_err(|error| wrong(format!("no random number: {error}")))?,
        shape: shape(&described),
        blobs: vec![hash.clone()],
        arguments: Arguments { kind, args, folder, environment, reactors: described.reactors },
        arch: described.arch,
        engine: described.engine,
        inactive: command.inactive,
    };
    Ok(Checked { body, path, hash, size })
}

/// What a file is, before anything of it is run.
fn artifact(file: &Path) -> Result<(Kind, PathBuf), String> {
    let path = std::fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let meta = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", file.display()))?;
    if !meta.is_file() {
        return Err(format!("{} is no file: submit a program made with Squall, or a topology in YAML", file.display()));
    }
    if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        return Ok((Kind::Yaml, path));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "{} is neither executable nor a .yaml: submit a program made with Squall, or a topology in YAML",
            file.display()
        ));
    }
    let mut head = [0; 4];
    let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || head != *b"\x7fELF" {
        return Err(format!(
            "{} is no program for this kind of machine (no ELF file): submit a program made with Squall, or a topology in YAML",
            file.display()
        ));
    }
    Ok((Kind::Program, path))
}

/// Asks the program what its topology is: the same checks as before a run, with their errors.
fn describe(kind: Kind, path: &Path, args: &[String]) -> Result<Described, String> {
    let mut command = match kind {
        Kind::Program => Command::new(path),
        Kind::Yaml => Command::new("/proc/self/exe"),
    };
    command.arg("shape");
    if kind == Kind::Yaml {
        command.arg(path);
    }
    command.args(args).stdin(Stdio::null()).stderr(Stdio::piped());
    let out = command.output().map_err(|error| format!("{} cannot be run: {error}", path.display()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        let said = said.trim().trim_start_matches("error: ");
        let said = if said.is_empty() { "it says nothing; is it made with Squall?" } else { said };
        return Err(format!("{} does not describe a topology: {said}", path.display()));
    }
    // Warnings.
    if !said.trim().is_empty() {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
    }
    let described: Described = serde_json::from_slice(&out.stdout).map_err(|_| {
        format!("{} does not describe a topology: is it made with this version of Squall?", path.display())
    })?;
    if described.protocol != PROTOCOL {
        let (theirs, ours) = (described.protocol, PROTOCOL);
        return Err(format!(
            "{} speaks version {theirs} of the protocol and this `squall` {ours}: build it anew",
            path.display()
        ));
    }
    Ok(described)
}

/// The variables of the environment that a YAML topology names (`${ENV-NAME}`), where they are set.
fn named_environment(text: &str, value: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let names = text.split("${ENV-").skip(1).filter_map(|rest| rest.split(['}', ':']).next());
    names.filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
}

fn shape(described: &Described) -> Shape {
    let executors: u64 = described.components.iter().map(|c| u64::from(c.executors)).sum();
    // Reactors, not executors, take processors; so a slot is what a worker needs of those.
    let need = Resources { cpu: 0, memory: described.memory / executors.max(1) };
    let component = |c: &super::talk::DescribedComponent| ComponentShape {
        name: c.name.clone(),
        tasks: c.tasks,
        executors: c.executors,
        need,
    };
    Shape {
        workers: described.workers,
        components: described.components.iter().map(component).collect(),
        talks: described.talks.clone(),
    }
}

/// Nobody has the name. Nimbus checks it again; this saves the upload.
fn vacant(client: &Client, name: &str) -> Result<(), ClientError> {
    match client.get(&format!("/api/v2/topologies/{name}")) {
        Ok(there) => {
            let status = there["status"].as_str().unwrap_or_default();
            Err(ClientError::Refused(format!(
                "a topology {name} is there already ({status}): kill it first, or take another name with --name"
            )))
        }
        Err(ClientError::Missing(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn hash(path: &Path) -> Result<(String, u64), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    Ok((hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), size))
}

/// Sends the artifact in chunks, unless it is there.
fn upload(client: &Client, path: &Path, hash: &str, size: u64) -> Result<(), ClientError> {
    let failed = |error: std::io::Error| ClientError::Refused(format!("{}: {error}", path.display()));
    let begun = client.post(&format!("/api/v2/blobs/{hash}?size={size}"), &[])?;
    if begun["known"] == true {
        return Ok(());
    }
    let (upload, chunk) = (begun["upload"].as_u64().unwrap_or(0), begun["chunk"].as_u64().unwrap_or(1 << 20) as usize);
    let mut file = File::open(path).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let (mut buffer, mut offset) = (vec![0; chunk.max(1)], 0_u64);
    while offset < size {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Err(ClientError::Refused(format!(
                "{} became shorter while it was sent: submit it again",
                path.display()
            )));
        }
        client.put(&format!("/api/v2/uploads/{upload}?offset={offset}"), &buffer[..read])?;
        offset += read as u64;
    }
    client.post(&format!("/api/v2/uploads/{upload}/finish"), &[]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_file_names_of_the_environment_is_taken_along() {
        let text = "paths: ${ENV-INPUT}/${ENV-LANG:-en}/${HOME}\nkey: ${ENV-UNSET:-x}";
        let set = |name: &str| (name != "UNSET").then(|| format!("<{name}>"));
        let taken: Vec<(String, String)> = named_environment(text, set).into_iter().collect();
        assert_eq!(taken, [("INPUT".into(), "<INPUT>".into()), ("LANG".into(), "<LANG>".into())]);
    }
}
