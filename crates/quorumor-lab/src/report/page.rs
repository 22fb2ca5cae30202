//! The HTML page: one self-contained file, no script, light and dark.
//!
//! Not the figure ([`super::plot`]). Called by `compare`.

use super::Comparison;
use super::html::{Escaped, element, text};
use super::plot;
use super::words::{count, duration, guarantee, judgement, maybe, promises, recovery, sentences};
use crate::analyse::{ModeResult, PhaseFigures};
use crate::checker::{Evidence, Finding, Verdict};
use crate::history::Mode;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn render_html(comparison: &Comparison) -> String {
    let scenario = &comparison.scenario;
    let subtitle = format!(
        "{} nodes a mode on one machine, {} operations/s for {}, the same operations and the same faults. Seed {}.",
        scenario.nodes,
        scenario.workload.rate,
        duration(scenario.duration_us()),
        scenario.seed
    );
    let means: String = sentences(comparison)
        .iter()
        .map(|sentence| text("p", "", sentence))
        .collect();
    let sections = [
        element(
            "header",
            "",
            &(text("h1", "", "What consistency costs")
                + &text("p", "sub", &subtitle)
                + &again(comparison)
                + &notes(comparison)),
        ),
        element(
            "section",
            "cards",
            &comparison.modes.iter().map(card).collect::<String>(),
        ),
        element("section", "means", &means),
        element(
            "section",
            "",
            &format!(
                "<h2>Second by second</h2>{LEGEND}{}",
                plot::render(comparison)
            ),
        ),
        element(
            "section",
            "",
            &format!("<h2>Phase by phase</h2>{}{NOTES}", table(comparison)),
        ),
        element(
            "section",
            "",
            &format!("<h2>What was checked</h2>{}", findings(comparison)),
        ),
        element(
            "section",
            "",
            &format!(
                "<h2>Acknowledged writes, at the end</h2>{}",
                fates(comparison)
            ),
        ),
        element("footer", "", &footer(comparison)),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>Quorumor compare, seed {}</title><style>{STYLE}</style></head><body><main>\n{}\n</main></body></html>\n",
        scenario.seed,
        sections.join("\n")
    )
}

fn notes(comparison: &Comparison) -> String {
    let note = |note: &String| text("p", "reason", &format!("Note: {note}."));
    comparison.notes.iter().map(note).collect()
}

const LEGEND: &str = "<p class=\"legend\"><span class=\"key ok\">&#9679;</span> answered \
    <span class=\"key refused\">&#10005;</span> refused, certainly not applied \
    <span class=\"key unknown\">&#9650;</span> outcome unknown (timeout, broken connection) \
    <span class=\"key held\">&#9632;</span> never sent, client full \
    <span class=\"key shade\">&#9632;</span> fault in force</p>\n";

const NOTES: &str = "<p class=\"note\">Latency counts from the moment at which an operation was due, not from when it \
    was sent; an unknown outcome enters with its timeout. It buys different things: the small print under the mode says what an ok means. Gaps and recovery are \
    those of live nodes: clients stay at their node, so those of a killed node fail in either mode. A stale read missed a \
    write that had been acknowledged before it began. <b>Lost</b> breaks a promise; <b>discarded</b> writes lost \
    by the conflict rule to one that had not seen them, as eventual mode says. * = only once the fault was over.</p>\n";

fn card(result: &ModeResult) -> String {
    let (class, headline) = match judgement(result) {
        "BROKEN" => ("card broken", "broke a promise"),
        "void" => ("card void", "void: proves nothing"),
        "undecided" => ("card void", "not decided"),
        _ => ("card kept", "kept its promises"),
    };
    let mut inside = format!(
        "<h2>{} <span class=\"verdict\">{headline}</span></h2>",
        result.mode.name()
    );
    let figure = |value: String, name: &str| {
        element(
            "div",
            "figure",
            &(text("b", "", &value) + &text("span", "", name)),
        )
    };
    let total = &result.total;
    let figures = [
        figure(format!("{:.1} %", total.counts.ok_percent()), "answered"),
        figure(maybe(total.p50_us), "median latency"),
        figure(duration(worst_gap(result)), "longest gap at a live node"),
        figure(count(total.stale_reads), "stale reads"),
        figure(count(total.lost), "acknowledged writes lost"),
        figure(count(total.discarded), "discarded for concurrent ones"),
        figure(
            result.ledger.map_or("-".to_owned(), count),
            "in the conflict ledger, those replaced by then included",
        ),
        figure(maybe(result.converge_us), "to converge after the heal"),
    ];
    inside.push_str(&element("div", "figures", &figures.concat()));
    let promised: String = promises(result.mode)
        .iter()
        .map(|promise| text("li", "", promise))
        .collect();
    inside.push_str(&element("ul", "", &promised));
    for reason in &result.void {
        inside.push_str(&text("p", "reason", &format!("Void: {}.", reason.text())));
    }
    element("article", class, &inside)
}

fn worst_gap(result: &ModeResult) -> u64 {
    result
        .phases
        .iter()
        .map(|phase| phase.gaps.worst_node_us)
        .max()
        .unwrap_or(0)
}

const COLUMNS: [&str; 13] = [
    "phase",
    "mode",
    "answered",
    "ok",
    "refused",
    "unknown",
    "p50",
    "p99",
    "longest gap, all nodes",
    "longest gap, one node",
    "stale reads (oldest)",
    "acked writes lost / discarded",
    "time to recover",
];

fn table(comparison: &Comparison) -> String {
    let head: String = COLUMNS
        .iter()
        .map(|column| text("th", "", column))
        .collect();
    let mut body = String::new();
    for (phase, planned) in comparison.scenario.phases.iter().enumerate() {
        let rows = comparison
            .modes
            .iter()
            .filter_map(|result| Some((result, result.phases.get(phase)?)));
        body.push_str(&group(&planned.name, rows));
    }
    body.push_str(&group(
        "whole run",
        comparison
            .modes
            .iter()
            .map(|result| (result, &result.total)),
    ));
    format!("<div class=\"wide\"><table><thead><tr>{head}</tr></thead>{body}</table></div>")
}

fn group<'a>(name: &str, rows: impl Iterator<Item = (&'a ModeResult, &'a PhaseFigures)>) -> String {
    let rows: Vec<_> = rows.collect();
    let mut body = String::new();
    for (i, (result, figures)) in rows.iter().enumerate() {
        let first = match i {
            0 => format!(
                "<th class=\"phase\" rowspan=\"{}\">{}</th>",
                rows.len(),
                Escaped(name)
            ),
            _ => String::new(),
        };
        body.push_str(&element("tr", "", &(first + &row(result.mode, figures))));
    }
    element("tbody", "", &body)
}

fn row(mode: Mode, figures: &PhaseFigures) -> String {
    let counts = &figures.counts;
    let guarantee = text("small", "", &format!("ok = on {}", guarantee(mode)));
    let stale = match figures.stale_reads {
        0 => "0".to_owned(),
        n => format!("{} ({})", count(n), duration(figures.stale_us_max)),
    };
    let cells = [
        format!("{:.1} %", counts.ok_percent()),
        count(counts.ok),
        count(counts.refused + counts.held_back),
        count(counts.unknown),
        maybe(figures.p50_us),
        maybe(figures.p99_us),
        duration(figures.gaps.everywhere_us),
        duration(figures.gaps.worst_node_us),
        stale,
        format!("{} / {}", count(figures.lost), count(figures.discarded)),
        recovery(figures.recovery),
    ];
    let cells: String = cells.iter().map(|cell| text("td", "", cell)).collect();
    element("td", "mode", &format!("{} {guarantee}", mode.name())) + &cells
}

fn findings(comparison: &Comparison) -> String {
    let mut body = String::new();
    for result in &comparison.modes {
        let items: String = result.findings.iter().map(finding).collect();
        body.push_str(&element(
            "div",
            "checks",
            &(text("h3", "", result.mode.name()) + &items),
        ));
    }
    element("div", "columns", &body)
}

fn finding(finding: &Finding) -> String {
    let class = match finding.verdict {
        Verdict::Valid => "check kept",
        Verdict::Unknown => "check void",
        Verdict::Invalid => "check broken",
    };
    let head =
        text("b", "", finding.verdict.name()) + " " + &text("span", "", finding.property.name());
    let evidence: String = finding.evidence.iter().map(evidence).collect();
    element(
        "div",
        class,
        &(element("p", "", &head) + &text("p", "note", &finding.summary) + &evidence),
    )
}

fn evidence(evidence: &Evidence) -> String {
    let lines = text("pre", "", &evidence.lines.join("\n"));
    format!(
        "<details open><summary>{}</summary>{lines}</details>",
        Escaped(&evidence.text)
    )
}

/// A line of the table of fates: its name, and its figure in a mode.
type Row = (&'static str, fn(&ModeResult) -> String);

fn fates(comparison: &Comparison) -> String {
    let head: String = std::iter::once("")
        .chain(comparison.modes.iter().map(|result| result.mode.name()))
        .map(|name| text("th", "", name))
        .collect();
    let rows: [Row; 7] = [
        ("1. visible", |r| count(r.fates.visible)),
        (
            "2. superseded by a write that saw it or began after its acknowledgement",
            |r| count(r.fates.superseded),
        ),
        ("3. lost to a concurrent write", |r| {
            count(r.fates.lost_to_concurrent)
        }),
        (
            "4. lost to a write that had ended before it began (a clock)",
            |r| count(r.fates.lost_to_earlier),
        ),
        ("5. gone without a successor (durability)", |r| {
            count(r.fates.no_successor)
        }),
        ("not judged: version unknown", |r| count(r.fates.unjudged)),
        ("conflict ledger: writes listed as discarded", |r| {
            r.ledger.map_or("-".to_owned(), count)
        }),
    ];
    let row = |(name, of): &Row| {
        let cells: String = comparison
            .modes
            .iter()
            .map(|result| text("td", "", &of(result)))
            .collect();
        element("tr", "", &(text("th", "phase", name) + &cells))
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table class=\"fates\"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
}

fn again(comparison: &Comparison) -> String {
    format!(
        "<p class=\"note\">Run it again: <code>{}</code></p>",
        Escaped(&comparison.command)
    )
}

fn footer(comparison: &Comparison) -> String {
    let mut text_inside = String::new();
    for result in &comparison.modes {
        let line = format!(
            "{}: build {}, log {}.",
            result.mode.name(),
            result.build,
            result.fsync
        );
        text_inside.push_str(&text("p", "note", &line));
    }
    text_inside.push_str(
        "<p class=\"note\">Figures of one run on one machine over loopback: compare the modes with each other, not with \
         other machines. Faults are made by userspace proxies and SIGKILL: a cut lets connections be accepted but carries nothing, \
         and a kill keeps the page cache, so it does not test fsync.</p>",
    );
    text_inside
}
