//! The tokens file: who is known, by which hash or certificate name, with which roles.
//!
//! ```toml
//! [[token]]
//! name = "deploy"
//! hash = "blake3:..."                        # from `quorumor token new` or `quorumor token hash`
//! roles = [{ read = "" }, { write = "app/" }]
//!
//! [[certificate]]
//! name = "ops-1.shop.example"                # a DNS or URI name in the client's certificate
//! roles = ["admin"]
//! ```
//!
//! Tokens are known by a BLAKE3 hash under a context of our own. They are long and random, so no salt is needed; the index
//! is keyed by the process's secret and hashes are compared in constant time, so time tells nothing of a token.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Value;

use super::Known;
use super::roles::Roles;
use crate::tls::CertificateNames;

/// Entries of each kind: at 200 bytes each, under a megabyte.
const ENTRIES_MAX: usize = 4_096;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const NAME_BYTES_MAX: usize = 253;
const CONTEXT: &str = "quorumor.dev 2026-11 bearer token";
const SCHEME: &str = "blake3:";

/// Why a tokens file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tokens file `{path}` can't be used: {why}")]
pub struct RosterError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a token is known by.
pub(super) fn digest(token: &[u8]) -> blake3::Hash {
    blake3::Hash::from_bytes(blake3::derive_key(CONTEXT, token))
}

/// Everyone who is known.
#[derive(Debug)]
pub(super) struct Roster {
    text: String,
    /// The keys compare in constant time.
    tokens: HashMap<blake3::Hash, Arc<Known>>,
    certificates: BTreeMap<String, Arc<Known>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    hash: String,
    roles: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateEntry {
    name: String,
    roles: Vec<Value>,
}

impl Roster {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, RosterError> {
        text_of(path)
            .and_then(Self::parse)
            .map_err(|why| failed(path, why))
    }

    /// The file's people if it has changed. Who is as before stays the same; the others of `self` are gone.
    pub(super) fn renewed(&self, path: &Path) -> Result<Option<Self>, RosterError> {
        let text = text_of(path).map_err(|why| failed(path, why))?;
        if text == self.text {
            return Ok(None);
        }
        let mut newer = Self::parse(text).map_err(|why| failed(path, why))?;
        for (hash, known) in &self.tokens {
            keep_or_end(known, newer.tokens.get_mut(hash));
        }
        for (name, known) in &self.certificates {
            keep_or_end(known, newer.certificates.get_mut(name));
        }
        Ok(Some(newer))
    }

    pub(super) fn by_token(&self, token: &[u8]) -> Option<Arc<Known>> {
        self.tokens.get(&digest(token)).cloned()
    }

    /// By the first of the certificate's names that is known.
    pub(super) fn by_certificate(&self, names: &CertificateNames) -> Option<Arc<Known>> {
        names
            .iter()
            .find_map(|name| self.certificates.get(name))
            .cloned()
    }

    fn parse(text: String) -> Result<Self, String> {
        let file: File = toml::from_str(&text).map_err(|error| without_text(&error, &text))?;
        if file.token.len() > ENTRIES_MAX || file.certificate.len() > ENTRIES_MAX {
            return Err(format!(
                "at most {ENTRIES_MAX} entries of each kind are allowed"
            ));
        }
        let mut roster = Self {
            text,
            tokens: HashMap::new(),
            certificates: BTreeMap::new(),
        };
        for entry in file.token {
            let who = format!("token {}", name(&entry.name)?);
            let roles = roles(&who, &entry.roles)?;
            let hash = parse_hash(&entry.hash).ok_or_else(|| {
                format!("the hash of {who} isn't {SCHEME} and 64 hexadecimal digits; `quorumor token hash` prints it")
            })?;
            let known = Arc::new(Known::new(who.clone(), roles));
            if roster.tokens.insert(hash, known).is_some() {
                return Err(format!("{who} is the same token as another entry"));
            }
        }
        for entry in file.certificate {
            let who = format!("certificate {}", name(&entry.name)?);
            let roles = roles(&who, &entry.roles)?;
            let known = Arc::new(Known::new(who.clone(), roles));
            let name = entry.name.to_ascii_lowercase();
            if roster.certificates.insert(name, known).is_some() {
                return Err(format!("{who} is named twice"));
            }
        }
        Ok(roster)
    }
}

fn keep_or_end(older: &Arc<Known>, newer: Option<&mut Arc<Known>>) {
    match newer {
        Some(newer) if newer.name == older.name && newer.roles == older.roles => {
            *newer = Arc::clone(older);
        }
        Some(_) | None => older.gone.cancel(),
    }
}

fn failed(path: &Path, why: String) -> RosterError {
    RosterError {
        path: path.display().to_string(),
        why,
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// The parser's word and the line, but not the line's text: somebody may have put a token where its hash belongs.
fn without_text(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    });
    let why = error.message();
    line.map_or_else(|| why.to_owned(), |line| format!("line {line}: {why}"))
}

fn name(name: &str) -> Result<&str, String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(name);
    }
    Err(format!(
        "a name is 1 to {NAME_BYTES_MAX} printable ASCII characters without spaces, which {name:?} isn't"
    ))
}

fn parse_hash(text: &str) -> Option<blake3::Hash> {
    blake3::Hash::from_hex(text.strip_prefix(SCHEME)?).ok()
}

fn roles(who: &str, words: &[Value]) -> Result<Roles, String> {
    let refused = || {
        format!(
            "a role of {who} is none; roles are \"admin\", {{ read = \"PREFIX\" }} and {{ write = \"PREFIX\" }}"
        )
    };
    let mut roles = Roles::default();
    for word in words {
        if word.as_str() == Some("admin") {
            roles.grant_admin();
            continue;
        }
        for (role, prefix) in word.as_table().ok_or_else(refused)? {
            let prefix = prefix.as_str().ok_or_else(refused)?;
            match role.as_str() {
                "read" => roles.grant_read(prefix),
                "write" => roles.grant_write(prefix),
                _ => return Err(refused()),
            }
        }
    }
    if roles.is_empty() {
        return Err(format!("{who} has no role"));
    }
    Ok(roles)
}
