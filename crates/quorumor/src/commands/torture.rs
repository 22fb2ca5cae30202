//! `quorumor torture`: kills all nodes of a strong cluster under load, again and again, and looks for what was acknowledged.

use std::path::PathBuf;

use clap::Args;
use quorumor_lab::world::cluster::torture::{self, TortureOptions, Tortured};
use serde_json::json;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor torture
  quorumor torture --rounds 5 --seed 7
  quorumor torture -o json | jq .broken

It starts a strong cluster as processes on this machine, puts numbered writes on it, and kills all nodes at once with
SIGKILL, again and again, now and then once more while they come up. After each restart every node is read: whatever was
acknowledged must be there, at the revision that was acknowledged, applied once. 100 rounds take about five minutes.

A kill leaves the page cache alone, so this shows that restarts lose nothing; that power cuts don't is shown by
`quorumor sim`, whose disks forget what wasn't synced.

Exit status: 0 nothing was lost; 1 something was; 3 it couldn't be carried out.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct TortureArgs {
    /// How often all nodes are killed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=7))]
    pub(crate) nodes: u32,
    /// Writers, each with one write at a time
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) writers: u64,
    /// When the kills come follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the nodes' logs go
    #[arg(long, value_name = "DIR", default_value = "torture-out")]
    pub(crate) out: PathBuf,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

pub(crate) async fn run(args: TortureArgs) -> Result<Exit, Failure> {
    let form = args.output;
    let options = options(args)?;
    let tell = |progress: torture::Progress| {
        if progress.rounds.is_multiple_of(5)
            || progress.rounds == progress.of
            || progress.broken > 0
        {
            output::note(&format!(
                "{} of {} kills of all nodes, {} writes acknowledged, {} broken promises",
                progress.rounds, progress.of, progress.acknowledged, progress.broken
            ));
        }
    };
    let ran = tokio::select! {
        ran = torture::run(&options, tell) => ran,
        _ = tokio::signal::ctrl_c() => return Err(Failure::usage("interrupted")),
    };
    let tortured = ran.map_err(|error| {
        Failure::new(Exit::Unavailable, "NOT_TORTURED", format!("{error:#}"))
            .advising("the nodes' logs are under --out; a run that was cut short is no verdict")
    })?;
    match form {
        Report::Json => output::json(&json!(tortured))?,
        Report::Text => output::line(&text(&tortured))?,
    }
    Ok(if tortured.broken.is_empty() {
        Exit::Done
    } else {
        Exit::Broken
    })
}

fn options(args: TortureArgs) -> Result<TortureOptions, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("this program can't find itself", &error))?;
    let out = std::path::absolute(&args.out)
        .map_err(|error| Failure::unavailable("--out is no path", &error))?;
    Ok(TortureOptions {
        seed: args.seed,
        rounds: args.rounds,
        nodes: args.nodes,
        writers: args.writers,
        out,
        program,
    })
}

fn text(tortured: &Tortured) -> String {
    let mut table = output::plain_table(["MEASURE", "VALUE"]);
    let rows = [
        ("kills of all nodes", tortured.kills.to_string()),
        ("restarts that were read", tortured.rounds.to_string()),
        ("writes acknowledged", tortured.acknowledged.to_string()),
        (
            "of them under way at a kill",
            tortured.acknowledged_across_kills.to_string(),
        ),
        ("writes of unknown outcome", tortured.unknown.to_string()),
        ("writes refused", tortured.refused.to_string()),
        ("entries checked", tortured.entries_checked.to_string()),
        (
            "serving again after",
            format!(
                "{} ms median, {} ms at most",
                tortured.back_ms_median, tortured.back_ms_max
            ),
        ),
        ("took", format!("{:.0} s", tortured.seconds)),
        ("broken promises", tortured.broken.len().to_string()),
    ];
    for (measure, value) in rows {
        table.add_row([measure.to_owned(), value]);
    }
    let mut text = output::table_text(&table);
    for broken in &tortured.broken {
        text += &format!("\nBROKEN: {broken}");
    }
    let verdict = if tortured.broken.is_empty() {
        "nothing acknowledged was lost"
    } else {
        "BROKEN"
    };
    text + &format!("\n{verdict}: {}", tortured.command)
}
