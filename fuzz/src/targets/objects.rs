//! What becomes Kubernetes objects: YAML, templates, values, charts, kustomizations.

use chart::{
    File, Flavor, Given, Loader, Render, Warnings,
    load::Limits as ChartLimits,
    values::{Form, set},
};
use kustomize::Memory;
use template::Limits;

use super::{files, text};

/// Small enough that no input takes long.
const LIMITS: Limits =
    Limits { steps: 200_000, output: 1 << 20, text: 1 << 20, includes: 100, nesting: 100, depth: 100 };

/// A text has one value, which prints as text that is read as the same.
pub fn yaml(input: &[u8]) {
    let text = text(input);
    let _ = yaml::parse_all(&text, &yaml::Limits::default(), true);
    // What most write is read in a shorter way, which must lead to the same.
    if let Ok(documents) = yaml::parse_all(&text, &yaml::Limits::default(), false)
        && let Ok([document]) = <[yaml::Document; 1]>::try_from(documents)
    {
        let whole = yaml::Decode::default().document(document).map(|value| yaml::to_go(&value));
        let short = yaml::from_str(&text).map(|value| yaml::to_go(&value));
        assert!(whole.ok() == short.ok(), "read in two ways, it is two values:\n{text}");
    }
    let Ok(value) = yaml::from_str(&text) else { return };
    let printed = yaml::to_go(&value);
    match yaml::from_str(&printed) {
        Ok(again) => assert!(yaml::to_go(&again) == printed, "printed, it is another value:\n{printed}"),
        Err(error) => panic!("printed, it is no YAML: {error}\n{printed}"),
    }
}

const CHART: &str = "apiVersion: v2\nname: fuzz\nversion: 1.0.0\n";
const VALUES: &str = "{a: 1, b: [x, y], c: {d: e, f: null}, g: 1.5, h: true}\n";

/// A template is rendered within its bounds, or refused.
pub fn template(input: &[u8]) {
    let file = |name: &str, data: &[u8]| File { name: name.to_owned(), data: data.to_vec().into() };
    let files = vec![
        file("Chart.yaml", CHART.as_bytes()),
        file("values.yaml", VALUES.as_bytes()),
        file("templates/a.yaml", input),
    ];
    let warnings = Warnings::default();
    if let Ok(chart) = Loader::default().files(files, &warnings) {
        let _ = render().run(&chart, &yaml::Map::new(), &warnings);
    }
}

fn render() -> Render<'static> {
    let mut render = Render::offline(Flavor::default(), "name", "space");
    render.options.limits = LIMITS;
    render.options.trace = true;
    render
}

/// Flags of `--set` and its kin, a line each, laid over one another.
pub fn values(input: &[u8]) {
    let text = text(input);
    let mut values = yaml::Map::new();
    for (at, line) in text.lines().take(20).enumerate() {
        let form = match at % 4 {
            0 => Form::Typed,
            1 => Form::Text,
            2 => Form::Json,
            _ => Form::Literal,
        };
        let _ = set(line, form, &mut values, Flavor::default());
    }
    let given = Given { files: vec!["values.yaml".into()], ..Given::default() };
    let _ = given.merge(&mut |_| Ok(input.to_vec()), Flavor::default());
}

/// A chart of several files is loaded and rendered, or refused; so is one that is packed.
pub fn chart(input: &[u8]) {
    let text = text(input);
    let warnings = Warnings::default();
    let limits = ChartLimits { chart: 1 << 20, file: 1 << 20, files: 100, depth: 5 };
    let loader = Loader { limits, ..Loader::default() };
    let _ = loader.archive(input, &warnings);
    let made = files("Chart.yaml", &text)
        .into_iter()
        .map(|(name, text)| File { name: name.to_owned(), data: text.as_bytes().to_vec().into() })
        .collect();
    let Ok(chart) = loader.files(made, &warnings) else { return };
    let _ = render().run(&chart, &yaml::Map::new(), &warnings);
}

/// A kustomization of several files is built or refused.
pub fn kustomization(input: &[u8]) {
    let text = text(input);
    let memory = files("kustomization.yaml", &text)
        .into_iter()
        .fold(Memory::default(), |memory, (name, text)| memory.with(&format!("/r/{name}"), text));
    if let Ok(built) = kustomize::build(&memory, "/r", &kustomize::Options::default()) {
        let printed = built.text();
        assert!(yaml::from_str_all(&printed).is_ok(), "what is built is no YAML:\n{printed}");
    }
}

/// Plain objects are read or refused.
pub fn manifest(input: &[u8]) {
    let _ = manifest::parse("deploy", &[manifest::SourceFile { path: "deploy/a.yaml", content: input }]);
}

/// A configuration that is read prints as one that is read.
pub fn skaffold(input: &[u8]) {
    let text = text(input);
    let memory = Memory::default().with("/r/skaffold.yaml", text.as_bytes());
    if let Ok(loaded) = skaffold::load(&memory, "/r/skaffold.yaml", &skaffold::Options::new("/r")) {
        let printed = loaded.text();
        assert!(yaml::from_str_all(&printed).is_ok(), "what is printed is no YAML:\n{printed}");
    }
}
