//! Objects as text, each with its place of birth.

use std::{collections::BTreeMap, fmt, rc::Rc};

use crate::{Position, field::Path};

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

    /// The same without the hash that kustomize puts behind the names of ConfigMaps and Secrets that it generates; nothing if there is
    /// none.
    pub fn without_hash(&self) -> Option<Self> {
        let (name, hash) = self.name.rsplit_once('-')?;
        // Ten of the characters that stand for hexadecimal digits there.
        let is_hash = hash.len() == 10 && hash.chars().all(|c| "2456789bcdfghkmt".contains(c));
        let generated = is_hash && !name.is_empty() && ["ConfigMap", "Secret"].contains(&&*self.kind);
        generated.then(|| Self { name: name.to_owned(), ..self.clone() })
    }

    /// Whether a person who writes `wanted` means it: `NAME`, `KIND/NAME` or `KIND.GROUP/NAME`, with `NAMESPACE/` in front or not;
    /// kinds in any case, singular or plural, or by kubectl's short names (`deploy`, `svc`).
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
            let kind = SHORT.iter().find(|(short, _)| *short == kind).map_or(kind, |(_, long)| (*long).to_owned());
            let plural = if own.ends_with('s') { format!("{own}es") } else { format!("{own}s") };
            let ies = own.strip_suffix('y').map(|stem| format!("{stem}ies"));
            (kind == own || kind == plural || Some(kind) == ies) && group.is_none_or(|group| group == self.group())
        });
        self.name == name && kind_fits && namespace.is_none_or(|namespace| namespace == self.namespace)
    }
}

/// The short names that kubectl takes, without those that it derives.
const SHORT: &[(&str, &str)] = &[
    ("cj", "cronjob"),
    ("cm", "configmap"),
    ("crd", "customresourcedefinition"),
    ("crds", "customresourcedefinition"),
    ("csr", "certificatesigningrequest"),
    ("deploy", "deployment"),
    ("ds", "daemonset"),
    ("ep", "endpoints"),
    ("ev", "event"),
    ("hpa", "horizontalpodautoscaler"),
    ("ing", "ingress"),
    ("limits", "limitrange"),
    ("netpol", "networkpolicy"),
    ("no", "node"),
    ("ns", "namespace"),
    ("pc", "priorityclass"),
    ("pdb", "poddisruptionbudget"),
    ("po", "pod"),
    ("psp", "podsecuritypolicy"),
    ("pv", "persistentvolume"),
    ("pvc", "persistentvolumeclaim"),
    ("quota", "resourcequota"),
    ("rc", "replicationcontroller"),
    ("rs", "replicaset"),
    ("sa", "serviceaccount"),
    ("sc", "storageclass"),
    ("sts", "statefulset"),
    ("svc", "service"),
    ("vac", "volumeattributesclass"),
];

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
    /// Printed anew from what stands in a file: an item of a list, or what another tool read.
    Reprinted {
        file: String,
        /// Lines of the file in front of the text that `root` was read from.
        before: usize,
        /// The object as it stands there; nothing where that is not known.
        root: Option<Rc<yaml::Node>>,
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
    /// The directories of the chart and its subcharts, by what the names of their templates begin with; empty for archives.
    pub(crate) roots: BTreeMap<String, String>,
}

impl Traced {
    /// The file of a template, as the tree names it; the template's own name where it is in an archive.
    pub fn file(&self, template: &str) -> String {
        crate::render::place(&self.roots, template)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at(0, 1).to_string())
    }
}

impl Origin {
    /// What happened to a field, oldest first; only of kustomizations whose history was asked for.
    pub fn changes(&self, name: &Name, path: &Path) -> Vec<crate::history::Change> {
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
                let file = |name: &str| traces.as_ref().map_or_else(|| name.to_owned(), |traced| traced.file(name));
                match place {
                    Some(place) => Position { file: file(&place.file), line: place.line as u64, column: 1 },
                    None => Position::nowhere(&file(template)),
                }
            }
            Self::Reprinted { file, before, root } => match root {
                Some(root) => marked(file, *before, root.start),
                None => Position::nowhere(file),
            },
            Self::Kustomization { root, history: _ } => Position::nowhere(root),
        }
    }

    /// Where a field was written, or the nearest thing around it; nothing where only the text says it ([`Self::at`]).
    pub fn of_field(&self, name: &Name, path: &Path) -> Option<Position> {
        let mut path = path.clone();
        loop {
            match self {
                Self::Reprinted { file, before, root: Some(root) } => {
                    let node = path.find_key(root).or_else(|| path.0.is_empty().then_some(&**root));
                    if let Some(node) = node.filter(|node| node.start.line > 0) {
                        return Some(marked(file, *before, node.start));
                    }
                }
                Self::Kustomization { .. } => {
                    let mut changes = self.changes(name, &path);
                    // A map has no line of its own where it was changed, but where it was written first.
                    if changes.last().is_some_and(|last| !last.scalar && last.value.is_some())
                        && let Some(known) = changes.iter().rposition(|change| change.at.line > 0)
                    {
                        changes.truncate(known + 1);
                    }
                    if let Some(last) = changes.pop() {
                        return Some(last.at);
                    }
                }
                _ => return None,
            }
            path.0.pop()?;
        }
    }
}

fn marked(file: &str, before: usize, mark: yaml::Mark) -> Position {
    Position { file: file.to_owned(), line: u64::from(mark.line) + before as u64, column: u64::from(mark.column) }
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
        for wanted in ["netpol/web", "shop/NETPOL/web"] {
            assert!(name.is_meant_by(wanted), "{wanted}");
        }
        let generated = Name { kind: "Secret".into(), name: "web-env-7hbc4c9kmt".into(), ..Name::default() };
        assert_eq!(generated.without_hash().unwrap().name, "web-env");
        assert_eq!(Name { kind: "Pod".into(), ..generated.clone() }.without_hash(), None);
        assert_eq!(Name { name: "web-env-production".into(), ..generated }.without_hash(), None);
        for wanted in ["we", "service/web", "networkpolicy.apps/web", "other/networkpolicy/web", "a/b/c/web"] {
            assert!(!name.is_meant_by(wanted), "{wanted}");
        }
    }
}
