//! Callers, known and unknown, against tokens files.

use std::sync::OnceLock;
use std::thread::ThreadId;

use http::HeaderValue;

use super::*;

const DEPLOY: &str = "deploy-0123456789abcdef0123456789abcdef";
const READER: &str = "reader-0123456789abcdef0123456789abcdef";

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn entry(name: &str, token: &str, roles: &str) -> String {
    let hash = hash_token(token).unwrap();
    format!("[[token]]\nname = \"{name}\"\nhash = \"{hash}\"\nroles = [{roles}]\n")
}

fn two() -> String {
    entry("deploy", DEPLOY, "{ read = \"\" }, { write = \"app/\" }")
        + &entry("reader", READER, "{ read = \"app/\" }")
        + "[[certificate]]\nname = \"Ops.Example\"\nroles = [\"admin\"]\n"
}

fn with(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    HeaderMap::from_iter([(header::AUTHORIZATION, value)])
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

#[track_caller]
fn stranger(auth: &Auth, headers: &HeaderMap, part: &str) {
    let error = auth.authenticate(headers, None).unwrap_err();
    assert_eq!(error.reason(), "UNAUTHENTICATED");
    assert!(error.to_string().contains(part), "{error}");
    assert!(!error.to_string().contains(DEPLOY), "{error}");
}

#[test]
fn without_a_rule_nobody_is_asked() {
    let auth = Auth::load(None, false).unwrap();
    let anyone = auth.authenticate(&HeaderMap::new(), None).unwrap();
    assert!(auth.is_open());
    anyone.may_admin().unwrap();
    anyone.may_write(&key("k")).unwrap();
    assert_eq!(anyone.name(), "anyone");
}

#[test]
fn a_token_has_its_own_roles_and_no_others() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), false).unwrap();
    let deploy = auth.authenticate(&with(DEPLOY), None).unwrap();
    assert_eq!(deploy.name(), "token deploy");
    deploy.may_write(&key("app/a")).unwrap();
    deploy.may_read(&KeyRange::all()).unwrap();
    deploy.may_write_something().unwrap();
    let denied = deploy.may_write(&key("b")).unwrap_err();
    assert_eq!(denied.reason(), "PERMISSION_DENIED");
    assert!(
        denied.to_string().contains("write for key \"b\""),
        "{denied}"
    );
    assert!(deploy.may_admin().is_err());
    let reader = auth.authenticate(&with(READER), None).unwrap();
    reader.may_read_key(&key("app/a")).unwrap();
    assert!(reader.may_read_key(&key("b")).is_err());
    assert!(reader.may_write(&key("app/a")).is_err());
    assert!(reader.may_write_something().is_err());
    let range = KeyRange::prefix("app/").unwrap();
    assert!(reader.may_write_range(&range).is_err());
    deploy.may_write_range(&range).unwrap();
}

#[test]
fn a_stranger_is_told_what_is_missing_and_never_what_was_sent() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), false).unwrap();
    stranger(&auth, &HeaderMap::new(), "wants a token");
    stranger(
        &auth,
        &with(&format!("{DEPLOY}x")),
        "doesn't know the token",
    );
    stranger(&auth, &with(&DEPLOY[1..]), "doesn't know the token");
    stranger(&auth, &with(""), "isn't `Bearer TOKEN`");
    let mut basic = HeaderMap::new();
    basic.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Basic eDp5"),
    );
    stranger(&auth, &basic, "isn't `Bearer TOKEN`");
    let mut twice = with(DEPLOY);
    twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    stranger(&auth, &twice, "isn't `Bearer TOKEN`");
}

#[test]
fn a_certificate_is_known_by_its_name_and_a_token_stands_over_it() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), true).unwrap();
    let ops = CertificateNames::of(["other", "ops.example"]);
    let known = auth.authenticate(&HeaderMap::new(), Some(&ops)).unwrap();
    known.may_admin().unwrap();
    assert_eq!(known.name(), "certificate Ops.Example");
    let both = auth.authenticate(&with(READER), Some(&ops)).unwrap();
    assert!(both.may_admin().is_err());
    let wrong = auth.authenticate(&with("no-such-token"), Some(&ops));
    assert_eq!(wrong.unwrap_err().reason(), "UNAUTHENTICATED");
    let other = CertificateNames::of(["other"]);
    assert!(auth.authenticate(&HeaderMap::new(), Some(&other)).is_err());
}

#[test]
fn with_certificates_alone_each_one_may_do_everything() {
    let auth = Auth::load(None, true).unwrap();
    let names = CertificateNames::of(["a"]);
    let known = auth.authenticate(&HeaderMap::new(), Some(&names)).unwrap();
    known.may_admin().unwrap();
    assert!(auth.authenticate(&HeaderMap::new(), None).is_err());
}

#[test]
fn a_service_without_its_layer_refuses() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), false).unwrap();
    let mut extensions = http::Extensions::new();
    assert!(auth.principal(&extensions).is_err());
    extensions.insert(auth.authenticate(&with(DEPLOY), None).unwrap());
    assert_eq!(auth.principal(&extensions).unwrap().name(), "token deploy");
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_ends_what_it_took_away() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), false).unwrap();
    assert!(!auth.reload().unwrap());
    let deploy = auth.authenticate(&with(DEPLOY), None).unwrap();
    let reader = auth.authenticate(&with(READER), None).unwrap();

    std::fs::write(&path, "[[token]]\nname = 7\n").unwrap();
    assert!(auth.reload().is_err());
    auth.authenticate(&with(DEPLOY), None).unwrap();

    let reader_stays = entry("reader", READER, "{ read = \"app/\" }");
    std::fs::write(&path, reader_stays).unwrap();
    assert!(auth.reload().unwrap());
    deploy.gone().await;
    assert_eq!(Principal::revoked().reason(), "UNAUTHENTICATED");
    stranger(&auth, &with(DEPLOY), "doesn't know the token");
    let again = auth.authenticate(&with(READER), None).unwrap();
    assert!(!reader.known.as_ref().unwrap().gone.is_cancelled());
    assert!(Arc::ptr_eq(
        reader.known.as_ref().unwrap(),
        again.known.as_ref().unwrap()
    ));

    std::fs::write(&path, entry("reader", READER, "{ read = \"\" }")).unwrap();
    assert!(auth.reload().unwrap());
    reader.gone().await;
}

#[test]
fn a_file_that_makes_no_sense_is_refused_by_name_and_line() {
    let hash = hash_token(DEPLOY).unwrap();
    for (text, part) in [
        ("[[token]]\nname = \"a\"\n", "missing field"),
        ("token = 7", "line 1"),
        ("[[tokens]]\n", "tokens"),
        (
            "[[token]]\nname = \"a b\"\nhash = \"\"\nroles = []",
            "without spaces",
        ),
        (
            "[[token]]\nname = \"a\"\nhash = \"secret\"\nroles = [\"admin\"]",
            "the hash of token a",
        ),
        (
            &format!("[[token]]\nname = \"a\"\nhash = \"{hash}\"\nroles = []"),
            "has no role",
        ),
        (
            &format!("[[token]]\nname = \"a\"\nhash = \"{hash}\"\nroles = [\"root\"]"),
            "is none",
        ),
        (
            &format!("[[token]]\nname = \"a\"\nhash = \"{hash}\"\nroles = [{{ see = \"x\" }}]"),
            "is none",
        ),
        (
            &(entry("a", DEPLOY, "\"admin\"") + &entry("b", DEPLOY, "\"admin\"")),
            "the same token",
        ),
    ] {
        let (_dir, path) = file(text);
        let error = Auth::load(Some(&path), false).unwrap_err().to_string();
        assert!(error.contains(part), "{error:?} doesn't say {part:?}");
        assert!(error.contains("tokens.toml"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let absent = Auth::load(Some(Path::new("/nowhere/tokens.toml")), false);
    assert!(absent.unwrap_err().to_string().contains("/nowhere"));
}

#[test]
fn only_a_token_that_is_hard_to_guess_is_hashed() {
    assert!(hash_token("short").unwrap_err().contains("at least 32"));
    assert!(
        hash_token(&"x".repeat(513))
            .unwrap_err()
            .contains("at most")
    );
    assert!(
        hash_token(&" ".repeat(40))
            .unwrap_err()
            .contains("without spaces")
    );
    assert!(hash_token(DEPLOY).unwrap().starts_with("blake3:"));
}

/// Collects audit events as text, each with the thread that it came from. It is the whole process's subscriber: with a
/// subscriber of one thread, an event that another thread happens to reach first is switched off for all.
#[derive(Default)]
struct Recorder(parking_lot::Mutex<Vec<(ThreadId, String)>>);

impl Recorder {
    /// The process's recorder.
    fn installed() -> Arc<Self> {
        static INSTALLED: OnceLock<Arc<Recorder>> = OnceLock::new();
        let recorder = INSTALLED.get_or_init(|| {
            let recorder = Arc::<Self>::default();
            tracing::subscriber::set_global_default(recorder.clone())
                .expect("no other test installs one");
            recorder
        });
        recorder.clone()
    }

    /// What came from this thread.
    fn own(&self) -> Vec<String> {
        let own = std::thread::current().id();
        let events = self.0.lock();
        events
            .iter()
            .filter(|(thread, _)| *thread == own)
            .map(|(_, event)| event.clone())
            .collect()
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "audit"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().push((std::thread::current().id(), fields.0));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn refusals_and_administrators_calls_are_recorded_without_tokens() {
    let (_dir, path) = file(&two());
    let auth = Auth::load(Some(&path), false).unwrap();
    let recorder = Recorder::installed();
    let reader = auth.authenticate(&with(READER), None).unwrap();
    reader.may_write(&key("app/a")).unwrap_err();
    auth.authenticate(&with(&DEPLOY[1..]), None).unwrap_err();
    reader.record("MemberRemove", None);
    let failed = tonic::Status::permission_denied("no");
    reader.record("MemberRemove", Some(&failed));
    let events = recorder.own();
    let wanted = [
        ["who=\"token reader\"", "role write for key"],
        ["who=\"nobody\"", "wrong_token"],
        ["call=\"MemberRemove\"", "result=\"ok\""],
        ["call=\"MemberRemove\"", "why=\"no\""],
    ];
    assert_eq!(events.len(), wanted.len(), "{events:?}");
    for (event, parts) in events.iter().zip(wanted) {
        assert!(parts.iter().all(|part| event.contains(part)), "{event}");
        assert!(!event.contains("0123456789"), "{event}");
    }
}
