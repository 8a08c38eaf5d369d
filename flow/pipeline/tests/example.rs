//! The pipeline file of the example in this repository.

#[test]
fn the_pipeline_of_the_journal_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/journal/.shipway.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let pipeline = pipeline::parse(&text, ".shipway.yaml").unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(pipeline.step_images(), ["node"]);
    let parts: Vec<String> = pipeline.step_runs().into_iter().map(|part| part.name).collect();
    assert_eq!(parts, ["test", "journal/frontend", "journal/redis", "evidence"]);
    assert!(pipeline.steps[0].is_report("frontend/reports/junit.xml"));
    let environments = pipeline.environments(&"journal".parse().unwrap());
    assert_eq!(environments[0].namespace.as_str(), "journal");
    assert_eq!(environments[0].progress_deadline_s, 20);
}
