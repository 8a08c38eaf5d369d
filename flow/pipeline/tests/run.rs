//! A pipeline through the scheduler: what a failing step stops.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use graph::{
    Error, Event, ExecContext, Executor, FileSource, Graph, Limits, Observer, Op, Options, Origin, Outcome, Output,
    Scheduler, Scope, Snapshots, Vertex, VertexId,
};
use pipeline::{Place, ResolvedImage, parse};

const FILE: &str = "
steps:
  - { name: lint, image: node, run: lint }
  - { name: test, image: node, run: fail }
  - { name: docs, image: node, run: docs, needs: [lint] }
  - { name: package, image: node, run: package, needs: [test, docs] }
images:
  - { name: journal/docs, needs: [docs] }
  - { name: journal/frontend }
";

/// Fails the step whose script is `fail`.
#[derive(Default)]
struct Machine(Mutex<Vec<String>>);

#[async_trait]
impl Executor for Machine {
    async fn execute(&self, id: &VertexId, vertex: &Vertex, _: &[Output], _: ExecContext) -> Result<Output, Error> {
        self.0.lock().unwrap().push(vertex.name.clone());
        match &vertex.op {
            Op::Exec(exec) if exec.argv.last().is_some_and(|script| script == "fail") => {
                Err(Error::Exit { code: 2, artifacts: vec![] })
            }
            _ => Ok(Output { id: id.clone(), artifacts: vec![] }),
        }
    }
}

#[async_trait]
impl Snapshots for Machine {
    async fn find(&self, _: &VertexId) -> Result<Option<Output>, Error> {
        Ok(None)
    }
}

impl Observer for Machine {
    fn event(&self, _: Event) {}
}

#[tokio::test]
async fn a_failing_step_stops_everything_after_it_and_nothing_else() {
    let pipeline = parse(FILE, ".shipway.yaml").unwrap();
    let mut graph = Graph::new();
    let node = ResolvedImage {
        repository: "base/node".into(),
        digest: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
        env: BTreeMap::new(),
    };
    let place = Place {
        run: &"journal/1".parse().unwrap(),
        commit: &"c".repeat(40).parse().unwrap(),
        branch: "main",
        checkout: FileSource { origin: Origin::Blobs, files: vec![] },
        images: &BTreeMap::from([("node".to_owned(), node)]),
        scope: Scope::Within("run/journal/1".into()),
    };
    let lowered = pipeline.lower(&mut graph, &place).unwrap();
    let images: Vec<usize> = pipeline
        .images
        .iter()
        .map(|image| {
            let name = image.name.clone();
            let after = lowered.vertices(&image.needs);
            let scope = Scope::Within(name.clone());
            graph.add(Vertex { group: name.clone(), name, op: Op::Scratch, inputs: vec![], after, scope })
        })
        .collect();

    let machine = Arc::new(Machine::default());
    let scheduler = Scheduler::new(machine.clone(), machine.clone(), Limits::default());
    let wanted: Vec<usize> = lowered.steps.iter().chain(&images).copied().collect();
    let report = scheduler.run(&graph, &wanted, machine.clone(), Options::default()).await;

    let told: Vec<String> = wanted
        .iter()
        .map(|vertex| {
            let outcome = match &report.outcomes[*vertex] {
                Outcome::Finished { .. } => "finished".to_owned(),
                Outcome::Failed(error) => error.to_string(),
                Outcome::Stopped { because } => because.clone(),
                Outcome::NotNeeded => "not needed".to_owned(),
            };
            format!("{}: {outcome}", graph.vertices()[*vertex].name)
        })
        .collect();
    let stopped = "`test` failed: exited with status 2";
    assert_eq!(
        told,
        [
            "lint: finished".to_owned(),
            "test: exited with status 2".to_owned(),
            "docs: finished".to_owned(),
            format!("package: {stopped}"),
            "journal/docs: finished".to_owned(),
            format!("journal/frontend: {stopped}"),
        ]
    );
    let ran = machine.0.lock().unwrap().clone();
    assert!(!ran.contains(&"package".to_owned()) && !ran.contains(&"journal/frontend".to_owned()));
    assert_eq!(ran.iter().filter(|name| *name == "checkout").count(), 1);
}
