//! The `deploy` part of the file.

use std::time::Duration;

use records::{Name, OnFailure, Strategy};

use super::{DAY, LATER, PROGRESS_DEADLINE, keys, limited};
use crate::{
    check,
    diagnostics::suggest,
    file::{Deploy, Target},
    read::{Located, Reader, clip},
    yaml::{Node, Value},
};

pub(super) fn deploy(r: &mut Reader, node: &Node) -> Option<Deploy> {
    let fields = r.fields(node, "`deploy`", keys::DEPLOY)?;
    let from = fields.get("from").and_then(|node| r.path(node)).unwrap_or_else(|| "deploy".into());
    let values = fields.get("values").map(|node| r.paths(node)).unwrap_or_default();
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
    Some(Deploy { from, values, environments: environments.into_iter().map(|placed| placed.target).collect() })
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
    let values = fields.get("values").map(|node| r.paths(node)).unwrap_or_default();
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
            values,
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
