//! YAML into the types, with the leniency that Helm has: any scalar where a text is wanted, any case of a key.

use yaml::{Map, Value};

use super::{Dependency, Import, Lock, Maintainer, Metadata};
use crate::values::json_type;

/// What a failed decoding says.
pub(crate) fn decode_error(value: &Value, place: &str, wanted: &str) -> String {
    let place = if place.is_empty() { "Go value".to_owned() } else { format!("Go struct field {place}") };
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into {place} of type {wanted}",
        json_type(value)
    )
}

fn parse(text: &str) -> Result<Value, String> {
    yaml::from_str(text).map_err(|error| format!("error converting YAML to JSON: {error}"))
}

impl Metadata {
    /// Reads a `Chart.yaml` (or `requirements.yaml`) over what is already known.
    pub fn read(&mut self, text: &str) -> Result<(), String> {
        self.decode(&parse(text)?)
    }

    /// [`Metadata::read`] of what is parsed already.
    pub(crate) fn decode(&mut self, value: &Value) -> Result<(), String> {
        let Some(fields) = fields(value, "", "chart.Metadata")? else { return Ok(()) };
        let place = |field: &str| format!("Metadata.{field}");
        for (key, value) in fields {
            let place = place(key);
            match key.to_ascii_lowercase().as_str() {
                "name" => text_into(&mut self.name, value, &place)?,
                "home" => text_into(&mut self.home, value, &place)?,
                "sources" => texts_into(&mut self.sources, value, &place)?,
                "version" => text_into(&mut self.version, value, &place)?,
                "description" => text_into(&mut self.description, value, &place)?,
                "keywords" => texts_into(&mut self.keywords, value, &place)?,
                "maintainers" => {
                    self.maintainers = list(value, &place, "[]*chart.Maintainer")?
                        .iter()
                        .map(|item| Maintainer::decode(item, &place))
                        .collect::<Result<_, _>>()?;
                }
                "icon" => text_into(&mut self.icon, value, &place)?,
                "apiversion" => text_into(&mut self.api_version, value, &place)?,
                "condition" => text_into(&mut self.condition, value, &place)?,
                "tags" => text_into(&mut self.tags, value, &place)?,
                "appversion" => text_into(&mut self.app_version, value, &place)?,
                "deprecated" => bool_into(&mut self.deprecated, value, &place)?,
                "annotations" => {
                    let Some(fields) = self::fields(value, &place, "map[string]string")? else { continue };
                    for (key, value) in fields {
                        let mut text = String::new();
                        text_into(&mut text, value, &place)?;
                        self.annotations.insert(key.clone(), text);
                    }
                }
                "kubeversion" => text_into(&mut self.kube_version, value, &place)?,
                "dependencies" => {
                    self.dependencies = list(value, &place, "[]*chart.Dependency")?
                        .iter()
                        .map(|item| Dependency::decode(item, &format!("{place}.")))
                        .collect::<Result<_, _>>()?;
                }
                "type" => text_into(&mut self.kind, value, &place)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Lock {
    /// Reads a `Chart.lock`.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let mut lock = Self::default();
        let Some(fields) = fields(&value, "", "chart.Lock")? else { return Ok(lock) };
        for (key, value) in fields {
            match key.to_ascii_lowercase().as_str() {
                "generated" => text_into(&mut lock.generated, value, "Lock.generated")?,
                "digest" => text_into(&mut lock.digest, value, "Lock.digest")?,
                "dependencies" => {
                    lock.dependencies = list(value, "Lock.dependencies", "[]*chart.Dependency")?
                        .iter()
                        .map(|item| Dependency::decode(item, "Lock.dependencies."))
                        .collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        Ok(lock)
    }
}

impl Maintainer {
    fn decode(value: &Value, place: &str) -> Result<Self, String> {
        let mut out = Self::default();
        let Some(fields) = fields(value, place, "chart.Maintainer")? else {
            return Err("validation: maintainers must not contain empty or null nodes".to_owned());
        };
        for (key, value) in fields {
            let place = format!("{place}.{key}");
            match key.to_ascii_lowercase().as_str() {
                "name" => text_into(&mut out.name, value, &place)?,
                "email" => text_into(&mut out.email, value, &place)?,
                "url" => text_into(&mut out.url, value, &place)?,
                _ => {}
            }
        }
        Ok(out)
    }
}

impl Dependency {
    fn decode(value: &Value, place: &str) -> Result<Self, String> {
        let mut out = Self::default();
        let Some(fields) = fields(value, place.trim_end_matches('.'), "chart.Dependency")? else {
            return Err("validation: dependencies must not contain empty or null nodes".to_owned());
        };
        for (key, value) in fields {
            let place = format!("{place}{key}");
            match key.to_ascii_lowercase().as_str() {
                "name" => text_into(&mut out.name, value, &place)?,
                "version" => text_into(&mut out.version, value, &place)?,
                "repository" => text_into(&mut out.repository, value, &place)?,
                "condition" => text_into(&mut out.condition, value, &place)?,
                "tags" => texts_into(&mut out.tags, value, &place)?,
                "enabled" => bool_into(&mut out.enabled, value, &place)?,
                "import-values" => {
                    for item in list(value, &place, "[]interface {}")? {
                        match item {
                            Value::String(name) => out.import_values.push(Import::Export(name.clone())),
                            Value::Map(pair) => {
                                let side = |key: &str| pair.get(key).map_or_else(|| "<nil>".to_owned(), plain);
                                out.import_values.push(Import::Pair { child: side("child"), parent: side("parent") });
                            }
                            _ => {}
                        }
                    }
                }
                "alias" => text_into(&mut out.alias, value, &place)?,
                _ => {}
            }
        }
        Ok(out)
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        // Six digits before the point, and no more, are what Go prints without an exponent.
        Value::Float(f) if (1e6..1e21).contains(&f.abs()) => {
            let text = format!("{f:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{mantissa}e+{exponent:0>2}")
        }
        Value::Float(f) => yaml::go_float(*f),
        Value::List(_) | Value::Map(_) => String::new(),
    }
}

fn fields<'a>(value: &'a Value, place: &str, wanted: &str) -> Result<Option<&'a Map>, String> {
    match value {
        Value::Map(map) => Ok(Some(map)),
        Value::Null => Ok(None),
        other => Err(decode_error(other, place, wanted)),
    }
}

fn list<'a>(value: &'a Value, place: &str, wanted: &str) -> Result<&'a [Value], String> {
    match value {
        Value::List(items) => Ok(items),
        Value::Null => Ok(&[]),
        other => Err(decode_error(other, place, wanted)),
    }
}

fn text_into(into: &mut String, value: &Value, place: &str) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::List(_) | Value::Map(_) => return Err(decode_error(value, place, "string")),
        scalar => *into = plain(scalar),
    }
    Ok(())
}

fn texts_into(into: &mut Vec<String>, value: &Value, place: &str) -> Result<(), String> {
    into.clear();
    for item in list(value, place, "[]string")? {
        let mut text = String::new();
        text_into(&mut text, item, place)?;
        into.push(text);
    }
    Ok(())
}

fn bool_into(into: &mut bool, value: &Value, place: &str) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::Bool(b) => *into = *b,
        other => return Err(decode_error(other, place, "bool")),
    }
    Ok(())
}
