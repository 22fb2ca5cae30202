//! Which route a request means, and what to say if there is none.

use http::Method;

use crate::problem::Problem;
use crate::query::decode;
use crate::routes::{ROUTES, Route, Verb};
use crate::words::{listed, shown};

/// Characters of a path that are compared with the routes, to name the nearest.
const COMPARED_CHARS_MAX: usize = 80;

/// A route and what the path holds for it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) route: &'static Route,
    /// Name and value, decoded.
    pub(crate) path: Vec<(&'static str, String)>,
}

/// Finds the route of a request.
pub(crate) fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    let candidates: Vec<(&Route, Vec<(&str, &str)>)> = ROUTES
        .iter()
        .filter_map(|route| captures(route.path, path).map(|found| (route, found)))
        .collect();
    let verb = verb(method);
    if candidates.is_empty() {
        return Err(Problem::no_such_path(path, nearest(path, verb)));
    }
    let mut allowed: Vec<String> = Vec::new();
    for (route, found) in candidates {
        if Some(route.verb) == verb {
            let decoded = found
                .into_iter()
                .map(|(name, value)| Ok((name, decode(value, name)?)));
            let path = decoded.collect::<Result<Vec<_>, Problem>>()?;
            return Ok(Found { route, path });
        }
        allowed.push(route.verb.to_string());
        if route.verb == Verb::Get {
            allowed.push("HEAD".to_owned());
        }
    }
    allowed.sort();
    allowed.dedup();
    let why = format!(
        "{} takes {}, not {}",
        shown(path),
        listed(&allowed),
        shown(method.as_str())
    );
    Err(Problem::wrong_verb(&why, allowed.join(", ")))
}

fn verb(method: &Method) -> Option<Verb> {
    match method.as_str() {
        "GET" | "HEAD" => Some(Verb::Get),
        "PUT" => Some(Verb::Put),
        "POST" => Some(Verb::Post),
        "DELETE" => Some(Verb::Delete),
        _ => None,
    }
}

/// What a path holds for a template, still encoded; none if it doesn't fit.
fn captures<'p>(template: &'static str, path: &'p str) -> Option<Vec<(&'static str, &'p str)>> {
    let mut found = Vec::new();
    let mut rest = Some(path);
    for segment in template.split('/') {
        let left = rest?;
        if let Some(name) = placeholder(segment, "{*") {
            found.push((name, left));
            return (!left.is_empty()).then_some(found);
        }
        let (here, behind) = match left.split_once('/') {
            Some((here, behind)) => (here, Some(behind)),
            None => (left, None),
        };
        match placeholder(segment, "{") {
            Some(name) if !here.is_empty() => found.push((name, here)),
            None if here == segment => {}
            Some(_) | None => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(found)
}

fn placeholder(segment: &'static str, opening: &str) -> Option<&'static str> {
    segment.strip_prefix(opening)?.strip_suffix('}')
}

/// The route whose path is most like this one; of several, one of the same verb.
fn nearest(path: &str, verb: Option<Verb>) -> &'static Route {
    let path: String = path.chars().take(COMPARED_CHARS_MAX).collect();
    let letters: Vec<char> = path.chars().collect();
    ROUTES
        .iter()
        .min_by_key(|route| {
            let template: Vec<char> = filled(route.path, &path).chars().collect();
            (distance(&letters, &template), Some(route.verb) != verb)
        })
        .expect("there are routes")
}

/// A template whose placeholders hold what the path has in their places.
fn filled(template: &'static str, path: &str) -> String {
    let mut given = path.split('/');
    let mut segments: Vec<String> = Vec::new();
    for segment in template.split('/') {
        let here = given.next();
        let held = if placeholder(segment, "{*").is_some() {
            let rest: Vec<&str> = here.into_iter().chain(given.by_ref()).collect();
            (!rest.is_empty()).then(|| rest.join("/"))
        } else if placeholder(segment, "{").is_some() {
            here.map(str::to_owned)
        } else {
            None
        };
        segments.push(held.unwrap_or_else(|| segment.to_owned()));
    }
    segments.join("/")
}

/// Levenshtein's distance.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, here) in left.iter().enumerate() {
        let mut diagonal = at;
        row[0] = at + 1;
        for (place, there) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(here != there);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_whole_segments() {
        let held = |template, path| captures(template, path);
        assert_eq!(held("/v1/kv", "/v1/kv"), Some(vec![]));
        assert_eq!(held("/v1/kv", "/v1/kv/"), None);
        assert_eq!(held("/v1/kv", "/v1"), None);
        assert_eq!(
            held("/v1/kv/{*key}", "/v1/kv/a/b"),
            Some(vec![("key", "a/b")])
        );
        assert_eq!(
            held("/v1/kv/{*key}", "/v1/kv//a"),
            Some(vec![("key", "/a")])
        );
        assert_eq!(held("/v1/kv/{*key}", "/v1/kv/"), None);
        assert_eq!(held("/v1/kv/{*key}", "/v1/kv"), None);
        assert_eq!(
            held("/v1/a/{x}/{y}", "/v1/a/1/2"),
            Some(vec![("x", "1"), ("y", "2")])
        );
        assert_eq!(held("/v1/a/{x}/{y}", "/v1/a//2"), None);
        assert_eq!(held("/v1/a/{x}/{y}", "/v1/a/1/2/3"), None);
    }

    #[test]
    fn the_nearest_route_is_what_was_meant() {
        let meant = |path| nearest(path, Some(Verb::Get)).path;
        assert_eq!(meant("/v1/service"), "/v1/services");
        assert_eq!(meant("/v1/service/web"), "/v1/services/{service}");
        assert_eq!(meant("/v1/kvs"), "/v1/kv");
        assert_eq!(meant("/v1/stats"), "/v1/status");
        assert_eq!(meant("/v1/key/a/b/c"), "/v1/kv/{*key}");
        assert!(!meant(&"/v1/status/".repeat(10_000)).is_empty());
    }

    #[test]
    fn no_two_routes_take_the_same_request() {
        for route in ROUTES {
            let path = route.path.replace(['{', '}', '*'], "");
            let found = find(
                &Method::from_bytes(route.verb.to_string().as_bytes()).unwrap(),
                &path,
            )
            .unwrap();
            assert_eq!(found.route.path, route.path, "{path} is another's");
            assert_eq!(found.route.method, route.method, "{path} is another's");
        }
    }
}
