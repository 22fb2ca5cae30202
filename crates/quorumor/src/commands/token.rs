//! `quorumor token`: makes bearer tokens, and their entries for a node's tokens file.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorumor_server::{TOKEN_CHARS_MAX, hash_token};

use super::certs::{Secret, write};
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  export QUORUMOR_AUTH_TOKEN=$(quorumor token new --name ops --role admin --file tokens.toml)
  quorumor token new --name web --role read=shop/ --role write=shop/carts/
  quorumor token hash < token.txt

Roles: admin (everything), read=PREFIX, write=PREFIX (reading included); an empty PREFIX is every key. The file, for
`quorumor serve --tokens`, holds hashes only; nodes follow it without a restart.";

/// 256 bits, which nobody guesses.
const RANDOM_BYTES: usize = 32;

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) what: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token
    #[command(after_help = EXAMPLE)]
    New(NewToken),
    /// Print the hash of a token that stdin holds
    #[command(after_help = EXAMPLE)]
    Hash,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NewToken {
    /// Whose it is, for the record of what was done and refused
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: String,
    /// What it may do: admin, read=PREFIX or write=PREFIX; repeatable
    #[arg(long, value_name = "ROLE", required = true, value_parser = role)]
    pub(crate) role: Vec<String>,
    /// Add its entry to this file and print the token alone [default: print both]
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Add it even if the file has a token of this name: both are good then
    #[arg(long, requires = "file")]
    pub(crate) another: bool,
}

#[expect(clippy::unused_async, reason = "as every command is run")]
pub(crate) async fn run(args: TokenArgs) -> Result<Exit, Failure> {
    match args.what {
        TokenCommand::New(args) => make(&args)?,
        TokenCommand::Hash => {
            let mut token = String::new();
            let longest = TOKEN_CHARS_MAX as u64 + 2;
            std::io::stdin()
                .lock()
                .take(longest)
                .read_to_string(&mut token)
                .map_err(|error| Failure::unavailable("can't read the token from stdin", &error))?;
            let hash = hash_token(token.trim_end_matches(['\r', '\n'])).map_err(Failure::usage)?;
            output::line(&hash)?;
        }
    }
    Ok(Exit::Done)
}

fn make(args: &NewToken) -> Result<(), Failure> {
    let random: [u8; RANDOM_BYTES] = rand::random();
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("quorumor_{digits}");
    let entry = entry(&args.name, &token, &args.role)?;
    match &args.file {
        Some(path) => {
            append(path, &entry, args)?;
            output::line(&token)
        }
        None => output::line(&format!(
            "{token}\n\n# for the tokens file; the token itself is shown only here\n{entry}"
        )),
    }
}

fn entry(name: &str, token: &str, roles: &[String]) -> Result<String, Failure> {
    let hash = hash_token(token).map_err(Failure::usage)?;
    Ok(format!(
        "[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\nroles = [{}]\n",
        roles.join(", ")
    ))
}

fn append(path: &Path, entry: &str, args: &NewToken) -> Result<(), Failure> {
    let older = match std::fs::read_to_string(path) {
        Ok(older) => older,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            let what = format!("can't read {}", path.display());
            return Err(Failure::unavailable(&what, &error));
        }
    };
    let line = format!("name = \"{}\"", args.name);
    if !args.another && older.lines().any(|older| older.trim() == line) {
        let message = format!(
            "{} has a token named {:?} already",
            path.display(),
            args.name
        );
        return Err(Failure::usage(message)
            .advising("choose another name, or say --another: both tokens are good then"));
    }
    let gap = if older.is_empty() { "" } else { "\n" };
    write(path, &format!("{older}{gap}{entry}"), Secret::Yes)
}

fn name(text: &str) -> Result<String, String> {
    let fits = (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if fits {
        return Ok(text.to_owned());
    }
    Err("a name is 1 to 253 printable characters without spaces, quotes and backslashes".to_owned())
}

/// A role as the file writes it.
fn role(text: &str) -> Result<String, String> {
    if text == "admin" {
        return Ok("\"admin\"".to_owned());
    }
    let known = text
        .split_once('=')
        .filter(|(role, _)| ["read", "write"].contains(role));
    let (role, prefix) = known.ok_or("a role is admin, read=PREFIX or write=PREFIX")?;
    // JSON's strings are TOML's, but for the one escape that neither needs.
    let prefix = serde_json::Value::from(prefix);
    Ok(format!("{{ {role} = {prefix} }}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_become_what_the_file_wants() {
        assert_eq!(role("admin").unwrap(), "\"admin\"");
        assert_eq!(role("read=").unwrap(), "{ read = \"\" }");
        assert_eq!(role("write=a\"b").unwrap(), "{ write = \"a\\\"b\" }");
        assert!(role("root").is_err() && role("see=x").is_err());
    }

    #[test]
    fn entries_are_added_and_only_the_owner_reads_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        for name in ["a", "b"] {
            let args = NewToken {
                name: name.into(),
                role: vec!["\"admin\"".into()],
                file: Some(path.clone()),
                another: false,
            };
            make(&args).unwrap();
            assert_eq!(make(&args).unwrap_err().exit, Exit::Usage);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("[[token]]").count(), 2);
        assert!(!text.contains("quorumor_"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
