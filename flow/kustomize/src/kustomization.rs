//! The file `kustomization.yaml`.

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml::{Limits, Value};

use crate::{Error, Gvk, Result, tree};

/// The names a kustomization may have.
pub const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

type Strings = BTreeMap<String, String>;

/// A kustomization or component, its deprecated fields included.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kustomization {
    pub api_version: String,
    pub kind: String,
    pub metadata: serde_json::Value,
    pub openapi: Strings,
    pub name_prefix: String,
    pub name_suffix: String,
    pub namespace: String,
    pub common_labels: Strings,
    pub labels: Vec<Label>,
    pub common_annotations: Strings,
    pub patches_strategic_merge: Vec<String>,
    #[serde(rename = "patchesJson6902")]
    pub patches_json6902: Vec<Patch>,
    pub patches: Vec<Patch>,
    pub images: Vec<Image>,
    pub image_tags: Vec<Image>,
    pub replacements: Vec<ReplacementField>,
    pub replicas: Vec<Replica>,
    pub vars: Vec<Var>,
    pub sort_options: Option<SortOptions>,
    pub resources: Vec<String>,
    pub components: Vec<String>,
    pub crds: Vec<String>,
    pub bases: Vec<String>,
    pub config_map_generator: Vec<GeneratorArgs>,
    pub secret_generator: Vec<GeneratorArgs>,
    pub helm_globals: Option<ChartGlobals>,
    pub helm_charts: Vec<Chart>,
    pub helm_chart_inflation_generator: Vec<OldChart>,
    pub generator_options: Option<GeneratorOptions>,
    pub configurations: Vec<String>,
    pub generators: Vec<String>,
    pub transformers: Vec<String>,
    pub validators: Vec<String>,
    pub build_metadata: Vec<String>,
}

/// An entry of `labels`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Label {
    pub pairs: Strings,
    pub include_selectors: bool,
    pub include_templates: bool,
    pub include_volume_claim_templates: bool,
    pub fields: Vec<RawFieldSpec>,
}

/// Where a transformation applies, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawFieldSpec {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub path: String,
    pub create: bool,
}

/// Where a transformation applies: the kinds, and the path in them.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldSpec {
    pub gvk: Gvk,
    pub path: String,
    /// Missing fields are made.
    pub create: bool,
    pub(crate) parts: Vec<String>,
}

impl FieldSpec {
    pub fn new(gvk: Gvk, path: &str, create: bool) -> Self {
        Self { gvk, path: path.to_owned(), create, parts: tree::split(path, '/') }
    }
}

impl From<&RawFieldSpec> for FieldSpec {
    fn from(raw: &RawFieldSpec) -> Self {
        let gvk = Gvk { group: raw.group.clone(), version: raw.version.clone(), kind: raw.kind.clone() };
        Self::new(gvk, &raw.path, raw.create)
    }
}

/// An entry of `patches`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Patch {
    pub path: String,
    pub patch: String,
    pub target: Option<Selector>,
    pub options: Option<PatchOptions>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PatchOptions {
    pub allow_name_change: bool,
    pub allow_kind_change: bool,
}

/// Which objects; the texts are regular expressions for the whole of a name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

/// An entry of `images`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Image {
    pub name: String,
    pub new_name: String,
    pub tag_suffix: String,
    pub new_tag: String,
    pub digest: String,
}

/// An entry of `replicas`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replica {
    pub name: String,
    pub count: i64,
}

/// An entry of `replacements`: a replacement, or the path of a file with some.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReplacementField {
    pub path: String,
    pub source: Option<SourceSelector>,
    pub source_value: Option<String>,
    pub targets: Option<Vec<TargetSelector>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceSelector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub field_path: String,
    pub options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TargetSelector {
    pub select: Option<Selector>,
    pub reject: Vec<Selector>,
    pub field_paths: Vec<String>,
    pub options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldOptions {
    pub delimiter: String,
    pub index: i64,
    pub encoding: String,
    pub create: bool,
}

/// An entry of `vars`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Var {
    pub name: String,
    #[serde(alias = "objRef")]
    pub objref: ObjectRef,
    #[serde(alias = "fieldRef")]
    pub fieldref: FieldRef,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ObjectRef {
    #[serde(alias = "apiversion")]
    pub api_version: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FieldRef {
    #[serde(alias = "fieldPath")]
    pub fieldpath: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SortOptions {
    pub order: String,
    pub legacy_sort_options: Option<LegacySortOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LegacySortOptions {
    pub order_first: Vec<String>,
    pub order_last: Vec<String>,
}

/// An entry of `configMapGenerator` or `secretGenerator`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GeneratorArgs {
    pub name: String,
    pub namespace: String,
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    /// Only for secrets.
    #[serde(rename = "type")]
    pub of: String,
    pub options: Option<GeneratorOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GeneratorOptions {
    pub labels: Strings,
    pub annotations: Strings,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

/// `helmGlobals`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChartGlobals {
    pub chart_home: String,
    pub config_home: String,
}

/// An entry of `helmCharts`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chart {
    pub name: String,
    pub version: String,
    pub repo: String,
    pub release_name: String,
    pub namespace: String,
    pub additional_values_files: Vec<String>,
    pub values_file: String,
    pub values_inline: serde_json::Value,
    pub values_merge: String,
    #[serde(rename = "includeCRDs")]
    pub include_crds: bool,
    pub skip_hooks: bool,
    pub api_versions: Vec<String>,
    pub kube_version: String,
    pub name_template: String,
    pub skip_tests: bool,
    pub debug: bool,
    pub devel: bool,
}

/// An entry of the old `helmChartInflationGenerator`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OldChart {
    pub chart_name: String,
    pub chart_version: String,
    pub chart_repo_url: String,
    pub chart_home: String,
    pub helm_home: String,
    pub values: String,
    pub values_local: serde_json::Value,
    pub values_merge: String,
    pub release_name: String,
}

const V1BETA1: &str = "kustomize.config.k8s.io/v1beta1";
const V1ALPHA1: &str = "kustomize.config.k8s.io/v1alpha1";
pub(crate) const COMPONENT: &str = "Component";

impl Kustomization {
    /// Reads a kustomization; deprecated fields are moved to those that follow them. `file` is named in errors.
    pub fn read(text: &str, file: &str) -> Result<(Self, Vec<String>)> {
        let value = yaml::Decode { limits: Limits::default(), ..yaml::Decode::default() }
            .value(text)
            .map_err(|source| Error::Malformed { file: file.to_owned(), source })?;
        let bare = match &value {
            Value::Null => true,
            Value::Map(map) => {
                map.iter().all(|(key, value)| value.is_null() || matches!(key.as_str(), "apiVersion" | "kind"))
            }
            _ => false,
        };
        let mut this: Self = read_value(value).map_err(|message| Error::Invalid { file: file.to_owned(), message })?;
        if bare {
            return Err(Error::Invalid { file: file.to_owned(), message: "kustomization.yaml is empty".to_owned() });
        }
        let warnings = this.warnings();
        this.fix();
        this.check().map_err(|message| Error::Invalid { file: file.to_owned(), message })?;
        Ok((this, warnings))
    }

    fn warnings(&self) -> Vec<String> {
        let deprecated = [
            (!self.bases.is_empty(), "bases", "resources"),
            (!self.common_labels.is_empty(), "commonLabels", "labels"),
            (!self.image_tags.is_empty(), "imageTags", "images"),
            (!self.patches_json6902.is_empty(), "patchesJson6902", "patches"),
            (!self.patches_strategic_merge.is_empty(), "patchesStrategicMerge", "patches"),
            (!self.vars.is_empty(), "vars", "replacements"),
        ];
        let warning = |(_, old, new): &(bool, &str, &str)| {
            format!(
                "# Warning: '{old}' is deprecated. Please use '{new}' instead. Run 'kustomize edit fix' to update your Kustomization automatically."
            )
        };
        deprecated.iter().filter(|(used, ..)| *used).map(warning).collect()
    }

    fn fix(&mut self) {
        if self.kind.is_empty() {
            self.kind = "Kustomization".to_owned();
        }
        if self.api_version.is_empty() {
            self.api_version = if self.kind == COMPONENT { V1ALPHA1 } else { V1BETA1 }.to_owned();
        }
        let bases = std::mem::take(&mut self.bases);
        self.resources.extend(bases);
        let images = std::mem::take(&mut self.image_tags);
        self.images.extend(images);
        for old in std::mem::take(&mut self.helm_chart_inflation_generator) {
            let globals = self.helm_globals.get_or_insert_default();
            if !old.chart_home.is_empty() {
                globals.chart_home = old.chart_home;
            }
            if !old.helm_home.is_empty() {
                globals.config_home = old.helm_home;
            }
            self.helm_charts.push(Chart {
                name: old.chart_name,
                version: old.chart_version,
                repo: old.chart_repo_url,
                values_file: old.values,
                values_inline: old.values_local,
                values_merge: old.values_merge,
                release_name: old.release_name,
                ..Chart::default()
            });
        }
        for args in self.config_map_generator.iter_mut().chain(&mut self.secret_generator) {
            if !args.env.is_empty() {
                args.envs.push(std::mem::take(&mut args.env));
            }
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        if !matches!(self.kind.as_str(), "Kustomization" | COMPONENT) {
            return Err("kind should be Kustomization or Component".to_owned());
        }
        let wanted = if self.kind == COMPONENT { V1ALPHA1 } else { V1BETA1 };
        if self.api_version != wanted {
            return Err(format!("apiVersion for {} should be {wanted}", self.kind));
        }
        Ok(())
    }
}

/// Without nulls in maps: Go reads a null as the zero value.
pub(crate) fn without_nulls(value: Value) -> serde_json::Value {
    match value {
        Value::Map(map) => serde_json::Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::List(items) => serde_json::Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other.into(),
    }
}

/// A value as one of the types above, or what does not fit, in Go's words where they are known.
pub(crate) fn read_value<T: serde::de::DeserializeOwned + Default>(value: Value) -> std::result::Result<T, String> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(without_nulls(value)).map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
            Some((field, _)) => format!("json: unknown field {field:?}"),
            None => text,
        }
    })
}
