//! A chart as it is written down with a release.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{File, part::Part, values::json};

pub(super) fn chart(part: &Part<'_>) -> Value {
    json!({
        "metadata": part.metadata.json(),
        "lock": part.chart.lock.as_ref().map(|lock| lock.json()),
        "templates": files(&part.chart.templates),
        "values": json(&template::Value::Map(part.values.clone())),
        "schema": part.chart.schema.as_ref().map(|schema| STANDARD.encode(schema)),
        "files": files(&part.chart.files),
    })
}

fn files(files: &[File]) -> Vec<Value> {
    files.iter().map(|file| json!({ "name": file.name, "data": STANDARD.encode(&file.data) })).collect()
}
