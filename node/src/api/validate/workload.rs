//! The rules for what makes pods.

use serde_json::Value;

use super::{choice, names, not_negative, pod, same, text};
use crate::Cause;
use crate::objects::LabelSelector;

/// A selector that must be there, be legal and select the template's labels.
fn selector(spec: &Value, causes: &mut Vec<Cause>) {
    let selector = &spec["selector"];
    if !selector.is_object() {
        causes.push(Cause::required("spec.selector", ""));
        return;
    }
    names::labels(&selector["matchLabels"], "spec.selector.matchLabels", causes);
    match LabelSelector::from_object(selector) {
        Err(error) => causes.push(Cause::invalid("spec.selector", selector, &error.to_string())),
        Ok(parsed) if parsed.is_everything() => {
            causes.push(Cause::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
        }
        Ok(parsed) => {
            let labels = &spec["template"]["metadata"]["labels"];
            if !parsed.matches_labels(labels) {
                let detail = "`selector` does not match template `labels`";
                let shown = if labels.is_null() { Value::Object(Default::default()) } else { labels.clone() };
                causes.push(Cause::invalid("spec.template.metadata.labels", &shown, detail));
            }
        }
    }
}

fn always(spec: &Value, causes: &mut Vec<Cause>) {
    pod::template(&spec["template"], "spec.template", causes);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if policy.is_string() && policy != "Always" {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if spec["template"]["spec"]["activeDeadlineSeconds"].is_number() {
        let field = "spec.template.spec.activeDeadlineSeconds";
        causes.push(Cause::forbidden(field, "activeDeadlineSeconds in ReplicaSet is not Supported"));
    }
}

pub(super) fn deployment(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(&spec[field], &format!("spec.{field}"), causes);
    }
    selector(spec, causes);
    always(spec, causes);
    strategy(&spec["strategy"], causes);
    let (deadline, ready) = (spec["progressDeadlineSeconds"].as_i64(), spec["minReadySeconds"].as_i64());
    if deadline.zip(ready.or(Some(0))).is_some_and(|(deadline, ready)| deadline <= ready) {
        let detail = "must be greater than minReadySeconds";
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", &spec["progressDeadlineSeconds"], detail));
    }
    if let Some(old) = old {
        same(object, old, &["spec", "selector"], "spec.selector", causes);
    }
}

fn strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    choice(&strategy["type"], "spec.strategy.type", &["Recreate", "RollingUpdate"], true, causes);
    let rolling = &strategy["rollingUpdate"];
    if text(&strategy["type"]) == "Recreate" {
        if rolling.is_object() {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            causes.push(Cause::forbidden("spec.strategy.rollingUpdate", detail));
        }
        return;
    }
    let mut zero = true;
    for field in ["maxUnavailable", "maxSurge"] {
        let path = format!("spec.strategy.rollingUpdate.{field}");
        let value = &rolling[field];
        let percent = text(value).strip_suffix('%').and_then(|n| n.parse::<u32>().ok());
        match value {
            Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => {
                causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
            }
            Value::Number(n) => zero &= n.as_i64() == Some(0),
            Value::String(_) => match percent {
                Some(n) if field == "maxUnavailable" && n > 100 => {
                    causes.push(Cause::invalid(path, value, "must not be greater than 100%"));
                }
                Some(n) => zero &= n == 0,
                None => {
                    let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                                  '93%', regex used for validation is '[0-9]+%')";
                    causes.push(Cause::invalid(path, value, detail));
                    zero = false;
                }
            },
            _ => {}
        }
    }
    if zero {
        let detail = "may not be 0 when `maxSurge` is 0";
        causes.push(Cause::invalid("spec.strategy.rollingUpdate.maxUnavailable", &rolling["maxUnavailable"], detail));
    }
}

pub(super) fn replica_set(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&spec[field], &format!("spec.{field}"), causes);
    }
    selector(spec, causes);
    always(spec, causes);
    if let Some(old) = old {
        same(object, old, &["spec", "selector"], "spec.selector", causes);
    }
}

pub(super) fn job(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    for field in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        not_negative(&spec[field], &format!("spec.{field}"), causes);
    }
    choice(&spec["completionMode"], "spec.completionMode", &["Indexed", "NonIndexed"], false, causes);
    pod::template(&spec["template"], "spec.template", causes);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if text(policy) == "Always" {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", policy, &["Never", "OnFailure"]));
    }
    if spec["manualSelector"] == true {
        selector(spec, causes);
    }
    if let Some(old) = old {
        same(object, old, &["spec", "selector"], "spec.selector", causes);
        same(object, old, &["spec", "completions"], "spec.completions", causes);
        same(object, old, &["spec", "completionMode"], "spec.completionMode", causes);
        if old["spec"]["suspend"] != true {
            same(object, old, &["spec", "template"], "spec.template", causes);
        }
    }
}
