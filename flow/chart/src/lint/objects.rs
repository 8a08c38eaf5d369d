//! The objects of a file as Kubernetes' own stream reader cuts and reads them: a JSON stream if it starts with `{` and stays one,
//! else YAML between lines that start with `---`.

use yaml::Value;

use crate::{Flavor, values::json_type};

/// What lint looks at of an object.
pub(super) struct Object {
    pub version: String,
    pub kind: String,
    pub name: String,
    pub whole: Value,
}

/// Hands each object on. The first that cannot be read ends it, with the reader's words.
pub(super) fn each(content: &str, flavor: Flavor, take: &mut dyn FnMut(Object)) -> Result<(), String> {
    let mut rest = content;
    let mut first = None;
    if content.trim_start().starts_with('{') {
        let mut stream = serde_json::Deserializer::from_str(content).into_iter::<serde_json::Value>();
        let mut count = 0;
        let mut end = 0;
        let fault = loop {
            match stream.next() {
                None => return Ok(()),
                Some(Ok(value)) => match Object::read(Value::from(value), true, flavor) {
                    Ok(object) => object.into_iter().for_each(&mut *take),
                    Err(fault) => break fault,
                },
                Some(Err(error)) if count > 1 => return Err(syntax(&content[end..], &error)),
                Some(Err(error)) => {
                    let before: usize =
                        content.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
                    break format!("json: offset {}: {}", before + error.column(), syntax(&content[end..], &error));
                }
            }
            count += 1;
            end = stream.byte_offset();
        };
        if count > 1 {
            return Err(fault);
        }
        // It may still be YAML: what is left is read as such, and if it is none, this is what is said.
        first = Some(fault);
        rest = content[end..]
            .split_once('\n')
            .map_or(&content[end..], |(blank, after)| if blank.trim().is_empty() { after } else { &content[end..] });
    }
    for document in documents(rest) {
        let read = document.and_then(|text| {
            let value = yaml::from_str(text).map_err(|error| format!("error converting YAML to JSON: {error}"))?;
            Object::read(value, false, flavor)
                .map_err(|error| format!("error unmarshaling JSON: while decoding JSON: {error}"))
        });
        let object = read.map_err(|error| first.take().unwrap_or(error))?;
        first = None;
        object.into_iter().for_each(&mut *take);
    }
    Ok(())
}

/// What Go says of a text that is no JSON.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    template::json_fault(text.as_bytes()).unwrap_or_else(|| error.to_string())
}

/// The texts between lines of `---`, after which only a comment may stand.
fn documents(text: &str) -> Vec<Result<&str, String>> {
    let mut out = Vec::new();
    let (mut from, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("---").map(str::trim) {
            out.push(Ok(&text[from..at]));
            if !rest.is_empty() && !rest.starts_with('#') {
                out.pop();
                out.push(Err(format!("invalid Yaml document separator: {rest}")));
                return out;
            }
            from = at + line.len();
        }
        at += line.len();
    }
    out.push(Ok(&text[from..]));
    out
}

impl Object {
    /// Nothing if it is null. In YAML, scalars where a text is wanted are texts.
    fn read(whole: Value, json: bool, flavor: Flavor) -> Result<Option<Self>, String> {
        let of = match flavor {
            Flavor::Helm3 => "K8sYamlStruct",
            Flavor::Helm4 => "k8sYamlStruct",
        };
        if whole.is_null() {
            return Ok(None);
        }
        if whole.as_map().is_none() {
            return Err(format!("json: cannot unmarshal {} into Go value of type rules.{of}", json_type(&whole)));
        }
        let text = |value: Option<&Value>, field: &str| match value {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_))) if !json => {
                Ok(yaml::to_json(value))
            }
            Some(value) => {
                let kind = json_type(value);
                Err(format!("json: cannot unmarshal {kind} into Go struct field {field} of type string"))
            }
        };
        let version = text(field(&whole, "apiVersion"), &format!("{of}.apiVersion"))?;
        let kind = text(field(&whole, "kind"), &format!("{of}.Kind"))?;
        let metadata = field(&whole, "metadata").unwrap_or(&Value::Null);
        if !metadata.is_null() && metadata.as_map().is_none() {
            let found = json_type(metadata);
            return Err(format!(
                "json: cannot unmarshal {found} into Go struct field {of}.Metadata of type rules.k8sYamlMetadata"
            ));
        }
        let name = text(field(metadata, "name"), "k8sYamlMetadata.Metadata.Name")?;
        text(field(metadata, "namespace"), "k8sYamlMetadata.Metadata.Namespace")?;
        Ok(Some(Self { version, kind, name, whole }))
    }
}

/// A field by its name, else by its name in other case, as Go reads them.
fn field<'v>(of: &'v Value, name: &str) -> Option<&'v Value> {
    let map = of.as_map()?;
    map.get(name).or_else(|| map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}
