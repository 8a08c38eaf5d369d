//! `get all --template`: a stored revision through a Go template, under the names that it has in Go.

use chart::release::Record;
use serde_json::{Map, Value as Json, json};

use crate::Error;

/// What the template makes of `{ Release: … }`.
pub fn formatted(record: &Record, text: &str) -> Result<String, Error> {
    with_template(text, told(record))
}

/// What a Go template makes of a document. A field that is not there is an error.
pub fn with_template(text: &str, data: Json) -> Result<String, Error> {
    let wrong = |error: template::Error| Error::Option(error.to_string());
    let mut set = template::Set::new(template::Family::Go);
    set.parse("_", text).map_err(wrong)?;
    let options = template::Options { missing_key: template::MissingKey::Error, ..template::Options::default() };
    let made = template::Renderer::new(&set, options).render("_", data.into()).map_err(wrong)?;
    Ok(String::from_utf8_lossy(&made.text).into_owned())
}

fn told(record: &Record) -> Json {
    let stored = serde_json::to_value(record).unwrap_or_default();
    let chart = record.chart.clone().unwrap_or_default();
    let mut about = named(&chart["metadata"]);
    // Fields of Go's structures are there whether or not they are set.
    if let Some(about) = about.as_object_mut() {
        for name in [
            "Name",
            "Home",
            "Version",
            "Description",
            "Icon",
            "APIVersion",
            "Condition",
            "Tags",
            "AppVersion",
            "KubeVersion",
            "Type",
        ] {
            about.entry(name).or_insert_with(|| json!(""));
        }
        for name in ["Sources", "Keywords", "Maintainers", "Dependencies"] {
            about.entry(name).or_insert_with(|| json!([]));
        }
        about.entry("Deprecated").or_insert(json!(false));
        about.entry("Annotations").or_insert_with(|| json!({}));
    }
    let info = &record.info;
    let time = |name: &str| stored["info"][name].as_str().unwrap_or_default().to_owned();
    let hooks: Vec<Json> = stored["hooks"].as_array().into_iter().flatten().map(named).collect();
    json!({ "Release": {
        "Name": record.name,
        "Namespace": record.namespace,
        "Version": record.version,
        "Manifest": record.manifest,
        "Config": record.config.clone().unwrap_or_else(|| json!({})),
        "Labels": record.labels,
        "ApplyMethod": record.apply_method(),
        "Hooks": hooks,
        "Info": {
            "FirstDeployed": time("first_deployed"),
            "LastDeployed": time("last_deployed"),
            "Deleted": time("deleted"),
            "Description": info.description,
            "Status": info.status,
            "Notes": info.notes,
        },
        "Chart": { "Metadata": about, "Values": chart["values"], "Schema": chart["schema"] },
    } })
}

/// The same with the first letters of its keys, and those after `_`, in capitals; not below annotations.
fn named(value: &Json) -> Json {
    let name = |key: &str| match key {
        "apiVersion" => "APIVersion".to_owned(),
        key => key
            .split('_')
            .map(|word| {
                let mut chars = word.chars();
                chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
            })
            .collect(),
    };
    match value {
        Json::Object(map) => {
            let pairs = map
                .iter()
                .map(|(key, value)| (name(key), if key == "annotations" { value.clone() } else { named(value) }));
            Json::Object(pairs.collect::<Map<_, _>>())
        }
        Json::Array(list) => list.iter().map(named).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_names_of_go() {
        let record = Record {
            name: "web".to_owned(),
            version: 2,
            chart: Some(json!({ "metadata": { "name": "shop", "apiVersion": "v2", "annotations": { "a": "b" } } })),
            config: Some(json!({ "x": 1 })),
            ..Record::default()
        };
        for (text, expected) in [
            ("{{.Release.Name}} {{ .Release.Version }}", "web 2"),
            ("{{.Release.Chart.Metadata.Name}} {{.Release.Chart.Metadata.APIVersion}}", "shop v2"),
            ("[{{.Release.Chart.Metadata.AppVersion}}]", "[]"),
            ("{{.Release.Chart.Metadata.Annotations.a}}{{ index .Release.Config \"x\" }}", "b1"),
            ("{{ len .Release.Hooks }}", "0"),
        ] {
            assert_eq!(formatted(&record, text).unwrap(), expected, "{text}");
        }
        formatted(&record, "{{.Release.Nope}}").unwrap_err();
        formatted(&record, "{{").unwrap_err();
    }
}
