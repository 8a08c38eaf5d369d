//! Who made and changed which field of an object of a kustomization.

use std::{cell::RefCell, collections::BTreeMap};

use kustomize::{Id, Observer};
use yaml::Node;

use crate::{Position, field::Path, tree::join};

/// A step of a build that made or changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it is written: the resource or patch file with its line, or the kustomization.
    pub at: Position,
    /// The kustomization that does it.
    pub kustomization: String,
    /// What kustomize calls it, for example `PatchTransformer`; `Resource` for what was read from a file.
    pub by: String,
    /// The patch, image or generator it is about; empty where there is none.
    pub what: String,
    /// What the field was after it, as YAML; nothing when it was taken away.
    pub value: Option<String>,
    /// Whether it is one value, and no map or list.
    pub scalar: bool,
}

struct Moment {
    file: String,
    kind: String,
    what: String,
    node: Node,
}

type Key = [String; 4];

/// Everything that happened to the objects of one build.
#[derive(Default)]
pub struct History {
    moments: RefCell<BTreeMap<Key, Vec<Moment>>>,
}

fn key(id: &Id) -> Key {
    // What kustomize writes for a namespace that is not there.
    let namespace = if ["default", "_non_namespaceable_"].contains(&&*id.namespace) { "" } else { &id.namespace };
    [id.gvk.group.clone(), id.gvk.kind.clone(), namespace.to_owned(), id.name.clone()]
}

impl Observer for History {
    fn step(&self, file: &str, kind: &str, what: &str, objects: &[(Id, &Node)]) {
        let mut all = self.moments.borrow_mut();
        for (id, node) in objects {
            let moments = all.entry(key(id)).or_default();
            if moments.last().is_none_or(|last| last.node != **node) {
                let (file, kind, what) = (file.to_owned(), kind.to_owned(), what.to_owned());
                moments.push(Moment { file, kind, what, node: (*node).clone() });
            }
        }
    }
}

impl History {
    /// What happened to a field of an object that is called `group`, `kind`, `namespace`, `name` in the end, oldest first.
    pub fn of(&self, group: &str, kind: &str, namespace: &str, name: &str, path: &Path) -> Vec<Change> {
        let all = self.moments.borrow();
        let namespace_fits = |found: &str| found == namespace || found.is_empty() && namespace == "default";
        let fits = |moment: &Moment| {
            let text = |path: &[&str]| Path::of(path).find(&moment.node).and_then(Node::as_scalar).unwrap_or_default();
            let api = text(&["apiVersion"]);
            let own = api.split_once('/').map_or("", |(group, _)| group);
            own == group
                && text(&["kind"]) == kind
                && text(&["metadata", "name"]) == name
                && namespace_fits(text(&["metadata", "namespace"]))
        };
        let Some(moments) = all.values().find(|moments| moments.last().is_some_and(fits)) else { return Vec::new() };
        let mut changes = Vec::new();
        let mut before: Option<String> = None;
        for moment in moments {
            let found = path.find(&moment.node);
            let printed = found.map(|node| yaml::print(node, &yaml::Layout::default()).trim_end().to_owned());
            if printed == before {
                continue;
            }
            before.clone_from(&printed);
            changes.push(Change {
                at: place(moment, found),
                kustomization: moment.file.clone(),
                by: moment.kind.clone(),
                what: moment.what.clone(),
                value: printed,
                scalar: found.is_some_and(|node| node.as_scalar().is_some()),
            });
        }
        changes
    }
}

/// Files are named from the root; a node that was made, not read, has no line.
fn place(moment: &Moment, node: Option<&Node>) -> Position {
    let directory = moment.file.rsplit_once('/').map_or("/", |(directory, _)| directory);
    let in_file = match moment.kind.as_str() {
        "Resource" => true,
        "PatchTransformer" | "PatchJson6902Transformer" => !moment.what.is_empty(),
        _ => false,
    };
    // A patch brings its scalars with it; maps and lists stay where they were.
    let own = |node: &&Node| in_file && (moment.kind == "Resource" || node.as_scalar().is_some());
    let mark = node.filter(own).map(|node| node.start).filter(|mark| mark.line > 0);
    let file = if in_file { join(directory, &moment.what) } else { moment.file.clone() };
    let (line, column) = mark.map_or((0, 0), |mark| (u64::from(mark.line), u64::from(mark.column)));
    Position { file, line, column }
}
