//! Holding an object against the shape of its kind.

use serde_json::Value;

use super::{Schema, Shape, schema};

/// How deep an object may be nested.
const DEPTH: usize = 64;
/// How many unknown fields are named at most.
const NAMED: usize = 100;

/// What was found in an object that does not belong there.
#[derive(Debug, Default)]
pub struct Findings {
    /// Paths of fields that the kind does not have; they have been taken out.
    pub unknown: Vec<String>,
    /// Values of the wrong type, each a sentence.
    pub wrong: Vec<String>,
}

/// Takes nulls and unknown fields out of `object` and says what was found.
pub fn check(shape: &Shape, object: &mut Value) -> Findings {
    let mut walk = Walk { schema: schema(), findings: Findings::default(), path: Vec::new() };
    walk.value(shape, "", object);
    walk.findings
}

struct Walk {
    schema: &'static Schema,
    findings: Findings,
    path: Vec<String>,
}

impl Walk {
    fn value(&mut self, shape: &Shape, owner: &str, value: &mut Value) {
        if self.path.len() > DEPTH {
            self.wrong(&format!("is nested deeper than {DEPTH} levels"));
            *value = Value::Null;
            return;
        }
        let schema = self.schema;
        let (shape, _, name) = schema.resolve(shape);
        let (outer, owner) = (owner, if name.is_empty() { owner } else { name });
        match (shape, value) {
            (Shape::Struct(fields), Value::Object(map)) => {
                let mut unknown: Vec<String> = Vec::new();
                for (key, inner) in map.iter_mut() {
                    let Some(field) = fields.get(key) else {
                        unknown.push(key.clone());
                        continue;
                    };
                    if !inner.is_null() {
                        self.path.push(key.clone());
                        self.value(&field.shape, owner, inner);
                        self.path.pop();
                    }
                }
                map.retain(|key, inner| !inner.is_null() && fields.contains_key(key));
                for key in unknown.into_iter().take(NAMED.saturating_sub(self.findings.unknown.len())) {
                    self.path.push(key);
                    let path = self.path();
                    self.findings.unknown.push(path);
                    self.path.pop();
                }
            }
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    // In a map of texts, null stands for the empty text.
                    if value.is_null() && matches!(**inner, Shape::Text) {
                        *value = Value::String(String::new());
                        continue;
                    }
                    self.path.push(key.clone());
                    self.value(inner, owner, value);
                    self.path.pop();
                }
            }
            (Shape::List(inner), Value::Array(list)) => {
                for (at, value) in list.iter_mut().enumerate() {
                    self.path.push(format!("[{at}]"));
                    self.value(inner, owner, value);
                    self.path.pop();
                }
            }
            (Shape::Any, _) | (_, Value::Null) => {}
            (Shape::Bytes, Value::String(text)) => {
                use base64::Engine as _;
                let clean: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                if base64::engine::general_purpose::STANDARD.decode(&clean).is_err() {
                    self.wrong("illegal base64 data");
                }
                *text = clean;
            }
            (Shape::Time, Value::String(text)) => {
                if text.parse::<jiff::Timestamp>().is_err() {
                    let text = text.clone();
                    self.wrong(&format!("parsing time {text:?} as RFC 3339: cannot parse it"));
                }
            }
            (Shape::Text, Value::String(_))
            | (Shape::Flag, Value::Bool(_))
            | (Shape::Number, Value::Number(_))
            | (Shape::Quantity, Value::String(_)) => {}
            (Shape::Quantity, number @ Value::Number(_)) => *number = Value::String(number.to_string()),
            (Shape::Integer { bits }, Value::Number(number)) => {
                let fits = number.as_i64().is_some_and(|n| *bits == 64 || i32::try_from(n).is_ok());
                if !fits {
                    // 3.0 is a whole number to a JSON reader that knows no integers.
                    let whole = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 2_147_483_648.0);
                    match whole {
                        #[expect(clippy::cast_possible_truncation, reason = "whole and within 32 bits")]
                        Some(whole) if number.is_f64() => *number = (whole as i64).into(),
                        _ => {
                            let found = number.to_string();
                            self.mismatch(&format!("number {found}"), &format!("int{bits}"), owner);
                        }
                    }
                }
            }
            (Shape::IntOrText, Value::String(_)) => {}
            (Shape::IntOrText, Value::Number(number)) if number.as_i64().is_some() => {}
            (shape, value) => {
                let found = match value {
                    Value::Object(_) => "object",
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Bool(_) => "bool",
                    _ => "number",
                };
                let expected = match shape {
                    Shape::Struct(_) => name,
                    Shape::Map(_) => "map",
                    Shape::List(_) => "list",
                    Shape::Bytes => "[]uint8",
                    Shape::Integer { bits: 64 } => "int64",
                    Shape::Integer { .. } => "int32",
                    Shape::Number => "float64",
                    Shape::Flag => "bool",
                    Shape::IntOrText => "IntOrString",
                    Shape::Quantity => "Quantity",
                    Shape::Time => "Time",
                    Shape::Text | Shape::Any | Shape::Named(_) => "string",
                };
                self.mismatch(found, expected, outer);
            }
        }
    }

    fn mismatch(&mut self, found: &str, expected: &str, owner: &str) {
        let path = self.path();
        let sentence = format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}");
        self.findings.wrong.push(sentence);
    }

    fn wrong(&mut self, what: &str) {
        let path = self.path();
        self.findings.wrong.push(format!("{path}: {what}"));
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            if !text.is_empty() && !step.starts_with('[') {
                text.push('.');
            }
            text.push_str(step);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::resource;

    #[test]
    fn unknown_fields_are_named_and_taken_out() {
        let mut object = json!({"kind": "Deployment", "spec": {"replicas": 3.0, "replica": 2, "paused": null,
            "template": {"metadata": {"creationTimestamp": null}, "spec": {"containers": [{"name": "a", "imagee": "b"}]}}}});
        let findings = check(schema().of(&resource::DEPLOYMENTS), &mut object);
        assert_eq!(findings.unknown, ["spec.template.spec.containers[0].imagee", "spec.replica"]);
        assert!(findings.wrong.is_empty(), "{:?}", findings.wrong);
        assert_eq!(
            object,
            json!({"kind": "Deployment", "spec": {"replicas": 3,
                "template": {"metadata": {}, "spec": {"containers": [{"name": "a"}]}}}})
        );
    }

    #[test]
    fn wrong_types_are_said() {
        let mut object = json!({"spec": {"replicas": "three", "selector": []}});
        let findings = check(schema().of(&resource::DEPLOYMENTS), &mut object);
        assert_eq!(
            findings.wrong,
            [
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
                "json: cannot unmarshal array into Go struct field DeploymentSpec.spec.selector of type LabelSelector",
            ]
        );
    }

    #[test]
    fn deep_objects_are_refused() {
        let mut object = json!({});
        for _ in 0..200 {
            object = json!({"properties": object});
        }
        let mut object = json!({"data": object});
        let findings = check(schema().of(&resource::CONTROLLER_REVISIONS), &mut object);
        assert!(findings.wrong.is_empty(), "raw data is not looked into");
        let mut object = json!({"spec": object});
        assert!(!check(schema().of(&resource::PODS), &mut object).unknown.is_empty());
    }
}
