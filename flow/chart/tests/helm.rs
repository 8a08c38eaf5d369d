//! Held against what the real `helm` (3.22 and 4.3) printed for the charts beside this file.

use std::path::{Path, PathBuf};

use chart::{Flavor, Given, KubeVersion, Loader, Render, Rendered, Warnings, load::Kind, render::Shown};
use serde_json::Value;

struct Disk(PathBuf);

impl chart::Tree for Disk {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        std::fs::read_dir(self.0.join(directory))?
            .map(|entry| {
                let entry = entry?;
                let data = entry.metadata()?;
                let kind = if data.is_dir() { Kind::Directory } else { Kind::File(data.len()) };
                Ok((entry.file_name().to_string_lossy().into_owned(), kind))
            })
            .collect()
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.0.join(file))
    }
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn golden(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(tests().join("golden").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[derive(Default)]
struct Call {
    given: Given,
    shown: Shown,
    crds: bool,
    upgrade: bool,
    apis: Vec<String>,
}

impl Call {
    fn read(arguments: &[Value]) -> Self {
        let mut call = Self::default();
        let mut arguments = arguments.iter().map(|argument| argument.as_str().unwrap().to_owned());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--set" => call.given.typed.extend(arguments.next()),
                "-s" => call.shown.only.extend(arguments.next()),
                "-a" => call.apis.extend(arguments.next()),
                "--include-crds" => call.crds = true,
                "--no-hooks" => call.shown.no_hooks = true,
                "--skip-tests" => call.shown.skip_tests = true,
                "--is-upgrade" => call.upgrade = true,
                other => panic!("the test does not know {other}"),
            }
        }
        call
    }

    fn run(&self, chart: &str, flavor: Flavor) -> Result<String, chart::Error> {
        self.render(chart, flavor)?.print(&self.shown, flavor)
    }

    fn render(&self, chart: &str, flavor: Flavor) -> Result<Rendered, chart::Error> {
        let warnings = Warnings::default();
        let values = self.given.merge(&mut |_| Err("no files here".to_owned()), flavor)?;
        let chart =
            Loader { flavor, ..Loader::default() }.tree(&Disk(tests().join("charts").join(chart)), &warnings)?;
        chart.check_dependencies(flavor)?;
        let mut render = Render::offline(flavor, "rel", "space");
        render.store_chart = true;
        render.capabilities.kube = KubeVersion::parse("1.34.0", flavor).unwrap();
        render.capabilities.api_versions.extend(self.apis.clone());
        render.include_crds = self.crds;
        render.release.is_upgrade = self.upgrade;
        render.run(&chart, &values, &warnings)
    }
}

const FLAVORS: [(Flavor, &str); 2] = [(Flavor::Helm3, "helm3"), (Flavor::Helm4, "helm4")];

#[test]
fn charts_render_as_helm_renders_them() {
    let mut wrong = Vec::new();
    for case in golden("template.json") {
        let chart = case["chart"].as_str().unwrap();
        let call = Call::read(case["args"].as_array().unwrap());
        for (flavor, name) in FLAVORS {
            let (kind, got) = match call.run(chart, flavor) {
                Ok(text) => ("out", text),
                Err(error) => ("err", error.to_string()),
            };
            let expected = case[name][kind].as_str().unwrap_or_default();
            if in_order(&got) != in_order(expected) {
                wrong.push(format!(
                    "{chart} {} {name}\n--- helm\n{}\n--- ours ({kind})\n{got}",
                    case["args"],
                    case[name].as_object().unwrap().values().next().unwrap().as_str().unwrap()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n======\n"));
}

/// The text; faults that a schema finds are put into order, since Helm itself names them in any.
fn in_order(text: &str) -> String {
    if !text.starts_with("values don't meet") {
        return text.to_owned();
    }
    let mut faults: Vec<&str> = text.trim_end().split("\n- ").collect();
    faults.sort_unstable();
    faults.join("\n- ")
}

#[test]
fn arguments_of_set_mean_what_they_mean_to_helm() {
    let mut wrong = Vec::new();
    for case in golden("set.json") {
        let [flag, argument, helm3, helm4] = [0, 1, 2, 3].map(|at| case[at].as_str().unwrap());
        for (flavor, expected) in [(Flavor::Helm3, helm3), (Flavor::Helm4, helm4)] {
            let mut call = Call::default();
            let given = &mut call.given;
            let list = match flag {
                "set" => &mut given.typed,
                "set-string" => &mut given.text,
                "set-json" => &mut given.json,
                _ => &mut given.literal,
            };
            list.push(argument.to_owned());
            let got = match call.run("print", flavor) {
                Ok(text) => text.split("values: ").nth(1).unwrap_or_default().trim().to_owned(),
                Err(error) => format!("Error: {error}"),
            };
            if got != expected {
                wrong.push(format!("--{flag} {argument} ({flavor:?})\n  helm {expected}\n  ours {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn notes_are_the_charts_own_unless_all_are_wanted() {
    let rendered = Call::default().render("shop", Flavor::Helm4).unwrap();
    assert_eq!(rendered.notes, "Installed rel.\n");
    assert_eq!(rendered.chart["metadata"]["name"], "shop");
    assert_eq!(rendered.crds[0].0, "shop/crds/thing.yaml");
}
