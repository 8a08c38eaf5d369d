//! Steps as vertices.

macro_rules! golden {
    ($told:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($told) })
    };
}
macro_rules! golden_yaml {
    ($value:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_yaml_snapshot!($value) })
    };
}

use std::collections::BTreeMap;

use graph::{FileSource, Graph, Op, Origin, Scope};
use pipeline::{Place, ResolvedImage, parse};

const FILE: &str = "
steps:
  - { name: docs, image: tools, run: [make], needs: [build] }
  - { name: build, image: node, run: npm run build, artifacts: [dist/**], needs: [], env: { CI: no } }
  - { name: test, image: node, run: npm test, workdir: web, reports: { junit: r.xml }, needs: [docs], timeout: 20s }
";

fn images() -> BTreeMap<String, ResolvedImage> {
    let image = |name: &str, digit: &str| {
        let resolved = ResolvedImage {
            repository: format!("base/{name}"),
            digest: format!("sha256:{}", digit.repeat(64)).parse().unwrap(),
            env: BTreeMap::from([("PATH".into(), format!("/{name}/bin")), ("CI".into(), "maybe".into())]),
        };
        (name.to_owned(), resolved)
    };
    BTreeMap::from([image("node", "1"), image("tools", "2")])
}

fn lower(
    file: &str,
    build: u64,
    images: &BTreeMap<String, ResolvedImage>,
) -> Result<(Graph, pipeline::Lowered), String> {
    let pipeline = parse(file, ".shipway.yaml").unwrap();
    let mut graph = Graph::new();
    let run = format!("journal/{build}").parse().unwrap();
    let place = Place {
        run: &run,
        commit: &"c".repeat(40).parse().unwrap(),
        branch: "main",
        checkout: FileSource { origin: Origin::Blobs, files: vec![] },
        images,
        scope: Scope::Within(format!("run/{run}")),
    };
    let lowered = pipeline.lower(&mut graph, &place).map_err(|e| e.to_string())?;
    Ok((graph, lowered))
}

#[test]
fn steps_become_vertices_in_an_order_that_works() {
    let (graph, lowered) = lower(FILE, 3, &images()).unwrap();
    let shape: Vec<String> = graph
        .vertices()
        .iter()
        .map(|v| format!("{} [{}] inputs {:?} after {:?} {:?}", v.name, v.group, v.inputs, v.after, v.scope))
        .collect();
    golden!(shape.join("\n"));
    let names: Vec<&str> = lowered.steps.iter().map(|i| graph.vertices()[*i].name.as_str()).collect();
    assert_eq!(names, ["docs", "build", "test"], "in the order of the file");
    let Op::Exec(test) = &graph.vertices()[lowered.steps[2]].op else { panic!() };
    golden_yaml!(test);
    let Op::Exec(build) = &graph.vertices()[lowered.steps[1]].op else { panic!() };
    assert_eq!((build.env["CI"].as_str(), build.env["PATH"].as_str()), ("no", "/node/bin"));
    assert_eq!(build.argv, ["/bin/sh", "-eu", "-c", "npm run build"]);
}

#[test]
fn another_run_does_not_find_the_steps_of_this_one_but_the_same_run_does() {
    let id = |build| {
        let (graph, lowered) = lower(FILE, build, &images()).unwrap();
        graph.id(lowered.steps[0]).clone()
    };
    assert_eq!(id(3), id(3));
    assert_ne!(id(3), id(4));
}

#[test]
fn an_image_that_was_not_resolved_is_an_error() {
    let mut images = images();
    images.remove("node");
    let told = lower(FILE, 3, &images).unwrap_err();
    assert_eq!(told, "the image `node` of the step `build` was not resolved to a digest");
}
