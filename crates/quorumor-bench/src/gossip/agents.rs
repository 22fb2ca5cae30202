//! The processes of one system that is measured: so many agents on the loopback, each known by a number from 0.
//!
//! What is started here ends with the [`Agents`]. Agent 0 is the one that all others join by.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::door::Door;
use crate::BenchError;
use crate::cluster::{Ports, file_error, free_ports, tail};

/// A process that says nothing for so long hasn't started.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Quorumor in eventual mode.
    Quorumor,
    /// Serf, with its default profile for local networks.
    Serf,
}

impl System {
    /// Its name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorumor => "quorumor",
            Self::Serf => "serf",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How agents are started.
#[derive(Clone, Debug)]
pub(super) struct AgentsPlan {
    pub(super) system: System,
    /// The program of the system.
    pub(super) program: PathBuf,
    /// The program `quorumor`, under which agents that can't do so by themselves end with this process.
    pub(super) quorumor: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) agents: usize,
}

/// Agents that run, or ran until they were killed.
#[derive(Debug)]
pub(super) struct Agents {
    plan: AgentsPlan,
    ports: Vec<Ports>,
    running: Vec<Option<Agent>>,
}

#[derive(Debug)]
struct Agent {
    process: Child,
    pid: u32,
    /// Held open: Quorumor's nodes end when it closes.
    _stdin: Option<ChildStdin>,
}

impl Agents {
    /// Starts all of them and returns once each answers. They needn't know each other yet.
    pub(super) async fn start(plan: AgentsPlan) -> Result<Self, BenchError> {
        std::fs::create_dir_all(&plan.dir).map_err(|why| file_error(&plan.dir, why))?;
        let ports = free_ports(plan.agents).map_err(|why| BenchError::Start {
            what: plan.system.to_string(),
            why: format!("no free ports: {why}"),
        })?;
        let mut agents = Self {
            running: Vec::new(),
            plan,
            ports,
        };
        // The first one must be there before anybody can join by it.
        agents.spawn(0)?;
        agents.wait_until_up(0).await?;
        for agent in 1..agents.plan.agents {
            agents.spawn(agent)?;
        }
        for agent in 1..agents.plan.agents {
            agents.wait_until_up(agent).await?;
        }
        Ok(agents)
    }

    pub(super) const fn system(&self) -> System {
        self.plan.system
    }

    /// How many were started.
    pub(super) const fn len(&self) -> usize {
        self.plan.agents
    }

    /// Those that run.
    pub(super) fn alive(&self) -> impl Iterator<Item = usize> {
        let running = self.running.iter().enumerate();
        running.filter_map(|(agent, running)| running.is_some().then_some(agent))
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.running
            .iter()
            .flatten()
            .map(|agent| agent.pid)
            .collect()
    }

    /// What an agent is called in its system.
    pub(super) fn name(agent: usize) -> String {
        format!("n{}", agent + 1)
    }

    /// A connection to an agent.
    pub(super) async fn door(&self, agent: usize) -> Result<Door, BenchError> {
        Door::open(self.plan.system, &self.ports[agent].client.to_string()).await
    }

    /// Kills an agent as a crash would (`kill -9`), and says when.
    pub(super) async fn kill(&mut self, agent: usize) -> Result<Instant, BenchError> {
        let failed = |why: String| BenchError::Unfit {
            target: self.plan.system.to_string(),
            why: format!("{} can't be killed: {why}", Self::name(agent)),
        };
        let killed = self.running[agent].take();
        let mut killed = killed.ok_or_else(|| failed("it has ended by itself".to_owned()))?;
        let kill = killed.process.start_kill();
        let at = Instant::now();
        kill.map_err(|why| failed(why.to_string()))?;
        let ended = killed.process.wait().await;
        ended.map_err(|why| failed(why.to_string()))?;
        Ok(at)
    }

    /// Kills all of them and removes their data unless it is to be kept.
    pub(super) async fn stop(mut self, keep: bool) {
        for agent in self.running.iter_mut().flatten() {
            // It may have ended by itself, which is as good.
            let _gone = agent.process.start_kill();
        }
        for agent in self.running.iter_mut().flatten() {
            let _gone = agent.process.wait().await;
        }
        if !keep {
            // What can't be removed is only in the way.
            let _left = std::fs::remove_dir_all(&self.plan.dir);
        }
    }

    fn spawn(&mut self, agent: usize) -> Result<(), BenchError> {
        let log = self.log(agent);
        let output = File::create(&log).map_err(|why| file_error(&log, why))?;
        let errors = output.try_clone().map_err(|why| file_error(&log, why))?;
        let mut command = match self.plan.system {
            System::Quorumor => {
                let mut command = Command::new(&self.plan.program);
                command.args(self.quorumor_arguments(agent));
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                command
            }
            System::Serf => {
                let mut command = Command::new(&self.plan.quorumor);
                command.args(["child-of", &std::process::id().to_string(), "--"]);
                command
                    .arg(&self.plan.program)
                    .args(self.serf_arguments(agent));
                command.stdin(Stdio::null()).stdout(output);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            // A person's settings for the client or another agent are not meant for these.
            let name = name.to_string_lossy();
            if name.starts_with("QUORUMOR_") || name.starts_with("SERF_") {
                command.env_remove(&*name);
            }
        }
        let spawned = command.stderr(errors).kill_on_drop(true).spawn();
        let program = self.plan.program.display();
        let mut process =
            spawned.map_err(|why| self.not_started(agent, format!("{program}: {why}")))?;
        let stdin = process.stdin.take();
        let pid = process.id();
        let pid = pid.ok_or_else(|| self.not_started(agent, tail(&log)))?;
        self.running.push(Some(Agent {
            process,
            pid,
            _stdin: stdin,
        }));
        Ok(())
    }

    fn quorumor_arguments(&self, agent: usize) -> Vec<String> {
        let Ports { client, peer } = self.ports[agent];
        let mut arguments = vec![
            "serve".to_owned(),
            "--mode=eventual".to_owned(),
            "--cluster=bench".to_owned(),
            format!("--node-id={}", agent + 1),
            format!("--data-dir={}", self.data_dir(agent).display()),
            format!("--listen={client}"),
            format!("--peer-listen={peer}"),
            "--log=warn".to_owned(),
            "--output=json".to_owned(),
            "--exit-on-stdin-close".to_owned(),
        ];
        if agent > 0 {
            arguments.push(format!("--seeds={}", self.ports[0].peer));
        }
        arguments
    }

    fn serf_arguments(&self, agent: usize) -> Vec<String> {
        let Ports { client, peer } = self.ports[agent];
        let mut arguments = vec![
            "agent".to_owned(),
            format!("-node={}", Self::name(agent)),
            format!("-bind={peer}"),
            format!("-rpc-addr={client}"),
            "-log-level=warn".to_owned(),
        ];
        if agent > 0 {
            arguments.push(format!("-join={}", self.ports[0].peer));
        }
        arguments
    }

    /// Waits until an agent answers, or has ended instead.
    async fn wait_until_up(&mut self, agent: usize) -> Result<(), BenchError> {
        let started = match self.plan.system {
            System::Quorumor => timeout(STARTED_WITHIN, self.says_ready(agent)).await,
            System::Serf => timeout(STARTED_WITHIN, self.answers(agent)).await,
        };
        let why = match started {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => format!("it didn't get ready:\n{}", tail(&self.log(agent))),
        };
        Err(self.not_started(agent, why))
    }

    async fn says_ready(&mut self, agent: usize) -> Result<(), String> {
        let log = self.log(agent);
        let running = self.running[agent].as_mut();
        let stdout = running.and_then(|agent| agent.process.stdout.take());
        let stdout = stdout.ok_or("it has no output")?;
        let mut line = String::new();
        match BufReader::new(stdout).read_line(&mut line).await {
            Ok(1..) => Ok(()),
            Ok(_) | Err(_) => Err(format!("it has ended:\n{}", tail(&log))),
        }
    }

    async fn answers(&mut self, agent: usize) -> Result<(), String> {
        loop {
            if self.door(agent).await.is_ok() {
                return Ok(());
            }
            let log = self.log(agent);
            let running = self.running[agent].as_mut();
            let ended = running.and_then(|agent| agent.process.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(format!("it has ended, {status}:\n{}", tail(&log)));
            }
            sleep(ASK_EVERY).await;
        }
    }

    fn not_started(&self, agent: usize, why: String) -> BenchError {
        BenchError::Start {
            what: format!("{} of {}", Self::name(agent), self.plan.system),
            why,
        }
    }

    fn data_dir(&self, agent: usize) -> PathBuf {
        self.plan.dir.join(Self::name(agent))
    }

    fn log(&self, agent: usize) -> PathBuf {
        self.plan.dir.join(format!("{}.log", Self::name(agent)))
    }
}

/// Whether a program is there: at this path, or under this name where the shell would look.
#[must_use]
pub fn is_program(program: &Path) -> bool {
    if program.components().count() > 1 {
        return program.is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(system: System, program: &str, dir: &Path) -> AgentsPlan {
        AgentsPlan {
            system,
            program: program.into(),
            quorumor: "/nowhere/quorumor".into(),
            dir: dir.to_owned(),
            agents: 2,
        }
    }

    #[tokio::test]
    async fn a_program_that_isnt_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(System::Quorumor, "/nowhere/program", dir.path());
        let error = Agents::start(plan).await.unwrap_err().to_string();
        assert!(
            error.contains("n1 of quorumor: /nowhere/program"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_is_no_agent() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(System::Quorumor, "false", dir.path());
        let error = Agents::start(plan).await.unwrap_err().to_string();
        assert!(error.contains("it has ended"), "{error}");
    }

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        assert!(is_program(Path::new("sh")));
        assert!(is_program(Path::new("/bin/sh")));
        assert!(!is_program(Path::new("./sh")));
        assert!(!is_program(Path::new("no-such-program")));
    }
}
