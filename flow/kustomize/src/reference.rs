//! Names that changed, followed to where they are used.

use std::collections::HashMap;

use yaml::{Kind, Node};

use crate::{
    Error, FieldSpec, Gvk, Id, Result,
    config::References,
    field::{self, Create},
    resource::Resource,
    resources::Resources,
    tree,
};

/// What is known of an object that others may name.
struct Known {
    now: Id,
    previous: Vec<Id>,
    /// The namespace it was in first.
    first_namespace: String,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    cluster: bool,
}

/// Updates every field that names an object which is called otherwise now.
pub fn update(resources: &mut Resources, references: &[References]) -> Result<()> {
    let known: Vec<Known> = resources.list.iter().map(Known::of).collect();
    if known.iter().all(|known| known.previous.is_empty()) {
        return Ok(());
    }
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, one) in known.iter().enumerate() {
        for id in &one.previous {
            let list = by_name.entry(&id.name).or_default();
            if list.last() != Some(&i) {
                list.push(i);
            }
        }
    }
    let mut by_kind: HashMap<&str, Vec<(&Gvk, &FieldSpec)>> = HashMap::new();
    for group in references {
        for spec in &group.from {
            by_kind.entry(spec.gvk.kind.as_str()).or_default().push((&group.to, spec));
        }
    }
    for at in 0..resources.list.len() {
        let resource = &mut resources.list[at];
        let (now, first) = (known[at].now.gvk.clone(), resource.first_id().gvk);
        let role = role(&resource.node);
        let referrer =
            Referrer { at, known: &known, by_name: &by_name, bound: bound_namespaces(&resource.node, &now.kind), role };
        for kind in [first.kind.as_str(), ""] {
            for (to, spec) in by_kind.get(kind).into_iter().flatten() {
                // Its first kind, with the group and version of now.
                let asked = Gvk { kind: first.kind.clone(), ..now.clone() };
                if !asked.is_selected(&spec.gvk) {
                    continue;
                }
                let here = FieldSpec { gvk: now.clone(), ..(*spec).clone() };
                let by_role = spec.path.ends_with("roleRef/name");
                field::visit(&mut resource.node, &now, &here, Create::Nothing, &mut |node| {
                    referrer.set(node, to, by_role)
                })
                .map_err(|error| {
                    error.during(format!("updating name reference in '{}' field of '{}'", spec.path, known[at].now))
                })?;
            }
        }
    }
    Ok(())
}

impl Known {
    fn of(resource: &Resource) -> Self {
        let now = resource.id();
        let previous = resource.previous_ids(&now.gvk);
        let first_namespace = previous.first().unwrap_or(&now).effective_namespace().to_owned();
        Self {
            previous,
            first_namespace,
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
            cluster: now.gvk.is_cluster_scoped(),
            now,
        }
    }
}

/// What a role binding binds.
fn role(node: &Node) -> Option<Gvk> {
    let role = node.get("roleRef")?;
    let text = |key: &str| role.get(key).and_then(Node::as_scalar).map(str::to_owned);
    Some(Gvk { group: text("apiGroup")?, version: String::new(), kind: text("kind")? })
}

/// Namespaces of the service accounts that a role binding names.
fn bound_namespaces(node: &Node, kind: &str) -> Vec<String> {
    if kind != "RoleBinding" {
        return Vec::new();
    }
    let subjects = node.get("subjects").and_then(Node::as_list).unwrap_or_default();
    subjects
        .iter()
        .filter(|subject| tree::text_at(subject, &["kind"]) == "ServiceAccount")
        .map(|subject| tree::text_at(subject, &["namespace"]).to_owned())
        .filter(|namespace| !namespace.is_empty())
        .collect()
}

fn same_ending(a: &[String], b: &[String]) -> bool {
    let common = a.len().min(b.len());
    a[a.len() - common..] == b[b.len() - common..]
}

/// Two that are empty or not alike.
fn same_affixes(a: &Known, b: &Known, empty_fits: bool) -> bool {
    let fits = |x: &[String], y: &[String]| (empty_fits && (x.is_empty() || y.is_empty())) || same_ending(x, y);
    fits(&a.prefixes, &b.prefixes) && fits(&a.suffixes, &b.suffixes)
}

struct Referrer<'k> {
    at: usize,
    known: &'k [Known],
    by_name: &'k HashMap<&'k str, Vec<usize>>,
    bound: Vec<String>,
    role: Option<Gvk>,
}

impl Referrer<'_> {
    fn set(&self, node: &mut Node, to: &Gvk, by_role: bool) -> Result<()> {
        if tree::is_null(node) {
            return Ok(());
        }
        match &mut node.kind {
            Kind::Scalar(_) => self.scalar(node, to, by_role),
            Kind::Map(_) => self.map(node, to, by_role),
            Kind::List(items) => items.iter_mut().try_for_each(|item| match item.kind {
                Kind::Scalar(_) => self.scalar(item, to, by_role),
                Kind::Map(_) => self.map(item, to, by_role),
                _ => Err(Error::wrong("node must be a scalar, sequence or map")),
            }),
            Kind::Alias(_) => Err(Error::wrong("node must be a scalar, sequence or map")),
        }
    }

    fn scalar(&self, node: &mut Node, to: &Gvk, by_role: bool) -> Result<()> {
        let old = node.as_scalar().unwrap_or_default();
        let Some(found) = self.find(old, to, by_role, None, false)? else { return Ok(()) };
        if found.now.name != old {
            tree::set_scalar(node, &found.now.name, None);
        }
        Ok(())
    }

    fn map(&self, node: &mut Node, to: &Gvk, by_role: bool) -> Result<()> {
        let Some(name) = node.get("name") else {
            return Err(Error::wrong("path config error; no 'name' field in node"));
        };
        let old = name.as_scalar().unwrap_or_default().to_owned();
        let namespace = node.get("namespace").map(|node| node.as_scalar().unwrap_or_default().to_owned());
        let Some(found) = self.find(&old, to, by_role, namespace.as_deref(), true)? else { return Ok(()) };
        if found.now.name == old && found.now.namespace.is_empty() {
            return Ok(());
        }
        if let Some(name) = node.get_mut("name") {
            tree::set_scalar(name, &found.now.name, None);
        }
        if !found.now.namespace.is_empty() {
            match node.get_mut("namespace") {
                Some(namespace) => tree::set_scalar(namespace, &found.now.namespace, None),
                None => tree::set(node, "namespace", Node::plain(&found.now.namespace)),
            }
        }
        Ok(())
    }

    /// True when this object may name that one.
    fn reaches(&self, other: &Known) -> bool {
        let me = &self.known[self.at];
        me.cluster
            || other.cluster
            || other.now.effective_namespace() == me.now.effective_namespace()
            || self.bound.contains(&other.now.namespace)
    }

    fn find(&self, old: &str, to: &Gvk, by_role: bool, namespace: Option<&str>, whole: bool) -> Result<Option<&Known>> {
        let me = &self.known[self.at];
        let Some(named) = self.by_name.get(old) else { return Ok(None) };
        let mut candidates: Vec<&Known> =
            named.iter().map(|&i| &self.known[i]).filter(|other| self.reaches(other)).collect();
        if let Some(namespace) = namespace {
            // Grouped by the namespace they had first; when no object at all had it, by the one they have.
            let had = |known: &Known| known.first_namespace == namespace;
            let any = self.known.iter().any(|known| self.reaches(known) && had(known));
            candidates.retain(|known| if any { had(known) } else { known.now.effective_namespace() == namespace });
        }
        candidates.retain(|known| known.previous.iter().any(|id| id.gvk.is_selected(to)));
        if let (true, Some(role)) = (by_role, &self.role) {
            candidates.retain(|known| known.previous.iter().any(|id| id.gvk.is_selected(role)));
        }
        if !me.cluster {
            candidates.retain(|known| {
                known.cluster
                    || known.now.gvk.kind == "ServiceAccount"
                    || known.now.effective_namespace() == me.now.effective_namespace()
            });
        }
        if candidates.len() == 1 {
            return Ok(candidates.pop());
        }
        candidates.retain(|known| same_affixes(known, me, true));
        if candidates.len() > 1 {
            candidates.retain(|known| same_affixes(known, me, false));
        }
        let Some(first) = candidates.first().copied() else { return Ok(None) };
        let alike = candidates
            .iter()
            .all(|known| known.now.name == first.now.name && (!whole || known.now.namespace == first.now.namespace));
        if alike {
            return Ok(Some(first));
        }
        let ids: Vec<String> = candidates.iter().map(|known| known.now.to_string()).collect();
        Err(Error::wrong(format!("found multiple possible referrals: {}", ids.join(", "))))
    }
}
