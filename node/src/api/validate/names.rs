//! Names, labels and the like.

use serde_json::Value;

use crate::Cause;
use crate::objects::Resource;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
    with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
    start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
    character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
    '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// RFC 1123: at most 63 lower-case letters, digits and inner hyphens.
pub fn is_dns_label(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(|c| legal(c) || c == '-')
        && text.starts_with(legal)
        && text.ends_with(legal)
}

/// RFC 1123: at most 253 bytes, labels with dots between them.
pub fn is_dns_subdomain(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part =
        |part: &str| part.starts_with(legal) && part.ends_with(legal) && part.chars().all(|c| legal(c) || c == '-');
    text.len() <= 253 && text.split('.').all(part)
}

/// The name of an object, by the rule of its kind.
pub(super) fn object_name(resource: &Resource, name: &str, field: &str, causes: &mut Vec<Cause>) {
    let (ok, detail) = match (resource.group, resource.kind) {
        ("", "Namespace") => (is_dns_label(name), LABEL),
        ("", "Service") => (is_dns_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()), LABEL_1035),
        _ => (is_dns_subdomain(name), SUBDOMAIN),
    };
    if !ok {
        causes.push(Cause::invalid(field, &name.into(), detail));
    }
}

/// A label that must be a DNS label, such as the name of a container.
pub(super) fn dns_label(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    match value.as_str() {
        None | Some("") => causes.push(Cause::required(field, "")),
        Some(name) if !is_dns_label(name) => causes.push(Cause::invalid(field, value, LABEL)),
        Some(_) => {}
    }
}

fn is_qualified_part(part: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    part.len() <= 63
        && part.starts_with(edge)
        && part.ends_with(edge)
        && part.chars().all(|c| edge(c) || "-_.".contains(c))
}

/// `name` or `prefix/name`.
pub(super) fn qualified(key: &str, field: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_qualified_part(name) {
        causes.push(Cause::invalid(field, &key.into(), QUALIFIED));
    }
    if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        causes.push(Cause::invalid(field, &key.into(), &format!("prefix part {SUBDOMAIN}")));
    }
}

pub(super) fn labels(labels: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        qualified(key, field, causes);
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            causes.push(Cause::invalid(field, value, "must be no more than 63 characters"));
        } else if !text.is_empty() && !is_qualified_part(text) {
            causes.push(Cause::invalid(field, value, LABEL_VALUE));
        }
    }
}
