//! The page as a file: self-contained, small, escaped, whole without a script.

use super::*;
use crate::analyse::Point;
use crate::checker::availability::Fared;

/// What opens and what closes must be as many.
const TAGS: [&str; 22] = [
    "svg",
    "table",
    "div",
    "section",
    "p",
    "details",
    "tbody",
    "tr",
    "td",
    "th",
    "text",
    "pre",
    "figure",
    "figcaption",
    "span",
    "article",
    "header",
    "nav",
    "ul",
    "li",
    "dl",
    "small",
];

pub(super) fn assert_balanced(page: &str) {
    let markup = page.split("<script>").next().unwrap();
    for tag in TAGS {
        let opened = markup.matches(&format!("<{tag}>")).count()
            + markup.matches(&format!("<{tag} ")).count();
        assert_eq!(
            opened,
            markup.matches(&format!("</{tag}>")).count(),
            "{tag}"
        );
    }
}

#[test]
fn the_page_is_self_contained_small_and_escaped() {
    let mut comparison = crowd();
    comparison.command = "compare --out '<dir>' & more".to_owned();
    let page = render_html(&comparison);
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    assert!(page.contains("&lt;dir&gt;") && !page.contains("<dir>"));
    assert!(page.contains("a law &lt;of&gt; its own"));
    for foreign in [
        "http://",
        "https://",
        "<script src",
        "<link",
        "@import",
        "url(",
        "src=",
        "fetch(",
        "XMLHttp",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_balanced(&page);
}

#[test]
fn every_chart_is_there_for_every_column() {
    let page = render_html(&crowd());
    for chart in [
        "Latency of every operation",
        "Throughput",
        "Availability",
        "Leader and term",
        "Membership: who believes what about whom",
        "Fresh reads while no fault held",
        "Fresh reads while a fault held",
        "Nodes equal after the last heal",
        "Writes seen by every later read",
    ] {
        assert!(page.contains(&format!("<h3>{chart}</h3>")), "{chart}");
    }
    assert_eq!(
        page.matches("class=\"dot ok\"").count(),
        3,
        "a scatter a column"
    );
    assert_eq!(
        page.matches("class=\"area\"").count(),
        3,
        "an availability a column"
    );
    assert_eq!(
        page.matches("<svg class=\"timeline\"").count(),
        5,
        "a timeline for each piece of evidence"
    );
    assert_eq!(
        page.matches("<path class=\"predicted\"").count(),
        3,
        "two curves, and one sample in a legend"
    );
    for belief in ["alive", "suspect", "down", "left"] {
        assert_eq!(
            page.matches(&format!("class=\"belief {belief}\"")).count(),
            1,
            "{belief}"
        );
    }
    // Alive from the start to 8.3 s and from 15.4 s to the end, of 40 s.
    let alive = page.split("class=\"belief alive\" d=\"").nth(1).unwrap();
    assert!(
        alive.starts_with("M0 4.0H2075V6.0H0zM3850 4.0H10000V"),
        "{}",
        &alive[..60]
    );
    // Every image says what it shows, and what only a script can do is hidden until one does.
    let images = page.matches("role=\"img\"").count();
    assert_eq!(images, page.matches("role=\"img\" aria-label=\"").count());
    assert!(page.contains("id=\"tools\"") && page.contains("hidden>"));
}

#[test]
fn a_fault_is_shaded_where_the_history_has_it() {
    let comparison = sound();
    let page = render_html(&comparison);
    for column in &comparison.columns {
        for band in &column.runs[0].bands {
            let from = scale::along(band.from_us, 40_000_000);
            let to = scale::along(band.to_us, 40_000_000);
            assert!(
                page.contains(&format!("d=\"M{from:.0} 0H{to:.0}V")),
                "{band:?}"
            );
            assert!(
                page.contains(&format!(">{}</span>", band.label)),
                "{band:?}"
            );
        }
    }
}

#[test]
fn a_fault_that_flaps_is_named_once_and_two_at_once_lie_below_each_other() {
    let mut run = sound().columns[0].runs[0].clone();
    let band = |fault: u32, from_us: u64, to_us: u64, label: &str| crate::analyse::Band {
        fault,
        asked_us: from_us,
        from_us,
        heal_us: to_us,
        to_us,
        nodes: Vec::new(),
        label: label.to_owned(),
    };
    run.bands = (0..30)
        .map(|i| band(i, 1_000 * u64::from(i), 1_000 * u64::from(i) + 500, "flaps"))
        .collect();
    run.bands.push(band(30, 29_100, 40_000, "slow"));
    run.bands.push(band(31, 35_000, 40_000, "cut"));
    let words = timed::fault_words(&run);
    let placed: Vec<_> = words
        .iter()
        .map(|(from, to, top, text)| (*from, *to, *top as u64, text.as_str()))
        .collect();
    let end = run.duration_us;
    assert_eq!(
        placed,
        [
            (0, 35_000, 2, "flaps"),
            (29_100, end, 17, "slow"),
            (35_000, end, 2, "cut")
        ]
    );
    assert!((timed::fault_room([words].into_iter()) - 37.0).abs() < 1e-9);
}

#[test]
fn a_huge_scatter_stays_a_small_page() {
    let scenario = scenario(42);
    let mut history = toy::run(Mode::Strong, &scenario, Defect::None);
    let ops = history.ops.clone();
    history.ops = ops.iter().cycle().take(200_000).cloned().collect();
    let scatter = crate::analyse::Scatter::of(&history);
    assert_eq!(scatter.of, history.ops.len() - held_back(&history));
    assert!(scatter.points.len() < 30_000, "{}", scatter.points.len());
    let mut comparison = sound();
    comparison.columns[0].runs[0].scatter = scatter;
    let page = render_html(&comparison);
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
    assert!(page.contains("a part is drawn, evenly"));
}

fn held_back(history: &crate::history::History) -> usize {
    let held = |op: &&crate::history::Op| Fared::of(op) == Fared::HeldBack;
    history.ops.iter().filter(held).count()
}

#[test]
fn a_scatter_places_a_point_where_its_figures_say() {
    let mut comparison = sound();
    for column in &mut comparison.columns {
        column.runs[0].scatter.points = vec![Point {
            due_us: 10_000_000,
            latency_us: 10_000,
            fared: Fared::Ok,
        }];
    }
    // The scale is the decade around it; the point lies where its time and its share of that decade say.
    let page = render_html(&comparison);
    let (low, high) = (3.0, 5.0);
    assert!(page.contains(&format!(
        "data-low=\"{low:.4}\" data-high=\"{high:.4}\" data-room=\"22\""
    )));
    let path = page.split("class=\"dot ok\" d=\"").nth(1).unwrap();
    let y = 22.0 + 190.0 * (1.0 - (4.0 - low) / (high - low));
    assert!(
        path.starts_with(&format!("M2500 {y:.1}h0")),
        "{}",
        &path[..40]
    );
}
