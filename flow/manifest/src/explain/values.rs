//! Where values are set: arguments, files of values, and the defaults of charts.

use chart::{Chart, Flavor, Loader, Warnings, values::Form};
use yaml::Node;

use super::{Cause, Role};
use crate::{
    Error, Position, Result,
    field::{Path, Step},
    render::{How, named_children},
    tree::{ChartFiles, Tree, join},
};

enum Source {
    /// An argument, for example `--set a=b`.
    Argument { shown: String, values: yaml::Map },
    /// A file, and what is in it; `below` are the keys under which a chart's own values stand for the root chart.
    File { file: String, text: String, root: Node, below: Vec<String> },
}

/// All places where a value may be set, the one that counts first.
pub struct Sources {
    all: Vec<Source>,
    /// The keys under which the values of subcharts stand for the root chart.
    charts: Vec<Vec<String>>,
}

impl Sources {
    pub fn new(tree: &dyn Tree, path: &str, packed: bool, how: &How) -> Result<Self> {
        let mut all = Vec::new();
        let given = &how.given;
        let arguments = [
            ("--set-literal", &given.literal),
            ("--set-file", &given.contents),
            ("--set-string", &given.text),
            ("--set", &given.typed),
            ("--set-json", &given.json),
        ];
        for (flag, list) in arguments {
            for argument in list.iter().rev() {
                all.extend(argument_source(flag, argument, how.flavor));
            }
        }
        for file in given.files.iter().rev() {
            let name = join(&how.directory, file);
            let content = tree.read(&name).unwrap_or_default();
            all.extend(file_source(name, &content, Vec::new()));
        }
        let failed = |source: chart::Error| Error::Chart { from: path.to_owned(), source: Box::new(source) };
        let loader = Loader { flavor: how.flavor, ..Loader::default() };
        let chart = if packed {
            let archive = tree
                .read(path)
                .map_err(|error| Error::Unreadable { file: path.to_owned(), cause: error.to_string() })?;
            loader.archive(&archive, &Warnings::default()).map_err(failed)?
        } else {
            loader.tree(&ChartFiles { tree, root: path.to_owned() }, &Warnings::default()).map_err(failed)?
        };
        let mut charts = Vec::new();
        defaults(&chart, path, &mut Vec::new(), &mut all, &mut charts);
        Ok(Self { all, charts })
    }

    /// The first place where a value is set. What is global for a subchart is also what is global for a chart around it, and
    /// there it counts.
    fn find(&self, path: &[String]) -> Option<(Position, String)> {
        let depth = path
            .iter()
            .position(|key| key == "global")
            .filter(|depth| *depth > 0 && self.charts.iter().any(|chart| *chart == path[..*depth]));
        let outer = (0..depth.unwrap_or(0)).map(|from| [&path[..from], &path[depth.unwrap_or(0)..]].concat());
        outer.chain([path.to_vec()]).find_map(|path| self.all.iter().find_map(|source| source.find(&path)))
    }

    /// Where a value is set, or the part of it that became `field`: of a table that was printed whole, the line is looked for that
    /// stands at the end of the field's path.
    pub fn cause(&self, role: Role, path: &[String], field: &Path) -> Cause {
        let tail: Vec<String> = field
            .0
            .iter()
            .map(|step| match step {
                Step::Key(key) | Step::Item(key) => key.clone(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        for from in 0..=tail.len() {
            let wanted: Vec<String> = path.iter().chain(&tail[from..]).cloned().collect();
            if let Some((at, text)) = self.find(&wanted) {
                return Cause { role, what: shown(&wanted), at, text };
            }
            if role == Role::Condition {
                break;
            }
        }
        if let Some((at, text)) = self.find(path) {
            return Cause { role, what: shown(path), at, text };
        }
        let at = Position { file: String::new(), line: 0, column: 0 };
        Cause { role, what: shown(path), at, text: "not set anywhere".to_owned() }
    }
}

fn shown(path: &[String]) -> String {
    let mut text = ".Values".to_owned();
    for key in path {
        match key.parse::<usize>() {
            Ok(index) => text.push_str(&format!("[{index}]")),
            Err(_) => {
                text.push('.');
                text.push_str(key);
            }
        }
    }
    text
}

fn argument_source(flag: &str, argument: &str, flavor: Flavor) -> Option<Source> {
    let mut values = yaml::Map::new();
    let mut nothing = |_: &str| Ok(yaml::Value::Null);
    let form = match flag {
        "--set-literal" => Form::Literal,
        "--set-file" => Form::File(&mut nothing),
        "--set-string" => Form::Text,
        "--set-json" if argument.trim_start().starts_with('{') => {
            let value: serde_json::Value = serde_json::from_str(argument).ok()?;
            let yaml::Value::Map(values) = yaml::Value::from(value) else { return None };
            return Some(Source::Argument { shown: format!("{flag} {argument}"), values });
        }
        "--set-json" => Form::Json,
        _ => Form::Typed,
    };
    chart::values::set(argument, form, &mut values, flavor).ok()?;
    Some(Source::Argument { shown: format!("{flag} {argument}"), values })
}

fn file_source(file: String, content: &[u8], below: Vec<String>) -> Option<Source> {
    let text = String::from_utf8_lossy(content).into_owned();
    let documents = yaml::parse_all(&text, &yaml::Limits::default(), false).ok()?;
    let root = documents.into_iter().find_map(|one| one.into_expanded(&yaml::Limits::default()).ok().flatten())?;
    Some(Source::File { file, text, root, below })
}

/// The defaults of a chart, then those of its subcharts: what stands further out counts.
fn defaults(chart: &Chart, place: &str, below: &mut Vec<String>, all: &mut Vec<Source>, charts: &mut Vec<Vec<String>>) {
    if let Some(content) = chart.raw("values.yaml") {
        all.extend(file_source(join(place, "values.yaml"), content, below.clone()));
    }
    for (name, child) in named_children(chart) {
        below.push(name);
        charts.push(below.clone());
        defaults(child, &join(place, &format!("charts/{}", child.name())), below, all, charts);
        below.pop();
    }
}

impl Source {
    fn find(&self, path: &[String]) -> Option<(Position, String)> {
        match self {
            Self::Argument { shown, values } => {
                let (first, rest) = path.split_first()?;
                let found = values.get(first)?;
                Path(rest.iter().map(|key| step(key)).collect()).value(found)?;
                Some((Position { file: String::new(), line: 0, column: 0 }, shown.clone()))
            }
            Self::File { file, text, root, below } => {
                let inside = path.strip_prefix(&below[..])?;
                if inside.is_empty() {
                    return None;
                }
                let path = Path(inside.iter().map(|key| step(key)).collect());
                path.find(root)?;
                let key = path.find_key(root)?;
                let line = text.lines().nth((key.start.line as usize).saturating_sub(1)).unwrap_or_default();
                let (line_number, column) = (u64::from(key.start.line), u64::from(key.start.column));
                let at = Position { file: file.clone(), line: line_number, column };
                Some((at, line.trim().chars().take(200).collect()))
            }
        }
    }
}

fn step(key: &str) -> Step {
    key.parse().map_or_else(|_| Step::Key(key.to_owned()), Step::Index)
}
