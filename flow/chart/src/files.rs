//! `.Files`: the files of a chart that are no templates, for templates to read.

use std::{collections::BTreeMap, rc::Rc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use template::{Map, MapType, Object, Param, Signature, Value};

use crate::{File, glob::Glob};

/// The files by their names. Only what the loader took in is here, so that no name reaches outside the chart.
pub(crate) struct Files(Rc<BTreeMap<String, Bytes>>);

impl Files {
    pub fn new(files: &[File]) -> Self {
        Self(Rc::new(files.iter().map(|file| (file.name.clone(), file.data.clone())).collect()))
    }

    fn get(&self, name: &str) -> &[u8] {
        self.0.get(name).map_or(&[], |data| data)
    }

    fn glob(&self, pattern: &str) -> Self {
        let glob = Glob::new(pattern);
        let matching = self.0.iter().filter(|(name, _)| glob.matches(name));
        Self(Rc::new(matching.map(|(name, data)| (name.clone(), data.clone())).collect()))
    }

    /// Base name → text, as YAML.
    fn table(&self, text: impl Fn(&[u8]) -> String) -> String {
        let table = self.0.iter().map(|(name, data)| {
            let base = name.rsplit('/').next().unwrap_or(name);
            (base.to_owned(), yaml::Value::String(text(data)))
        });
        let printed = yaml::to_go(&yaml::Value::Map(table.collect()));
        printed.strip_suffix('\n').unwrap_or(&printed).to_owned()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let data = self.get(name);
        if data.is_empty() {
            return Vec::new();
        }
        let data = data.strip_suffix(b"\n").unwrap_or(data);
        data.split(|byte| *byte == b'\n').map(|line| Value::Str(line.into())).collect()
    }
}

impl Object for Files {
    fn type_name(&self) -> &str {
        "engine.files"
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "Get" | "GetBytes" | "Glob" | "Lines" => Some(Signature::new(&[Param::Str])),
            "AsConfig" | "AsSecrets" => Some(Signature::new(&[])),
            _ => None,
        }
    }

    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let argument = match args {
            [] => String::new(),
            [Value::Str(text), ..] => text.to_str().into_owned(),
            [other, ..] => return Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        };
        Ok(match name {
            "Get" => Value::Str(self.get(&argument).into()),
            "GetBytes" => Value::Bytes(self.get(&argument).into()),
            "Glob" => Value::object(self.glob(&argument)),
            "Lines" => Value::List(template::List::of(template::Element::Str, self.lines(&argument))),
            "AsConfig" => Value::str(self.table(|data| String::from_utf8_lossy(data).into_owned())),
            "AsSecrets" => Value::str(self.table(|data| STANDARD.encode(data))),
            other => return Err(format!("no method {other}")),
        })
    }

    fn underlying(&self) -> Option<Value> {
        let map = Map::of(MapType::Named("engine.files"));
        for (name, data) in self.0.iter() {
            map.insert(name.as_str(), Value::Bytes(data[..].into()));
        }
        Some(Value::Map(map))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
