//! Profiles: which are active, and what they change.

use yaml::{Map, Value};

use crate::{
    Error, Situation, decode, encode, patch,
    schema::{self, Field, Type, Version},
    tree::{maps_in, text},
};

/// The names of the active profiles, in their order, and of those that the Kubernetes context activated.
pub(crate) struct Active {
    pub names: Vec<String>,
    pub by_context: Vec<String>,
}

/// Which profiles of a configuration are active: those that activate themselves, then those that were asked for.
pub(crate) fn active(config: &mut Map, named: &[String], situation: &Situation<'_>) -> Result<Active, String> {
    let mut active = Active { names: Vec::new(), by_context: Vec::new() };
    let profiles = maps_in(config, &["profiles"]);
    if situation.auto_activation {
        for profile in &profiles {
            let name = text(profile, "name").to_owned();
            if let Some(by_context) = activated(profile, situation)? {
                if by_context {
                    active.by_context.push(name.clone());
                }
                active.names.push(name);
            }
        }
    }
    for name in named {
        match name.strip_prefix('-') {
            Some(off) => active.names.retain(|known| known != off),
            None if profiles.iter().any(|profile| text(profile, "name") == name) && !active.names.contains(name) => {
                active.names.push(name.clone());
            }
            None => {}
        }
    }
    Ok(active)
}

/// Whether a profile activates itself; if so, whether the Kubernetes context had a part in it.
fn activated(profile: &Map, situation: &Situation<'_>) -> Result<Option<bool>, String> {
    let conditions = profile.get("activation").and_then(Value::as_list).unwrap_or_default();
    let all = profile.get("requiresAllActivations") == Some(&Value::Bool(true));
    let mut by_context = false;
    for condition in conditions.iter().filter_map(Value::as_map) {
        let context = text(condition, "kubeContext");
        let holds = holds(condition, situation)?;
        match (holds, all) {
            (true, false) => return Ok(Some(!context.is_empty())),
            (false, true) => return Ok(None),
            (true, true) => by_context |= !context.is_empty(),
            (false, false) => {}
        }
    }
    Ok((all && !conditions.is_empty()).then_some(by_context))
}

fn holds(condition: &Map, situation: &Situation<'_>) -> Result<bool, String> {
    let matches_or_empty = |pattern: &str, actual: &str| pattern.is_empty() || matches(pattern, actual);
    let environment = match text(condition, "env") {
        "" => true,
        given => {
            let Some((key, wanted)) = given.split_once('=') else {
                return Err(format!("invalid env variable format: {given}, should be KEY=VALUE"));
            };
            let actual = (situation.env)(key).unwrap_or_default();
            if wanted.is_empty() { actual.is_empty() } else { matches(wanted, &actual) }
        }
    };
    Ok(environment
        && matches_or_empty(text(condition, "command"), situation.command)
        && matches_or_empty(text(condition, "kubeContext"), situation.kube_context))
}

/// A text that is equal or contains what a regular expression matches; `!` turns it round. What is no regular expression
/// matches only itself.
fn matches(expected: &str, actual: &str) -> bool {
    if let Some(expected) = expected.strip_prefix('!') {
        return !matches_plainly(expected, actual);
    }
    matches_plainly(expected, actual)
}

fn matches_plainly(expected: &str, actual: &str) -> bool {
    let bounded = |pattern| regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    expected == actual || bounded(expected).is_ok_and(|pattern| pattern.is_match(actual))
}

/// Applies the active profiles, one after the other.
pub(crate) fn apply(config: &mut Map, names: &[String], file: &str) -> Result<(), String> {
    // Of two profiles with one name the later counts, and those of the configuration as it was before.
    let profiles: Vec<Map> = maps_in(config, &["profiles"]).into_iter().map(|profile| profile.clone()).collect();
    for name in names {
        let Some(profile) = profiles.iter().rev().find(|profile| text(profile, "name") == name) else {
            return Err(format!("couldn't find profile {name}"));
        };
        one(config, profile, file).map_err(|problem| format!("applying profile {name:?}: {problem}"))?;
    }
    Ok(())
}

fn one(config: &mut Map, profile: &Map, file: &str) -> Result<(), String> {
    overlay(config, profile, "Pipeline");
    let patches: Vec<&Map> =
        profile.get("patches").and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_map).collect();
    if patches.is_empty() {
        return Ok(());
    }
    let printed = encode::text(&Value::Map(std::mem::take(config)));
    let mut document = yaml::from_str(&printed).map_err(|error| error.to_string())?;
    for patch in patches {
        if !patch::apply(&mut document, patch) {
            return Err(format!("invalid path: {}", text(patch, "path")));
        }
    }
    let mut decoder = decode::Decoder { file, version: Version::newest(), strict: false, warnings: Vec::new() };
    *config =
        decoder.fields(&yaml::to_node(&document), "SkaffoldConfig", "").map_err(|error: Error| error.to_string())?;
    Ok(())
}

/// Puts what a profile sets over a configuration, field by field: structs one in the other, everything else whole. Of
/// fields that exclude each other the profile's is the only one left.
fn overlay(config: &mut Map, profile: &Map, of: &str) {
    let fields: Vec<&Field> = schema::fields(of).iter().filter(|field| field.in_version(Version::newest())).collect();
    if fields.first().is_some_and(|field| field.one) {
        let Some((chosen, value)) = fields.iter().find_map(|field| Some((field.name, profile.get(field.name)?))) else {
            return;
        };
        for field in &fields {
            config.remove(field.name);
        }
        config.insert(chosen.to_owned(), value.clone());
        return;
    }
    for field in fields {
        match &field.of {
            Type::Struct(inner) if field.inline() => overlay(config, profile, inner),
            Type::Struct(inner) => {
                if let Some(Value::Map(over)) = profile.get(field.name) {
                    overlay(crate::tree::map_under(config, field.name), over, inner);
                }
            }
            _ => {
                if let Some(value) = profile.get(field.name) {
                    config.insert(field.name.to_owned(), value.clone());
                }
            }
        }
    }
}
