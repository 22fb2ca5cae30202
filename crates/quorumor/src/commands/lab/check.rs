//! `quorumor lab check`: a history file judged as a data type, with a witness for what can't be explained.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorumor_lab::checker::linearizable::Reads;
use quorumor_lab::checker::model::{self, Model};
use quorumor_lab::checker::{Evidence, Finding, Verdict, timeline};
use quorumor_lab::history::History;
use serde_json::{Value, json};

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor lab check history.jsonl
  quorumor lab check history.jsonl --model cas-register
  quorumor lab check etcd.jsonl --model register --reads-as linearizable
  quorumor lab check history.jsonl --output json | jq .findings

The format is docs/history-format.md; few of its fields are needed. A model says which operations a history may have, and which
checkers are run: register (get, put, delete) and cas-register (with compare-and-set) look for a linear order of each key, set
follows the elements put under a listed prefix, kv judges everything that the history has by what its mode promises.

Exit status: 0 valid; 1 invalid, with the smallest operations that can't be explained; 2 not such a history; 6 unknown: a
checker could not decide, or the history has no end.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CheckArgs {
    /// The history: JSON lines
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// As what it is judged
    #[arg(long, value_enum, default_value_t = ModelName::Kv)]
    pub(crate) model: ModelName,
    /// Judge every read as if it claimed this [default: what its answer says]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) reads_as: Option<ReadsAs>,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

/// As what a history is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelName {
    /// Get, put and delete: linearizable per key
    Register,
    /// A register with compare-and-set
    CasRegister,
    /// Elements that are put once and listed
    Set,
    /// Everything that the history has
    Kv,
}

impl From<ModelName> for Model {
    fn from(name: ModelName) -> Self {
        match name {
            ModelName::Register => Self::Register,
            ModelName::CasRegister => Self::CasRegister,
            ModelName::Set => Self::Set,
            ModelName::Kv => Self::Kv,
        }
    }
}

/// What every read is taken to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReadsAs {
    /// The answer of a single copy
    Linearizable,
}

pub(crate) async fn run(args: CheckArgs) -> Result<Exit, Failure> {
    // Judging computes; the runtime's own threads have nothing to wait for here.
    let result = tokio::task::spawn_blocking(move || check(&args));
    result
        .await
        .map_err(|error| Failure::unavailable("the check broke", &error))?
}

fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let file = args.file.display();
    let history = History::read(&args.file).map_err(|error| {
        let cause = error
            .source()
            .filter(|_| !error.to_string().starts_with("line"));
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::usage(format!("{file}: {error}{cause}"))
            .advising("the format is documented in docs/history-format.md")
    })?;
    let reads = args.reads_as.map_or(Reads::Claimed, |level| match level {
        ReadsAs::Linearizable => Reads::All,
    });
    let findings = model::judge_as(&history, args.model.into(), reads)
        .map_err(|error| Failure::usage(format!("{file}: {error}")))?;
    let verdict = model::verdict(&history, &findings);
    match args.output {
        Report::Text => show(&history, &findings, verdict)?,
        Report::Json => output::json(&as_json(args, &history, &findings, verdict))?,
    }
    Ok(match verdict {
        Verdict::Valid => Exit::Done,
        Verdict::Invalid => Exit::Broken,
        Verdict::Unknown => Exit::Void,
    })
}

fn show(history: &History, findings: &[Finding], verdict: Verdict) -> Result<(), Failure> {
    for finding in findings {
        let Finding {
            property, summary, ..
        } = finding;
        let verdict = finding.verdict.name();
        output::line(&format!("{verdict:9} {}: {summary}", property.name()))?;
        for evidence in &finding.evidence {
            show_evidence(history, evidence)?;
        }
    }
    if !history.is_complete() {
        output::line("the history has no last line: what happened after its end nobody knows")?;
    }
    let ops = history.ops.len();
    output::line(&format!("{ops} operations: {}", verdict.name()))
}

fn show_evidence(history: &History, evidence: &Evidence) -> Result<(), Failure> {
    output::line(&format!("\n  {}", evidence.text))?;
    for line in &evidence.lines {
        output::line(&format!("    {line}"))?;
    }
    output::line("")?;
    for line in timeline::draw(history, &evidence.ops) {
        output::line(&line)?;
    }
    output::line("")
}

fn as_json(args: &CheckArgs, history: &History, findings: &[Finding], verdict: Verdict) -> Value {
    let timelines = |finding: &Finding| -> Vec<Vec<String>> {
        let drawn = finding.evidence.iter();
        drawn
            .map(|evidence| timeline::draw(history, &evidence.ops))
            .collect()
    };
    let with_timelines = |finding: &Finding| {
        json!({
            "property": finding.property,
            "verdict": finding.verdict,
            "summary": finding.summary,
            "evidence": finding.evidence,
            "timelines": timelines(finding),
        })
    };
    json!({
        "file": args.file,
        "model": Model::from(args.model).name(),
        "mode": history.header.mode,
        "system": history.header.system,
        "operations": history.ops.len(),
        "complete": history.is_complete(),
        "verdict": verdict,
        "findings": findings.iter().map(with_timelines).collect::<Vec<_>>(),
    })
}
