//! The `steps` of the file.

use std::{collections::BTreeMap, time::Duration};

use records::Name;

use super::{DAY, LEAST_MEMORY, PART, RESERVED, TIMEOUT, keys, refuse_latest};
use crate::{
    check::Needs,
    file::{Command, Step},
    read::{Fields, Located, NO_HINT, Reader, STEP, clip},
    yaml::{Node, Value},
};

/// A step with the names that it needs, still as the file has them.
pub(super) fn step(r: &mut Reader, node: &Node) -> Option<(Step, Needs)> {
    let fields = r.fields(node, STEP, keys::STEP)?;
    let name = name_of(r, &fields);
    let image = r.require(&fields, "image", "name the image to run in, for example `image: node`".to_owned());
    let image = image.and_then(|node| r.text(node)).filter(|image| image_reference(r, image));
    let run = r.require(&fields, "run", "say what to run, for example `run: npm test`".to_owned());
    let run = run.and_then(|node| command(r, node));
    let needs = needs(r, &fields, name.as_ref());
    let env = fields.get("env").map(|node| variables(r, node, "env")).unwrap_or_default();
    let secrets = fields.get("secrets").map(|node| secrets(r, node, &env)).unwrap_or_default();
    let junit = fields.get("reports").and_then(|node| r.fields(node, "`reports`", keys::REPORTS));
    let junit = junit.and_then(|reports| reports.get("junit").map(|node| r.globs(node))).unwrap_or_default();
    let network = [("bridge", graph::Network::Bridge), ("none", graph::Network::None)];
    let network = fields.get("network").and_then(|node| r.choice(node, "a network", &network));
    let timeout = fields.get("timeout").and_then(|node| r.duration(node, Duration::from_secs(1), DAY));
    let (name, image) = (name?, image?);
    let step = Step {
        image_at: image.at,
        image: image.value,
        run: run?,
        needs: Vec::new(),
        env,
        workdir: fields.get("workdir").and_then(|node| r.path(node)).unwrap_or_default(),
        timeout: timeout.unwrap_or(TIMEOUT),
        secrets,
        artifacts: fields.get("artifacts").map(|node| r.globs(node)).unwrap_or_default(),
        junit,
        network: network.unwrap_or(graph::Network::Bridge),
        memory: fields.get("memory").and_then(|node| r.size(node, LEAST_MEMORY)),
        name: name.value,
    };
    Some((step, needs))
}

fn name_of(r: &mut Reader, fields: &Fields<'_>) -> Option<Located<Name>> {
    let node = r.require(fields, "name", "give it a name, for example `name: test`".to_owned())?;
    let name: Located<Name> = r.parsed(node)?;
    if RESERVED.contains(&name.value.as_str()) {
        let message = format!("the name `{}` is taken: {PART}", name.value);
        r.error(name.at, message, "choose another name".to_owned());
        return None;
    }
    Some(name)
}

fn needs(r: &mut Reader, fields: &Fields<'_>, name: Option<&Located<Name>>) -> Needs {
    let at = name.map_or(fields.at, |name| name.at);
    match fields.entry("needs") {
        Some((_, node)) => Needs { at, given: Some(r.texts(node)) },
        None => Needs { at, given: None },
    }
}

/// `name[:tag][@digest]`; `latest` is refused.
fn image_reference(r: &mut Reader, image: &Located<String>) -> bool {
    let (named, digest) = match image.value.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (image.value.as_str(), None),
    };
    // A colon before the last `/` belongs to a port.
    let tag_at = named.rfind(':').filter(|colon| !named[*colon..].contains('/'));
    let (name, tag) = tag_at.map_or((named, None), |colon| (&named[..colon], Some(&named[colon + 1..])));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if name.is_empty() || name.len() > 255 || !name.chars().all(plain) {
        let hint = "write it like `node` or `team/tools:1.4`".to_owned();
        r.error(image.at, format!("`{}` is not the name of an image", clip(&image.value)), hint);
        return false;
    }
    if let Some(Err(error)) = digest.map(str::parse::<records::Digest>) {
        r.error(image.at, error.to_string(), NO_HINT);
        return false;
    }
    if tag == Some("latest") && digest.is_none() {
        refuse_latest(r, image.at, "an image to run in");
        return false;
    }
    true
}

fn command(r: &mut Reader, node: &Node) -> Option<Command> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            r.error(node.at, "there is nothing to run", NO_HINT);
            None
        }
        Value::List(items) => {
            let argv: Vec<_> = items.iter().filter_map(|item| r.text(item)).map(|text| text.value).collect();
            Some(Command::Program(argv))
        }
        Value::Text { text, .. } if text.trim().is_empty() => {
            r.error(node.at, "there is nothing to run", NO_HINT);
            None
        }
        Value::Text { .. } => r.text(node).map(|text| Command::Shell(text.value)),
        _ => {
            let hint = "write a script after `run: |`, or the program and its arguments as a list".to_owned();
            r.wrong(node, "a script or a list", hint);
            None
        }
    }
}

/// A mapping of names to texts.
pub(super) fn variables(r: &mut Reader, node: &Node, what: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Value::Map(entries) = &node.value else {
        r.wrong(node, "a mapping", format!("write `{what}: {{ NAME: value }}`"));
        return variables;
    };
    for (key, value) in entries {
        if !variable_name(&key.text) {
            let hint = "use letters, digits and `_`, not starting with a digit".to_owned();
            r.error(key.at, format!("`{}` is not the name of a variable", clip(&key.text)), hint);
        } else if matches!(value.value, Value::Null) {
            variables.insert(key.text.clone(), String::new());
        } else if let Some(text) = r.text(value) {
            variables.insert(key.text.clone(), text.value);
        }
    }
    variables
}

fn variable_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn secrets(r: &mut Reader, node: &Node, env: &BTreeMap<String, String>) -> Vec<graph::SecretUse> {
    let mut secrets: Vec<graph::SecretUse> = Vec::new();
    for item in r.list(node) {
        let (name, variable) = if let Value::Map(_) = item.value {
            let Some(fields) = r.fields(item, "a secret", keys::SECRET) else { continue };
            let name = r.require(&fields, "name", NO_HINT).and_then(|node| r.text(node));
            let Some(name) = name else { continue };
            let variable = fields.get("env").and_then(|node| r.text(node));
            let variable = variable.unwrap_or_else(|| name.clone());
            (name, variable)
        } else {
            let Some(name) = r.text(item) else { continue };
            (name.clone(), name)
        };
        let what = clip(&variable.value);
        if !variable_name(&variable.value) {
            let hint = "write `{ name: …, env: NAME }` with the variable that is to hold it".to_owned();
            r.error(variable.at, format!("`{what}` is not the name of a variable"), hint);
        } else if env.contains_key(&variable.value) || secrets.iter().any(|secret| secret.env == variable.value) {
            let hint = "give it another variable with `env`".to_owned();
            r.error(variable.at, format!("the variable `{what}` is set already"), hint);
        } else {
            secrets.push(graph::SecretUse { name: name.value, env: variable.value });
        }
    }
    secrets
}
