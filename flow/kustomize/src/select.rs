//! Which objects a selector chooses.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;

use crate::{Error, Gvk, Result, Selector, resource::Resource, resources::Resources};

thread_local! {
    /// Patterns are few and used again and again.
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

/// A pattern, compiled once a thread and bounded in size.
pub fn pattern(text: &str) -> Result<Regex> {
    PATTERNS.with(|patterns| {
        let mut patterns = patterns.borrow_mut();
        if let Some(found) = patterns.get(text) {
            return Ok(found.clone());
        }
        let compiled = regex::RegexBuilder::new(text).size_limit(1 << 20).build();
        let compiled = compiled.map_err(|error| Error::wrong(format!("error parsing regexp: {error}")))?;
        if patterns.len() > 4096 {
            patterns.clear();
        }
        patterns.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    })
}

/// A pattern for the whole of a text; nothing for an empty one, which fits all.
enum Whole {
    Any,
    /// No special characters.
    Plain(String),
    Pattern(Regex),
}

impl Whole {
    fn new(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/')) {
            return Ok(Self::Plain(text.to_owned()));
        }
        Ok(Self::Pattern(pattern(&format!("^(?:{text})$"))?))
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Plain(plain) => plain == text,
            Self::Pattern(pattern) => pattern.is_match(text),
        }
    }
}

/// A selector, ready for use.
pub struct Matcher {
    group: Whole,
    version: Whole,
    kind: Whole,
    name: Whole,
    namespace: Whole,
    labels: Vec<Requirement>,
    annotations: Vec<Requirement>,
    /// Nothing but labels or annotations is asked for.
    pub anonymous: bool,
    pub marked: bool,
}

impl Matcher {
    pub fn new(selector: &Selector) -> Result<Self> {
        let Selector { group, version, kind, name, namespace, annotation_selector, label_selector } = selector;
        Ok(Self {
            group: Whole::new(group)?,
            version: Whole::new(version)?,
            kind: Whole::new(kind)?,
            name: Whole::new(name)?,
            namespace: Whole::new(namespace)?,
            labels: requirements(label_selector)?,
            annotations: requirements(annotation_selector)?,
            anonymous: [group, version, kind, name, namespace].iter().all(|text| text.is_empty()),
            marked: !(annotation_selector.is_empty() && label_selector.is_empty()),
        })
    }

    pub fn gvk(&self, gvk: &Gvk) -> bool {
        self.group.fits(&gvk.group) && self.version.fits(&gvk.version) && self.kind.fits(&gvk.kind)
    }

    pub fn name(&self, name: &str) -> bool {
        self.name.fits(name)
    }

    pub fn namespace(&self, namespace: &str) -> bool {
        self.namespace.fits(namespace)
    }

    /// Labels and annotations.
    pub fn marks(&self, resource: &Resource) -> bool {
        let fits = |requirements: &[Requirement], pairs: &dyn Fn() -> Vec<(String, String)>| {
            requirements.is_empty() || {
                let pairs = pairs();
                requirements.iter().all(|requirement| requirement.fits(&pairs))
            }
        };
        fits(&self.labels, &|| resource.labels()) && fits(&self.annotations, &|| resource.annotations())
    }

    /// True for an object that the selector chooses by its first or its present name.
    pub fn resource(&self, resource: &Resource) -> bool {
        let (now, first) = (resource.id(), resource.first_id());
        (self.namespace(first.effective_namespace()) || self.namespace(now.effective_namespace()))
            && (self.name(&first.name) || self.name(&now.name))
            && self.gvk(&now.gvk)
            && self.marks(resource)
    }
}

/// The objects that a selector chooses.
pub fn select(resources: &Resources, selector: &Selector) -> Result<Vec<usize>> {
    let matcher = Matcher::new(selector)?;
    Ok((0..resources.list.len()).filter(|&i| matcher.resource(&resources.list[i])).collect())
}

/// One part of a label selector.
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Greater(String, i64),
    Less(String, i64),
}

impl Requirement {
    fn fits(&self, pairs: &[(String, String)]) -> bool {
        let value = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let number = |key: &str| value(key).and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(key, values) => value(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Self::NotIn(key, values) => value(key).is_none_or(|value| values.iter().all(|v| v != value)),
            Self::Exists(key) => value(key).is_some(),
            Self::Missing(key) => value(key).is_none(),
            Self::Greater(key, bound) => number(key).is_some_and(|n| n > *bound),
            Self::Less(key, bound) => number(key).is_some_and(|n| n < *bound),
        }
    }
}

/// Reads `a=b,c!=d,e in (f,g),h,!i`.
fn requirements(text: &str) -> Result<Vec<Requirement>> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(part: &str) -> Result<Requirement> {
    let wrong = || Error::wrong(format!("unable to parse requirement: {part:?} is no label selector"));
    let list = |rest: &str| -> Result<Vec<String>> {
        let inner = rest.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
        Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let own = |text: &str| text.trim().to_owned();
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(own(key), vec![own(value)]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(own(key), vec![own(value)]));
    }
    if let Some((key, rest)) = part
        .split_once(" notin ")
        .or_else(|| part.split_once(" notin(").map(|_| part.split_at(part.find("notin(").unwrap_or(0))))
    {
        let rest = rest.strip_prefix("notin").unwrap_or(rest);
        return Ok(Requirement::NotIn(own(key), list(rest)?));
    }
    if let Some((key, rest)) = part.split_once(" in ") {
        return Ok(Requirement::In(own(key), list(rest)?));
    }
    if let Some(at) = part.find(" in(") {
        return Ok(Requirement::In(own(&part[..at]), list(&part[at + 3..])?));
    }
    if let Some((key, bound)) = part.split_once('>') {
        return Ok(Requirement::Greater(own(key), bound.trim().parse().map_err(|_| wrong())?));
    }
    if let Some((key, bound)) = part.split_once('<') {
        return Ok(Requirement::Less(own(key), bound.trim().parse().map_err(|_| wrong())?));
    }
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::Missing(own(key)));
    }
    if part.contains(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(Requirement::Exists(own(part)))
}
