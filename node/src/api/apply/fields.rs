//! Sets of fields of an object, as `FieldsV1` writes them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::schema::{Key, List, Rule, Shape, schema};

/// One step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `f:<name>`
    Field(String),
    /// `k:<json>`: the item of a list whose keys have these values.
    Key(String),
    /// `v:<json>`: this item of a set.
    Value(String),
    /// `i:<n>`
    Index(usize),
}

/// A set of fields. A node is a member itself, or has members below it, or both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldSet {
    pub member: bool,
    pub children: BTreeMap<Step, FieldSet>,
}

impl Step {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        Some(match kind {
            "f" => Self::Field(rest.to_owned()),
            "k" => Self::Key(sorted(&serde_json::from_str::<Map<String, Value>>(rest).ok()?)),
            "v" => Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "i" => Self::Index(rest.parse().ok()?),
            _ => return None,
        })
    }

    fn written(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(json) => format!("k:{json}"),
            Self::Value(json) => format!("v:{json}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    /// The step as error messages show it.
    fn shown(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Key(json) => {
                let keys: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
            Self::Value(json) => format!("[={json}]"),
            Self::Index(at) => format!("[{at}]"),
        }
    }
}

fn sorted(map: &Map<String, Value>) -> String {
    let sorted: BTreeMap<&String, &Value> = map.iter().collect();
    let inner: Vec<String> =
        sorted.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
    format!("{{{}}}", inner.join(","))
}

impl FieldSet {
    /// Reads `FieldsV1`; steps that cannot be read are left out.
    pub fn from_json(json: &Value) -> Self {
        let mut set = Self::default();
        let Some(map) = json.as_object() else { return set };
        for (key, value) in map {
            if key == "." {
                set.member = true;
            } else if let Some(step) = Step::parse(key) {
                let mut child = Self::from_json(value);
                // Nothing inside: the field itself is meant.
                child.member |= child.children.is_empty();
                set.children.insert(step, child);
            }
        }
        set
    }

    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            map.insert(step.written(), child.to_json());
        }
        Value::Object(map)
    }

    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    pub fn unite(&mut self, other: &Self) {
        self.member |= other.member;
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().unite(child);
        }
    }

    /// Takes out the members of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        for (step, child) in &other.children {
            if let Some(own) = self.children.get_mut(step) {
                own.subtract(child);
                if own.is_empty() {
                    self.children.remove(step);
                }
            }
        }
    }

    /// The members that both have.
    pub fn common(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(step, own)| {
            let both = own.common(other.children.get(step)?);
            (!both.is_empty()).then(|| (step.clone(), both))
        });
        Self { member: self.member && other.member, children: children.collect() }
    }

    /// The members as paths, as in `.spec.replicas`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut String::new(), &mut paths);
        paths
    }

    fn collect(&self, path: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.clone());
        }
        for (step, child) in &self.children {
            let length = path.len();
            path.push_str(&step.shown());
            child.collect(path, paths);
            path.truncate(length);
        }
    }
}

/// The parts of a value that are managed one by one.
pub(super) enum Parts<'a> {
    /// The value is managed as a whole.
    Whole,
    Each(Vec<Part<'a>>),
}

pub(super) struct Part<'a> {
    pub step: Step,
    pub value: &'a Value,
    pub shape: &'a Shape,
    pub rule: Rule,
    /// Items of lists are managed themselves, besides what is in them.
    pub item: bool,
}

static ANY: Shape = Shape::Any;

/// Takes a value apart by its shape.
pub(super) fn parts<'a>(shape: &'a Shape, rule: &Rule, value: &'a Value) -> Parts<'a> {
    let (shape, atomic, _) = schema().resolve(shape);
    match (shape, value) {
        (Shape::Struct(fields), Value::Object(map)) if !atomic && !rule.atomic_map => {
            let each = map.iter().map(|(key, value)| {
                let (shape, rule) = fields.get(key).map_or((&ANY, Rule::plain()), |f| (&f.shape, f.rule));
                Part { step: Step::Field(key.clone()), value, shape, rule, item: false }
            });
            Parts::Each(each.collect())
        }
        (Shape::Map(inner), Value::Object(map)) if !rule.atomic_map => {
            let each = map.iter().map(|(key, value)| Part {
                step: Step::Field(key.clone()),
                value,
                shape: inner,
                rule: Rule::plain(),
                item: false,
            });
            Parts::Each(each.collect())
        }
        (Shape::List(inner), Value::Array(list)) => {
            let step = |value: &Value| match rule.list {
                List::Atomic => None,
                List::Set => Some(Step::Value(value.to_string())),
                List::Map(keys) => key_step(keys, value),
            };
            let mut seen = std::collections::BTreeSet::new();
            let each: Option<Vec<Part<'a>>> = list
                .iter()
                .map(|value| {
                    let step = step(value)?;
                    // A list that names an item twice is managed as a whole.
                    seen.insert(step.clone()).then_some(())?;
                    Some(Part { step, value, shape: inner, rule: Rule::plain(), item: true })
                })
                .collect();
            match (each, rule.list) {
                (_, List::Atomic) | (None, _) => Parts::Whole,
                (Some(each), _) => Parts::Each(each),
            }
        }
        _ => Parts::Whole,
    }
}

/// The step to an item that is told apart by `keys`; none when the item lacks one of them.
pub(super) fn key_step(keys: &[Key], item: &Value) -> Option<Step> {
    let mut found = Map::new();
    for key in keys {
        let value = match item.get(key.field).filter(|value| !value.is_null()) {
            Some(value) => value.clone(),
            None => key.default?.into(),
        };
        found.insert(key.field.to_owned(), value);
    }
    Some(Step::Key(sorted(&found)))
}

/// The fields that a value sets.
pub(super) fn set_of(shape: &Shape, rule: &Rule, value: &Value) -> FieldSet {
    match parts(shape, rule, value) {
        Parts::Each(each) if !each.is_empty() => {
            let mut set = FieldSet::default();
            for part in each {
                let mut child = set_of(part.shape, &part.rule, part.value);
                child.member |= part.item;
                set.children.insert(part.step, child);
            }
            set
        }
        _ => FieldSet { member: true, children: BTreeMap::new() },
    }
}

/// What differs between two values.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub modified: FieldSet,
    pub added: FieldSet,
    pub removed: FieldSet,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.modified.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }

    /// What has a new value.
    pub fn written(&self) -> FieldSet {
        let mut written = self.modified.clone();
        written.unite(&self.added);
        written
    }

    fn put(&mut self, step: &Step, child: Changes) {
        let slots =
            [(&mut self.modified, child.modified), (&mut self.added, child.added), (&mut self.removed, child.removed)];
        for (set, child) in slots {
            if !child.is_empty() {
                set.children.insert(step.clone(), child);
            }
        }
    }
}

pub(super) fn compare(shape: &Shape, rule: &Rule, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut changes = Changes::default();
    match (old, new) {
        (None, None) => {}
        (None, Some(new)) => {
            changes.added = set_of(shape, rule, new);
            changes.added.member = true;
        }
        (Some(old), None) => {
            changes.removed = set_of(shape, rule, old);
            everything(&mut changes.removed);
        }
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => match (parts(shape, rule, old), parts(shape, rule, new)) {
            (Parts::Each(before), Parts::Each(after)) => {
                let mut before: BTreeMap<Step, Part<'_>> = before.into_iter().map(|p| (p.step.clone(), p)).collect();
                for part in after {
                    let old = before.remove(&part.step);
                    let inner = compare(part.shape, &part.rule, old.map(|old| old.value), Some(part.value));
                    changes.put(&part.step, inner);
                }
                for (step, part) in before {
                    changes.put(&step, compare(part.shape, &part.rule, Some(part.value), None));
                }
            }
            _ => changes.modified.member = true,
        },
    }
    changes
}

/// Makes every node a member: when a value goes, so does whatever was managed in it.
fn everything(set: &mut FieldSet) {
    set.member = true;
    set.children.values_mut().for_each(everything);
}
