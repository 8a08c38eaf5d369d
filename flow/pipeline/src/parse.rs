//! From the text of `.shipway.yaml` to a [`Pipeline`], or to everything that is wrong with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use records::{EvidenceKind, Name, OnFailure, Severity, Strategy};

use crate::{
    check::{self, Needs},
    diagnostics::{Diagnostics, Source, Span, suggest},
    file::{Command, Deploy, ImageBuild, Pipeline, Step, Tag, Target, Verify},
    read::{Fields, Located, NO_HINT, Reader, STEP, TOP, clip},
    yaml::{self, Node, Value},
};

/// The keys of each mapping. The JSON Schema is tested against them.
pub(crate) mod keys {
    pub const TOP: &[&str] = &["steps", "images", "verify", "deploy"];
    pub const STEP: &[&str] = &[
        "name",
        "image",
        "run",
        "needs",
        "env",
        "workdir",
        "timeout",
        "secrets",
        "artifacts",
        "reports",
        "network",
        "memory",
    ];
    pub const SECRET: &[&str] = &["name", "env"];
    pub const REPORTS: &[&str] = &["junit"];
    pub const IMAGE: &[&str] = &["name", "context", "dockerfile", "target", "args", "tag", "needs"];
    pub const VERIFY: &[&str] = &["require", "vulnerabilities", "licences", "sign"];
    pub const VULNERABILITIES: &[&str] = &["fail", "vex"];
    pub const LICENCES: &[&str] = &["deny"];
    pub const DEPLOY: &[&str] = &["from", "environments"];
    pub const ENVIRONMENT: &[&str] =
        &["name", "namespace", "after", "approve", "strategy", "on-failure", "progress-deadline"];
}

/// Strategies that are foreseen but not there.
const LATER: [&str; 5] = ["canary", "blue-green", "ab", "shadow", "judge"];

/// Keys of a step that are foreseen but not there.
pub(crate) const LATER_KEYS: [&str; 5] = ["if", "matrix", "services", "cache", "retry"];
/// What runs call parts of their own.
const RESERVED: [&str; 2] = [crate::lower::CHECKOUT, crate::listing::EVIDENCE];
const PART: &str = "runs have a part of their own that is called so";

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30 * 60);
pub(crate) const PROGRESS_DEADLINE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Less memory than this cannot hold a shell and what it starts.
const LEAST_MEMORY: u64 = 16 << 20;
const MOST_STEPS: usize = 200;

/// Parses the text of a pipeline file; `name` is how messages call the file, for example `.shipway.yaml`.
///
/// # Errors
/// Everything that is wrong, each with its place and what to do. Only when the text is not YAML, or exceeds a limit of size or depth,
/// it is that alone.
pub fn parse(text: &str, name: &str) -> Result<Pipeline, Diagnostics> {
    let source = Source::new(name, text);
    let root = yaml::parse(&source).map_err(|diagnostic| Diagnostics(vec![diagnostic]))?;
    let mut reader = Reader::new(source.clone());
    let pipeline = top(&mut reader, &root, source);
    reader.finish(pipeline)
}

fn top(r: &mut Reader, root: &Node, source: Arc<Source>) -> Pipeline {
    let mut pipeline =
        Pipeline { steps: Vec::new(), images: Vec::new(), verify: Verify::default(), deploy: None, source };
    let Some(fields) = r.fields(root, TOP, keys::TOP) else { return pipeline };
    let mut needs = Vec::new();
    if let Some(node) = fields.get("steps") {
        for item in limited(r, node, "- name: test", "steps") {
            if let Some((step, wants)) = step(r, item) {
                pipeline.steps.push(step);
                needs.push(wants);
            }
        }
    }
    let mut image_needs = Vec::new();
    if let Some(node) = fields.get("images") {
        for item in limited(r, node, "- name: journal/frontend", "images") {
            if let Some((image, wants)) = image(r, item) {
                pipeline.images.push(image);
                image_needs.push(wants);
            }
        }
    }
    if fields.get("steps").is_none() && fields.get("images").is_none() {
        r.error(fields.at, "there is nothing to do", "write `steps:` or `images:`".to_owned());
    }
    check::steps(r, &mut pipeline, &needs, &image_needs);
    if let Some(node) = fields.get("verify") {
        pipeline.verify = verify(r, node);
    }
    if let Some(node) = fields.get("deploy") {
        pipeline.deploy = deploy(r, node);
    }
    pipeline
}

fn limited<'n>(r: &mut Reader, node: &'n Node, example: &str, what: &str) -> &'n [Node] {
    let items = r.list_of_maps(node, example);
    match items.get(MOST_STEPS) {
        Some(item) => {
            r.error(item.at, format!("more than {MOST_STEPS} {what}"), NO_HINT);
            &items[..MOST_STEPS]
        }
        None => items,
    }
}

/// A step with the names that it needs, still as the file has them.
fn step(r: &mut Reader, node: &Node) -> Option<(Step, Needs)> {
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

fn refuse_latest(r: &mut Reader, at: Span, what: &str) {
    let hint = "name a version: the same commit must give the same result tomorrow".to_owned();
    r.error(at, format!("`latest` is refused as the tag of {what}"), hint);
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
fn variables(r: &mut Reader, node: &Node, what: &str) -> BTreeMap<String, String> {
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

fn image(r: &mut Reader, node: &Node) -> Option<(ImageBuild, Needs)> {
    let fields = r.fields(node, "an image", keys::IMAGE)?;
    let name = r.require(&fields, "name", "name its repository, for example `name: journal/frontend`".to_owned());
    let name = name.and_then(|node| r.text(node)).filter(|name| repository(r, name));
    let args = fields.get("args").map(|node| variables(r, node, "args")).unwrap_or_default();
    let dockerfile = fields.get("dockerfile").and_then(|node| r.path(node));
    let context = fields.get("context").and_then(|node| r.path(node)).unwrap_or_default();
    let target = fields.get("target").and_then(|node| r.text(node)).map(|text| text.value);
    let tag = fields.get("tag").and_then(|node| tag(r, node));
    let needs = fields.entry("needs").map(|(_, node)| r.texts(node));
    let name = name?;
    let image = ImageBuild {
        context,
        dockerfile: dockerfile.unwrap_or_else(|| "Dockerfile".into()),
        target,
        args,
        tag: tag.unwrap_or_else(|| Tag("{commit}-{build}".into())),
        needs: Vec::new(),
        name: name.value,
    };
    Some((image, Needs { at: name.at, given: needs }))
}

/// A repository name of the OCI distribution specification that does not belong to Shipway.
fn repository(r: &mut Reader, name: &Located<String>) -> bool {
    let part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    let text = &name.value;
    if RESERVED.contains(&text.as_str()) {
        let hint = "choose another name, for example with the project's name before it".to_owned();
        r.error(name.at, format!("the name `{text}` is taken: {PART}"), hint);
    } else if text.contains(':') {
        let hint = "the tag goes into `tag`, as in `tag: \"{commit}-{build}\"`".to_owned();
        r.error(name.at, format!("`{}` has a tag in its name", clip(text)), hint);
    } else if text.len() > 200 || !text.split('/').all(part) {
        let hint = "use a-z, 0-9, `.`, `_`, `-`, with `/` between the parts".to_owned();
        r.error(name.at, format!("`{}` is not the name of a repository", clip(text)), hint);
    } else if text == "base" || text.starts_with("base/") {
        let hint = "choose another first part, for example the project's name".to_owned();
        r.error(name.at, "repositories under `base` are kept for the images that Shipway makes itself", hint);
    } else {
        return true;
    }
    false
}

fn tag(r: &mut Reader, node: &Node) -> Option<Tag> {
    let text = r.text(node)?;
    if text.value == "latest" {
        refuse_latest(r, text.at, "an image");
        return None;
    }
    let mut rest = text.value.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        if !["commit", "build"].contains(&name) {
            let hint = suggest(name, ["commit", "build"]);
            r.error(text.at, format!("a tag has no placeholder `{{{}}}`", clip(name)), hint);
            return None;
        }
        plain.push_str(before);
        // As long as what will stand there: a short commit id and the number of a run.
        plain.push_str("000000000000");
        rest = after;
    }
    let moves = rest == text.value;
    plain.push_str(rest);
    let first = plain.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let valid = first && plain.len() <= 128 && plain.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !valid {
        let hint = "use letters, digits, `.`, `_` and `-`, at most 128".to_owned();
        r.error(text.at, format!("`{}` is not a tag", clip(&text.value)), hint);
    } else if moves {
        let hint = "put `{commit}` or `{build}` into it".to_owned();
        r.error(text.at, format!("every build would have the same tag `{}`", clip(&text.value)), hint);
    }
    (valid && !moves).then_some(Tag(text.value))
}

fn verify(r: &mut Reader, node: &Node) -> Verify {
    let mut verify = Verify::default();
    let Some(fields) = r.fields(node, "`verify`", keys::VERIFY) else { return verify };
    let kinds = [
        ("sbom", EvidenceKind::Sbom),
        ("vulnerabilities", EvidenceKind::Vulnerabilities),
        ("provenance", EvidenceKind::Provenance),
        ("signature", EvidenceKind::Signature),
    ];
    if let Some((_, node)) = fields.entry("require") {
        verify.require.clear();
        for item in r.list(node) {
            verify.require.extend(r.choice(item, "a kind of evidence", &kinds));
        }
        verify.require.sort_unstable();
        verify.require.dedup();
    }
    if let Some(inner) = fields.get("vulnerabilities") {
        let severities = [
            ("low", Some(Severity::Low)),
            ("medium", Some(Severity::Medium)),
            ("high", Some(Severity::High)),
            ("critical", Some(Severity::Critical)),
            ("never", None),
        ];
        if let Some(fields) = r.fields(inner, "`vulnerabilities`", keys::VULNERABILITIES) {
            let fail = fields.get("fail").and_then(|node| r.choice(node, "a severity", &severities));
            verify.fail_on = fail.unwrap_or(verify.fail_on);
            verify.vex = fields.get("vex").map(|node| r.globs(node)).unwrap_or_default();
        }
    }
    if let Some(inner) = fields.get("licences")
        && let Some(fields) = r.fields(inner, "`licences`", keys::LICENCES)
        && let Some(node) = fields.get("deny")
    {
        verify.deny_licences = licences(r, node);
    }
    if let Some((_, node)) = fields.entry("sign") {
        verify.sign.clear();
        for item in r.list(node) {
            verify.sign.extend(r.choice(item, "a key that signs", &[("ci", "ci".to_owned())]));
        }
    }
    let silent = fields.entry("sign").is_some_and(|(_, node)| r.list(node).is_empty());
    if silent && verify.require.contains(&EvidenceKind::Signature) {
        let hint = "write `sign: [ci]`, or leave `signature` out of `require`".to_owned();
        r.error(fields.at, "a signature is required, but nothing signs", hint);
    }
    verify
}

fn licences(r: &mut Reader, node: &Node) -> Vec<String> {
    let mut licences = Vec::new();
    for text in r.texts(node) {
        let spdx = |c: char| c.is_ascii_alphanumeric() || ".-+".contains(c);
        if !text.value.is_empty() && text.value.chars().all(spdx) {
            licences.push(text.value);
        } else {
            let hint = "write it like `AGPL-3.0-only`".to_owned();
            r.error(text.at, format!("`{}` is not an SPDX identifier", clip(&text.value)), hint);
        }
    }
    licences
}

fn deploy(r: &mut Reader, node: &Node) -> Option<Deploy> {
    let fields = r.fields(node, "`deploy`", keys::DEPLOY)?;
    let from = fields.get("from").and_then(|node| r.path(node)).unwrap_or_else(|| "deploy".into());
    let hint = "list at least one, as in `- name: prod`".to_owned();
    let node = r.require(&fields, "environments", hint.clone())?;
    let mut environments = Vec::new();
    let items = limited(r, node, "- name: prod", "environments");
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        r.error(node.at, "there is no environment to deploy to", hint);
    }
    for item in items {
        environments.extend(environment(r, item));
    }
    check::environments(r, &environments);
    Some(Deploy { from, environments: environments.into_iter().map(|placed| placed.target).collect() })
}

fn environment(r: &mut Reader, node: &Node) -> Option<check::Placed> {
    let fields = r.fields(node, "an environment", keys::ENVIRONMENT)?;
    let name = r.require(&fields, "name", "give it a name, for example `name: prod`".to_owned());
    let name: Option<Located<Name>> = name.and_then(|node| r.parsed(node));
    let namespace: Option<Located<Name>> = fields.get("namespace").and_then(|node| r.parsed(node));
    let after: Option<Located<Name>> = fields.get("after").and_then(|node| r.parsed(node));
    let approve = fields.get("approve").map(|node| r.texts(node)).unwrap_or_default();
    let strategy = fields.get("strategy").and_then(|node| strategy(r, node)).unwrap_or_default();
    let on_failure = [("rollback", OnFailure::Rollback), ("pause", OnFailure::Pause)];
    let on_failure =
        fields.get("on-failure").and_then(|node| r.choice(node, "a way to deal with a failure", &on_failure));
    let deadline = fields.get("progress-deadline").and_then(|node| r.duration(node, Duration::from_secs(1), DAY));
    let name = name?;
    Some(check::Placed {
        name_at: name.at,
        namespace_at: namespace.as_ref().map(|namespace| namespace.at),
        after_at: after.as_ref().map(|after| after.at),
        target: Target {
            name: name.value,
            namespace: namespace.map(|namespace| namespace.value),
            after: after.map(|after| after.value),
            approve: approve.into_iter().map(|group| group.value).collect(),
            strategy,
            on_failure: on_failure.unwrap_or_default(),
            progress_deadline: deadline.unwrap_or(PROGRESS_DEADLINE),
        },
    })
}

fn strategy(r: &mut Reader, node: &Node) -> Option<Strategy> {
    let (word, at) = match &node.value {
        Value::Map(entries) => match entries.first() {
            Some((key, _)) => (key.text.as_str(), key.at),
            None => ("", node.at),
        },
        Value::Text { text, .. } => (text.as_str(), node.at),
        _ => {
            r.wrong(node, "a strategy", "write `strategy: rolling` or `strategy: recreate`".to_owned());
            return None;
        }
    };
    match word {
        "rolling" => return Some(Strategy::Rolling),
        "recreate" => return Some(Strategy::Recreate),
        later if LATER.contains(&later) => {
            let hint = "use `rolling` or `recreate`".to_owned();
            r.error(at, format!("the strategy `{later}` is not supported yet"), hint);
        }
        other => {
            let hint = suggest(other, ["rolling", "recreate"]);
            r.error(at, format!("`{}` is not a strategy", clip(other)), hint);
        }
    }
    None
}
