//! Go templates in fields, carried out with the environment.

use std::collections::BTreeMap;

use template::{Family, Map, MapType, MissingKey, Renderer, Set, Value};

use crate::{Error, Result};

/// A field is short.
const LIMITS: template::Limits =
    template::Limits { steps: 1_000_000, output: 1 << 20, text: 1 << 20, includes: 100, nesting: 100, depth: 100 };

/// What templates see: given variables first, then the environment.
pub(crate) struct Variables<'a> {
    pub given: BTreeMap<String, String>,
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    /// The text with its templates carried out. A variable that is not there is an error.
    pub fn expand(&self, field: &str, text: &str) -> Result<String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let wrong = |problem: String| Error::Template { field: field.to_owned(), problem };
        let mut set = Set::new(Family::Helm4);
        set.parse("envTemplate", text).map_err(|error| wrong(format!("unable to parse template {text:?}: {error}")))?;
        let data = Map::of(MapType::Str);
        for name in names(text) {
            let value = self.given.get(name).cloned().or_else(|| (self.env)(name));
            if let Some(value) = value {
                data.insert(name, Value::str(value));
            }
        }
        // Whoever asks whether a variable is there means it to be left out.
        let asks =
            ["default", "if ", "with ", "or ", "coalesce", "empty", "ternary"].iter().any(|word| text.contains(word));
        let missing_key = if asks { MissingKey::Default } else { MissingKey::Error };
        let options = template::Options { missing_key, limits: LIMITS, ..template::Options::default() };
        let done = Renderer::new(&set, options).render("envTemplate", Value::Map(data));
        done.map(|done| done.to_str().into_owned()).map_err(|error| match missing(&error) {
            Some(name) => wrong(format!("{text:?} needs {name}, which is not set: set it in the environment")),
            None => wrong(error.to_string()),
        })
    }
}

/// The words behind dots: what a template may ask for.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('.').skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        (end > 0).then_some(&rest[..end])
    })
}

fn missing(error: &template::Error) -> Option<String> {
    let template::Error::Exec { .. } = error else { return None };
    let text = error.to_string();
    let (_, name) = text.split_once("map has no entry for key \"")?;
    Some(name.trim_end_matches('"').to_owned())
}
