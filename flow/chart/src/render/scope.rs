//! What each template sees: the built-in objects of its chart.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use template::{Map, MapType, Value};

use super::Release;
use crate::{Capabilities, Flavor, capabilities, files::Files, load::clean, part::Part};

/// A template and the objects of its chart, which all templates of the chart share.
pub(super) struct Scope<'c> {
    pub text: Cow<'c, str>,
    objects: Map,
    base: Rc<str>,
}

impl Scope<'_> {
    /// The data of a template, its own `.Template` set.
    pub fn data(&self, path: &str, flavor: Flavor) -> Value {
        let template = Map::of(named(flavor));
        template.insert("Name", path);
        template.insert("BasePath", &*self.base);
        self.objects.insert("Template", template);
        Value::Map(self.objects.clone())
    }
}

fn named(flavor: Flavor) -> MapType {
    MapType::Named(match flavor {
        Flavor::Helm3 => "chartutil.Values",
        Flavor::Helm4 => "common.Values",
    })
}

/// Every template of a chart and its subcharts by its path.
pub(super) fn all<'c>(
    part: &Part<'c>,
    values: &Map,
    release: &Release,
    capabilities: &Capabilities,
    flavor: Flavor,
) -> BTreeMap<String, Scope<'c>> {
    let shared = Shared {
        release: Value::Map(capabilities::release(release)),
        capabilities: capabilities.object(flavor),
        flavor,
    };
    let root = Map::of(named(flavor));
    for (key, value) in values.cells().iter() {
        root.insert(key.clone(), value.clone());
    }
    let mut scopes = BTreeMap::new();
    shared.add(part, root, part.name(), true, &mut scopes);
    scopes
}

struct Shared {
    release: Value,
    capabilities: Value,
    flavor: Flavor,
}

impl Shared {
    fn add<'c>(
        &self,
        part: &Part<'c>,
        values: Map,
        path: &str,
        root: bool,
        scopes: &mut BTreeMap<String, Scope<'c>>,
    ) -> Map {
        let objects = Map::new();
        let subcharts = Map::new();
        objects.insert("Chart", part.metadata.object(root));
        objects.insert("Files", Value::object(Files::new(part.chart)));
        objects.insert("Release", self.release.clone());
        objects.insert("Capabilities", self.capabilities.clone());
        objects.insert("Values", values.clone());
        objects.insert("Subcharts", subcharts.clone());
        for child in &part.children {
            let below = match values.get(child.name()) {
                Some(Value::Map(below)) => below,
                _ => Map::of(named(self.flavor)),
            };
            let path = format!("{path}/charts/{}", child.name());
            subcharts.insert(child.name(), self.add(child, below, &path, false, scopes));
        }
        let base: Rc<str> = clean(&format!("{path}/templates")).into();
        for file in &part.chart.templates {
            let name = file.name.rsplit('/').next().unwrap_or(&file.name);
            if part.metadata.is_library() && !name.starts_with('_') {
                continue;
            }
            let scope = Scope { text: template::lossy(&file.data), objects: objects.clone(), base: base.clone() };
            scopes.insert(clean(&format!("{path}/{}", file.name)), scope);
        }
        objects
    }
}

/// The address of every table of values and its path from the values of the root chart.
pub(super) fn tables(scopes: &BTreeMap<String, Scope<'_>>) -> HashMap<usize, Vec<String>> {
    let mut charts: BTreeMap<usize, (Vec<String>, Map)> = BTreeMap::new();
    for scope in scopes.values() {
        let base = scope.base.strip_suffix("/templates").unwrap_or(&scope.base);
        let path: Vec<String> = base.split("/charts/").skip(1).map(str::to_owned).collect();
        if let Some(Value::Map(values)) = scope.objects.get("Values") {
            charts.insert(scope.objects.address(), (path, values));
        }
    }
    let mut charts: Vec<(Vec<String>, Map)> = charts.into_values().collect();
    // What is shared (`global`) goes by its shortest path.
    charts.sort_by_key(|(path, _)| path.len());
    let mut tables = HashMap::new();
    for (mut path, values) in charts {
        note(&Value::Map(values), &mut path, &mut tables);
    }
    tables
}

fn note(value: &Value, path: &mut Vec<String>, tables: &mut HashMap<usize, Vec<String>>) {
    match value {
        Value::Map(map) => {
            if tables.contains_key(&map.address()) {
                return;
            }
            tables.insert(map.address(), path.clone());
            for (key, value) in map.pairs() {
                path.push(key.to_string());
                note(&value, path, tables);
                path.pop();
            }
        }
        Value::List(list) => {
            for (i, item) in list.iter().enumerate() {
                path.push(i.to_string());
                note(item, path, tables);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The definitions of custom resources of a chart, then those of its subcharts.
pub(super) fn crds(part: &Part<'_>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    add_crds(part, part.name(), &mut out);
    out
}

fn add_crds(part: &Part<'_>, path: &str, out: &mut Vec<(String, String)>) {
    for file in &part.chart.files {
        let extension = file.name.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, e)| e);
        let manifest = extension.is_some_and(|e| ["yaml", "yml", "json"].iter().any(|k| e.eq_ignore_ascii_case(k)));
        if file.name.starts_with("crds/") && manifest {
            let text = template::lossy(&file.data).into_owned();
            out.push((clean(&format!("{path}/{}", file.name)), text));
        }
    }
    for child in &part.children {
        add_crds(child, &format!("{path}/charts/{}", child.name()), out);
    }
}
