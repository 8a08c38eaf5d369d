//! Applying patches: strategic merge and JSON.

use crate::{
    Error, Patch, Result, Selector, json_patch, json_patch::Operation, kustomization::PatchOptions, merge, read,
    resource::Resource, resources::Resources, schema::Schema, select, tree,
};

/// A patch, read.
pub enum Loaded {
    Merge(Vec<Resource>),
    Json(Vec<Operation>),
}

/// Reads a patch of either kind. `source` names it in errors: `[path: "x.yaml"]`.
pub fn load(text: &str, source: &str, options: Option<PatchOptions>) -> Result<Loaded> {
    let merge = read::resources(text, "");
    let json = json_patch::read(text).filter(|operations| !operations.is_empty());
    match (merge, json) {
        (Ok(merge), Some(_)) if !merge.is_empty() => {
            Err(Error::wrong(format!("illegally qualifies as both an SM and JSON patch: {source}")))
        }
        (_, Some(operations)) => Ok(Loaded::Json(operations)),
        (Ok(mut patches), None) => {
            let options = options.unwrap_or_default();
            for patch in &mut patches {
                patch.name_change = options.allow_name_change;
                patch.kind_change = options.allow_kind_change;
            }
            Ok(Loaded::Merge(patches))
        }
        (Err(error), None) => Err(Error::wrong(format!("unable to parse SM or JSON patch from {source}: {error}"))),
    }
}

/// An entry of `patches`. `read` loads the file of its path.
pub fn apply(
    resources: &mut Resources,
    schema: &Schema,
    patch: &Patch,
    read: impl Fn(&str) -> Result<String>,
) -> Result<()> {
    let inline = patch.patch.trim();
    let (text, source) = match (inline.is_empty(), patch.path.is_empty()) {
        (true, true) => return Err(Error::wrong("must specify one of patch and path")),
        (false, false) => {
            return Err(Error::wrong(format!("patch and path can't be set at the same time (path: {})", patch.path)));
        }
        (false, true) => (inline.to_owned(), format!("[patch: {inline:?}]")),
        (true, false) => {
            let text = read(&patch.path)
                .map_err(|error| error.during(format!("failed to get the patch file from path({})", patch.path)))?;
            (text, format!("[path: {:?}]", patch.path))
        }
    };
    match load(&text, &source, patch.options)? {
        Loaded::Merge(patches) => merge_all(resources, schema, patches, patch.target.as_ref(), &source),
        Loaded::Json(operations) => match &patch.target {
            None => Err(Error::wrong(format!("must specify a target for JSON patch {source}"))),
            Some(target) => json_all(resources, &operations, target, true),
        },
    }
}

fn merge_all(
    resources: &mut Resources,
    schema: &Schema,
    patches: Vec<Resource>,
    target: Option<&Selector>,
    source: &str,
) -> Result<()> {
    if let Some(target) = target {
        if patches.len() > 1 {
            return Err(Error::wrong(format!(
                "Multiple Strategic-Merge Patches in one `patches` entry is not allowed to set `patches.target` field: {source}"
            )));
        }
        let selected = select::select(resources, target)
            .map_err(|error| error.during("unable to find patch target in `resources`".to_owned()))?;
        let Some(patch) = patches.first() else { return Ok(()) };
        return merge_selected(resources, schema, patch, &selected);
    }
    for patch in patches {
        let id = patch.first_id();
        let at = resources
            .by_id(&id)
            .map_err(|error| error.during(format!("no resource matches strategic merge patch \"{id}\"")))?;
        merge_one(&mut resources.list[at], schema, patch)?;
        resources.touched();
    }
    Ok(())
}

/// One patch for some objects, whatever they are called.
pub fn merge_selected(resources: &mut Resources, schema: &Schema, patch: &Resource, selected: &[usize]) -> Result<()> {
    for &at in selected {
        let mut copy = patch.clone();
        let target = &mut resources.list[at];
        let api_version = tree::text_at(&target.node, &["apiVersion"]).to_owned();
        tree::set_string(&mut copy.node, "apiVersion", &api_version);
        merge_one(target, schema, copy)?;
    }
    resources.touched();
    resources.drop_gone();
    Ok(())
}

/// Merges a patch into an object, whose name, namespace and kind stay unless the patch may change them.
pub fn merge_one(target: &mut Resource, schema: &Schema, patch: Resource) -> Result<()> {
    let id = target.id();
    if patch.name_change || patch.kind_change {
        target.store_id();
    }
    let (name_change, kind_change) = (patch.name_change, patch.kind_change);
    let dest = std::mem::replace(&mut target.node, yaml::Node::plain("null"));
    let Some(merged) = merge::merge(schema, schema.kind(&id.gvk), dest, patch.node)? else { return Ok(()) };
    target.node = merged;
    if target.is_gone() {
        return Ok(());
    }
    if !kind_change {
        target.set_kind(&id.gvk.kind);
    }
    if !name_change {
        target.set_name(&id.name)?;
    }
    target.set_namespace(&id.namespace)
}

/// JSON operations for the objects that a selector chooses.
pub fn json_all(resources: &mut Resources, operations: &[Operation], target: &Selector, store: bool) -> Result<()> {
    for at in select::select(resources, target)? {
        let resource = &mut resources.list[at];
        if store {
            resource.store_id();
        }
        let mut value = tree::to_value(resource.node.clone())?;
        json_patch::apply(&mut value, operations)?;
        resource.node = tree::from_value(&value);
    }
    resources.touched();
    Ok(())
}
