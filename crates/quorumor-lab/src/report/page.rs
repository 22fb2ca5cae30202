//! The HTML page: one self-contained file that reads without a script, on a phone, in print, light and dark.
//!
//! From the top down for a reader in a hurry: the verdict, what it means, the figures, the charts, the evidence. Called by
//! `compare` and, for the frame that every page shares, by the matrix.

use super::column::world_words;
use super::html::{Escaped, element, text};
use super::sentences::{Told, told, verdict_sentence};
use super::table::subtitle;
use super::words::capital;
use super::{Column, Comparison, Judgement, curves, difference, evidence, figures, strips, views};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn render_html(comparison: &Comparison) -> String {
    let title = format!(
        "Quorumor: {}, {}",
        comparison.scenario.name,
        super::table::seeds(comparison)
    );
    let sections = [
        header(comparison),
        cards(comparison),
        difference::render(&comparison.differences),
        meaning(comparison),
        format!(
            "<section id=\"figures\"><h2>Phase by phase</h2>{}</section>",
            figures::table(comparison)
        ),
        charts(comparison),
        evidence::render(comparison),
    ];
    document(&title, &sections.join("\n"), SCRIPT)
}

/// A page of ours: head, style, main part, script if there is one.
pub(super) fn document(title: &str, main: &str, script: &str) -> String {
    let script = match script {
        "" => String::new(),
        script => format!("<script>{script}</script>"),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{}</title><style>{STYLE}</style></head><body><main>\n{main}\n</main>{script}</body></html>\n",
        Escaped(title)
    )
}

fn header(comparison: &Comparison) -> String {
    let worst = comparison.columns.iter().map(Column::judgement).max();
    let worst = worst.unwrap_or(Judgement::Void);
    let notes = comparison.notes.iter();
    let notes: String = notes
        .map(|note| text("p", "reason", &format!("Note: {note}.")))
        .collect();
    format!(
        "<header class=\"{}\"><p class=\"sub\">What consistency costs</p><h1><span aria-hidden=\"true\">{}</span> {}</h1>\
         <p class=\"sub\">{}: the same operations and the same faults for each column.</p>{notes}\
         <nav aria-label=\"Parts of this report\">{}<a href=\"#meaning\">What happened</a> <a href=\"#figures\">Figures</a> \
         <a href=\"#charts\">Charts</a> <a href=\"#evidence\">Evidence</a></nav></header>",
        class(worst),
        worst.symbol(),
        Escaped(&verdict_sentence(comparison)),
        Escaped(&subtitle(comparison)),
        difference::link(&comparison.differences)
    )
}

/// The class of a judgement in the style.
pub(super) fn class(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Kept => "kept",
        Judgement::Undecided | Judgement::Void => "void",
        Judgement::Broken => "broken",
    }
}

fn cards(comparison: &Comparison) -> String {
    let columns = comparison.columns.iter().enumerate();
    let cards: String = columns.map(card).collect();
    format!("<section class=\"cards\" aria-label=\"Each column in short\">{cards}</section>")
}

fn card((number, column): (usize, &Column)) -> String {
    let judgement = column.judgement();
    let verdict = match judgement {
        Judgement::Kept => "kept its promises",
        Judgement::Undecided => "not decided",
        Judgement::Void => "void: proves nothing",
        Judgement::Broken => "broke a promise",
    };
    let promises: String = column
        .promises
        .iter()
        .map(|promise| text("li", "", promise))
        .collect();
    let mut reasons = String::new();
    for run in &column.runs {
        for reason in &run.void {
            let text_of = format!("Void, seed {}: {}.", run.seed, reason.text());
            reasons.push_str(&text("p", "reason", &text_of));
        }
    }
    let head = format!(
        "<h2><span><i class=\"chip c{}\"></i>{}</span><span class=\"verdict\"><span aria-hidden=\"true\">{}</span> {verdict}</span></h2>\
         <p class=\"note\">{}; an ok is on {}.</p>",
        number % 6,
        Escaped(&column.label),
        judgement.symbol(),
        capital(world_words(column.world)),
        Escaped(&column.ok_means)
    );
    let inside = head
        + &figures::card(column)
        + &reasons
        + &format!(
            "<details><summary>What {} promises</summary><ul>{promises}</ul></details>",
            Escaped(&column.label)
        );
    element("article", &format!("card {}", class(judgement)), &inside)
}

fn meaning(comparison: &Comparison) -> String {
    let phase = |told: &Told| {
        let clauses = told.clauses.iter();
        let clauses: String = clauses
            .map(|(label, clause)| {
                format!("<li><b>{}</b> {}.</li>", Escaped(label), Escaped(clause))
            })
            .collect();
        format!(
            "<h3>{}</h3><ul>{clauses}</ul>",
            Escaped(&capital(&told.title))
        )
    };
    let phases: String = told(comparison).iter().map(phase).collect();
    format!(
        "<section id=\"meaning\"><h2>What happened</h2><div class=\"means\">{phases}</div></section>"
    )
}

fn charts(comparison: &Comparison) -> String {
    let over_time = [
        strips::latency(comparison),
        strips::throughput(comparison),
        strips::availability(comparison),
        views::leadership(comparison),
        views::membership(comparison),
    ]
    .concat();
    let curves = curves::freshness(comparison) + &curves::convergence(comparison);
    format!(
        "<section id=\"charts\"><h2>Second by second</h2>{}{over_time}\
         <h2>Freshness and convergence</h2><div class=\"columns\">{curves}</div></section>",
        tools(comparison)
    )
}

/// Buttons that only a script can honour, so only a script shows them.
fn tools(comparison: &Comparison) -> String {
    let mut phases = String::new();
    let spans = comparison.scenario.spans();
    for (phase, (from, to)) in comparison.scenario.phases.iter().zip(spans) {
        phases.push_str(&format!(
            "<button type=\"button\" data-from=\"{from}\" data-to=\"{to}\">{}</button>",
            Escaped(&phase.name)
        ));
    }
    format!(
        "<div class=\"tools\" id=\"tools\" role=\"group\" aria-label=\"Part of the time that is shown\" data-duration=\"{}\" hidden>\
         <button type=\"button\" data-do=\"in\">Zoom in</button><button type=\"button\" data-do=\"out\">Zoom out</button>\
         <button type=\"button\" data-do=\"back\">Earlier</button><button type=\"button\" data-do=\"on\">Later</button>\
         <button type=\"button\" data-do=\"all\">Whole run</button>{phases}\
         <p class=\"note\" id=\"readout\" role=\"status\">Drag over a chart to look closer; point at it for its figures.</p></div>",
        comparison.scenario.duration_us()
    )
}
