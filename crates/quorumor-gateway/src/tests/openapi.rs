//! `docs/openapi.json` is what the table and the descriptors say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

/// Set it to write the document anew instead of comparing it.
const REWRITE: &str = "QUORUMOR_REWRITE";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json")
}

#[test]
fn the_document_that_is_checked_in_is_what_is_served() {
    let wanted = crate::openapi();
    if std::env::var_os(REWRITE).is_some() {
        let text = serde_json::to_string_pretty(&wanted).unwrap() + "\n";
        std::fs::write(path(), text).unwrap();
    }
    let stored = std::fs::read_to_string(path()).unwrap_or_default();
    let stored: Value = serde_json::from_str(&stored).unwrap_or_default();
    assert!(
        stored == wanted,
        "docs/openapi.json is old: run this test with {REWRITE}=1"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let (true, Some(target)) = (name == "$ref", value.as_str()) {
                        found.insert(target.to_owned());
                    }
                    references(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = crate::openapi();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 80, "{}", found.len());
    for target in found {
        let target = target.strip_prefix('#').unwrap();
        assert!(document.pointer(target).is_some(), "{target}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_what_it_does() {
    let document = crate::openapi();
    let operations: Vec<&Value> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|operations| operations.as_object().unwrap().values())
        .collect();
    assert_eq!(operations.len(), ROUTES.len());
    let names: BTreeSet<&str> = operations
        .iter()
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), operations.len());
    for operation in operations {
        assert!(
            !operation["summary"].as_str().unwrap().is_empty(),
            "{operation}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let about = parameter["description"].as_str();
            let refers = parameter.get("$ref").is_some();
            assert!(
                refers || about.is_some_and(|about| !about.is_empty()),
                "{parameter}"
            );
        }
    }
}

#[test]
fn the_comments_of_the_proto_files_are_its_words() {
    let document = crate::openapi();
    let put = &document["paths"]["/v1/kv/{key}"]["put"];
    assert_eq!(put["summary"], "Sets a key.");
    let schemas = &document["components"]["schemas"];
    assert_eq!(
        schemas["Entry"]["properties"]["value"]["description"],
        "The value; in eventual mode the winner among concurrent ones."
    );
    let level = schemas["Level"]["description"].as_str().unwrap();
    assert!(level.contains("`LEVEL_LOCAL`: This node's view"), "{level}");
    assert_eq!(schemas["BeatResult"]["properties"].get("status"), None);
}

#[tokio::test]
async fn it_is_served() {
    let fake = Fake::default();
    let answer = ask(&fake, "GET /v1/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json(), crate::openapi());
    assert!(fake.seen().is_empty());
}
