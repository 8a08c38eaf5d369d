//! The built-in plugins, configured as objects in `generators`, `transformers` and `validators`; and CRDs.

use std::collections::BTreeMap;

use serde::Deserialize;
use yaml::Value;

use crate::{
    Error, FieldSpec, GeneratorArgs, GeneratorOptions, Gvk, Image, Patch, Replica, Result, Selector,
    config::{self, Config, References},
    customize::{self, End},
    generate::{self, Made},
    image, inflate,
    kustomization::{RawFieldSpec, ReplacementField, SortOptions, read_value},
    namespace::{Setting, Subjects},
    order, patch, read, replacement,
    resource::Resource,
    resources::Resources,
    schema::Schema,
    target::Target,
    tree,
};

/// What any of the plugins may be told; each reads what is its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    field_specs: Option<Vec<RawFieldSpec>>,
    prefix: String,
    suffix: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    image_tag: Image,
    replica: Replica,
    unset_only: bool,
    set_role_binding_subjects: String,
    path: String,
    paths: Vec<String>,
    patch: String,
    patches: String,
    json_op: String,
    target: Option<Selector>,
    options: serde_json::Value,
    replacements: Vec<ReplacementField>,
    sort_options: Option<SortOptions>,
    value: String,
    targets: Vec<ValueTarget>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueTarget {
    selector: Option<Selector>,
    field_path: String,
}

/// The arguments of a generator, as an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GeneratorSettings {
    behavior: String,
    literals: Vec<String>,
    files: Vec<String>,
    envs: Vec<String>,
    env: String,
    #[serde(rename = "type")]
    of: String,
    options: Option<GeneratorOptions>,
}

fn settings<T: serde::de::DeserializeOwned + Default>(plugin: &Resource) -> Result<T> {
    let value = tree::to_value(plugin.node.clone())?;
    read_value(value).map_err(|message| Error::wrong(format!("{}: {message}", plugin.id())))
}

fn unknown(plugin: &Resource, what: &str) -> Error {
    let gvk = plugin.gvk();
    if gvk.group.is_empty() && gvk.version == "builtin" {
        return Error::wrong(format!("unable to load builtin {gvk}"));
    }
    Error::Refused(format!(
        "external plugins disabled; unable to load external plugin '{}' ({what} that run programs or containers are not supported)",
        plugin.kind()
    ))
}

fn built_in(plugin: &Resource) -> bool {
    let gvk = plugin.gvk();
    gvk.group.is_empty() && gvk.version == "builtin"
}

/// Runs a generator.
pub fn generate(
    target: &Target<'_>,
    plugin: &Resource,
    load: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<Vec<Resource>> {
    if !built_in(plugin) {
        return Err(unknown(plugin, "generators"));
    }
    let made = match plugin.kind() {
        "ConfigMapGenerator" => Made::ConfigMap,
        "SecretGenerator" => Made::Secret,
        "HelmChartInflationGenerator" => {
            let (globals, chart) = inflate::from_object(tree::to_value(plugin.node.clone())?).map_err(Error::Wrong)?;
            return target.inflate(&globals, &chart);
        }
        _ => return Err(unknown(plugin, "generators")),
    };
    let own: GeneratorSettings = settings(plugin)?;
    let mut args = GeneratorArgs {
        name: plugin.name().to_owned(),
        namespace: plugin.namespace().to_owned(),
        behavior: own.behavior,
        literals: own.literals,
        files: own.files,
        envs: own.envs,
        env: String::new(),
        of: own.of,
        options: own.options,
    };
    if !own.env.is_empty() {
        args.envs.push(own.env);
    }
    Ok(vec![generate::generate(made, &args, args.options.as_ref(), load)?])
}

/// Runs a transformer.
pub fn transform(target: &Target<'_>, resources: &mut Resources, schema: &Schema, plugin: &Resource) -> Result<()> {
    if !built_in(plugin) {
        return Err(unknown(plugin, "transformers"));
    }
    let mut own: Settings = settings(plugin)?;
    let specs: Vec<FieldSpec> = own.field_specs.iter().flatten().map(FieldSpec::from).collect();
    match plugin.kind() {
        "NamespaceTransformer" => {
            let subjects = Subjects::named(&own.set_role_binding_subjects)?;
            let namespace = plugin.namespace();
            if namespace.is_empty() {
                return Ok(());
            }
            Setting { namespace, specs: &specs, subjects, unset_only: own.unset_only }.apply(resources)
        }
        "PrefixTransformer" | "SuffixTransformer" if own.field_specs.is_none() => {
            Err(Error::wrong("fieldSpecs is not expected to be nil"))
        }
        "PrefixTransformer" => customize::affix(resources, End::Prefix, &own.prefix, &specs),
        "SuffixTransformer" => customize::affix(resources, End::Suffix, &own.suffix, &specs),
        "PrefixSuffixTransformer" => {
            customize::affix(resources, End::Prefix, &own.prefix, &specs)?;
            customize::affix(resources, End::Suffix, &own.suffix, &specs)
        }
        "LabelTransformer" => customize::mark(resources, &own.labels, &specs),
        "AnnotationsTransformer" => customize::mark(resources, &own.annotations, &specs),
        "ImageTagTransformer" => image::apply(resources, &own.image_tag, &specs),
        "ReplicaCountTransformer" => customize::replicas(resources, &own.replica, &specs),
        "HashTransformer" => customize::hashes(resources),
        "SortOrderTransformer" => order::sort(resources, own.sort_options.as_ref(), false),
        "PatchTransformer" => {
            let options = serde_json::from_value(own.options.clone()).ok();
            let entry = Patch { path: own.path, patch: own.patch, target: own.target, options };
            patch::apply(resources, schema, &entry, |name| target.text(name))
        }
        "PatchJson6902Transformer" => {
            let entry = Patch { path: own.path, patch: own.json_op, target: own.target, options: None };
            target.json6902(resources, &entry)
        }
        "PatchStrategicMergeTransformer" => {
            let mut loaded = read::resources(&own.patches, "")?;
            for name in &own.paths {
                loaded.extend(match read::resources(name, "") {
                    Ok(found) if !found.is_empty() => found,
                    _ => read::resources(&target.text(name)?, name)?,
                });
            }
            for one in &loaded {
                let at = resources.by_id(&one.first_id())?;
                patch::merge_selected(resources, schema, one, &[at])?;
            }
            Ok(())
        }
        "ReplacementTransformer" => {
            let entries = std::mem::take(&mut own.replacements);
            target.replacements(&entries)?.iter().try_for_each(|entry| replacement::apply(resources, entry))
        }
        "ValueAddTransformer" => {
            let value = own.value;
            for wanted in &own.targets {
                let chosen = match &wanted.selector {
                    Some(selector) => crate::select::select(resources, selector)?,
                    None => (0..resources.list.len()).collect(),
                };
                for at in chosen {
                    if wanted.field_path == "metadata/namespace" {
                        resources.list[at].set_namespace(&value)?;
                    } else {
                        customize::add_value(&mut resources.list[at].node, &wanted.field_path, &value)?;
                    }
                }
            }
            resources.touched();
            Ok(())
        }
        _ => Err(unknown(plugin, "transformers")),
    }
}

/// What the OpenAPI extensions of a custom type's definitions say: where its names, labels and annotations are.
pub fn crd_config(text: &str, file: &str) -> Result<Config> {
    let value = yaml::from_str(text).map_err(|source| Error::Malformed { file: file.to_owned(), source })?;
    let Some(types) = value.as_map() else { return Ok(Config::default()) };
    let mut config = Config::default();
    for (name, entry) in types {
        let schema = entry.get("Schema").unwrap_or(entry);
        let properties = schema.get("properties");
        let top = ["kind", "apiVersion", "metadata"].iter().all(|key| properties.and_then(|p| p.get(key)).is_some());
        if !top {
            continue;
        }
        let kind = name.rsplit('.').next().unwrap_or(name);
        let gvk = Gvk { kind: kind.to_owned(), ..Gvk::default() };
        let mut walker = Crd { types, gvk: &gvk, config: &mut config };
        walker.walk(schema, &mut Vec::new(), 0)?;
    }
    Ok(config)
}

struct Crd<'c> {
    types: &'c yaml::Map,
    gvk: &'c Gvk,
    config: &'c mut Config,
}

impl Crd<'_> {
    fn walk(&mut self, schema: &Value, path: &mut Vec<String>, depth: usize) -> Result<()> {
        let Some(properties) = schema.get("properties").and_then(Value::as_map).filter(|_| depth < 32) else {
            return Ok(());
        };
        for (name, property) in properties {
            path.push(name.clone());
            let here = path.join("/");
            let flagged = |key: &str| property.get(key).is_some();
            let spec = FieldSpec::new(self.gvk.clone(), &here, false);
            if flagged("x-kubernetes-annotation") {
                config::merge_specs(&mut self.config.common_annotations, std::slice::from_ref(&spec))?;
            }
            if flagged("x-kubernetes-label-selector") {
                config::merge_specs(&mut self.config.common_labels, std::slice::from_ref(&spec))?;
            }
            if flagged("x-kubernetes-identity") {
                config::merge_specs(&mut self.config.name_prefix, std::slice::from_ref(&spec))?;
            }
            let text = |key: &str| property.get(key).and_then(Value::as_str);
            if let (Some(version), Some(kind)) =
                (text("x-kubernetes-object-ref-api-version"), text("x-kubernetes-object-ref-kind"))
            {
                let key = text("x-kubernetes-object-ref-name-key").unwrap_or("name");
                let from = FieldSpec::new(self.gvk.clone(), &format!("{here}/{key}"), false);
                let more = Config {
                    references: vec![References { to: Gvk::new(version, kind), from: vec![from] }],
                    ..Config::default()
                };
                self.config.merge(&more)?;
            }
            let inner = match property.get("$ref").or_else(|| property.get("items").and_then(|items| items.get("$ref")))
            {
                Some(Value::String(reference)) => {
                    let name = reference.rsplit('/').next().unwrap_or(reference);
                    self.types.get(name).map(|entry| entry.get("Schema").unwrap_or(entry))
                }
                _ => Some(property),
            };
            if let Some(inner) = inner {
                self.walk(inner, path, depth + 1)?;
            }
            path.pop();
        }
        Ok(())
    }
}
