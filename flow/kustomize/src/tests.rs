use super::*;

mod bounds;
mod charts;

fn built(files: &Memory, root: &str) -> String {
    build(files, root, &Options::default()).unwrap_or_else(|error| panic!("{error}")).text()
}

fn problem(files: &Memory, root: &str) -> String {
    build(files, root, &Options::default()).unwrap_err().to_string()
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata:\n      labels: {app: web}\n    spec:\n      containers:\n      - name: web\n        image: nginx:1.0\n        envFrom: [{configMapRef: {name: settings}}]\n        ports: [{containerPort: 80, name: http}]\n";

#[test]
fn an_overlay_changes_its_base() {
    let files = Memory::default()
        .with("/base/kustomization.yaml", "resources: [web.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [A=1, 'B=\"x y\"']\n")
        .with("/base/web.yaml", DEPLOYMENT)
        .with(
            "/prod/kustomization.yaml",
            "resources: [../base]\nnamePrefix: prod-\nnamespace: live\nlabels:\n- pairs: {team: a}\n  includeSelectors: true\nimages:\n- {name: nginx, newTag: '1.27'}\nreplicas:\n- {name: web, count: 3}\nconfigMapGenerator:\n- name: settings\n  behavior: merge\n  literals: [A=2]\npatches:\n- patch: |-\n    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {name: web}\n    spec:\n      template:\n        spec:\n          containers:\n          - name: side\n            image: busybox\n          - name: web\n            env: [{name: X, value: 'yes'}]\n- target: {kind: Deployment}\n  patch: |-\n    - {op: add, path: /metadata/annotations, value: {a: b}}\n",
        );
    insta::assert_snapshot!(built(&files, "/prod"));
}

#[test]
fn replacements_and_vars_put_values_where_they_belong() {
    let files = Memory::default()
        .with("/web.yaml", DEPLOYMENT)
        .with("/service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: {url: http://$(HOST)/, port: 'a:b:c'}}\n")
        .with(
            "/kustomization.yaml",
            "resources: [web.yaml, service.yaml]\nnameSuffix: -x\nvars:\n- name: HOST\n  objref: {apiVersion: v1, kind: Service, name: web}\nreplacements:\n- source: {kind: Deployment, fieldPath: 'spec.template.spec.containers.[name=web].ports.0.containerPort'}\n  targets:\n  - select: {kind: Service}\n    fieldPaths: [metadata.annotations.port]\n    options: {delimiter: ':', index: 1}\n  - select: {kind: Service}\n    fieldPaths: [spec.ports.0.port]\n    options: {create: true}\n",
        );
    insta::assert_snapshot!(built(&files, "/"));
}

#[test]
fn the_way_out_of_the_root_is_barred() {
    let files = Memory::default()
        .with("/secret", "x")
        .with("/app/kustomization.yaml", "configMapGenerator:\n- name: c\n  files: [../secret]\n");
    assert_eq!(
        problem(&files, "/app"),
        "loading KV pairs: file sources: [../secret]: security; file '/secret' is not in or below '/app'"
    );
}

#[test]
fn a_cycle_of_bases_is_told() {
    let files = Memory::default()
        .with("/a/kustomization.yaml", "resources: [../b]\n")
        .with("/b/kustomization.yaml", "resources: [../a]\n");
    assert!(problem(&files, "/a").ends_with("cycle detected: candidate root '/a' contains visited root '/a'"));
}

#[test]
fn errors_name_the_thing() {
    let file = |text: &str| Memory::default().with("/kustomization.yaml", text);
    for (text, expected) in [
        ("resorces: []\n", "/kustomization.yaml: invalid Kustomization: json: unknown field \"resorces\""),
        ("kind: Kustomization\n", "/kustomization.yaml: invalid Kustomization: kustomization.yaml is empty"),
        (
            "a: b: c\n",
            "MalformedYAMLError: yaml: mapping values are not allowed in this context in File: /kustomization.yaml",
        ),
        ("helmCharts: [{name: x}]\n", "must specify --enable-helm to inflate the chart \"x\" of /kustomization.yaml"),
        (
            "generators:\n- \"{apiVersion: x/v1, kind: Y, metadata: {name: z}}\"\n",
            "external plugins disabled; unable to load external plugin 'Y' (generators that run programs or containers are not supported)",
        ),
    ] {
        assert_eq!(problem(&file(text), "/"), expected, "{text}");
    }
    assert_eq!(
        problem(&Memory::default().with("/x", ""), "/"),
        "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '/'"
    );
}

#[test]
fn remote_bases_are_refused_unless_allowed() {
    let files = Memory::default().with("/kustomization.yaml", "resources: ['https://example.com/x//y?ref=1']\n");
    assert!(problem(&files, "/").contains("remote resources are not allowed"));
}

#[test]
fn editing_leaves_other_lines_alone() {
    let text = "# my app\nresources: # all\n- a.yaml\n\n# keep\nnamespace:   x   # why\nimages:\n- name: nginx\n  newTag: \"1\"\n";
    let mut edit = Edit::new(text, "kustomization.yaml").unwrap();
    edit.add("resources", &["b.yaml".to_owned()]).unwrap();
    edit.set_image("nginx=registry.example/nginx:2.0").unwrap();
    edit.set_text("namePrefix", "p-").unwrap();
    insta::assert_snapshot!(edit.text());
    edit.remove("resources", &["*.yaml".to_owned()]).unwrap();
    assert!(edit.get("resources").unwrap().is_none());
    assert!(edit.text().contains("namespace:   x   # why\n"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    /// Whatever stands in the files, there is an answer.
    #[test]
    fn nothing_panics(kustomization in "[ -~\n]{0,200}", resource in "[ -~\n]{0,200}") {
        let files = Memory::default()
            .with("/kustomization.yaml", format!("resources: [r.yaml]\n{kustomization}"))
            .with("/r.yaml", resource);
        let _ = build(&files, "/", &Options::default());
    }

    /// A patch that says nothing new changes nothing; the same patch twice does what once does.
    #[test]
    fn a_merge_is_idempotent(image in "[a-z]{1,8}", port in 1u16..9999, name in "[a-z]{1,4}") {
        let patch = format!("apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{template: {{spec: {{containers: [{{name: {name:?}, image: {image:?}, ports: [{{containerPort: {port}}}]}}]}}}}}}\n");
        let files = |times: usize| {
            let list = "- path: p.yaml\n".repeat(times);
            Memory::default()
                .with("/kustomization.yaml", format!("resources: [web.yaml]\npatches:\n{list}"))
                .with("/web.yaml", DEPLOYMENT)
                .with("/p.yaml", patch.clone())
        };
        proptest::prop_assert_eq!(built(&files(1), "/"), built(&files(2), "/"));
    }
}
