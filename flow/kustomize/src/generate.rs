//! ConfigMaps and Secrets from files and literals, and the hash of a content.

use std::collections::BTreeMap;

use base64::Engine;
use data_encoding::HEXLOWER;
use yaml::{Node, Style, Value};

use crate::{
    Error, GeneratorArgs, GeneratorOptions, Result,
    resource::{Behavior, Resource},
    tree,
};

/// What a generator makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Made {
    ConfigMap,
    Secret,
}

/// The options of one generator under those of all.
pub fn options(local: Option<&GeneratorOptions>, global: Option<&GeneratorOptions>) -> Option<GeneratorOptions> {
    let Some(global) = global else { return local.cloned() };
    let mut merged = local.cloned().unwrap_or_default();
    for (key, value) in &global.labels {
        merged.labels.insert(key.clone(), value.clone());
    }
    for (key, value) in &global.annotations {
        merged.annotations.insert(key.clone(), value.clone());
    }
    merged.disable_name_suffix_hash |= global.disable_name_suffix_hash;
    merged.immutable |= global.immutable;
    Some(merged)
}

/// Generates one object. `load` reads a file beside the kustomization.
pub fn generate(
    made: Made,
    args: &GeneratorArgs,
    options: Option<&GeneratorOptions>,
    load: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<Resource> {
    if args.name.is_empty() {
        return Err(Error::wrong("a configmap must have a name"));
    }
    let data = pairs(args, load)?;
    let mut metadata = vec![(Node::string("name"), Node::string(&args.name))];
    if !args.namespace.is_empty() {
        metadata.push((Node::string("namespace"), Node::string(&args.namespace)));
    }
    let strings = |map: &BTreeMap<String, String>| {
        Node::map(map.iter().map(|(key, value)| (Node::string(key), Node::string(value))).collect())
    };
    if let Some(options) = options {
        for (key, map) in [("labels", &options.labels), ("annotations", &options.annotations)] {
            if !map.is_empty() {
                metadata.push((Node::string(key), strings(map)));
            }
        }
    }
    let kind = if made == Made::Secret { "Secret" } else { "ConfigMap" };
    let mut entries = vec![
        (Node::string("apiVersion"), Node::string("v1")),
        (Node::string("kind"), Node::string(kind)),
        (Node::string("metadata"), Node::map(metadata)),
    ];
    if made == Made::Secret {
        let of = if args.of.is_empty() { "Opaque" } else { &args.of };
        entries.push((Node::string("type"), Node::string(of)));
    }
    let (mut text, mut binary) = (Vec::new(), Vec::new());
    for (key, value) in data {
        let key = Node::string(key);
        match String::from_utf8(value) {
            Ok(value) if made == Made::ConfigMap => text.push((key, scalar(value))),
            Ok(value) => text.push((key, scalar(encoded(value.as_bytes())))),
            Err(value) if made == Made::ConfigMap => binary.push((key, scalar(encoded(value.as_bytes())))),
            Err(value) => text.push((key, scalar(encoded(value.as_bytes())))),
        }
    }
    if !text.is_empty() || made == Made::Secret {
        entries.push((Node::string("data"), Node::map(text)));
    }
    if !binary.is_empty() {
        entries.push((Node::string("binaryData"), Node::map(binary)));
    }
    if options.is_some_and(|options| options.immutable) {
        entries.push((Node::string("immutable"), Node::plain("true")));
    }
    let mut resource = Resource::new(Node::map(entries));
    resource.needs_hash = !options.is_some_and(|options| options.disable_name_suffix_hash);
    resource.behavior = Behavior::named(&args.behavior);
    Ok(resource)
}

fn scalar(text: String) -> Node {
    let style = if text.contains('\n') { Style::Literal } else { Style::Plain };
    Node { style, ..Node::string(text) }
}

/// Base64 in lines of 70, when there is more than one.
fn encoded(bytes: &[u8]) -> String {
    let whole = base64::engine::general_purpose::STANDARD.encode(bytes);
    if whole.len() / 70 == 0 {
        return whole;
    }
    let mut out = String::with_capacity(whole.len() + whole.len() / 70 + 1);
    let mut rest = whole.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(70));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out
}

/// Every key with its content, sorted by key; a key may come once.
fn pairs(args: &GeneratorArgs, load: &dyn Fn(&str) -> Result<Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>> {
    let doing = |error: Error, what: &str, sources: &[String]| {
        error.during(format!("loading KV pairs: {what}: [{}]", sources.join(" ")))
    };
    let mut all = Vec::new();
    for path in &args.envs {
        let found = load(path).and_then(|content| environment(&content, path));
        all.extend(found.map_err(|error| doing(error, "env source files", &args.envs))?);
    }
    for source in &args.literals {
        let pair = literal(source).map_err(|error| doing(error, "literal sources", &args.literals))?;
        all.push(pair);
    }
    for source in &args.files {
        let pair = file(source).and_then(|(key, path)| Ok((key, load(&path)?)));
        all.push(pair.map_err(|error| doing(error, "file sources", &args.files))?);
    }
    let mut map = BTreeMap::new();
    for (key, value) in all {
        check_key(&key)?;
        if map.contains_key(&key) {
            return Err(Error::wrong(format!("configmap {} illegally repeats the key `{key}`", args.name)));
        }
        map.insert(key, value);
    }
    Ok(map)
}

fn check_key(key: &str) -> Result<()> {
    let fits = !key.is_empty()
        && key.len() <= 253
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fits && key != "." && key != ".." {
        return Ok(());
    }
    Err(Error::wrong(format!(
        "{key:?} is not a valid key name: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
    )))
}

fn environment(content: &[u8], path: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pairs = Vec::new();
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    for (number, line) in content.split(|&b| b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            return Err(Error::wrong(format!("{path}: line {} has invalid utf8 bytes", number + 1)));
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let first = key.bytes().next().is_some_and(|b| b.is_ascii_digit());
        let fits = !key.is_empty()
            && !first
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if !fits {
            return Err(Error::wrong(format!(
                "{path}: line {}: {key:?} is not a valid key name: a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
                number + 1
            )));
        }
        pairs.push((key.to_owned(), value.as_bytes().to_vec()));
    }
    Ok(pairs)
}

fn literal(source: &str) -> Result<(String, Vec<u8>)> {
    let wrong = || Error::wrong(format!("invalid literal source {source}, expected key=value"));
    let (key, value) = source.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(wrong)?;
    let bare = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|value| value.strip_suffix(*quote)))
        .unwrap_or(value);
    Ok((key.to_owned(), bare.as_bytes().to_vec()))
}

/// The key and the path of `KEY=FILE` or `FILE`.
pub fn file(source: &str) -> Result<(String, String)> {
    match source.split('=').collect::<Vec<_>>()[..] {
        [path] => Ok((crate::path::base(path).to_owned(), path.to_owned())),
        ["", path] => Err(Error::wrong(format!("missing key name for file path {path:?} in source {source:?}"))),
        [key, ""] => Err(Error::wrong(format!("missing file path for key name {key:?} in source {source:?}"))),
        [key, path] => Ok((key.to_owned(), path.to_owned())),
        _ => Err(Error::wrong(format!("source {source:?} key name or file path contains '='"))),
    }
}

/// The ten letters that are put behind a name.
pub fn hash(resource: &Resource) -> Result<String> {
    let part = |path: &[&str]| -> Result<Value> {
        match tree::lookup(&resource.node, path) {
            Some(node) => tree::to_value(node.clone()),
            None => Ok(Value::from("")),
        }
    };
    let kind = resource.kind().to_owned();
    let mut map = yaml::Map::new();
    let value = match kind.as_str() {
        "ConfigMap" | "Secret" => {
            map.insert("kind".to_owned(), kind.as_str().into());
            // The original looks for a field called `metadata/name`, which no object has: the name never counts.
            map.insert("name".to_owned(), "".into());
            map.insert("data".to_owned(), part(&["data"])?);
            let extra = if kind == "Secret" {
                map.insert("type".to_owned(), part(&["type"])?);
                "stringData"
            } else {
                "binaryData"
            };
            if let found @ Value::Map(_) = part(&[extra])? {
                map.insert(extra.to_owned(), found);
            }
            Value::Map(map)
        }
        _ => tree::to_value(resource.node.clone())?,
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, yaml::to_json(&value).as_bytes());
    let hex: String = HEXLOWER.encode(&digest.as_ref()[..5]);
    // No vowels and no look-alikes, so that no words come out.
    let letter = |c| match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    };
    Ok(hex.chars().map(letter).collect())
}
