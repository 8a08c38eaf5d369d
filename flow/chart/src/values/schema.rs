//! `values.schema.json`: values are held against it by `jsonschema`, and what does not fit is said as Helm says it, one line
//! for each fault and one block for each table with several.

use jsonschema::{
    Retrieve, Uri, ValidationError,
    error::{TypeKind, ValidationErrorKind as Fault},
};
use serde_json::Value;
use template::Map;

use super::tree::json;
use crate::{part::Part, quote::quote};

/// Where a schema that another one names by its address comes from.
pub trait Schemas: Send + Sync {
    /// The schema at an address, or why it cannot be had.
    fn fetch(&self, address: &str) -> Result<Value, String>;
}

/// Everything that does not fit, for the chart and its subcharts; nothing when all fits.
pub(crate) fn validate(part: &Part<'_>, values: &Map, schemas: Option<&std::sync::Arc<dyn Schemas>>) -> Option<String> {
    let mut out = String::new();
    if let Some(schema) = &part.chart.schema
        && let Err(faults) = against(schema, &json(&template::Value::Map(values.clone())), schemas)
    {
        out.push_str(&format!("{}:\n{faults}", part.name()));
    }
    for child in &part.children {
        match values.get(child.name()) {
            None | Some(template::Value::Nil) => {}
            Some(template::Value::Map(values)) => out.extend(validate(child, &values, schemas)),
            Some(other) => out.push_str(&format!(
                "{}:\ninvalid type for values: expected object (map), got {}\n",
                child.name(),
                other.type_name()
            )),
        }
    }
    (!out.is_empty()).then_some(out)
}

struct Fetch(Option<std::sync::Arc<dyn Schemas>>);

impl Retrieve for Fetch {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let address = uri.as_str();
        if address.starts_with("urn:") {
            return Ok(Value::Bool(true));
        }
        match &self.0 {
            Some(schemas) => schemas.fetch(address).map_err(Into::into),
            None => Err(format!("{address} is not fetched here: put the schema into the chart").into()),
        }
    }
}

/// Holds values against one schema.
pub(crate) fn against(
    schema: &[u8],
    values: &Value,
    schemas: Option<&std::sync::Arc<dyn Schemas>>,
) -> Result<(), String> {
    let schema: Value = serde_json::from_slice(schema).map_err(|error| error.to_string())?;
    let validator = jsonschema::options()
        .with_retriever(Fetch(schemas.cloned()))
        .should_validate_formats(false)
        .build(&schema)
        .map_err(|error| format!("{error}\n"))?;
    if validator.is_valid(values) {
        return Ok(());
    }
    let faults: Vec<_> = validator.iter_errors(values).take(1000).map(Found::new).collect();
    let mut lines = Vec::new();
    for node in tree(&faults.iter().collect::<Vec<_>>(), 0, "") {
        node.print(1, &mut lines);
    }
    Err(lines.join("\n") + "\n")
}

/// A fault with the way to it through the schema.
struct Found<'a> {
    error: ValidationError<'a>,
    way: Vec<String>,
    at: String,
}

impl<'a> Found<'a> {
    fn new(error: ValidationError<'a>) -> Self {
        let way = error.evaluation_path().to_string();
        let way = way.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let at = error.instance_path().to_string();
        Self { error, way, at }
    }
}

/// What is printed as one line, and what is below it.
struct Node {
    at: String,
    text: String,
    below: Vec<Node>,
}

impl Node {
    fn print(&self, indent: usize, lines: &mut Vec<String>) {
        lines.push(format!("{}- at {}: {}", "  ".repeat(indent - 1), single(&self.at), self.text));
        self.below.iter().for_each(|node| node.print(indent + 1, lines));
    }
}

/// Several faults of one schema are one node of their own, unless it is the outermost.
fn joined(mut nodes: Vec<Node>, at: &str) -> Option<Node> {
    match nodes.len() {
        0 => None,
        1 => nodes.pop(),
        _ => Some(Node { at: at.to_owned(), text: "validation failed".to_owned(), below: nodes }),
    }
}

/// The faults whose way has `depth` steps behind it, all of one schema, which is held against the value at `at`.
fn tree(faults: &[&Found<'_>], depth: usize, at: &str) -> Vec<Node> {
    // A value of the wrong type is held against nothing else.
    if let Some(fault) = faults.iter().find(|f| f.way.len() == depth + 1 && f.way[depth] == "type") {
        return vec![leaf(fault)];
    }
    let mut groups: Vec<(Vec<String>, Vec<&Found<'_>>)> = Vec::new();
    for fault in faults {
        let key = step(fault, depth, at);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(fault),
            None => groups.push((key, vec![fault])),
        }
    }
    groups.sort_by_key(|(key, _)| rank(&key[0]));
    let mut nodes = Vec::new();
    for (key, group) in groups {
        let steps = match key[0].as_str() {
            "properties" | "patternProperties" | "prefixItems" | "dependentSchemas" | "dependencies" => 2,
            _ => 1,
        };
        let deeper = group.iter().all(|fault| fault.way.len() > depth + steps);
        match key[0].as_str() {
            "required" => nodes.push(missing(&group)),
            "allOf" if deeper => {
                let mut below = Vec::new();
                let mut branches: Vec<&str> = group.iter().map(|fault| fault.way[depth + 1].as_str()).collect();
                branches.dedup();
                for branch in branches {
                    let inner: Vec<_> = group.iter().copied().filter(|fault| fault.way[depth + 1] == branch).collect();
                    below.extend(joined(tree(&inner, depth + 2, at), at));
                }
                nodes.push(Node { at: at.to_owned(), text: "'allOf' failed".to_owned(), below });
            }
            _ if deeper && !matches!(key[0].as_str(), "anyOf" | "oneOf" | "not") => {
                let inner_at = key.last().filter(|_| key.len() > 1).map_or(at, String::as_str);
                nodes.extend(joined(tree(&group, depth + steps, inner_at), inner_at));
            }
            _ => nodes.extend(group.into_iter().map(leaf)),
        }
    }
    nodes
}

/// The keyword of the next step and, where it goes to a part of the value, the place of that part.
fn step(fault: &Found<'_>, depth: usize, at: &str) -> Vec<String> {
    let keyword = fault.way.get(depth).cloned().unwrap_or_default();
    let into = matches!(
        keyword.as_str(),
        "properties" | "patternProperties" | "additionalProperties" | "items" | "prefixItems" | "additionalItems"
    );
    match fault.at.get(at.len()..).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) if into => {
            let part = rest.split('/').next().unwrap_or(rest);
            vec![keyword, format!("{at}/{part}")]
        }
        _ => vec![keyword],
    }
}

fn rank(keyword: &str) -> usize {
    const ORDER: [&str; 14] = [
        "$ref",
        "minProperties",
        "maxProperties",
        "required",
        "dependencies",
        "properties",
        "patternProperties",
        "additionalProperties",
        "items",
        "not",
        "allOf",
        "anyOf",
        "oneOf",
        "if",
    ];
    ORDER.iter().position(|known| *known == keyword).unwrap_or(8)
}

fn missing(group: &[&Found<'_>]) -> Node {
    let names: Vec<String> = group
        .iter()
        .filter_map(|fault| match fault.error.kind() {
            Fault::Required { property } => Some(single(property.as_str().unwrap_or_default())),
            _ => None,
        })
        .collect();
    let noun = if names.len() == 1 { "property" } else { "properties" };
    let at = group.first().map(|fault| fault.at.clone()).unwrap_or_default();
    Node { at, text: format!("missing {noun} {}", names.join(", ")), below: Vec::new() }
}

fn leaf(fault: &Found<'_>) -> Node {
    let below = match fault.error.kind() {
        Fault::AnyOf { context } | Fault::OneOfNotValid { context } => {
            let branches = context.iter().filter_map(|branch| {
                let found: Vec<Node> = branch
                    .iter()
                    .map(|error| Node { at: error.instance_path().to_string(), text: said(error), below: Vec::new() })
                    .collect();
                let wrong_type = branch.iter().position(|error| {
                    matches!(error.kind(), Fault::Type { .. }) && error.instance_path().to_string() == fault.at
                });
                match wrong_type {
                    Some(at) => found.into_iter().nth(at),
                    None => joined(found, &fault.at),
                }
            });
            branches.collect()
        }
        _ => Vec::new(),
    };
    Node { at: fault.at.clone(), text: said(&fault.error), below }
}

fn said(error: &ValidationError<'_>) -> String {
    let instance = error.instance();
    let number = |value: &Value| value.as_f64().map_or_else(|| value.to_string(), yaml::go_float);
    let names = |names: &[String]| names.iter().map(|name| single(name)).collect::<Vec<_>>().join(", ");
    let items = || instance.as_array().map_or(0, Vec::len);
    let fields = || instance.as_object().map_or(0, serde_json::Map::len);
    let length = || instance.as_str().map_or(0, |text| text.chars().count());
    match error.kind() {
        Fault::Type { kind } => {
            let wanted: Vec<String> = match kind {
                TypeKind::Single(one) => vec![one.to_string()],
                TypeKind::Multiple(set) => {
                    let all: Vec<String> = set.iter().map(|one| one.to_string()).collect();
                    ["null", "boolean", "number", "integer", "string", "array", "object"]
                        .into_iter()
                        .filter(|known| all.iter().any(|one| one == known))
                        .map(str::to_owned)
                        .collect()
                }
            };
            format!("got {}, want {}", kind_of(instance), wanted.join(" or "))
        }
        Fault::Enum { options } => match options.as_array() {
            Some(all) if all.iter().all(|one| !one.is_array() && !one.is_object()) => {
                let all: Vec<String> = all.iter().map(display).collect();
                match all.as_slice() {
                    [one] => format!("value must be {one}"),
                    all => format!("value must be one of {}", all.join(", ")),
                }
            }
            _ => "'enum' failed".to_owned(),
        },
        Fault::Constant { expected_value } if !expected_value.is_array() && !expected_value.is_object() => {
            format!("value must be {}", display(expected_value))
        }
        Fault::Constant { .. } => "'const' failed".to_owned(),
        Fault::AdditionalProperties { unexpected } => {
            format!("additional properties {} not allowed", names(unexpected))
        }
        Fault::UnevaluatedProperties { .. } | Fault::UnevaluatedItems { .. } | Fault::FalseSchema => {
            "false schema".to_owned()
        }
        Fault::AnyOf { .. } => "'anyOf' failed".to_owned(),
        Fault::OneOfNotValid { .. } => "'oneOf' failed, none matched".to_owned(),
        Fault::OneOfMultipleValid { context } => {
            let valid = context.iter().enumerate().filter(|(_, errors)| errors.is_empty());
            let valid: Vec<String> = valid.take(2).map(|(at, _)| at.to_string()).collect();
            format!("'oneOf' failed, subschemas {} matched", valid.join(", "))
        }
        Fault::Not { .. } => "'not' failed".to_owned(),
        Fault::Required { property } => format!("missing property {}", single(property.as_str().unwrap_or_default())),
        Fault::Pattern { pattern } => {
            format!("{} does not match pattern {}", display(instance), single(pattern))
        }
        Fault::Minimum { limit } => format!("minimum: got {}, want {}", number(instance), number(limit)),
        Fault::Maximum { limit } => format!("maximum: got {}, want {}", number(instance), number(limit)),
        Fault::ExclusiveMinimum { limit } => {
            format!("exclusiveMinimum: got {}, want {}", number(instance), number(limit))
        }
        Fault::ExclusiveMaximum { limit } => {
            format!("exclusiveMaximum: got {}, want {}", number(instance), number(limit))
        }
        Fault::MultipleOf { multiple_of } => {
            format!("multipleOf: got {}, want {}", number(instance), yaml::go_float(*multiple_of))
        }
        Fault::MinItems { limit } => format!("minItems: got {}, want {limit}", items()),
        Fault::MaxItems { limit } => format!("maxItems: got {}, want {limit}", items()),
        Fault::MinLength { limit } => format!("minLength: got {}, want {limit}", length()),
        Fault::MaxLength { limit } => format!("maxLength: got {}, want {limit}", length()),
        Fault::MinProperties { limit } => format!("minProperties: got {}, want {limit}", fields()),
        Fault::MaxProperties { limit } => format!("maxProperties: got {}, want {limit}", fields()),
        Fault::AdditionalItems { limit } => {
            format!("last {} additionalItem(s) not allowed", items().saturating_sub(*limit))
        }
        Fault::Contains => "no items match contains schema".to_owned(),
        _ => error.to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn display(value: &Value) -> String {
    match value {
        Value::String(text) => single(text),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// A text in single quotes.
fn single(text: &str) -> String {
    let quoted = quote(text);
    let inner = quoted[1..quoted.len() - 1].replace("\\\"", "\"").replace('\'', "\\'");
    format!("'{inner}'")
}
