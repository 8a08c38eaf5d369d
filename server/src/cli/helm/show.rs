//! How releases are printed: tables and statuses as helm prints them, JSON and YAML of the same.

use chart::release::Record;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::flags::Format;
use crate::fault::{Class, Fault, Result};

/// A value in the asked format; `table` makes the text for people.
pub fn formatted(format: Format, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<String> {
    let wrong = |error: serde_json::Error| Fault::new(Class::Internal, format!("cannot print the result: {error}"));
    match format {
        Format::Table => Ok(table()),
        Format::Json => Ok(format!("{}\n", go_json(&serde_json::to_string(value).map_err(wrong)?))),
        Format::Yaml => Ok(yaml::to_go(&yaml::Value::from(serde_json::to_value(value).map_err(wrong)?))),
    }
}

/// JSON as Go's encoder writes it: what HTML would read as markup is escaped, and so are two ends of lines of JavaScript. They
/// stand in strings only.
pub fn go_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Rows with every cell as wide as its column, tabs between them.
pub fn table(rows: &[Vec<String>]) -> String {
    table_of(rows, usize::MAX)
}

/// The same with no column wider than `most`.
pub fn table_of(rows: &[Vec<String>], most: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |cell: &str| cell.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0).min(most))
        .collect();
    let mut out = String::new();
    for row in rows {
        let row: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| cut(cell, *width)).collect();
        let lines = row.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
        for line in 0..lines {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{:<width$}", cell.split('\n').nth(line).unwrap_or_default()))
                .collect();
            out.push_str(&cells.join("\t"));
            out.push('\n');
        }
    }
    out
}

/// A cell of several lines may hold, in all, as many characters as its column is wide; the rest is cut off, as helm does.
fn cut(cell: &str, width: usize) -> String {
    if cell.chars().filter(|c| *c != '\n').count() <= width {
        return cell.to_owned();
    }
    let mut kept = String::new();
    let mut long = 0;
    for c in cell.chars() {
        kept.push(c);
        long += usize::from(c != '\n');
        if long + 3 >= width {
            break;
        }
    }
    kept + "..."
}

/// `Sat Nov 21 08:00:00 2026`
pub fn ansic(time: Option<Timestamp>) -> String {
    time.map(|time| time.strftime("%a %b %e %H:%M:%S %Y").to_string()).unwrap_or_default()
}

/// `2026-11-21 08:00:00.5 +0000 UTC`
pub fn long(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string().replace('T', " ").replace('Z', " +0000 UTC"))
}

/// `web-1.2.0`
pub fn chart_name(record: &Record) -> String {
    if record.chart.is_none() {
        return "MISSING".to_owned();
    }
    format!("{}-{}", record.chart_name(), record.chart_version())
}

/// A record as a document; what is not set is left out.
pub fn document(record: &Record, chart: bool) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if !chart && let Some(fields) = value.as_object_mut() {
        fields.shift_remove("chart");
    }
    let unset = |fields: &mut Value, names: &[&str]| {
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|name, value| !(names.contains(&name.as_str()) && value == ""));
        }
    };
    unset(&mut value["info"], &["first_deployed", "last_deployed", "deleted"]);
    for hook in value["hooks"].as_array_mut().into_iter().flatten() {
        unset(&mut hook["last_run"], &["started_at", "completed_at"]);
    }
    value
}

/// What a status shows beside the record.
#[derive(Default)]
pub struct Shown {
    /// The objects, as a text.
    pub resources: String,
    /// The chart's name and version.
    pub metadata: bool,
    pub hide_notes: bool,
    /// Values, hooks and manifest too.
    pub whole: bool,
}

/// What `helm status` prints.
pub fn status(record: &Record, shown: &Shown) -> String {
    let mut out = format!("NAME: {}\n", record.name);
    if record.info.last_deployed.is_some() {
        out.push_str(&format!("LAST DEPLOYED: {}\n", ansic(record.info.last_deployed)));
    }
    out.push_str(&format!(
        "NAMESPACE: {}\nSTATUS: {}\nREVISION: {}\n",
        record.namespace, record.info.status, record.version
    ));
    if shown.metadata {
        out.push_str(&format!(
            "CHART: {}\nVERSION: {}\nAPP_VERSION: {}\n",
            record.chart_name(),
            record.chart_version(),
            record.app_version()
        ));
    }
    out.push_str(&format!("DESCRIPTION: {}\n", record.info.description));
    if !shown.resources.is_empty() {
        out.push_str(&format!("RESOURCES:\n{}\n", shown.resources));
    }
    let tests: Vec<_> = record.hooks.iter().filter(|hook| hook.is_test()).collect();
    if tests.is_empty() {
        out.push_str("TEST SUITE: None\n");
    }
    for test in tests.iter().filter(|test| test.last_run.started_at.is_some()) {
        let phase = serde_json::to_value(test.last_run.phase).unwrap_or_default();
        out.push_str(&format!(
            "TEST SUITE:     {}\nLast Started:   {}\nLast Completed: {}\nPhase:          {}\n",
            test.name,
            ansic(test.last_run.started_at),
            ansic(test.last_run.completed_at),
            phase.as_str().unwrap_or_default()
        ));
    }
    if shown.whole {
        let given = record.config.clone().unwrap_or(Value::Null);
        let given = if given.is_null() { "null\n".to_owned() } else { yaml::to_go(&yaml::Value::from(given)) };
        let computed = yaml::to_go(&yaml::Value::Map(helm::computed(record)));
        out.push_str(&format!("USER-SUPPLIED VALUES:\n{given}\nCOMPUTED VALUES:\n{computed}\n"));
    }
    if shown.whole || record.info.description.eq_ignore_ascii_case("Dry run complete") {
        out.push_str("HOOKS:\n");
        for hook in &record.hooks {
            out.push_str(&format!("---\n# Source: {}\n{}\n", hook.path, hook.manifest));
        }
        out.push_str(&format!("MANIFEST:\n{}\n", record.manifest));
    }
    if !shown.hide_notes && !record.info.notes.is_empty() {
        out.push_str(&format!("NOTES:\n{}\n", record.info.notes.trim()));
    }
    out
}

/// The objects of a release as the cluster's own tables, one kind after the other.
pub fn resources(groups: &[(String, Vec<Value>)]) -> String {
    let mut out = String::new();
    for (kind, tables) in groups {
        out.push_str(&format!("==> {kind}\n"));
        let mut rows: Vec<Vec<String>> = Vec::new();
        for table in tables {
            let columns = table["columnDefinitions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let shown: Vec<usize> =
                (0..columns.len()).filter(|at| columns[*at]["priority"].as_i64().unwrap_or(0) == 0).collect();
            if rows.is_empty() {
                let name = |at: &usize| columns[*at]["name"].as_str().unwrap_or_default().to_uppercase();
                rows.push(shown.iter().map(name).collect());
            }
            for row in table["rows"].as_array().into_iter().flatten() {
                let cell = |at: &usize| match &row["cells"][*at] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                rows.push(shown.iter().map(cell).collect());
            }
        }
        // Of nothing, not even a heading.
        if rows.len() == 1 {
            rows.clear();
        }
        let columns = rows.first().map_or(0, Vec::len);
        let width =
            |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            out.push_str(cells.join("   ").trim_end());
            out.push('\n');
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_even() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["word".to_owned(), "x\ny".to_owned()]];
        assert_eq!(table(&rows), "A   \tLONG\nword\tx   \n    \ty   \n");
        let long = [vec!["1".to_owned(), "it failed: 2 errors\nhere\nthere".to_owned()]];
        assert_eq!(table(&long), "1\tit failed: 2 err...\n");
    }

    #[test]
    fn json_is_gos() {
        let text = formatted(Format::Json, &"<a> & \u{2028}é", String::new).unwrap();
        assert_eq!(text, "\"\\u003ca\\u003e \\u0026 \\u2028é\"\n");
    }

    #[test]
    fn times() {
        let time: Timestamp = "2026-11-02T08:00:00.5Z".parse().unwrap();
        assert_eq!(ansic(Some(time)), "Mon Nov  2 08:00:00 2026");
        assert_eq!(long(Some(time)), "2026-11-02 08:00:00.5 +0000 UTC");
    }
}
