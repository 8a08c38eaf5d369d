//! What the built-in plugins in `generators`, `transformers` and `validators` name.

use yaml::{Map, Value};

use super::{
    Localized, Root,
    fields::{change, entries, texts},
};
use crate::{Result, tree};

impl Root<'_> {
    pub(super) fn plugins(&self, fields: &mut Map, copy: &mut Localized) -> Result<()> {
        for name in ["generators", "transformers", "validators"] {
            texts(fields, name, |entry| self.plugin(entry, copy))
                .map_err(|error| error.during(format!("unable to localize {name} entry")))?;
        }
        Ok(())
    }

    /// A plugin's configuration in a file or written down here: both are written anew.
    fn plugin(&self, entry: &str, copy: &mut Localized) -> Result<String> {
        let (found, file) = self.objects(entry)?;
        let mut text = String::new();
        for resource in found {
            let mut value = tree::to_value(resource.node)?;
            if let Value::Map(plugin) = &mut value
                && plugin.get("apiVersion").and_then(Value::as_str) == Some("builtin")
            {
                self.configuration(plugin, copy)?;
            }
            if !text.is_empty() {
                text.push_str("---\n");
            }
            text.push_str(&yaml::to_go(&value));
        }
        if file { self.keep(entry, text.into_bytes(), copy) } else { Ok(text) }
    }

    fn configuration(&self, plugin: &mut Map, copy: &mut Localized) -> Result<()> {
        match plugin.get("kind").and_then(Value::as_str).unwrap_or_default() {
            "ConfigMapGenerator" | "SecretGenerator" => {
                for name in ["env", "envs"] {
                    self.either(plugin, name, copy)?;
                }
                change(plugin, "files", |source| self.source(source, copy))?;
                texts(plugin, "files", |source| self.source(source, copy))
            }
            "HelmChartInflationGenerator" => {
                for name in ["valuesFile", "additionalValuesFiles"] {
                    self.either(plugin, name, copy)?;
                }
                match plugin.get("chartHome") {
                    Some(_) => change(plugin, "chartHome", |home| self.home(home, copy)),
                    None => self.home("", copy).map(drop),
                }
            }
            "PatchTransformer" | "PatchJson6902Transformer" => self.either(plugin, "path", copy),
            "ReplacementTransformer" => {
                entries(plugin, "replacements", |entry| change(entry, "path", |name| self.file(name, copy)))
            }
            "PatchStrategicMergeTransformer" => {
                change(plugin, "paths", |entry| self.patch(entry, copy))?;
                texts(plugin, "paths", |entry| self.patch(entry, copy))
            }
            _ => Ok(()),
        }
    }

    /// One file, or a list of them.
    fn either(&self, plugin: &mut Map, name: &str, copy: &mut Localized) -> Result<()> {
        change(plugin, name, |file| self.file(file, copy))?;
        texts(plugin, name, |file| self.file(file, copy))
    }
}
