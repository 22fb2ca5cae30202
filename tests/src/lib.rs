//! End-to-end tests and house rules; the tests live in `it/`, runs that are measured in `measured/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test, built if it isn't there.
///
/// # Panics
/// If it doesn't build.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/PROFILE/deps");
    let path = folder.join("quorumor");
    if !path.exists() {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--bin", "quorumor"])
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the program doesn't build");
    }
    path
}
