//! `quorumor service discover`: the instances of a service.

use clap::{Args, ValueEnum};
use quorumor_client::{DiscoverAnswer, DiscoverQuery, HealthFilter, ZoneRule};
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json, receipt_lines};

use super::shown;

const EXAMPLE: &str = "\
Examples:
  quorumor service discover web
  quorumor service discover web --filter 'version=2 && !canary'
  quorumor service discover web --zone eu-1 --zone-rule prefer
  quorumor service discover web --health any -o wide
  quorumor service discover web -o json | jq -r '.instances[] | \"\\(.address):\\(.port)\"'

A filter holds tags and KEY=VALUE of metadata, with `!`, `&&`, `||` and brackets. HEALTH since when is by the clock of the node
that says so; `flapping` is an instance that went to and fro so often that it is held critical until it has been steady for a
while. NODE took the registration, and makes the checks. A service that nobody registered is an answer: exit status 0.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DiscoverArgs {
    /// The service
    pub(super) name: String,
    /// What tags and metadata must be
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) filter: String,
    /// Which by health
    #[arg(long, value_enum, default_value_t = AskedHealth::Usable)]
    pub(super) health: AskedHealth,
    /// The zone that is asked from
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    /// What that zone means
    #[arg(long, value_enum, value_name = "RULE", requires = "zone", default_value_t = AskedZoneRule::First)]
    pub(super) zone_rule: AskedZoneRule,
    /// At most so many [default: all of them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// Which instances by health, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AskedHealth {
    /// Those that may be used: passing and warning
    Usable,
    /// Only passing ones
    Passing,
    /// All of them, critical ones too
    Any,
}

impl From<AskedHealth> for HealthFilter {
    fn from(asked: AskedHealth) -> Self {
        match asked {
            AskedHealth::Usable => Self::Usable,
            AskedHealth::Passing => Self::Passing,
            AskedHealth::Any => Self::Any,
        }
    }
}

/// What a zone means, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AskedZoneRule {
    /// It comes first, the others after it
    First,
    /// Only this zone, unless nothing is left there: then all
    Prefer,
    /// Only this zone
    Require,
}

impl From<AskedZoneRule> for ZoneRule {
    fn from(asked: AskedZoneRule) -> Self {
        match asked {
            AskedZoneRule::First => Self::First,
            AskedZoneRule::Prefer => Self::Prefer,
            AskedZoneRule::Require => Self::Require,
        }
    }
}

pub(super) async fn run(args: DiscoverArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let query = DiscoverQuery {
        filter: args.filter.clone(),
        health: args.health.into(),
        zone: args.zone.clone(),
        zone_rule: args.zone_rule.into(),
        limit: args.limit.map_or(0, |limit| limit as usize),
        ..DiscoverQuery::new(&args.name)
    };
    let answer = client.discover(&query).await.map_err(Failure::of_read)?;
    if args.client.output == Output::Json {
        output::json(&json!({
            "instances": answer.instances.iter().map(shown::found_json).collect::<Vec<_>>(),
            "service_known": answer.service_known,
            "zone_failed_over": answer.zone_failed_over,
            "receipt": receipt_json(&answer.receipt),
        }))?;
        return Ok(Exit::Done);
    }
    show(&answer, args.client.output == Output::Wide)?;
    if let Some(note) = note(&args, &answer) {
        output::note(&note);
    }
    Ok(Exit::Done)
}

fn show(answer: &DiscoverAnswer, wide: bool) -> Result<(), Failure> {
    if !answer.instances.is_empty() {
        let mut table = output::plain_table(shown::COLUMNS);
        table.add_rows(answer.instances.iter().map(shown::row));
        output::table(&table)?;
    }
    if wide {
        for found in &answer.instances {
            let more = shown::more_lines(found);
            if !more.is_empty() {
                output::line(&format!("{}:", line_text(&found.instance.id)))?;
                output::line(&more.join("\n"))?;
            }
        }
        output::line(&receipt_lines(&answer.receipt))?;
    }
    Ok(())
}

/// What the table alone would leave a person to guess.
fn note(args: &DiscoverArgs, answer: &DiscoverAnswer) -> Option<String> {
    let name = line_text(&args.name);
    if !answer.service_known {
        return Some(format!("absent: no instance of {name} is registered"));
    }
    if answer.instances.is_empty() {
        let wider = [
            (args.health != AskedHealth::Any, "--health any"),
            (!args.filter.is_empty(), "no --filter"),
            (
                args.zone_rule == AskedZoneRule::Require,
                "--zone-rule prefer",
            ),
        ];
        let wider = wider.iter().filter(|(narrows, _)| *narrows);
        let wider: Vec<_> = wider.map(|(_, instead)| *instead).collect();
        return Some(format!(
            "{name} has instances, but none of those that were asked for; more are found with {}",
            wider.join(", ")
        ));
    }
    answer.zone_failed_over.then(|| {
        let zone = args.zone.as_deref().map_or_else(String::new, line_text);
        format!("zone {zone} has none of them: these are in other zones")
    })
}
