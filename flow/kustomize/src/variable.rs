//! The old `vars`: `$(NAME)` in certain fields.

use std::collections::BTreeMap;

use yaml::{Kind, Node, Value};

use crate::{
    Error, FieldSpec, Gvk, Id, Result,
    field::{self, Create},
    kustomization::Var,
    replacement,
    resources::Resources,
    tree,
};

/// Notes which objects the variables take their values from.
pub fn claim(resources: &mut Resources, vars: &[Var]) -> Result<()> {
    for var in vars {
        let target = &var.objref;
        let gvk = if target.api_version.is_empty() {
            Gvk { group: target.group.clone(), version: target.version.clone(), kind: target.kind.clone() }
        } else {
            Gvk::new(&target.api_version, &target.kind)
        };
        let wanted = Id { gvk, name: target.name.clone(), namespace: target.namespace.clone() };
        let whole = !wanted.namespace.is_empty() || wanted.gvk.is_cluster_scoped();
        let found = resources.matching(|id| {
            id.name == wanted.name
                && id.gvk == wanted.gvk
                && (!whole || id.effective_namespace() == wanted.effective_namespace())
        });
        match found[..] {
            [] => {}
            [at] => resources.list[at].variables.push(var.name.clone()),
            _ => {
                return Err(Error::wrong(format!(
                    "found {} resId matches for var {} (unable to disambiguate)",
                    found.len(),
                    var.name
                )));
            }
        }
    }
    Ok(())
}

/// Adds variables; a name may be used for one thing only.
pub fn merge(all: &mut Vec<Var>, more: &[Var]) -> Result<()> {
    for var in more {
        match all.iter().find(|known| known.name == var.name) {
            Some(known) if known != var => {
                return Err(Error::wrong(format!("var '{}' already encountered", var.name)));
            }
            Some(_) => return Err(Error::wrong(format!("var '{}' already encountered", var.name))),
            None => all.push(var.clone()),
        }
    }
    Ok(())
}

/// Puts the values in. Names of variables that nothing uses.
pub fn resolve(resources: &mut Resources, vars: &[Var], specs: &[FieldSpec]) -> Result<Vec<String>> {
    let mut values = BTreeMap::new();
    for var in vars {
        let owner = resources.list.iter().find(|resource| resource.variables.contains(&var.name));
        let Some(owner) = owner else {
            return Err(Error::wrong(format!(
                "var '{}' cannot be mapped to a field in the set of known resources",
                var.name
            )));
        };
        let path = if var.fieldref.fieldpath.is_empty() { "metadata.name" } else { &var.fieldref.fieldpath };
        let parts = field_path(path);
        let Some(found) = replacement::find(&owner.node, &parts) else {
            return Err(Error::wrong(format!(
                "field specified in var '{}' not found in corresponding resource",
                var.name
            )));
        };
        values.insert(var.name.clone(), tree::to_value(found.clone())?);
    }
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = std::collections::BTreeSet::new();
    for resource in &mut resources.list {
        let gvk = resource.gvk();
        for spec in specs {
            field::visit(&mut resource.node, &gvk, spec, Create::Nothing, &mut |node| {
                expand(node, &values, &mut used)
            })?;
        }
    }
    Ok(values.into_keys().filter(|name| !used.contains(name)).collect())
}

/// `spec.containers[0].image` in parts.
fn field_path(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for part in tree::split_dots(path) {
        match part.split_once('[') {
            Some((name, rest)) if !name.is_empty() && rest.ends_with(']') => {
                parts.push(name.to_owned());
                parts.extend(rest.trim_end_matches(']').split("][").map(str::to_owned));
            }
            _ => parts.push(part),
        }
    }
    parts
}

type Used = std::collections::BTreeSet<String>;

fn expand(node: &mut Node, values: &BTreeMap<String, Value>, used: &mut Used) -> Result<()> {
    if tree::is_null(node) {
        return Ok(());
    }
    match &mut node.kind {
        Kind::Scalar(_) => scalar(node, values, used),
        Kind::Map(entries) => entries.iter_mut().for_each(|(_, value)| scalar(value, values, used)),
        Kind::List(items) => {
            for item in items {
                if !tree::is_string(item) {
                    return Err(Error::wrong("invalid value type expect a string"));
                }
                scalar(item, values, used);
            }
        }
        Kind::Alias(_) => {}
    }
    Ok(())
}

fn scalar(node: &mut Node, values: &BTreeMap<String, Value>, used: &mut Used) {
    if !tree::is_string(node) {
        return;
    }
    let text = node.as_scalar().unwrap_or_default();
    let new = replaced(text, values, used);
    *node = match new {
        Value::String(text) => Node::string(text),
        other => tree::from_value(&other),
    };
}

/// The text with `$(NAME)` replaced and `$$` halved. A text that is one reference becomes the value itself.
fn replaced(text: &str, values: &BTreeMap<String, Value>, used: &mut Used) -> Value {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match after.chars().next() {
            None => {
                out.push('$');
                rest = "";
            }
            Some('$') => {
                out.push('$');
                rest = &after[1..];
            }
            Some('(') => match after.find(')') {
                Some(end) => {
                    let name = &after[1..end];
                    match values
                        .get(name)
                        .filter(|value| !matches!(value, Value::List(_) | Value::Map(_) | Value::Null))
                    {
                        Some(value) => {
                            used.insert(name.to_owned());
                            if text.len() == name.len() + 3 {
                                return value.clone();
                            }
                            out.push_str(&plain(value));
                        }
                        None => out.push_str(&format!("$({name})")),
                    }
                    rest = &after[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = &after[1..];
                }
            },
            Some(c) => {
                out.push('$');
                out.push(c);
                rest = &after[c.len_utf8()..];
            }
        }
    }
    out.push_str(rest);
    Value::String(out)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Float(f) => yaml::go_float(*f),
        _ => String::new(),
    }
}
