//! `docs/report.schema.json` is what the types say, and a real report is valid by it.

use super::*;

/// Set it to write the schema anew instead of comparing it.
const REWRITE: &str = "QUORUMOR_REWRITE";

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.schema.json")
}

fn generated() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Comparison).to_value();
    schema["title"] = "report.json of a comparison".into();
    schema
}

#[test]
fn the_schema_in_the_documents_is_what_the_types_say() {
    let wanted = serde_json::to_string_pretty(&generated()).unwrap() + "\n";
    if std::env::var_os(REWRITE).is_some() {
        fs::write(path(), &wanted).unwrap();
    }
    let stored = fs::read_to_string(path()).unwrap();
    assert!(
        stored == wanted,
        "docs/report.schema.json is old: run this test with {REWRITE}=1"
    );
}

#[test]
fn a_real_report_is_valid_by_the_schema_and_a_changed_one_is_not() {
    let schema = serde_json::from_str(&fs::read_to_string(path()).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let directory = tempfile::tempdir().unwrap();
    crowd().write_to(directory.path()).unwrap();
    let text = fs::read_to_string(directory.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&report)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut other = report.clone();
    other["columns"][0]["runs"][0]["verdict"] = "splendid".into();
    assert!(!validator.is_valid(&other), "an unknown verdict");
    let mut without = report;
    without["columns"][0]["runs"][0]
        .as_object_mut()
        .unwrap()
        .remove("seed");
    assert!(!validator.is_valid(&without), "a run without its seed");
}

#[test]
fn the_json_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut comparison = crowd();
    comparison.write_to(directory.path()).unwrap();
    let text = fs::read_to_string(directory.path().join("report.json")).unwrap();
    for run in comparison
        .columns
        .iter_mut()
        .flat_map(|column| &mut column.runs)
    {
        run.scatter = crate::analyse::Scatter::default();
    }
    assert!(serde_json::from_str::<Comparison>(&text).unwrap() == comparison);
    assert!(directory.path().join("report.html").exists());
}
