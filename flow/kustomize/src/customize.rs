//! The small transformations: prefixes, suffixes, labels, annotations, replicas, hashes.

use std::collections::BTreeMap;

use yaml::{Kind, Node};

use crate::{
    Error, FieldSpec, Replica, Result, field, field::Create, generate, resource::Resource, resources::Resources, tree,
};

/// Which end of a name.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Prefix,
    Suffix,
}

/// Kinds whose name says what they are about.
fn keeps_name(resource: &Resource) -> bool {
    let gvk = resource.first_id().gvk;
    match gvk.kind.as_str() {
        "CustomResourceDefinition" | "Namespace" => true,
        "APIService" => gvk.group == "apiregistration.k8s.io",
        _ => false,
    }
}

pub fn affix(resources: &mut Resources, end: End, affix: &str, specs: &[FieldSpec]) -> Result<()> {
    for resource in &mut resources.list {
        if keeps_name(resource) {
            continue;
        }
        let first = resource.first_id();
        for spec in specs {
            if !first.gvk.is_selected(&spec.gvk) {
                continue;
            }
            if spec.path == "metadata/name" && !affix.is_empty() {
                match end {
                    End::Prefix => resource.prefixes.push(affix.to_owned()),
                    End::Suffix => resource.suffixes.push(affix.to_owned()),
                }
                resource.store_id();
            }
            let gvk = resource.gvk();
            field::visit(&mut resource.node, &gvk, spec, Create::Scalar, &mut |node| {
                let old = node.as_scalar().unwrap_or_default();
                let new = match end {
                    End::Prefix => format!("{affix}{old}"),
                    End::Suffix => format!("{old}{affix}"),
                };
                tree::set_scalar(node, &new, None);
                Ok(())
            })?;
        }
    }
    resources.touched();
    Ok(())
}

/// Sets labels or annotations in the maps that the specifications name.
pub fn mark(resources: &mut Resources, pairs: &BTreeMap<String, String>, specs: &[FieldSpec]) -> Result<()> {
    for resource in &mut resources.list {
        let gvk = resource.gvk();
        for spec in specs.iter().filter(|spec| gvk.is_selected(&spec.gvk)) {
            field::visit(&mut resource.node, &gvk, spec, Create::Map, &mut |node| {
                if !matches!(node.kind, Kind::Map(_)) {
                    return Err(Error::wrong(format!("wrong node kind: expected MappingNode at '{}'", spec.path)));
                }
                for (key, value) in pairs {
                    tree::set_string(node, key, value);
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

pub fn replicas(resources: &mut Resources, replica: &Replica, specs: &[FieldSpec]) -> Result<()> {
    let mut found = false;
    for spec in specs {
        let chosen = resources.matching(|id| id.name == replica.name && id.gvk.is_selected(&spec.gvk));
        for at in chosen {
            found = true;
            let resource = &mut resources.list[at];
            let gvk = resource.gvk();
            field::visit(&mut resource.node, &gvk, spec, Create::Scalar, &mut |node| {
                tree::set_scalar(node, &replica.count.to_string(), Some("!!int"));
                Ok(())
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.iter().map(|spec| spec.gvk.to_string()).collect();
    Err(Error::wrong(format!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    )))
}

/// Puts the hash of their content behind the names of generated objects.
pub fn hashes(resources: &mut Resources) -> Result<()> {
    for resource in resources.list.iter_mut().filter(|resource| resource.needs_hash) {
        let hash = generate::hash(resource)?;
        resource.store_id();
        let name = format!("{}-{hash}", resource.name());
        resource.set_name(&name)?;
    }
    resources.touched();
    Ok(())
}

/// Sets a value at a path of names; missing maps are made. For `ValueAddTransformer`.
pub fn add_value(node: &mut Node, path: &str, value: &str) -> Result<()> {
    let spec = FieldSpec::new(crate::Gvk::default(), path.trim_start_matches('/'), true);
    field::visit(node, &crate::Gvk::default(), &spec, Create::Scalar, &mut |node| {
        tree::set_scalar(node, value, None);
        Ok(())
    })
}
