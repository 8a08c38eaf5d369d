//! The protobuf form of an OpenAPI v2 document (`openapi.v2.Document` of gnostic), which `kubectl` up to 1.26 reads only.

use serde_json::Value;

/// A protobuf message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Empty texts are what a missing field means.
    fn text(&mut self, field: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, value: &Value) {
        for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, field: u32, message: Self) {
        self.bytes(field, &message.0);
    }
}

fn message(write: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::default();
    write(&mut message);
    message
}

/// `NamedAny` and its kin: a name and a value.
fn named(name: &str, value: Message) -> Message {
    message(|m| {
        m.bytes(1, name.as_bytes());
        m.message(2, value);
    })
}

/// The `x-…` entries; each value is YAML, which JSON is.
fn extensions(m: &mut Message, field: u32, value: &Value) {
    for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
        let any = message(|m| m.bytes(2, format!("{value}\n").as_bytes()));
        m.message(field, named(name, any));
    }
}

/// `openapi.v2.Document`
pub fn document(v2: &Value) -> Vec<u8> {
    let document = message(|m| {
        m.text(1, &v2["swagger"]);
        m.message(
            2,
            message(|m| {
                m.text(1, &v2["info"]["title"]);
                m.text(2, &v2["info"]["version"]);
            }),
        );
        let paths = message(|m| {
            for (name, item) in v2["paths"].as_object().into_iter().flatten() {
                m.message(2, named(name, path_item(item)));
            }
        });
        m.message(8, paths);
        let definitions = message(|m| {
            for (name, definition) in v2["definitions"].as_object().into_iter().flatten() {
                m.message(1, named(name, schema(definition)));
            }
        });
        m.message(9, definitions);
    });
    document.0
}

fn path_item(item: &Value) -> Message {
    message(|m| {
        for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
            if item[method].is_object() {
                m.message(field, operation(&item[method]));
            }
        }
        for parameter in item["parameters"].as_array().into_iter().flatten() {
            m.message(9, self::parameter(parameter));
        }
    })
}

fn operation(operation: &Value) -> Message {
    message(|m| {
        m.text(3, &operation["description"]);
        m.text(5, &operation["operationId"]);
        m.texts(7, &operation["consumes"]);
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            m.message(8, self::parameter(parameter));
        }
        let responses = message(|m| {
            for (code, response) in operation["responses"].as_object().into_iter().flatten() {
                let response = message(|m| {
                    m.text(1, &response["description"]);
                    if response["schema"].is_object() {
                        m.message(2, message(|m| m.message(1, schema(&response["schema"]))));
                    }
                });
                m.message(1, named(code, message(|m| m.message(1, response))));
            }
        });
        m.message(9, responses);
        extensions(m, 13, operation);
    })
}

/// `ParametersItem`
fn parameter(parameter: &Value) -> Message {
    let inner = message(|m| {
        if parameter["in"] == "body" {
            let body = message(|m| {
                m.text(2, &parameter["name"]);
                m.text(3, &parameter["in"]);
                m.flag(4, &parameter["required"]);
                m.message(5, schema(&parameter["schema"]));
            });
            m.message(1, body);
            return;
        }
        let in_path = parameter["in"] == "path";
        let plain = message(|m| {
            m.flag(1, &parameter["required"]);
            m.text(2, &parameter["in"]);
            m.text(3, &parameter["description"]);
            m.text(4, &parameter["name"]);
            // A query parameter has one field more before its type.
            m.text(if in_path { 5 } else { 6 }, &parameter["type"]);
            m.flag(if in_path { 19 } else { 20 }, &parameter["uniqueItems"]);
        });
        m.message(2, message(|m| m.message(if in_path { 4 } else { 3 }, plain)));
    });
    message(|m| m.message(1, inner))
}

fn schema(schema: &Value) -> Message {
    message(|m| {
        m.text(1, &schema["$ref"]);
        m.text(2, &schema["format"]);
        m.text(4, &schema["description"]);
        m.texts(19, &schema["required"]);
        if schema["additionalProperties"].is_object() {
            m.message(21, message(|m| m.message(1, self::schema(&schema["additionalProperties"]))));
        }
        if schema["type"].is_string() {
            m.message(22, message(|m| m.text(1, &schema["type"])));
        }
        if schema["items"].is_object() {
            m.message(23, message(|m| m.message(1, self::schema(&schema["items"]))));
        }
        if let Some(properties) = schema["properties"].as_object() {
            let properties = message(|m| {
                for (name, property) in properties {
                    m.message(1, named(name, self::schema(property)));
                }
            });
            m.message(25, properties);
        }
        extensions(m, 31, schema);
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_those_of_protobuf() {
        // Checked by hand against the wire format: field 1 = "2.0", field 2 = {1: "t", 2: "v"}, empty paths, one definition.
        let bytes = document(&json!({"swagger": "2.0", "info": {"title": "t", "version": "v"}, "paths": {},
            "definitions": {"A": {"type": "object", "x-k": {"a": 1}}}}));
        let expected: &[u8] = b"\x0a\x032.0\x12\x06\x0a\x01t\x12\x01v\x42\x00\x4a\x2c\
            \x0a\x2a\x0a\x01A\x12\x25\xb2\x01\x08\x0a\x06object\xfa\x01\x17\x0a\x03x-k\x12\x10\x12\x0e";
        assert_eq!(&bytes[..9], &expected[..9]);
        assert!(bytes.windows(8).any(|w| w == b"{\"a\":1}\n"));
        let long = message(|m| m.bytes(1, &[0; 300]));
        assert_eq!(long.0[..3], [0x0a, 0xac, 0x02]);
    }
}
