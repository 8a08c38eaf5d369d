//! Objects in protobuf, as newer clients send them.
//!
//! What a field is comes from the schema of its kind; which number it has comes from a table. Answers are always JSON, which
//! the same clients read.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::schema::{Shape, schema};
use crate::objects::meta;
use crate::{Error, Result};

pub const MEDIA: &str = "application/vnd.kubernetes.protobuf";

/// What every such body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may be nested.
const DEPTH: usize = 64;

/// The fields of a message by their numbers.
type Numbers = HashMap<u32, &'static str>;

fn numbers() -> &'static HashMap<&'static str, Numbers> {
    static NUMBERS: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let lines = include_str!("protobuf/numbers.txt").lines().filter(|line| !line.starts_with('#'));
        let messages = lines.filter_map(|line| {
            let mut words = line.split(' ');
            let message = words.next()?;
            let (mut fields, mut next) = (Numbers::new(), 1);
            for word in words {
                if let Ok(number) = word.parse() {
                    next = number;
                } else {
                    fields.insert(next, word);
                    next += 1;
                }
            }
            Some((message, fields))
        });
        messages.collect()
    })
}

fn broken(what: &str) -> Error {
    Error::bad_request(format!("the protobuf in the request cannot be read: {what}"))
}

/// Reads an object with its `apiVersion` and `kind`.
pub fn object(bytes: &[u8]) -> Result<Value> {
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| broken("it does not begin with k8s"))?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(body) {
        match field? {
            (1, Raw::Bytes(inner)) => {
                for field in fields(inner) {
                    match field? {
                        (1, Raw::Bytes(text)) => version = text_of(text),
                        (2, Raw::Bytes(text)) => kind = text_of(text),
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(inner)) => raw = inner,
            _ => {}
        }
    }
    let group = match (kind.as_str(), version.split_once('/')) {
        ("DeleteOptions", _) => "meta",
        (_, None) => "core",
        (_, Some((group, _))) => group.split('.').next().unwrap_or(group),
    };
    let key = format!("{group}.{kind}");
    let mut object = match schema().by_key(&key) {
        Some(definition) => message(&key, &definition.shape, raw, 0)?,
        // Reviews are answered without looking into them.
        None if kind.ends_with("Review") => Map::new(),
        None => return Err(broken(&format!("nothing is known of {kind} in {version}; send it as JSON"))),
    };
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    Ok(object.into())
}

/// The value of a field as it is on the wire.
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; ends after an error.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(u32, Raw<'_>)>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Raw<'a>)> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|_| broken("a field has a number that is too large"))?;
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length).ok_or_else(|| broken("it ends in the middle of a field"))?;
        *rest = left;
        Ok::<_, Error>(taken)
    };
    let value = match tag & 7 {
        0 => Raw::Number(varint(rest)?),
        1 => Raw::Number(u64::from_le_bytes(take(8)?.try_into().unwrap_or_default())),
        2 => {
            let length = varint(rest)?;
            let length = usize::try_from(length).map_err(|_| broken("a field is too long"))?;
            let (taken, left) =
                rest.split_at_checked(length).ok_or_else(|| broken("it ends in the middle of a field"))?;
            *rest = left;
            Raw::Bytes(taken)
        }
        5 => Raw::Number(u64::from(u32::from_le_bytes(take(4)?.try_into().unwrap_or_default()))),
        _ => return Err(broken("a field has an unknown form")),
    };
    Ok((number, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first().ok_or_else(|| broken("it ends in the middle of a number"))?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken("a number is too long"))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a message into a map by the table's line `key`; the shapes of its fields are those of `shape`.
fn message(key: &str, shape: &Shape, bytes: &[u8], depth: usize) -> Result<Map<String, Value>> {
    if depth > DEPTH {
        return Err(broken(&format!("it is nested deeper than {DEPTH} levels")));
    }
    let known = numbers().get(key).ok_or_else(|| broken(&format!("nothing is known of {key}; send it as JSON")))?;
    let Shape::Struct(members) = shape else { return Err(broken(&format!("{key} is no message"))) };
    let mut map = Map::new();
    for field in fields(bytes) {
        let (number, raw) = field?;
        let Some(name) = known.get(&number) else { continue };
        if let Some(inner) = name.strip_prefix('>') {
            if let Raw::Bytes(bytes) = raw {
                let group = key.split('.').next().unwrap_or_default();
                let inner_key = format!("{group}.{inner}");
                // The fields of the message inside belong to the one around it, shapes included.
                map.extend(message(&inner_key, shape, bytes, depth + 1)?);
            }
            continue;
        }
        let Some(member) = members.get(*name) else { continue };
        add(&mut map, name, &member.shape, raw, depth)?;
    }
    map.retain(|name, value| says_something(name, value));
    Ok(map)
}

/// On the wire, fields that nobody set are there too, with the value nothing; where nothing is also something one can say, it
/// stays.
fn says_something(name: &str, value: &Value) -> bool {
    const NUMBERS: &[&str] = &[
        "failureThreshold",
        "generation",
        "healthCheckNodePort",
        "hostPort",
        "initialDelaySeconds",
        "minReadySeconds",
        "nodePort",
        "periodSeconds",
        "successThreshold",
        "timeoutSeconds",
    ];
    const FLAGS: &[&str] = &[
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "paused",
        "publishNotReadyAddresses",
        "readOnly",
        "stdin",
        "stdinOnce",
        "tty",
        "unschedulable",
    ];
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Bool(false) => !FLAGS.contains(&name),
        Value::Number(number) => number.as_i64() != Some(0) || !NUMBERS.contains(&name),
        _ => true,
    }
}

/// Takes one occurrence of a field in.
fn add(map: &mut Map<String, Value>, name: &str, shape: &Shape, raw: Raw<'_>, depth: usize) -> Result<()> {
    match schema().resolve(shape).0 {
        Shape::List(inner) => {
            let entry = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = entry else { return Ok(()) };
            match (schema().resolve(inner).0, raw) {
                // Numbers may come packed together.
                (Shape::Integer { .. }, Raw::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        list.push(signed(varint(&mut packed)?).into());
                    }
                }
                (_, raw) => list.push(value(inner, raw, depth + 1)?),
            }
        }
        Shape::Map(inner) => {
            let Raw::Bytes(bytes) = raw else { return Err(broken(&format!("{name} is no map"))) };
            let (mut key, mut entry) = (String::new(), None);
            for field in fields(bytes) {
                match field? {
                    (1, Raw::Bytes(text)) => key = text_of(text),
                    (2, raw) => entry = Some(value(inner, raw, depth + 1)?),
                    _ => {}
                }
            }
            let slot = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = slot {
                entries.insert(key, entry.unwrap_or_else(|| Value::String(String::new())));
            }
        }
        _ => {
            map.insert(name.to_owned(), value(shape, raw, depth + 1)?);
        }
    }
    Ok(())
}

#[expect(clippy::cast_possible_wrap, reason = "negative numbers are written as their two's complement")]
fn signed(number: u64) -> i64 {
    number as i64
}

fn value(shape: &Shape, raw: Raw<'_>, depth: usize) -> Result<Value> {
    let definition = schema().definition(shape);
    let (shape, _, name) = schema().resolve(shape);
    Ok(match (shape, raw) {
        (Shape::Text, Raw::Bytes(bytes)) => text_of(bytes).into(),
        (Shape::Bytes, Raw::Bytes(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes).into(),
        (Shape::Integer { .. }, Raw::Number(number)) => signed(number).into(),
        (Shape::Number, Raw::Number(bits)) => f64::from_bits(bits).into(),
        (Shape::Flag, Raw::Number(number)) => (number != 0).into(),
        (Shape::Struct(_), Raw::Bytes(bytes)) => {
            let key = definition.map(|definition| definition.key.as_str()).unwrap_or_default();
            message(key, shape, bytes, depth)?.into()
        }
        (Shape::Quantity, Raw::Bytes(bytes)) => only(bytes, 1)?.map_or(Value::Null, |text| text_of(text).into()),
        (Shape::Any, Raw::Bytes(bytes)) => match only(bytes, 1)? {
            Some(json) if !json.is_empty() => {
                serde_json::from_slice(json).map_err(|_| broken("what should be JSON inside is none"))?
            }
            _ => Value::Null,
        },
        (Shape::Time, Raw::Bytes(bytes)) => time(bytes, name == "MicroTime")?,
        (Shape::IntOrText, Raw::Bytes(bytes)) => {
            let (mut is_text, mut number, mut text) = (false, 0, String::new());
            for field in fields(bytes) {
                match field? {
                    (1, Raw::Number(kind)) => is_text = kind == 1,
                    (2, Raw::Number(value)) => number = signed(value),
                    (3, Raw::Bytes(bytes)) => text = text_of(bytes),
                    _ => {}
                }
            }
            if is_text { text.into() } else { number.into() }
        }
        _ => return Err(broken(&format!("a field of {name} has the wrong form"))),
    })
}

/// The bytes of the field `number`.
fn only(bytes: &[u8], number: u32) -> Result<Option<&[u8]>> {
    let mut found = None;
    for field in fields(bytes) {
        if let (n, Raw::Bytes(bytes)) = field?
            && n == number
        {
            found = Some(bytes);
        }
    }
    Ok(found)
}

fn time(bytes: &[u8], micro: bool) -> Result<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Raw::Number(number)) => seconds = signed(number),
            (2, Raw::Number(number)) => nanos = i32::try_from(signed(number)).unwrap_or_default(),
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| broken("a time is out of range"))?;
    Ok(if micro { meta::micro_time(time) } else { meta::time(time) }.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::objects::resource;

    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![field << 3 | 2, content.len() as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn wrapped(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &types), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let metadata = [bytes(1, b"c"), bytes(2, b""), bytes(8, b"")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let body = wrapped("v1", "ConfigMap", &[bytes(1, &metadata), bytes(2, &entry)].concat());
        let expected = json!({"metadata": {"name": "c"}, "data": {"k": "v"}, "apiVersion": "v1", "kind": "ConfigMap"});
        assert_eq!(object(&body).unwrap(), expected);
    }

    #[test]
    fn fields_of_messages_inside_come_out() {
        // A secret key: {localObjectReference: {name: "s"}, key: "k"}, in valueFrom of a variable of a container of a pod.
        let selector = [bytes(1, &bytes(1, b"s")), bytes(2, b"k")].concat();
        let variable = [bytes(1, b"V"), bytes(2, b""), bytes(3, &bytes(4, &selector))].concat();
        let port = [bytes(1, b""), vec![2 << 3, 0], vec![3 << 3, 80]].concat();
        let get = [bytes(1, b"/"), bytes(2, &[1 << 3, 0, 2 << 3, 80, 3 << 3 | 2, 0])].concat();
        let probe = [bytes(1, &bytes(2, &get)), vec![2 << 3, 5, 3 << 3, 0]].concat();
        let container = [bytes(1, b"a"), bytes(6, &port), bytes(7, &variable), bytes(10, &probe)].concat();
        let body = wrapped("v1", "Pod", &bytes(2, &bytes(2, &container)));
        let expected = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a",
            "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 5}}]}});
        assert_eq!(object(&body).unwrap(), expected);
    }

    #[test]
    fn every_field_that_can_be_written_has_a_number() {
        fn look(key: &str, shape: &Shape, names: &mut Vec<String>) {
            let Shape::Struct(members) = shape else { return };
            let fields = numbers().get(key).unwrap_or_else(|| panic!("{key} is not in the table"));
            let inner = fields.values().filter_map(|name| name.strip_prefix('>'));
            let group = key.split('.').next().unwrap();
            let all: Vec<&str> = inner
                .flat_map(|inner| numbers()[format!("{group}.{inner}").as_str()].values().copied())
                .chain(fields.values().copied())
                .collect();
            for name in members.keys().filter(|name| *name != "apiVersion" && *name != "kind") {
                if !all.contains(&name.as_str()) {
                    names.push(format!("{key}.{name}"));
                }
            }
        }
        let mut missing = Vec::new();
        for resource in resource::ALL {
            let group = if resource.group.is_empty() { "core" } else { resource.group.split('.').next().unwrap() };
            look(&format!("{group}.{}", resource.kind), schema().of(resource), &mut missing);
        }
        for key in [
            "core.PodSpec",
            "core.Container",
            "core.ServiceSpec",
            "apps.DeploymentSpec",
            "batch.JobSpec",
            "meta.ObjectMeta",
        ] {
            look(key, &schema().by_key(key).unwrap().shape, &mut missing);
        }
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn nonsense_is_refused() {
        for body in [&b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"{}", b"k8s\0\x0a\x7f"] {
            assert_eq!(object(body).unwrap_err().code(), 400);
        }
        assert!(object(&wrapped("v1", "Nonsense", b"")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read_or_refused(raw: Vec<u8>) {
            let short = &raw[..raw.len().min(100)];
            let _ = object(&wrapped("v1", "Pod", short));
            let _ = object(short);
        }
    }
}
