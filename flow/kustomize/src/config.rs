//! Which fields each transformation looks at: the built-in tables, and what `configurations` and `crds` add.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::{
    Error, FieldSpec, Gvk, Result,
    kustomization::{RawFieldSpec, read_value},
};

/// The fields that name an object of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct References {
    pub to: Gvk,
    pub from: Vec<FieldSpec>,
}

/// Where the transformations look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub name_prefix: Vec<FieldSpec>,
    pub name_suffix: Vec<FieldSpec>,
    pub namespace: Vec<FieldSpec>,
    pub labels: Vec<FieldSpec>,
    pub common_labels: Vec<FieldSpec>,
    pub template_labels: Vec<FieldSpec>,
    pub claim_labels: Vec<FieldSpec>,
    pub common_annotations: Vec<FieldSpec>,
    pub references: Vec<References>,
    pub variables: Vec<FieldSpec>,
    pub images: Vec<FieldSpec>,
    pub replicas: Vec<FieldSpec>,
}

static BUILT_IN: LazyLock<Arc<Config>> = LazyLock::new(|| Arc::new(built_in()));

/// The built-in tables.
pub fn defaults() -> Arc<Config> {
    BUILT_IN.clone()
}

/// Where a kind keeps the template of its pods (`^`) and their spec (`@`).
fn pod_path(kind: &str, mark: char) -> &'static str {
    match (kind, mark) {
        ("Pod", '@') => "spec/",
        ("Pod", _) => "",
        ("PodTemplate", '@') => "template/spec/",
        ("PodTemplate", _) => "template/",
        ("CronJob", '@') => "spec/jobTemplate/spec/template/spec/",
        ("CronJob", _) => "spec/jobTemplate/spec/template/",
        (_, '@') => "spec/template/spec/",
        (_, _) => "spec/template/",
    }
}

/// One line of a table: kinds, then paths.
fn specs(line: &str) -> Vec<FieldSpec> {
    let mut words = line.split_whitespace();
    let kinds = words.next().unwrap_or_default();
    let mut out = Vec::new();
    for path in words {
        for kind in kinds.split(',') {
            let (group, kind) = kind.split_once('!').unwrap_or(("", kind));
            let kind = if kind == "*" { "" } else { kind };
            // Two kinds exist under this name in more than one group.
            let version = if matches!((group, kind), ("", "Service" | "ReplicationController")) { "v1" } else { "" };
            let (create, path) = path.strip_prefix('+').map_or((false, path), |path| (true, path));
            let path = match path.strip_prefix(['@', '^']) {
                Some(rest) => format!("{}{rest}", pod_path(kind, if path.starts_with('@') { '@' } else { '^' })),
                None => path.to_owned(),
            };
            let gvk = Gvk { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() };
            out.push(FieldSpec::new(gvk, &path, create));
        }
    }
    out
}

fn lines(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn built_in() -> Config {
    let mut config = Config::default();
    let mut section = "";
    for line in lines(include_str!("tables/fields.txt")) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some(list) = config.section(section) {
            list.extend(specs(line));
        }
    }
    for line in lines(include_str!("tables/references.txt")) {
        if let Some(target) = line.strip_prefix("> ") {
            let mut words = target.split(' ').map(|word| if word == "*" { String::new() } else { word.to_owned() });
            let mut next = || words.next().unwrap_or_default();
            let to = Gvk { group: next(), version: next(), kind: next() };
            config.references.push(References { to, from: Vec::new() });
        } else if let Some(last) = config.references.last_mut() {
            last.from.extend(specs(line));
        }
    }
    config
}

/// A file that `configurations` names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    name_prefix: Vec<RawFieldSpec>,
    name_suffix: Vec<RawFieldSpec>,
    namespace: Vec<RawFieldSpec>,
    labels: Vec<RawFieldSpec>,
    common_labels: Vec<RawFieldSpec>,
    template_labels: Vec<RawFieldSpec>,
    volume_claim_template_labels: Vec<RawFieldSpec>,
    common_annotations: Vec<RawFieldSpec>,
    name_reference: Vec<WrittenReferences>,
    var_reference: Vec<RawFieldSpec>,
    images: Vec<RawFieldSpec>,
    replicas: Vec<RawFieldSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WrittenReferences {
    group: String,
    version: String,
    kind: String,
    field_specs: Vec<RawFieldSpec>,
}

impl Config {
    fn section(&mut self, name: &str) -> Option<&mut Vec<FieldSpec>> {
        Some(match name {
            "namePrefix" => &mut self.name_prefix,
            "nameSuffix" => &mut self.name_suffix,
            "namespace" => &mut self.namespace,
            "labels" => &mut self.labels,
            "commonLabels" => &mut self.common_labels,
            "templateLabels" => &mut self.template_labels,
            "volumeClaimTemplateLabels" => &mut self.claim_labels,
            "commonAnnotations" => &mut self.common_annotations,
            "varReference" => &mut self.variables,
            "images" => &mut self.images,
            "replicas" => &mut self.replicas,
            _ => return None,
        })
    }

    /// Reads a file of `configurations`.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let value = yaml::from_str(text).map_err(|source| Error::Malformed { file: file.to_owned(), source })?;
        let written: Written =
            read_value(value).map_err(|message| Error::Invalid { file: file.to_owned(), message })?;
        let list = |raw: &[RawFieldSpec]| raw.iter().map(FieldSpec::from).collect::<Vec<_>>();
        Ok(Self {
            name_prefix: list(&written.name_prefix),
            name_suffix: list(&written.name_suffix),
            namespace: list(&written.namespace),
            labels: list(&written.labels),
            common_labels: list(&written.common_labels),
            template_labels: list(&written.template_labels),
            claim_labels: list(&written.volume_claim_template_labels),
            common_annotations: list(&written.common_annotations),
            references: written
                .name_reference
                .iter()
                .map(|r| References {
                    to: Gvk { group: r.group.clone(), version: r.version.clone(), kind: r.kind.clone() },
                    from: list(&r.field_specs),
                })
                .collect(),
            variables: list(&written.var_reference),
            images: list(&written.images),
            replicas: list(&written.replicas),
        })
    }

    pub fn merge(&mut self, other: &Config) -> Result<()> {
        merge_specs(&mut self.name_prefix, &other.name_prefix)?;
        merge_specs(&mut self.name_suffix, &other.name_suffix)?;
        merge_specs(&mut self.namespace, &other.namespace)?;
        merge_specs(&mut self.labels, &other.labels)?;
        merge_specs(&mut self.common_labels, &other.common_labels)?;
        merge_specs(&mut self.template_labels, &other.template_labels)?;
        merge_specs(&mut self.claim_labels, &other.claim_labels)?;
        merge_specs(&mut self.common_annotations, &other.common_annotations)?;
        merge_specs(&mut self.variables, &other.variables)?;
        merge_specs(&mut self.images, &other.images)?;
        merge_specs(&mut self.replicas, &other.replicas)?;
        for references in &other.references {
            match self.references.iter_mut().find(|known| known.to == references.to) {
                Some(known) => merge_specs(&mut known.from, &references.from)?,
                None => self.references.push(references.clone()),
            }
        }
        Ok(())
    }
}

/// Two configurations in one; the built-in one is shared, not copied.
pub fn merged(one: &Arc<Config>, other: &Arc<Config>) -> Result<Arc<Config>> {
    if Arc::ptr_eq(one, other) {
        return Ok(one.clone());
    }
    let mut both = Config::clone(one);
    both.merge(other)?;
    Ok(Arc::new(both))
}

/// Adds specifications that are not there yet.
pub fn merge_specs(list: &mut Vec<FieldSpec>, more: &[FieldSpec]) -> Result<()> {
    for spec in more {
        match list.iter().find(|known| known.gvk.is_selected(&spec.gvk) && known.path == spec.path) {
            Some(known) if known.create != spec.create => return Err(Error::wrong("conflicting fieldspecs")),
            Some(_) => {}
            None => list.push(spec.clone()),
        }
    }
    Ok(())
}
