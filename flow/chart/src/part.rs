//! A chart on its way to being rendered: which subcharts take part, under which names, with which defaults.

use std::collections::BTreeSet;

use template::{Map, Value};

use crate::{
    Chart, Error, Flavor, Warnings,
    metadata::{Dependency, Import, Metadata},
    values::{self, copy, lookup, merge_tables, scalar, table},
    version::compatible,
};

/// A chart or subchart with what this rendering makes of it.
#[derive(Clone)]
pub(crate) struct Part<'c> {
    pub chart: &'c Chart,
    pub metadata: Metadata,
    pub values: Map,
    pub children: Vec<Part<'c>>,
}

impl<'c> Part<'c> {
    pub fn new(chart: &'c Chart) -> Self {
        Self {
            chart,
            metadata: chart.metadata.clone(),
            values: table(&chart.values),
            children: chart.dependencies.iter().map(Part::new).collect(),
        }
    }

    /// The name it goes by here: its alias where it has one.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Takes out what is disabled, renames what has an alias, and imports values from subcharts.
    pub fn settle(&mut self, given: &Map, flavor: Flavor, warnings: &Warnings) -> Result<(), Error> {
        self.enable(given, "", flavor, warnings)?;
        self.import(flavor, warnings)
    }

    fn enable(&mut self, given: &Map, path: &str, flavor: Flavor, warnings: &Warnings) -> Result<(), Error> {
        if self.metadata.dependencies.is_empty() {
            return Ok(());
        }
        let wanted = |child: &Part<'_>, dependency: &Dependency| {
            child.name() == dependency.name && compatible(&dependency.version, &child.metadata.version)
        };
        let mut children: Vec<Part<'c>> = self
            .children
            .iter()
            .filter(|child| !self.metadata.dependencies.iter().any(|dependency| wanted(child, dependency)))
            .cloned()
            .collect();
        for dependency in &mut self.metadata.dependencies {
            if let Some(child) = self.children.iter().find(|child| wanted(child, dependency)) {
                let mut child = child.clone();
                if !dependency.alias.is_empty() {
                    child.metadata.name.clone_from(&dependency.alias);
                }
                children.push(child);
            }
            if !dependency.alias.is_empty() {
                dependency.name.clone_from(&dependency.alias);
            }
            dependency.enabled = true;
        }
        self.children = children;
        let values = values::coalesce(self, given, flavor, warnings)?;
        tags(&mut self.metadata.dependencies, &values, warnings);
        conditions(&mut self.metadata.dependencies, &values, path, warnings);
        let disabled: BTreeSet<String> =
            self.metadata.dependencies.iter().filter(|d| !d.enabled).map(|d| d.name.clone()).collect();
        self.children.retain(|child| !disabled.contains(child.name()));
        self.metadata.dependencies.retain(|dependency| !disabled.contains(&dependency.name));
        for child in &mut self.children {
            let path = format!("{path}{}.", child.name());
            child.enable(&values, &path, flavor, warnings)?;
        }
        Ok(())
    }

    fn import(&mut self, flavor: Flavor, warnings: &Warnings) -> Result<(), Error> {
        for child in &mut self.children {
            child.import(flavor, warnings)?;
        }
        if self.metadata.dependencies.is_empty() {
            return Ok(());
        }
        let all = values::merge(self, &Map::new(), flavor, warnings)?;
        let imported = Map::new();
        for dependency in &self.metadata.dependencies {
            for import in &dependency.import_values {
                let (child, parent) = match import {
                    Import::Export(name) => (format!("exports.{name}"), "."),
                    Import::Pair { child, parent } => (child.clone(), parent.as_str()),
                };
                match lookup(&all, &format!("{}.{child}", dependency.name)) {
                    Ok(found) => merge_tables(&imported, &wrap(parent, found), warnings),
                    Err(key) => {
                        let chart = match import {
                            Import::Export(_) => String::new(),
                            Import::Pair { .. } => format!(" from chart {}", dependency.name),
                        };
                        warnings.add(format!("Warning: ImportValues missing table{chart}: {key:?} is not a table"));
                    }
                }
            }
        }
        self.values = copy(&all);
        merge_tables(&self.values, &imported, warnings);
        Ok(())
    }
}

/// A table in tables, so that it stands at a path.
fn wrap(path: &str, table: Map) -> Map {
    if path == "." {
        return table;
    }
    path.rsplit('.').fold(table, |inner, key| {
        let outer = Map::new();
        outer.insert(key, inner);
        outer
    })
}

fn tags(dependencies: &mut [Dependency], values: &Map, warnings: &Warnings) {
    let Ok(tags) = lookup(values, "tags") else { return };
    for dependency in dependencies {
        let (mut on, mut off) = (false, false);
        for tag in &dependency.tags {
            match tags.get(tag) {
                Some(Value::Bool(true)) => on = true,
                Some(Value::Bool(false)) => off = true,
                None => {}
                Some(_) => {
                    warnings.add(format!("Warning: Tag '{tag}' for chart {} returned non-bool value", dependency.name))
                }
            }
        }
        dependency.enabled = on || !off;
    }
}

fn conditions(dependencies: &mut [Dependency], values: &Map, path: &str, warnings: &Warnings) {
    for dependency in dependencies {
        for condition in dependency.condition.trim().split(',').filter(|condition| !condition.is_empty()) {
            match scalar(values, &format!("{path}{condition}")) {
                Some(Value::Bool(enabled)) => {
                    dependency.enabled = enabled;
                    break;
                }
                Some(_) => warnings.add(format!(
                    "Warning: Condition path '{condition}' for chart {} returned non-bool value",
                    dependency.name
                )),
                None => {}
            }
        }
    }
}
