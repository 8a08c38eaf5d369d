//! Files that are right, and files made at random.

use std::time::Duration;

use pipeline::{Command, parse};
use proptest::{prelude::*, strategy::Strategy as Random};
use records::{EvidenceKind, OnFailure, Severity, Strategy};

const WHOLE: &str = r#"
x-defaults: &node { image: node, timeout: 5m }
steps:
  - name: lint
    <<: *node
    run: npm run lint
    needs: []
  - name: test
    <<: *node
    timeout: 10m
    run: |
      cd frontend
      npm ci && npm test
    env: { NODE_ENV: test, PORT: 8080, RATIO: 1.10, FLAG: yes, EMPTY: }
    workdir: ./frontend/
    secrets: [NPM_TOKEN, { name: registry-password, env: PASSWORD }]
    artifacts: [frontend/dist/**, "*.log"]
    reports: { junit: reports/*.xml }
    network: none
    memory: 512Mi
  - name: package
    image: team/tools:1.4
    run: [make, "-j2", package]
  - name: docs
    image: node
    run: x
    needs: [lint, package]
images:
  - name: journal/frontend
    context: frontend
    dockerfile: docker/Dockerfile
    target: runtime
    args: { VERSION: 3 }
    tag: "v{build}-{commit}"
    needs: [test]
  - name: journal/redis
verify:
  require: [sbom, signature]
  vulnerabilities: { fail: never, vex: security/*.openvex.json }
  licences: { deny: [AGPL-3.0-only] }
  sign: [ci]
deploy:
  from: k8s/
  environments:
    - { name: dev }
    - name: prod
      namespace: journal
      after: dev
      approve: [release-managers]
      strategy: recreate
      on-failure: pause
      progress-deadline: 20s
"#;

#[test]
fn a_file_with_everything() {
    let pipeline = parse(WHOLE, ".shipway.yaml").unwrap_or_else(|e| panic!("{e}"));
    let [lint, test, package, docs] = &pipeline.steps[..] else { panic!() };
    assert_eq!(lint.timeout, Duration::from_secs(300));
    assert_eq!(test.timeout, Duration::from_secs(600));
    assert_eq!(test.run, Command::Shell("cd frontend\nnpm ci && npm test\n".into()));
    assert_eq!(package.run, Command::Program(vec!["make".into(), "-j2".into(), "package".into()]));
    // Values are taken as they are written.
    let env: Vec<_> = test.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["EMPTY=", "FLAG=yes", "NODE_ENV=test", "PORT=8080", "RATIO=1.10"]);
    assert_eq!(test.workdir, "frontend");
    assert_eq!(test.memory, Some(512 << 20));
    assert_eq!(test.secrets[1].env, "PASSWORD");
    assert!(test.is_report("reports/unit.xml") && !test.is_report("reports/deep/unit.xml"));
    assert!(test.is_artifact("frontend/dist/a/b.js") && test.is_artifact("x.log") && !test.is_artifact("a/x.log"));
    let needs: Vec<&[usize]> = pipeline.steps.iter().map(|step| &step.needs[..]).collect();
    assert_eq!(needs, [&[][..], &[0], &[1], &[0, 2]]);
    assert_eq!(docs.network, graph::Network::Bridge);

    let [frontend, redis] = &pipeline.images[..] else { panic!() };
    assert_eq!((&frontend.needs[..], &redis.needs[..]), (&[1][..], &[0, 1, 2, 3][..]));
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let run = records::RunId { project: "journal".parse().unwrap(), build: 7 };
    assert_eq!(frontend.tag.render(&commit, &run), "v7-0123456789ab");
    assert_eq!(redis.tag.render(&commit, &run), "0123456789ab-7");
    assert_eq!((redis.context.as_str(), redis.dockerfile.as_deref()), ("", None));

    assert_eq!(pipeline.deploy.as_ref().unwrap().from, "k8s");
    let environments = pipeline.environments(&"journal".parse().unwrap());
    let [dev, prod] = &environments[..] else { panic!() };
    assert_eq!((dev.namespace.as_str(), dev.progress_deadline_s), ("journal-dev", 120));
    assert_eq!((prod.namespace.as_str(), prod.progress_deadline_s), ("journal", 20));
    assert_eq!((&prod.strategy, prod.on_failure), (&Strategy::Recreate, OnFailure::Pause));
    assert_eq!(prod.policy.require, [EvidenceKind::Sbom, EvidenceKind::Signature]);
    assert_eq!(prod.policy.fail_on, None);
    assert_eq!(prod.policy.deny_licences, ["AGPL-3.0-only"]);
}

#[test]
fn the_least_that_a_file_says_has_good_defaults() {
    let text = "steps: [{ name: test, image: node, run: npm test }]\nimages: [{ name: a }]\ndeploy: { environments: [{ name: prod }] }";
    let pipeline = parse(text, ".shipway.yaml").unwrap();
    let step = &pipeline.steps[0];
    assert_eq!((step.timeout, step.memory, step.workdir.as_str()), (Duration::from_secs(1800), None, ""));
    let environment = &pipeline.environments(&"journal".parse().unwrap())[0];
    assert_eq!(environment.policy.require, EvidenceKind::ALL);
    assert_eq!(environment.policy.fail_on, Some(Severity::High));
    assert_eq!((&environment.strategy, environment.on_failure), (&Strategy::Rolling, OnFailure::Rollback));
    let parts: Vec<_> = pipeline.step_runs().iter().map(|part| format!("{} ← {:?}", part.name, part.needs)).collect();
    assert_eq!(parts, ["test ← []", "a ← [\"test\"]", "evidence ← [\"a\"]"]);
}

/// Texts that are nearly right: the whole file with a few lines lost, doubled, moved, or given another value.
fn nearly() -> impl Random<Value = String> {
    let value = prop_oneof![
        4 => prop::sample::select(vec![
            "[]", "{}", "~", "", "3", "true", "[a, [b]]", "{ a: { b: c } }", "latest", "../x", "/etc", "&x y", "*node", "!!str 5",
            "'{build'", "\"\\u0000\"", "[lint, test, package, docs]", "docs", "99999999999h", "7Xi", "**", "prod", "dev",
        ]).prop_map(str::to_owned),
        1 => "[ \\-a-z:{}\\[\\]\"'|>&*!%@`#,é\t]{0,30}",
    ];
    let edit = (0u8..4, any::<prop::sample::Index>(), any::<prop::sample::Index>(), value);
    prop::collection::vec(edit, 0..6).prop_map(|edits| {
        let mut lines: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
        for (what, at, other, value) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match what {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                _ => {
                    if let Some(colon) = lines[at].find(": ") {
                        lines[at].replace_range(colon + 2.., &value);
                    }
                }
            }
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![any::<String>(), nearly()]) {
        match parse(&text, "f.yaml") {
            Ok(pipeline) => {
                // What was accepted can be run: there is an order, and the records can be made.
                prop_assert_eq!(pipeline.order().len(), pipeline.steps.len());
                pipeline.step_runs();
            }
            Err(diagnostics) => {
                prop_assert!(!diagnostics.0.is_empty() && diagnostics.0.len() <= 50);
                for diagnostic in &diagnostics.0 {
                    // The place is in the file.
                    let lines = text.lines().count().max(1);
                    prop_assert!((1..=lines).contains(&(diagnostic.at.line as usize)), "{}", diagnostic);
                }
                prop_assert!(diagnostics.to_string().lines().all(|line| line.chars().count() < 400));
            }
        }
    }
}

#[test]
fn ways_to_tag_have_names() {
    let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let run = records::RunId { project: "journal".parse().unwrap(), build: 7 };
    for (tag, expected) in [
        ("build-id", "7"),
        ("system-build-id", "journal-7"),
        ("git-hash", "0123456789ab"),
        ("git-hash-build-id", "0123456789ab-7"),
        ("'{system-build}.x'", "journal-7.x"),
    ] {
        let text = format!("images:\n  - {{ name: a, tag: {tag} }}\n");
        let parsed = pipeline::parse(&text, ".shipway.yaml").unwrap();
        assert_eq!(parsed.images[0].tag.render(&commit, &run), expected);
    }
    for (tag, hint) in [("semver", "--tag-strategy semver"), ("git-hsah", "did you mean `git-hash`?")] {
        let text = format!("images:\n  - {{ name: a, tag: {tag} }}\n");
        let error = pipeline::parse(&text, ".shipway.yaml").unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn buildpacks_are_named_as_pack_names_them() {
    let text = "images:\n- name: a\n  builder: team/builder:1\n  buildpacks: [from=builder, ./packs/a]\n  run-image: team/run:1\n  \
                env: { BP_X: 1 }\n  descriptor: ./more/project.toml\n  default-process: web\n- { name: b, buildpacks: one }\n- { name: c }\n";
    let pipeline = parse(text, ".shipway.yaml").unwrap_or_else(|e| panic!("{e}"));
    let [a, b, c] = &pipeline.images[..] else { panic!() };
    let packs = a.buildpacks.as_ref().unwrap();
    assert_eq!((packs.builder.as_deref(), packs.run_image.as_deref()), (Some("team/builder:1"), Some("team/run:1")));
    assert_eq!(packs.buildpacks, ["from=builder", "./packs/a"]);
    assert_eq!((packs.descriptor.as_deref(), packs.process.as_deref()), (Some("more/project.toml"), Some("web")));
    assert_eq!(packs.env["BP_X"], "1");
    assert_eq!(b.buildpacks.as_ref().unwrap().buildpacks, ["one"]);
    assert!(c.buildpacks.is_none());
    let at = |part| {
        let wrong = pipeline.buildpacks_wrong(a, part, "is not there", None);
        (wrong.at.line, wrong.at.column)
    };
    assert_eq!(at(pipeline::BuildpackPart::Buildpack(1)), (4, 30));
    assert_eq!(at(pipeline::BuildpackPart::RunImage), (5, 14));
    assert_eq!(at(pipeline::BuildpackPart::Name), (2, 9));
    for (more, place, why) in [
        ("builder: x, dockerfile: D", ".shipway.yaml:1:35", "`dockerfile` is for images that a Dockerfile makes"),
        ("env: {A: 1}, args: {B: 2}", ".shipway.yaml:1:36", "`args` is for images"),
        ("builder: x:latest", ".shipway.yaml:1:32", "`latest` is refused"),
        ("run-image: ''", ".shipway.yaml:1:34", "this names nothing"),
        ("env: [A=1]", ".shipway.yaml:1:28", "expected a mapping"),
        ("buildpacks: [{id: x}]", ".shipway.yaml:1:36", "expected a text"),
        ("default-process: 'a b'", ".shipway.yaml:1:40", "is not the name of a process"),
        ("descriptor: ../x", ".shipway.yaml:1:35", "goes up with `..`"),
        ("buildpack: x", ".shipway.yaml:1:23", "did you mean `buildpacks`?"),
    ] {
        let told = parse(&format!("images: [{{ name: a/b, {more} }}]"), ".shipway.yaml").unwrap_err().to_string();
        assert!(told.contains(place) && told.contains(why), "{told}");
    }
}
