//! Objects as text, each with its place of birth.

use std::{fmt, rc::Rc};

use crate::Position;

/// What an object goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// Group and version, for example `apps/v1`.
    pub api_version: String,
}

impl Name {
    /// The group: what the API version says in front of `/`, empty for the first of all groups.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Reads it from an object.
    pub fn of(value: &yaml::Value) -> Self {
        let text = |value: Option<&yaml::Value>| value.and_then(yaml::Value::as_str).unwrap_or_default().to_owned();
        let metadata = |key| text(value.get("metadata").and_then(|metadata| metadata.get(key)));
        Self {
            kind: text(value.get("kind")),
            namespace: metadata("namespace"),
            name: metadata("name"),
            api_version: text(value.get("apiVersion")),
        }
    }

    /// Whether a person who writes `wanted` means it: `NAME`, `KIND/NAME` or `KIND.GROUP/NAME`, with `NAMESPACE/` in front or not;
    /// kinds in any case, singular or plural.
    pub fn is_meant_by(&self, wanted: &str) -> bool {
        let parts: Vec<&str> = wanted.split('/').collect();
        let (namespace, kind, name) = match parts[..] {
            [name] => (None, None, name),
            [kind, name] => (None, Some(kind), name),
            [namespace, kind, name] => (Some(namespace), Some(kind), name),
            _ => return false,
        };
        let kind_fits = kind.is_none_or(|kind| {
            let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
            let (kind, own) = (kind.to_lowercase(), self.kind.to_lowercase());
            let plural = if own.ends_with('s') { format!("{own}es") } else { format!("{own}s") };
            let ies = own.strip_suffix('y').map(|stem| format!("{stem}ies"));
            (kind == own || kind == plural || Some(kind) == ies) && group.is_none_or(|group| group == self.group())
        });
        self.name == name && kind_fits && namespace.is_none_or(|namespace| namespace == self.namespace)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        let kind = if self.kind.is_empty() { "object" } else { &self.kind };
        let name = if self.name.is_empty() { "?" } else { &self.name };
        write!(f, "{kind}/{name}")
    }
}

/// Where an object comes from.
#[derive(Clone)]
pub enum Origin {
    /// Its text stands in a file, from this line (from 1) on.
    File { file: String, line: u64 },
    /// A template of a chart made it.
    Template {
        /// The path of the template, which begins with the chart's name.
        template: String,
        /// Where its text begins in what the template gave, in bytes.
        offset: usize,
        /// What is behind each byte; only if it was asked for.
        traces: Option<Rc<Traced>>,
    },
    /// A kustomization made it.
    Kustomization {
        /// The directory of the kustomization.
        root: String,
        /// Who changed what; only if it was asked for.
        history: Option<Rc<crate::history::History>>,
    },
}

/// What is behind the text of a chart. Bound to the thread that rendered it.
pub struct Traced {
    pub traces: chart::render::Traces,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at(0, 1).to_string())
    }
}

impl Origin {
    /// What happened to a field, oldest first; only of kustomizations whose history was asked for.
    pub fn changes(&self, name: &Name, path: &crate::field::Path) -> Vec<crate::history::Change> {
        let Self::Kustomization { history: Some(history), .. } = self else { return Vec::new() };
        history.of(name.group(), &name.kind, &name.namespace, &name.name, path)
    }

    /// The place behind a byte (and its line, from 1) of the object's text: as near as is known.
    pub fn at(&self, offset: usize, line: u64) -> Position {
        match self {
            Self::File { file, line: first } => Position { file: file.clone(), line: first + line - 1, column: 1 },
            Self::Template { template, offset: begin, traces } => {
                let behind = traces.as_ref().map(|traced| traced.traces.behind(template, begin + offset));
                let place = behind.and_then(|behind| behind.places.last().cloned());
                match place {
                    Some(place) => Position { file: place.file, line: place.line as u64, column: 1 },
                    None => Position { file: template.clone(), line: 1, column: 1 },
                }
            }
            Self::Kustomization { root, history: _ } => Position { file: root.clone(), line: 1, column: 1 },
        }
    }
}

/// One object as it was rendered.
#[derive(Debug, Clone)]
pub struct Document {
    pub name: Name,
    /// YAML, without `---`; comments are kept where the source has them.
    pub text: String,
    pub origin: Origin,
    /// It is a hook of a chart, and so is not simply applied: the words of its annotation.
    pub hook: Option<String>,
}

impl Document {
    /// What the text says.
    pub fn value(&self) -> Result<yaml::Value, yaml::Error> {
        yaml::from_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_objects_in_several_ways() {
        let name = Name {
            kind: "NetworkPolicy".into(),
            namespace: "shop".into(),
            name: "web".into(),
            api_version: "networking.k8s.io/v1".into(),
        };
        for wanted in [
            "web",
            "networkpolicy/web",
            "NetworkPolicies/web",
            "networkpolicy.networking.k8s.io/web",
            "shop/networkpolicy/web",
        ] {
            assert!(name.is_meant_by(wanted), "{wanted}");
        }
        for wanted in ["we", "service/web", "networkpolicy.apps/web", "other/networkpolicy/web", "a/b/c/web"] {
            assert!(!name.is_meant_by(wanted), "{wanted}");
        }
    }
}
