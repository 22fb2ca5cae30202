//! What the tests of the program share: running it, nodes that end with the test, and waiting for what must come.

use std::process::{Command, Output, Stdio};

pub(crate) fn quorumor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorumor"))
        .args(arguments)
        .env_remove("QUORUMOR_ENDPOINTS")
        .output()
        .expect("the program runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A node, or a cluster of `dev`, that ends with the test.
pub(crate) struct Served {
    pub(crate) process: std::process::Child,
    pub(crate) endpoint: String,
}

impl Served {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorumor"));
        command
            .args(["serve", "--cluster", "shop", "--node-id", "1", "-o", "json"])
            .args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
            .arg("--exit-on-stdin-close")
            .args(arguments);
        Self::begin(&mut command)
    }

    pub(crate) fn begin(command: &mut Command) -> Self {
        use std::io::BufRead;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let mut ready = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        std::io::BufReader::new(stdout)
            .read_line(&mut ready)
            .expect("the node is ready");
        let endpoint = ready
            .split("\"endpoint\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_else(|| panic!("no endpoint in {ready:?}"));
        Self {
            endpoint: endpoint.to_owned(),
            process,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Whether a process still runs; one that ended but that nobody has asked about doesn't.
pub(crate) fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < 30, "{what} never happens");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
