//! `.Files`: the files of a chart that are no templates, for templates to read.

use std::{cell::OnceCell, collections::BTreeMap, rc::Rc, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use template::{Map, MapType, Object, Param, Signature, Value};

use crate::{Chart, Tree, glob::Glob, load::without_mark};

/// The files by their names. Only what the loader took in is here, so that no name reaches outside the chart.
pub(crate) struct Files(Rc<BTreeMap<String, Rc<Content>>>);

/// What is in a file, or where that is until somebody asks.
enum Content {
    Read(Bytes),
    Later { tree: Arc<dyn Tree + Send + Sync>, path: String, read: OnceCell<Result<Bytes, String>> },
}

impl Content {
    fn bytes(&self) -> Result<Bytes, String> {
        match self {
            Self::Read(bytes) => Ok(bytes.clone()),
            Self::Later { tree, path, read } => {
                let now = || tree.read(path).map(without_mark).map_err(|error| format!("{path}: {error}"));
                read.get_or_init(now).clone()
            }
        }
    }
}

impl Files {
    pub fn new(chart: &Chart) -> Self {
        let read = chart.files.iter().map(|file| (file.name.clone(), Rc::new(Content::Read(file.data.clone()))));
        let tree = chart.later.tree.iter();
        let later = tree.flat_map(|tree| chart.later.paths.iter().map(move |(name, path)| (name, path, tree)));
        let later = later.map(|(name, path, tree)| {
            let content = Content::Later { tree: tree.clone(), path: path.clone(), read: OnceCell::new() };
            (name.clone(), Rc::new(content))
        });
        Self(Rc::new(read.chain(later).collect()))
    }

    fn get(&self, name: &str) -> Result<Bytes, String> {
        self.0.get(name).map_or_else(|| Ok(Bytes::new()), |content| content.bytes())
    }

    fn glob(&self, pattern: &str) -> Self {
        let glob = Glob::new(pattern);
        let matching = self.0.iter().filter(|(name, _)| glob.matches(name));
        Self(Rc::new(matching.map(|(name, data)| (name.clone(), data.clone())).collect()))
    }

    /// Base name → text, as YAML.
    fn table(&self, text: impl Fn(&[u8]) -> String) -> Result<String, String> {
        let mut table = yaml::Map::new();
        for (name, content) in self.0.iter() {
            let base = name.rsplit('/').next().unwrap_or(name);
            table.insert(base.to_owned(), yaml::Value::String(text(&content.bytes()?)));
        }
        let printed = yaml::to_go(&yaml::Value::Map(table));
        Ok(printed.strip_suffix('\n').unwrap_or(&printed).to_owned())
    }

    fn lines(&self, name: &str) -> Result<Vec<Value>, String> {
        let data = self.get(name)?;
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let data = data.strip_suffix(b"\n").unwrap_or(&data);
        Ok(data.split(|byte| *byte == b'\n').map(|line| Value::Str(line.into())).collect())
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
            "Get" => Value::Str(self.get(&argument)?[..].into()),
            "GetBytes" => Value::Bytes(self.get(&argument)?[..].into()),
            "Glob" => Value::object(self.glob(&argument)),
            "Lines" => Value::List(template::List::of(template::Element::Str, self.lines(&argument)?)),
            "AsConfig" => Value::str(self.table(|data| String::from_utf8_lossy(data).into_owned())?),
            "AsSecrets" => Value::str(self.table(|data| STANDARD.encode(data))?),
            other => return Err(format!("no method {other}")),
        })
    }

    fn underlying(&self) -> Option<Value> {
        let map = Map::of(MapType::Named("engine.files"));
        for (name, content) in self.0.iter() {
            // What cannot be read now could when it was listed; there is no way to say so here.
            map.insert(name.as_str(), Value::Bytes(content.bytes().unwrap_or_default()[..].into()));
        }
        Some(Value::Map(map))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
