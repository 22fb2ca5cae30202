//! What a scenario shows at scale: thousands of simulated nodes of eventual mode, judged by their own run.

use anyhow::Result;

use crate::checker::{Evidence, Finding, Property};
use crate::world::scale::{self, Options};

/// Runs it. Returns the verdict as a finding, and what was seen in a sentence.
///
/// # Errors
/// When the options can't be run.
pub(super) fn run(options: &Options) -> Result<(Finding, String)> {
    let command = options.command();
    let outcome = scale::run(options, &mut |_| {})?;
    let broken: Vec<Evidence> = outcome
        .broken
        .iter()
        .map(|what| Evidence::new(format!("{what}; again: {command}"), &[]))
        .collect();
    let summary = format!("{} nodes: {}", outcome.nodes, outcome.summary());
    let finding = Finding::from_evidence(Property::AtScale, summary.clone(), broken);
    Ok((finding, format!("at scale, {summary} ({command})")))
}
