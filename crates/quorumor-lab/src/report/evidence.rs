//! The lower half of the page, for the sceptic: what was checked, each violation with its timeline, every run with its
//! seed and build, the machine, and the command that repeats it.
//!
//! Not a judge: findings and witnesses come from the analysis. Called by the page.

use super::column::world_words;
use super::html::{Escaped, element, text};
use super::words::{capital, count, counted};
use super::{Column, Comparison, Judgement, figures, timeline};
use crate::analyse::{RunResult, Witness};
use crate::checker::{Evidence, Finding, Verdict};

/// How to read a witness.
const TIMELINES: &str = "<p class=\"note\">In a timeline, a lane is a process and a bar an operation from its start to its end, with \
    what it asked and saw, and @ the node asked. The order of times is exact, their distances aren't to scale. Each is the \
    smallest evidence that its checker found.</p>";

/// All of it.
pub(super) fn render(comparison: &Comparison) -> String {
    let violations: String = comparison.columns.iter().map(violations).collect();
    let violations = match violations.is_empty() {
        true => String::new(),
        false => format!("<h3>What was found</h3>{TIMELINES}{violations}"),
    };
    let checks: String = comparison.columns.iter().map(checks).collect();
    format!(
        "<section id=\"evidence\"><h2>Evidence</h2>{violations}<h3>What was checked</h3>{}\
         <h3>Acknowledged writes, at the end</h3>{}<h3>The runs</h3>{}{}</section>",
        element("div", "columns", &checks),
        figures::fates(comparison),
        runs(comparison),
        repeat(comparison)
    )
}

/// A column, and the seed where it has several runs.
fn run_name(column: &Column, run: &RunResult) -> String {
    match column.runs.len() {
        1 => column.label.clone(),
        _ => format!("{}, seed {}", column.label, run.seed),
    }
}

/// Every finding of a column that has evidence.
fn violations(column: &Column) -> String {
    let mut body = String::new();
    for run in &column.runs {
        let found = run.findings.iter();
        for found in found.filter(|found| !found.evidence.is_empty()) {
            let shown: String = found
                .evidence
                .iter()
                .map(|piece| evidence(piece, found, run))
                .collect();
            let head = format!(
                "<h4>{}: {}</h4>",
                Escaped(&run_name(column, run)),
                found.property.name()
            );
            let class = check_class(found.verdict).0;
            body.push_str(&element(
                "div",
                class,
                &(head + &text("p", "note", &found.summary) + &shown),
            ));
        }
    }
    body
}

fn check_class(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Valid => ("check kept", Judgement::Kept.symbol()),
        Verdict::Unknown => ("check void", Judgement::Undecided.symbol()),
        Verdict::Invalid => ("check broken", Judgement::Broken.symbol()),
    }
}

/// What was checked in each run of a column; of several, those that kept everything are folded away.
fn checks(column: &Column) -> String {
    let mut body = text("h4", "", &column.label);
    for run in &column.runs {
        let findings: String = run.findings.iter().map(finding).collect();
        if column.runs.len() == 1 {
            body.push_str(&findings);
            continue;
        }
        let held = run
            .findings
            .iter()
            .filter(|found| found.verdict == Verdict::Valid);
        let all = run.findings.len() as u64;
        let open = if Judgement::of(run) == Judgement::Kept {
            ""
        } else {
            " open"
        };
        body.push_str(&format!(
            "<details{open}><summary>seed {}: {} of {}</summary>{findings}</details>",
            run.seed,
            count(held.count() as u64),
            counted(all, "check held", "checks held")
        ));
    }
    element("div", "checks", &body)
}

fn finding(finding: &Finding) -> String {
    let (class, symbol) = check_class(finding.verdict);
    let head = format!(
        "<p><b>{symbol} {}</b> {}</p>",
        finding.verdict.name(),
        Escaped(finding.property.name())
    );
    element("div", class, &(head + &text("p", "note", &finding.summary)))
}

fn evidence(evidence: &Evidence, finding: &Finding, run: &RunResult) -> String {
    let mut drawn = run.witnesses.iter();
    let drawn =
        drawn.find(|witness| witness.property == finding.property && witness.text == evidence.text);
    let lines = match evidence.lines.is_empty() {
        true => String::new(),
        false => format!(
            "<details><summary>The operations as the history has them, times on the lab's clock</summary>{}</details>",
            text("pre", "", &evidence.lines.join("\n"))
        ),
    };
    let head = format!("<p>{}.</p>", Escaped(&capital(&evidence.text)));
    head + &drawn.map_or(String::new(), witness) + &lines
}

fn witness(witness: &Witness) -> String {
    let left_out = match witness.left_out {
        0 => String::new(),
        n => text(
            "p",
            "note",
            &format!("{} earlier operations are left out.", count(n)),
        ),
    };
    format!(
        "<div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"Timeline of the evidence\">{}</div>{left_out}",
        timeline::svg(witness)
    )
}

fn runs(comparison: &Comparison) -> String {
    let mut rows = String::new();
    for column in &comparison.columns {
        for run in &column.runs {
            rows.push_str(&run_row(column, run));
        }
    }
    let heads = [
        "column",
        "where",
        "seed",
        "verdict",
        "operations",
        "oldest stale read",
        "build",
        "log",
    ];
    let heads: String = heads
        .iter()
        .map(|head| format!("<th scope=\"col\">{head}</th>"))
        .collect();
    format!(
        "<div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"Every run\"><table class=\"runs\">\
         <thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

fn run_row(column: &Column, run: &RunResult) -> String {
    let judgement = Judgement::of(run);
    let reasons: Vec<String> = run.void.iter().map(crate::void::VoidReason::text).collect();
    let mut verdict = format!("{} {}", judgement.symbol(), judgement.word());
    if !reasons.is_empty() {
        verdict.push_str(&format!(": {}", reasons.join("; ")));
    }
    let cells = [
        world_words(column.world).to_owned(),
        run.seed.to_string(),
        verdict,
        count(run.total.counts.total()),
        super::words::duration(run.total.stale_us_max),
        run.build.clone(),
        run.fsync.clone(),
    ];
    let cells: String = cells.iter().map(|cell| text("td", "", cell)).collect();
    element(
        "tr",
        "",
        &format!("<th scope=\"row\">{}</th>{cells}", Escaped(&column.label)),
    )
}

fn repeat(comparison: &Comparison) -> String {
    format!(
        "<h3>Repeat it</h3><pre>{}</pre><p class=\"note\">Made on {}. The histories beside this page hold every operation; \
         every figure here can be counted again from them. Figures of one machine over loopback: compare the columns with each other, \
         not with other machines. Among real processes a cut lets connections be accepted but carries nothing, and a kill keeps the \
         page cache, so it does not test fsync.</p>",
        Escaped(&comparison.command),
        Escaped(&comparison.machine.text())
    )
}
