//! What the user gives on the command line, put together in Helm's order: files, JSON, typed, strings, files' contents,
//! literals.

use yaml::{Map, Value};

use super::{Form, over, read, set};
use crate::{Error, Flavor};

/// Reads a file named by the user (`-` is standard input, an URL is fetched if the caller does so).
pub type Reader<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// The flags of a command, each in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `--values`
    pub files: Vec<String>,
    /// `--set-json`
    pub json: Vec<String>,
    /// `--set`
    pub typed: Vec<String>,
    /// `--set-string`
    pub text: Vec<String>,
    /// `--set-file`
    pub contents: Vec<String>,
    /// `--set-literal`
    pub literal: Vec<String>,
}

impl Given {
    /// The values that the flags make.
    pub fn merge(&self, reader: Reader<'_>, flavor: Flavor) -> Result<Map, Error> {
        let mut values = Map::new();
        for file in &self.files {
            let text = reader(file).map_err(Error::Values)?;
            let read = read(&String::from_utf8_lossy(&text), flavor);
            over(&mut values, read.map_err(|error| Error::Values(format!("failed to parse {file}: {error}")))?);
        }
        for argument in &self.json {
            if flavor == Flavor::Helm4 && argument.trim_start().starts_with('{') {
                match serde_json::from_str(argument) {
                    Ok(Value::Map(map)) => {
                        over(&mut values, map.into_iter().map(|(k, v)| (k, super::floats(v))).collect());
                    }
                    _ => return Err(Error::Values(format!("failed parsing --set-json data JSON: {argument}"))),
                }
                continue;
            }
            set(argument, Form::Json, &mut values, flavor)
                .map_err(|_| Error::Values(format!("failed parsing --set-json data {argument}")))?;
        }
        let mut flag = |arguments: &[String], form: fn() -> Form<'static>, name: &str| {
            arguments.iter().try_for_each(|argument| {
                set(argument, form(), &mut values, flavor)
                    .map_err(|error| Error::Values(format!("failed parsing {name} data: {error}")))
            })
        };
        flag(&self.typed, || Form::Typed, "--set")?;
        flag(&self.text, || Form::Text, "--set-string")?;
        for argument in &self.contents {
            let mut content =
                |file: &str| reader(file).map(|content| Value::String(String::from_utf8_lossy(&content).into_owned()));
            set(argument, Form::File(&mut content), &mut values, flavor)
                .map_err(|error| Error::Values(format!("failed parsing --set-file data: {error}")))?;
        }
        for argument in &self.literal {
            set(argument, Form::Literal, &mut values, flavor)
                .map_err(|error| Error::Values(format!("failed parsing --set-literal data: {error}")))?;
        }
        Ok(values)
    }
}
