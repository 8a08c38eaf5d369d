//! Label and field selectors, as text in a query and as objects in a spec.

use serde_json::Value;

use super::Resource;
use crate::{Error, Result};

/// Which labels an object must have. The default takes every object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LabelSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    In(Vec<String>),
    /// Also holds where the label is missing.
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
    Never,
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    /// One that no object matches.
    pub fn nothing() -> Self {
        Self { terms: vec![Term { key: String::new(), test: Test::Never }] }
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// All labels of a plain map must be there, as in a Service's `spec.selector`.
    pub fn from_map(labels: &Value) -> Self {
        let terms = labels.as_object().into_iter().flatten().map(|(key, value)| Term {
            key: key.clone(),
            test: Test::In(vec![value.as_str().unwrap_or_default().to_owned()]),
        });
        Self { terms: terms.collect() }
    }

    /// A `LabelSelector` object (`matchLabels`, `matchExpressions`). Missing selects nothing, empty everything.
    pub fn from_object(selector: &Value) -> Result<Self> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut all = Self::from_map(&selector["matchLabels"]);
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            let test = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                other => return Err(Error::bad_request(format!("{other:?} is not a valid label selector operator"))),
            };
            all.terms.push(Term { key, test });
        }
        Ok(all)
    }

    /// The text form: `a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1`.
    pub fn parse(text: &str) -> Result<Self> {
        let terms = split_terms(text).into_iter().map(|term| {
            parse_term(term).map_err(|why| {
                Error::bad_request(format!("unable to parse requirement: {why} in the label selector {text:?}"))
            })
        });
        Ok(Self { terms: terms.collect::<Result<_>>()? })
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(&object["metadata"]["labels"])
    }

    /// Whether a map of labels is selected.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        self.terms.iter().all(|term| {
            let found = labels.get(&term.key).and_then(Value::as_str);
            match (&term.test, found) {
                (Test::In(values), Some(found)) => values.iter().any(|v| v == found),
                (Test::NotIn(values), Some(found)) => !values.iter().any(|v| v == found),
                (Test::Exists, found) => found.is_some(),
                (Test::Missing, found) => found.is_none(),
                (Test::NotIn(_), None) => true,
                (Test::Greater(bound), Some(found)) => found.parse::<i64>().is_ok_and(|n| n > *bound),
                (Test::Less(bound), Some(found)) => found.parse::<i64>().is_ok_and(|n| n < *bound),
                (Test::In(_) | Test::Greater(_) | Test::Less(_), None) | (Test::Never, _) => false,
            }
        })
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, Term { key, test }) in self.terms.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                Test::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::Exists => f.write_str(key)?,
                Test::Missing => write!(f, "!{key}")?,
                Test::Greater(bound) => write!(f, "{key}>{bound}")?,
                Test::Less(bound) => write!(f, "{key}<{bound}")?,
                Test::Never => f.write_str("<none>")?,
            }
        }
        Ok(())
    }
}

/// Splits at the commas outside of parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.retain(|term| !term.trim().is_empty());
    terms
}

fn parse_term(term: &str) -> std::result::Result<Term, String> {
    let term = term.trim();
    let made = |key: &str, test| {
        let key = key.trim().to_owned();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "()!=<>,".contains(c)) {
            return Err(format!("found {term:?}, expected a label key and an operator"));
        }
        Ok(Term { key, test })
    };
    if let Some(key) = term.strip_prefix('!') {
        return made(key, Test::Missing);
    }
    if let Some((head, tail)) = term.split_once('(') {
        let Some(list) = tail.trim_end().strip_suffix(')') else {
            return Err(format!("found {term:?}, expected a closing ')'"));
        };
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        let head = head.trim_end();
        return match head.rsplit_once(char::is_whitespace) {
            Some((key, "in")) => made(key, Test::In(values)),
            Some((key, "notin")) => made(key, Test::NotIn(values)),
            _ => Err(format!("found {term:?}, expected 'in' or 'notin' before '('")),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return made(key, Test::NotIn(vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        let value = value.trim();
        if value.contains(['=', '!']) {
            return Err(format!("found {term:?}, expected one operator"));
        }
        return made(key, Test::In(vec![value.to_owned()]));
    }
    for (operator, test) in [('>', Test::Greater as fn(i64) -> Test), ('<', Test::Less)] {
        if let Some((key, bound)) = term.split_once(operator) {
            let bound =
                bound.trim().parse().map_err(|_| format!("found {term:?}, expected a number after {operator}"))?;
            return made(key, test(bound));
        }
    }
    made(term, Test::Exists)
}

/// Which fields an object must have. The default takes every object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSelector {
    terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Objects whose field at `path` (as in `spec.nodeName`) is `value`.
    pub fn equals(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![(path.into(), true, value.into())] }
    }

    /// The text form, `a.b=c,d.e!=f`; refuses the fields by which `resource` cannot be selected.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self> {
        let mut terms = Vec::new();
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (path, true, value)
            } else {
                return Err(Error::bad_request(format!(
                    "invalid field selector {text:?}: {term:?} has no '=' and no '!='"
                )));
            };
            if !selectable(resource, path) {
                return Err(Error::bad_request(format!(
                    "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {path}",
                    resource.plural
                )));
            }
            terms.push((path.to_owned(), equal, value.to_owned()));
        }
        Ok(Self { terms })
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|(path, equal, value)| (field(object, path) == *value) == *equal)
    }

    /// The name that every match must have, where the selector says so.
    pub fn name(&self) -> Option<&str> {
        self.terms.iter().find(|(path, equal, _)| *equal && path == "metadata.name").map(|(_, _, value)| value.as_str())
    }
}

/// The field at a dotted path as text; empty when it is not there.
fn field(object: &Value, path: &str) -> String {
    match path.split('.').fold(object, |value, step| &value[step]) {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // The two whose absence means something.
        _ if path == "spec.unschedulable" || path == "spec.hostNetwork" => "false".into(),
        _ => String::new(),
    }
}

fn selectable(resource: &Resource, path: &str) -> bool {
    let own: &[&str] = match (resource.group, resource.kind) {
        ("", "Pod") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "Event") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "Event") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ],
        ("", "Namespace") => &["status.phase"],
        ("", "Node") => &["spec.unschedulable"],
        ("", "Secret") => &["type"],
        ("", "Service") => &["spec.clusterIP", "spec.type"],
        ("apps", "ReplicaSet") => &["status.replicas"],
        ("batch", "Job") => &["status.successful"],
        _ => &[],
    };
    path == "metadata.name" || (resource.namespaced && path == "metadata.namespace") || own.contains(&path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn every_label_operator() {
        let labels = json!({"app": "web", "tier": "front", "n": "5"});
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app == web", true),
            ("app=db", false),
            ("app!=db", true),
            ("other!=x", true),
            ("app in (db, web),tier", true),
            ("app notin (web)", false),
            ("other notin (web)", true),
            ("!other", true),
            ("!app", false),
            ("other", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app=", false),
        ] {
            assert_eq!(selects(selector, labels.clone()), expected, "{selector}");
        }
    }

    #[test]
    fn broken_label_selectors_are_refused() {
        for selector in ["a in", "a in (b", "a in b)", "=x", "a=b=c", "a b", "a>x", "a foo (b)"] {
            let found = LabelSelector::parse(selector);
            assert!(found.is_err(), "{selector}: {found:?}");
        }
    }

    #[test]
    fn selector_objects() {
        let selector = LabelSelector::from_object(
            &json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]}),
        )
        .unwrap();
        assert!(selector.matches_labels(&json!({"a": "b", "c": "e"})));
        assert!(!selector.matches_labels(&json!({"a": "b"})));
        assert_eq!(selector.to_string(), "a=b,c in (d,e)");
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches_labels(&json!({})));
        assert!(LabelSelector::from_object(&json!({})).unwrap().matches_labels(&json!({})));
    }

    #[test]
    fn field_selectors() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Running"}});
        let pods = &crate::objects::resource::PODS;
        assert!(FieldSelector::parse(pods, "status.phase=Running,spec.nodeName=").unwrap().matches(&pod));
        assert!(!FieldSelector::parse(pods, "status.phase!=Running").unwrap().matches(&pod));
        assert!(FieldSelector::parse(pods, "spec.colour=red").is_err());
    }
}
