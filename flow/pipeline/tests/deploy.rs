//! What `deploy` says of charts.

use pipeline::parse;

#[test]
fn values_are_paths_for_all_environments_and_for_one() {
    let text = "\
images:
- { name: shop/app, context: app }
deploy:
  from: chart
  values: [values/all.yaml, ./values/more.yaml]
  environments:
  - { name: dev }
  - { name: prod, values: values/prod.yaml }
";
    let deploy = parse(text, ".shipway.yaml").unwrap_or_else(|e| panic!("{e}")).deploy.unwrap();
    assert_eq!(deploy.values, ["values/all.yaml", "values/more.yaml"]);
    let own: Vec<&[String]> = deploy.environments.iter().map(|target| &target.values[..]).collect();
    assert_eq!(own, [&[][..], &["values/prod.yaml".to_owned()]]);
    let outside = text.replace("values/prod.yaml", "../prod.yaml");
    let error = parse(&outside, ".shipway.yaml").unwrap_err().to_string();
    assert!(error.contains("../prod.yaml") && error.contains("inside the repository"), "{error}");
}
