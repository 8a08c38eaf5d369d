//! The name, tag and digest of an image.

use yaml::{Kind, Node};

use crate::{FieldSpec, Image, Result, field, field::Create, resources::Resources, select, tree};

/// Applies one entry of `images` to every object.
pub fn apply(resources: &mut Resources, image: &Image, specs: &[FieldSpec]) -> Result<()> {
    for resource in &mut resources.list {
        if resource.kind() == "CustomResourceDefinition" {
            continue;
        }
        containers(&mut resource.node, image);
    }
    for resource in &mut resources.list {
        if resource.kind() == "CustomResourceDefinition" {
            continue;
        }
        let gvk = resource.gvk();
        for spec in specs {
            field::visit(&mut resource.node, &gvk, spec, Create::Nothing, &mut |node| {
                update(node, image);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Wherever a list is called `containers` or `initContainers`.
fn containers(node: &mut Node, image: &Image) {
    match &mut node.kind {
        Kind::Map(entries) => {
            for (key, value) in entries {
                containers(value, image);
                if let (Some("containers" | "initContainers"), Kind::List(items)) = (key.as_scalar(), &mut value.kind) {
                    items.iter_mut().filter_map(|item| item.get_mut("image")).for_each(|node| update(node, image));
                }
            }
        }
        Kind::List(items) => items.iter_mut().for_each(|item| containers(item, image)),
        _ => {}
    }
}

fn update(node: &mut Node, image: &Image) {
    let Some(text) = node.as_scalar() else { return };
    if !matches(text, &image.name) {
        return;
    }
    let (mut name, mut tag, mut digest) = split(text);
    if !image.new_name.is_empty() {
        name = &image.new_name;
    }
    let suffixed;
    if !image.new_tag.is_empty() {
        tag = &image.new_tag;
        digest = &image.digest;
    } else if !image.digest.is_empty() {
        tag = "";
        digest = &image.digest;
    } else if !image.tag_suffix.is_empty() {
        suffixed = format!("{tag}{}", image.tag_suffix);
        tag = &suffixed;
        digest = "";
    }
    let mut whole = name.to_owned();
    if !tag.is_empty() {
        whole = format!("{whole}:{tag}");
    }
    if !digest.is_empty() {
        whole = format!("{whole}@{digest}");
    }
    tree::set_scalar(node, &whole, None);
}

fn matches(text: &str, name: &str) -> bool {
    // Nearly always the name has nothing special in it, and does not fit.
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | ':'));
    if plain && !text.starts_with(name) {
        return false;
    }
    let tail = "(:[a-zA-Z0-9_.{}-]*)?(@[a-zA-Z0-9]+([.+_-][a-zA-Z0-9]+)*:[a-zA-Z0-9_.{}-]*)?$";
    select::pattern(&format!("^{name}{tail}")).is_ok_and(|pattern| pattern.is_match(text))
}

/// Name, tag and digest; a port of the registry is no tag.
pub fn split(text: &str) -> (&str, &str, &str) {
    let from = text.find('/').unwrap_or(0);
    let at = text[from..].find('@').map(|i| i + from);
    let colon = text[from..].find(':').map(|i| i + from);
    match (colon, at) {
        (None, None) => (text, "", ""),
        (None, Some(at)) => (&text[..at], "", &text[at + 1..]),
        (Some(colon), Some(at)) if at < colon => (&text[..at], "", &text[at + 1..]),
        (Some(colon), Some(at)) => (&text[..colon], &text[colon + 1..at], &text[at + 1..]),
        (Some(colon), None) => (&text[..colon], &text[colon + 1..], ""),
    }
}
