//! Scenario files, right and wrong.

use super::*;
use crate::history::NodeId;
use crate::scenario::Target;

const HEAD: &str = "name = \"mine\"\nteaches = \"Something.\"\nduration = \"20s\"\n";

fn with(rest: &str) -> Result<Scenario, FileError> {
    parse(&format!("{HEAD}{rest}"))
}

#[track_caller]
fn refused(rest: &str, parts: &[&str]) {
    let text = with(rest).unwrap_err().to_string();
    for part in parts {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_smallest_file_is_the_default_load_without_faults() {
    let scenario = with("").unwrap();
    assert_eq!((scenario.nodes, scenario.seed), (5, 1));
    assert_eq!(scenario.workload, Workload::usual());
    let phases: Vec<&str> = scenario.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(
        (phases, scenario.duration_us()),
        (vec!["steady"], 20_000_000)
    );
}

#[test]
fn faults_compose_and_name_the_phases() {
    let scenario = with(
        r#"
        nodes = 3
        [workload]
        rate = 100
        mix = { put = 400, add = 100, list = 50 }
        riders = { watchers = 1 }
        [[fault]]
        kind = "pause"
        on = "node 2"
        at = "8s"
        lasts = "2500ms"
        [[fault]]
        kind = "partition"
        side = "leader's minority"
        at = "5s"
        lasts = "10s"
        "#,
    )
    .unwrap();
    let named: Vec<(&str, u64)> = scenario
        .phases
        .iter()
        .map(|phase| (phase.name.as_str(), phase.duration_us / 100_000))
        .collect();
    assert_eq!(
        named,
        [
            ("steady", 50),
            ("leader's minority cut off", 30),
            ("leader's minority cut off, node 2 paused", 25),
            ("leader's minority cut off", 45),
            ("healed", 50),
        ]
    );
    assert_eq!(
        scenario.faults[1].kind.target(),
        &Target::Nodes(vec![NodeId(2)])
    );
    assert_eq!(
        (scenario.workload.mix.add, scenario.workload.clients),
        (100, 20)
    );
    assert_eq!(scenario.floor_rate, 50);
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    refused("nodez = 3", &["nodez", "expected"]);
    refused("nodes = 40", &["`nodes` is 40", "3 to 7"]);
    refused("[workload]\nrate = 0", &["rate"]);
    refused("[workload]\nmix = { put = 900, add = 200 }", &["1000"]);
    let fault = |text: &str| format!("[[fault]]\nat = \"1s\"\nlasts = \"2s\"\n{text}");
    refused(
        &fault("kind = \"kil\"\non = \"leader\""),
        &["fault 1", "kil", "rolling-restart"],
    );
    refused(
        &fault("kind = \"kill\"\non = \"boss\""),
        &["fault 1", "`boss` is nobody", "\"leader\""],
    );
    refused(
        &fault("kind = \"kill\"\non = \"node 9\""),
        &["no node 9", "1 to 5"],
    );
    refused(
        &fault("kind = \"kill\""),
        &["fault 1", "missing field `on`"],
    );
    refused(
        &fault("kind = \"kill\"\non = \"leader\"\nfoo = 1"),
        &["unknown field `foo`"],
    );
    refused(
        "[[fault]]\nkind = \"ring\"",
        &["fault 1", "`at` is missing"],
    );
    refused(
        "[[fault]]\nkind = \"ring\"\nat = \"19s\"\nlasts = \"2s\"",
        &["end within the scenario's 20s"],
    );
    refused(
        "[[fault]]\nkind = \"ring\"\nat = \"soon\"\nlasts = \"2s\"",
        &["`at`", "`soon` is no span of time", "250ms"],
    );
}

/// A file that plays nothing sensible names the field that asks for it.
#[test]
fn wild_values_are_refused_with_what_is_allowed() {
    let wild = |kind: &str| format!("[[fault]]\nat = \"1s\"\nlasts = \"2s\"\nkind = {kind}");
    for (text, part) in [
        (
            wild("\"clock-drift\"\non = \"leader\"\nby_ppm = -1000000"),
            "by_ppm",
        ),
        (
            wild("\"clock-jump\"\non = \"leader\"\nby_ms = 9223372036854775807"),
            "by_ms",
        ),
        (
            wild("\"starve\"\non = \"leader\"\ncpu_percent = 100"),
            "cpu_percent",
        ),
        (wild("\"partition\"\nside = \"all\""), "everybody"),
        (
            wild("\"partition\"\nside = \"nodes 1 2 3 4 5\""),
            "everybody",
        ),
        (
            wild("\"flap\"\nside = \"leader\"\nperiod = \"60s\""),
            "period",
        ),
        (wild("\"weather\"\non = \"all\"\ndoes = {}"), "says nothing"),
        (
            wild("\"weather\"\non = \"all\"\ndoes = { loss_percent = 400 }"),
            "loss_percent",
        ),
        (format!("nodes = 3\n{}", wild("\"ring\"")), "cuts nothing"),
        (
            "[[fault]]\nkind = \"ring\"\nat = \"0s\"\nlasts = \"2s\"".to_owned(),
            "at least 1s",
        ),
        (
            "[[fault]]\nkind = \"ring\"\nat = \"18446744073709s\"\nlasts = \"1s\"".to_owned(),
            "for ever",
        ),
        (
            "[workload]\nmix = { put = 4294967295, delete = 1 }".to_owned(),
            "4294967296",
        ),
        (
            "[workload]\nriders = { lockers = 4000000000 }".to_owned(),
            "lockers",
        ),
        ("[workload]\nwanderers = 21".to_owned(), "wanderers"),
        (
            "[scale]\nscript = \"crash\"\nnodes = 4294967295\ncrash_percent = 10".to_owned(),
            "[scale]",
        ),
        ("election_timeout = \"1us\"".to_owned(), "election_timeout"),
        ("snapshot_entries = 1".to_owned(), "100 to 10000000"),
    ] {
        refused(&text, &[part]);
    }
    let closed =
        "name = \"mine\"\nteaches = \"x\"\nduration = \"1h\"\n[workload]\narrivals = \"closed\"";
    let much = parse(closed).unwrap_err().to_string();
    assert!(much.contains("operations in a run"), "{much}");
    let name = parse("name = \"My own\"\nteaches = \"x\"\nduration = \"9s\"").unwrap_err();
    assert!(name.to_string().contains("small letters"), "{name}");
}

#[test]
fn a_flood_names_its_phase_and_what_could_show_nothing_of_it_is_refused() {
    let flood = |more: &str| format!("[flood]\nat = \"5s\"\nlasts = \"10s\"\n{more}");
    let scenario = with(&flood("class = \"write\"\nin_flight = 100")).unwrap();
    let phases: Vec<&str> = scenario.phases.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(phases, ["steady", "flood of writes", "healed"]);
    assert_eq!(scenario.trouble_us(), Some((5_000_000, 15_000_000)));
    assert!(
        scenario
            .real_only()
            .is_some_and(|why| why.contains("real processes"))
    );
    refused(
        &flood("class = \"write\""),
        &["[flood]", "either `in_flight` or `rate`"],
    );
    refused(
        &flood("class = \"write\"\nrate = 1\nin_flight = 1"),
        &["either"],
    );
    refused(&flood("class = \"write\"\nrate = 0"), &["1 to 100000"]);
    refused(&flood("class = \"watch\"\nrate = 9"), &["stay open"]);
    refused(
        &flood("class = \"beat\"\nrate = 9"),
        &["beat", "local_read"],
    );
    let late = "[flood]\nclass = \"write\"\nrate = 9\nat = \"15s\"\nlasts = \"9s\"";
    refused(late, &["the scenario's 20s"]);
}

#[test]
fn a_contrast_needs_something_to_help_against_and_is_on_in_the_file() {
    let cut = "[[fault]]\nkind = \"cut-clients\"\non = \"leader\"\nat = \"5s\"\nlasts = \"9s\"";
    let scenario = with(&format!("contrast = \"breaker\"\n{cut}")).unwrap();
    assert!(scenario.real_only().is_some() && scenario.needs_fronts());
    refused("contrast = \"limits\"", &["needs a fault or a [flood]"]);
    refused(
        &format!("contrast = \"limits\"\nlimits = \"disabled\"\n{cut}"),
        &["the nodes' limits", "leave it out"],
    );
    refused("limits = \"some\"", &["enforcing", "disabled"]);
    refused("[workload]\nbreaker = \"on\"\nretries = 2", &["`retries`"]);
}

// The documentation of the schema.

const DOCUMENT: &str = include_str!("../../../../../docs/lab.md");

/// The blocks of TOML in the documentation.
fn documented() -> Vec<&'static str> {
    let blocks = DOCUMENT.split("```toml\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_documented_example_is_a_scenario() {
    assert!(documented().len() >= 2);
    for example in documented() {
        let scenario = parse(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(parse(&render(&scenario)), Ok(scenario));
    }
}

/// The names of a table's fields, those of its tables too.
fn names(table: &toml::Table) -> Vec<String> {
    let nested = table.values().filter_map(toml::Value::as_table);
    let nested: Vec<String> = nested.flat_map(names).collect();
    table.keys().cloned().chain(nested).collect()
}

#[test]
fn every_field_of_the_load_is_documented_with_its_default() {
    let usual = toml::Table::try_from(Workload::usual()).unwrap();
    for name in names(&usual).into_iter().chain(["read_level".to_owned()]) {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "{name}");
    }
    for (name, value) in &usual {
        let start = format!("| `{name}` | ");
        let row = DOCUMENT.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{name}"));
        // The fields of a table in the order in which people are shown them, which isn't the alphabet's.
        let defaults: Vec<String> = value.as_table().map_or_else(
            || vec![value.to_string()],
            |table| table.iter().map(|(f, v)| format!("{f} = {v}")).collect(),
        );
        for default in defaults {
            assert!(row.contains(default.trim_matches('"')), "{name}: {default}");
        }
    }
}

#[test]
fn every_kind_of_fault_and_weather_is_documented() {
    let kinds = refusal_of_an_unknown_kind();
    assert!(kinds.len() > 15, "{kinds:?}");
    for kind in kinds {
        assert!(DOCUMENT.contains(&format!("\n| `{kind}` |")), "{kind}");
    }
    let weather = toml::Table::try_from(crate::scenario::Weather::default()).unwrap();
    for name in weather.keys() {
        assert!(DOCUMENT.contains(&format!("{name} = ")), "{name}");
    }
}

/// Every kind that there is, by what the parser says when it meets another.
fn refusal_of_an_unknown_kind() -> Vec<String> {
    let text = with("[[fault]]\nkind = \"nothing\"\nat = \"5s\"\nlasts = \"5s\"\n");
    let text = text.unwrap_err().to_string();
    let allowed = text.split("expected one of ").nth(1).unwrap().to_owned();
    allowed
        .split(", ")
        .map(|kind| kind.trim().trim_matches('`').to_owned())
        .collect()
}
