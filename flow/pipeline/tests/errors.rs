//! What people are told about files that are wrong, as they see it.

macro_rules! golden {
    ($told:expr) => {
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!($told) })
    };
}

/// The messages of several files, one after the other.
fn told(files: &[&str]) -> String {
    let told = files.iter().map(|text| match pipeline::parse(text, ".shipway.yaml") {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(diagnostics) => diagnostics.to_string(),
    });
    told.collect::<Vec<_>>().join("\n\n──\n\n")
}

/// A file with one step to which lines are added.
fn step(more: &str) -> String {
    format!("steps:\n  - name: test\n    image: node\n    run: npm test\n{more}")
}

fn steps(more: &[&str]) -> String {
    let files: Vec<String> = more.iter().map(|more| step(more)).collect();
    told(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn what_is_not_yaml() {
    golden!(told(&[
        "",
        "steps: [",
        "steps:\n\t- name: test\n",
        "steps: *nowhere",
        "steps: &a [*a]",
        "steps: !!binary aGVsbG8=",
        "steps: []\n---\nsteps: []\n",
        "steps: []\nsteps: []\n",
        "x-a: &a { b: c }\nsteps:\n  <<: 3\n",
        "{a: b}: c",
        "- name: test",
        "hello",
        "a: \"\u{1}\"",
    ]));
}

#[test]
fn what_is_too_much() {
    let deep = format!("steps: {}{}", "[".repeat(40), "]".repeat(40));
    let bomb: String = (1..9).fold("x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".into(), |text, i| {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        format!("{text}x-{i}: &a{i} [{aliases}]\n")
    });
    let many = format!("steps:\n{}", "- {name: a, image: b, run: c}\n".repeat(201));
    let many = told(&[&many]);
    golden!(told(&[&deep, &bomb, &"#".repeat(300 << 10)]));
    assert!(many.contains("more than 200 steps"));
    // However much is wrong, a person is told a page of it.
    assert!(many.matches("error:").count() <= 51);
}

#[test]
fn what_a_file_lacks_and_has_too_much() {
    golden!(told(&[
        "verify: {}",
        "steps:\n",
        "stepz:\n  - name: test\n",
        "steps:\n  name: test\n",
        "steps: [test]",
        "steps:\n  - {}\n",
        "steps:\n  - name:\n    image: node\n    run: x\n",
        "steps:\n  - name: test\n    imgae: node\n    run: x\n",
        "jobs:\n  test: {}\nsteps: []\n",
    ]));
}

#[test]
fn steps_that_cannot_be() {
    golden!(steps(&[
        "    need: [a]\n",
        "    needs: [tset]\n",
        "    needs: [test]\n",
        "    if: branch == 'main'\n",
        "    timeout: 30\n",
        "    timeout: soon\n",
        "    timeout: 48h\n",
        "    memory: lots\n",
        "    memory: 1Mi\n",
        "    network: host\n",
        "    workdir: ../..\n",
        "    workdir: /etc\n",
        "    artifacts: ['dist/{a,b']\n",
        "    artifacts: ['../secret']\n",
        "    env: [A, B]\n",
        "    env: { 1A: x, B: [1] }\n",
        "    secrets: [my-token]\n",
        "    secrets: [{ name: my-token, env: my-token }]\n",
        "    secrets: [TOKEN, { name: other, env: TOKEN }]\n",
        "    secrets: [{ env: TOKEN }]\n",
        "    reports: { junitt: report.xml }\n",
        "  - name: test\n    image: node\n    run: x\n",
        "  - name: Test It\n    image: node\n    run: x\n",
        "  - name: evidence\n    image: node\n    run: x\n",
        "  - name: b\n    image: node:latest\n    run: x\n",
        "  - name: b\n    image: \"no de\"\n    run: x\n",
        "  - name: b\n    image: node@sha256:12\n    run: x\n",
        "  - name: b\n    image: node\n    run:\n",
        "  - name: b\n    image: node\n    run: '  '\n",
        "  - name: b\n    image: node\n    run: []\n",
        "  - name: b\n    image: node\n    run: { a: b }\n",
    ]));
}

#[test]
fn circles() {
    golden!(told(&[
        "steps:\n\
         - { name: a, image: node, run: x, needs: [c] }\n\
         - { name: b, image: node, run: x, needs: [a] }\n\
         - { name: c, image: node, run: x, needs: [b] }\n\
         - { name: d, image: node, run: x, needs: [a] }\n",
        "steps:\n\
         - { name: a, image: node, run: x, needs: [b] }\n\
         - { name: b, image: node, run: x }\n",
        "deploy:\n  environments:\n  - { name: dev, after: prod }\n  - { name: prod, after: dev }\nsteps: []\n",
    ]));
}

fn images(more: &[&str]) -> String {
    let files: Vec<String> = more.iter().map(|more| format!("images:\n  - {more}\n")).collect();
    told(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn images_that_cannot_be() {
    golden!(images(&[
        "context: frontend",
        "name: Journal/Frontend",
        "name: journal/frontend:1",
        "name: base/node",
        "name: evidence",
        "{ name: a, tag: latest }",
        "{ name: a, tag: v1 }",
        "{ name: a, tag: '{comit}' }",
        "{ name: a, tag: '{commit' }",
        "{ name: a, tag: 'a b {build}' }",
        "{ name: a, needs: [test] }",
        "{ name: a, dockerFile: x }",
        "{ name: a, context: ../other }",
        "{ name: a }\n  - { name: a }",
    ]));
}

fn with_image(more: &[&str]) -> String {
    let files: Vec<String> = more.iter().map(|more| format!("images: [{{ name: a }}]\n{more}\n")).collect();
    told(&files.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn verification_that_cannot_be() {
    golden!(with_image(&[
        "verify: high",
        "verify: { require: [sboom] }",
        "verify: { vulnerabilities: { fail: severe } }",
        "verify: { vulnerabilities: { vex: '/etc/*.json' } }",
        "verify: { licenses: { deny: [] } }",
        "verify: { licences: { deny: [AGPL 3] } }",
        "verify: { sign: [me] }",
        "verify: { sign: [] }",
    ]));
}

#[test]
fn deployments_that_cannot_be() {
    golden!(with_image(&[
        "deploy: { from: deploy/ }",
        "deploy: { environments: [] }",
        "deploy: { from: ../x, environments: [{ name: prod }] }",
        "deploy: { environments: [{ namespace: x }] }",
        "deploy: { environments: [{ name: prod, namespace: My_Space }] }",
        "deploy: { environments: [{ name: prod, after: dev }, { name: devel }] }",
        "deploy: { environments: [{ name: prod }, { name: prod }] }",
        "deploy: { environments: [{ name: a, namespace: x }, { name: b, namespace: x }] }",
        "deploy:\n  environments:\n    - name: prod\n      strategy:\n        canary:\n          steps: [{ weight: 10 }]",
        "deploy: { environments: [{ name: prod, strategy: blue-green }] }",
        "deploy: { environments: [{ name: prod, strategy: roling }] }",
        "deploy: { environments: [{ name: prod, on-failure: explode }] }",
        "deploy: { environments: [{ name: prod, onfailure: pause }] }",
        "deploy: { environments: [{ name: prod, progress-deadline: 0s }] }",
    ]));
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    golden!(told(&[
        "stages: []\nsteps:\n  - name: test\n    image: node:latest\n    run: npm test\n    timeout: 5\n  - nam: lint\n    image: node\n    run: x\n",
    ]));
}

#[test]
fn the_place_is_right_in_lines_with_tabs_accents_and_great_length() {
    let long = format!("steps: [{{ name: a, image: node, run: '{}', tiemout: 5m }}]", "é".repeat(200));
    golden!(told(&["steps: [{ name: a, run: 'héé\t→', image: nöde }]", &long]));
}

#[test]
fn an_image_that_does_not_exist() {
    let text = step("  - name: lint\n    image: nod\n    run: x\n");
    let pipeline = pipeline::parse(&text, ".shipway.yaml").unwrap();
    let known = ["debian", "node", "redis"];
    let told = [pipeline.image_missing("nod", known), pipeline.image_missing("node", ["debian", "redis"])];
    golden!(told.map(|d| d.to_string()).join("\n\n"));
}
