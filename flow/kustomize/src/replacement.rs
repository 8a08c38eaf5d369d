//! Replacements: a value of one object copied into fields of others.

use yaml::{Kind, Node};

use crate::{
    Error, Gvk, Id, Result,
    kustomization::{FieldOptions, ReplacementField, SourceSelector, TargetSelector},
    resource::Resource,
    resources::Resources,
    select::{self, Matcher},
    tree,
};

const DEFAULT_PATH: &str = "metadata.name";

pub fn apply(resources: &mut Resources, replacement: &ReplacementField) -> Result<()> {
    let Some(targets) = &replacement.targets else {
        return Err(Error::wrong("replacements must specify a source and at least one target"));
    };
    let value = match (&replacement.source, &replacement.source_value) {
        (None, None) => return Err(Error::wrong("replacements must specify a source and at least one target")),
        (Some(_), Some(_)) => return Err(Error::wrong("value and resource selectors are mutually exclusive")),
        (None, Some(value)) => Node::plain(value.clone()),
        (Some(source), None) => read(resources, source)?,
    };
    for target in targets {
        to_target(resources, &value, target)?;
    }
    resources.touched();
    Ok(())
}

fn source_id(source: &SourceSelector) -> Id {
    let gvk = Gvk { group: source.group.clone(), version: source.version.clone(), kind: source.kind.clone() };
    Id { gvk, name: source.name.clone(), namespace: source.namespace.clone() }
}

fn read(resources: &Resources, source: &SourceSelector) -> Result<Node> {
    let wanted = source_id(source);
    let chosen = |id: &Id| {
        (wanted.name.is_empty() || wanted.name == id.name)
            && (wanted.namespace.is_empty() || wanted.effective_namespace() == id.effective_namespace())
            && id.gvk.is_selected(&wanted.gvk)
    };
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let shown = if source.field_path.is_empty() { wanted.to_string() } else { format!("{wanted}:{path}") };
    let mut found = resources.list.iter().filter(|resource| resource.ids().iter().any(chosen));
    let (Some(resource), None) = (found.next(), found.next()) else {
        let any = resources.list.iter().any(|resource| resource.ids().iter().any(chosen));
        let problem = if any { "multiple matches for selector" } else { "nothing selected by" };
        return Err(Error::wrong(format!("{problem} {shown}")));
    };
    let parts = tree::split_dots(path);
    let node = find(&resource.node, &parts).filter(|node| !tree::is_null(node) && !empty(node));
    let Some(node) = node else {
        return Err(Error::wrong(format!("fieldPath `{path}` is missing for replacement source {wanted}")));
    };
    refine(node, source.options.as_ref())
}

fn empty(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(_) => false,
        Kind::List(items) => items.is_empty(),
        Kind::Map(entries) => entries.is_empty(),
        Kind::Alias(_) => true,
    }
}

/// Looks up names, `[key=value]` and indices; the first that fits.
pub fn find<'n>(node: &'n Node, parts: &[String]) -> Option<&'n Node> {
    parts.iter().try_fold(node, |node, part| {
        if let Some((key, value)) = condition(part) {
            return node.as_list()?.iter().find(|item| match key {
                "" => item.as_scalar() == Some(value),
                key => item.get(key).and_then(Node::as_scalar) == Some(value),
            });
        }
        match node.as_list() {
            Some(items) if part == "-" => items.last(),
            Some(items) => items.get(part.parse::<usize>().ok()?),
            None => node.get(part),
        }
    })
}

/// `[key=value]`, or `[=value]` for scalars.
fn condition(part: &str) -> Option<(&str, &str)> {
    part.strip_prefix('[')?.strip_suffix(']')?.split_once('=')
}

fn refine(node: &Node, options: Option<&FieldOptions>) -> Result<Node> {
    let Some(options) = options.filter(|options| !options.delimiter.is_empty()) else { return Ok(node.clone()) };
    let Some(text) = node.as_scalar() else {
        return Err(Error::wrong("delimiter option can only be used with scalar nodes"));
    };
    let part = usize::try_from(options.index).ok().and_then(|index| text.split(options.delimiter.as_str()).nth(index));
    let Some(part) = part else {
        return Err(Error::wrong(format!("options.index {} is out of bounds for value {text}", options.index)));
    };
    let mut node = node.clone();
    node.kind = Kind::Scalar(part.to_owned());
    Ok(node)
}

fn selects(matcher: &Matcher, id: &Id) -> bool {
    matcher.gvk(&id.gvk) && matcher.name(&id.name) && matcher.namespace(&id.namespace)
}

fn to_target(resources: &mut Resources, value: &Node, target: &TargetSelector) -> Result<()> {
    let Some(select) = &target.select else {
        return Err(Error::wrong("target must specify resources to select"));
    };
    let matcher = Matcher::new(select)?;
    let rejects = target.reject.iter().map(Matcher::new).collect::<Result<Vec<_>>>()?;
    for resource in &mut resources.list {
        if !chosen(resource, &matcher, &rejects) {
            continue;
        }
        let default = [DEFAULT_PATH.to_owned()];
        let paths = if target.field_paths.is_empty() { &default[..] } else { &target.field_paths };
        for path in paths {
            copy(&mut resource.node, value, path, target.options.as_ref())?;
            if value.as_scalar().is_none() {
                tree::check_node(&resource.node)?;
            }
        }
    }
    Ok(())
}

fn chosen(resource: &Resource, matcher: &Matcher, rejects: &[Matcher]) -> bool {
    if !matcher.marks(resource) || rejects.iter().any(|reject| reject.marked && reject.marks(resource)) {
        return false;
    }
    let ids = resource.ids();
    let rejected = |reject: &Matcher| !reject.anonymous && ids.iter().any(|id| selects(reject, id));
    !rejects.iter().any(rejected) && ids.iter().any(|id| selects(matcher, id))
}

fn copy(node: &mut Node, value: &Node, path: &str, options: Option<&FieldOptions>) -> Result<()> {
    let create = options.is_some_and(|options| options.create);
    let parts = tree::split_dots(path);
    if structured(node, value, &parts, options) {
        return Ok(());
    }
    let finding = if create { "unable to find or create field" } else { "unable to find field" };
    let failed = || format!("{finding} {path:?} in replacement target");
    let mut set = |field: &mut Node| put(field, value, options);
    let found = each(node, &parts, create.then_some(value), &mut set).map_err(|error| error.during(failed()))?;
    if found == 0 {
        return Err(Error::wrong(failed()));
    }
    Ok(())
}

/// Writes into a field, whole or between delimiters.
fn put(field: &mut Node, value: &Node, options: Option<&FieldOptions>) -> Result<()> {
    let mut value = value.clone();
    if let Some(options) = options.filter(|options| !options.delimiter.is_empty()) {
        let Some(text) = field.as_scalar() else {
            return Err(Error::wrong("delimiter option can only be used with scalar nodes"));
        };
        let mut parts: Vec<&str> = text.split(options.delimiter.as_str()).collect();
        let new = value.as_scalar().unwrap_or_default().to_owned();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, &new),
            Ok(index) if index >= parts.len() => parts.push(&new),
            Ok(index) => parts[index] = &new,
        }
        value.kind = Kind::Scalar(parts.join(&options.delimiter));
    }
    if field.as_scalar().is_some() {
        // A field stays what it was: `$(X)` is a string, and so is the `true` that takes its place.
        tree::keep_type(field);
        field.kind = Kind::Scalar(value.as_scalar().unwrap_or_default().to_owned());
    } else {
        *field = value;
    }
    Ok(())
}

/// Calls `set` on every field that a path names: names, `*`, indices, `-`, `[key=pattern]`. How many there were.
fn each(
    node: &mut Node,
    parts: &[String],
    create: Option<&Node>,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<usize> {
    let Some((part, rest)) = parts.split_first() else {
        set(node)?;
        return Ok(1);
    };
    let blank = || match (rest.first().map(String::as_str), create) {
        (None, Some(value)) => match value.kind {
            Kind::Scalar(_) => Node::plain(""),
            Kind::List(_) => Node::list(Vec::new()),
            _ => Node::map(Vec::new()),
        },
        (Some(next), _) if next.starts_with('[') || next == "-" || next.parse::<usize>().is_ok() => {
            Node::list(Vec::new())
        }
        _ => Node::map(Vec::new()),
    };
    let no_list = || Error::wrong(format!("wrong node kind: expected SequenceNode at '{part}'"));
    if let Ok(index) = part.parse::<usize>() {
        let items = node.as_list_mut().ok_or_else(no_list)?;
        if index == items.len() && create.is_some() {
            items.push(blank());
        }
        let length = items.len();
        let Some(item) = items.get_mut(index) else {
            return Err(Error::wrong(format!("index {index} specified but only {length} elements found")));
        };
        return each(item, rest, create, set);
    }
    if part == "*" || (part == "-" && node.as_list().is_some()) {
        let items = node.as_list_mut().ok_or_else(no_list)?;
        let mut found = 0;
        for item in items {
            found += each(item, rest, create, set)?;
        }
        return Ok(found);
    }
    if let Some((key, wanted)) = condition(part) {
        let pattern = select::pattern(wanted)?;
        let items = node.as_list_mut().ok_or_else(no_list)?;
        let fits = |item: &Node| {
            let field = if key.is_empty() { Some(item) } else { item.get(key) };
            field.and_then(Node::as_scalar).is_some_and(|text| pattern.is_match(text.trim()))
        };
        let mut found = 0;
        for item in items.iter_mut().filter(|item| fits(item)) {
            found += if key.is_empty() {
                set(item)?;
                1
            } else {
                each(item, rest, create, set)?
            };
        }
        if found == 0 && create.is_some() && !items.iter().any(fits) {
            let value = Node::plain(wanted);
            items.push(if key.is_empty() { value } else { Node::map(vec![(Node::string(key), value)]) });
            if let Some(item) = items.last_mut() {
                found += if key.is_empty() {
                    set(item)?;
                    1
                } else {
                    each(item, rest, create, set)?
                };
            }
        }
        return Ok(found);
    }
    let Kind::Map(entries) = &mut node.kind else {
        return Err(Error::wrong(format!("wrong node kind: expected MappingNode at '{part}'")));
    };
    let at = entries.iter().position(|(key, _)| key.as_scalar() == Some(part));
    let at = match (at, create) {
        (Some(at), _) => at,
        (None, None) => return Ok(0),
        (None, Some(_)) => {
            entries.push((Node::string(part), blank()));
            entries.len() - 1
        }
    };
    each(&mut entries[at].1, rest, create, set)
}

/// A path may lead on into a text that is YAML or JSON itself. True when it did and the text was changed.
fn structured(node: &mut Node, value: &Node, parts: &[String], options: Option<&FieldOptions>) -> bool {
    for i in 1..parts.len() {
        let Some(found) = find(node, &parts[..i]) else { continue };
        let Some(text) = found.as_scalar() else { continue };
        let Ok(documents) = yaml::parse_all(text, &yaml::Limits::default(), true) else { continue };
        let Some(mut inner) = documents.into_iter().next().and_then(|document| document.root) else { return false };
        let create = options.is_some_and(|options| options.create).then_some(value);
        let done = each(&mut inner, &parts[i..], create, &mut |field| put(field, value, options));
        if !done.is_ok_and(|found| found > 0) {
            return false;
        }
        let printed = match text.trim_start().as_bytes().first() {
            Some(b'{' | b'[') => as_json(inner, text),
            Some(_) => Some(yaml::print(&inner, &yaml::Layout::default()).trim().to_owned()),
            None => None,
        };
        let (Some(printed), Some(field)) = (printed, find_mut(node, &parts[..i])) else { return false };
        field.kind = Kind::Scalar(printed);
        return true;
    }
    false
}

fn find_mut<'n>(node: &'n mut Node, parts: &[String]) -> Option<&'n mut Node> {
    let mut here = node;
    for part in parts {
        here = match (condition(part), here.as_list().is_some()) {
            (Some((key, value)), _) => here.as_list_mut()?.iter_mut().find(|item| match key {
                "" => item.as_scalar() == Some(value),
                key => item.get(key).and_then(Node::as_scalar) == Some(value),
            })?,
            (None, true) if part == "-" => here.as_list_mut()?.last_mut()?,
            (None, true) => here.as_list_mut()?.get_mut(part.parse::<usize>().ok()?)?,
            (None, false) => here.get_mut(part)?,
        };
    }
    Some(here)
}

fn as_json(node: Node, original: &str) -> Option<String> {
    let value = tree::to_value(node).ok()?;
    let compact = yaml::to_json(&value);
    if !(original.contains('\n') && original.contains("  ")) {
        return Some(compact);
    }
    // Go's indentation of the same text.
    let json: serde_json::Value = serde_json::from_str(&compact).ok()?;
    let pretty = serde_json::to_string_pretty(&json).ok()?;
    Some(pretty.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}
