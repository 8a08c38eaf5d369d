//! Projects of several files, as the specification has them.

use super::*;

impl Files for BTreeMap<&str, &str> {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        Ok(self.get(path.to_str().unwrap()).map(|text| (*text).to_owned()))
    }
}

fn options(files: &[&str]) -> Options {
    Options {
        files: files.iter().map(|file| PathBuf::from(format!("/p/{file}"))).collect(),
        directory: "/p".into(),
        variables: BTreeMap::from([("TAG".to_owned(), "1.2".to_owned())]),
        ..Options::default()
    }
}

fn project(files: &BTreeMap<&str, &str>, options: &Options) -> Project {
    load(options, files).unwrap()
}

#[test]
fn builds_are_what_services_say() {
    let files = BTreeMap::from([(
        "/p/compose.yaml",
        "name: Shop\nx-labels: &labels {team: core}\nx-build: &build\n  context: ./web\n  args: [A=1, B]\nservices:\n  web:\n    image: r.example.org/web:${TAG:?}\n    build:\n      <<: *build\n      dockerfile: Dockerfile.prod\n      target: run\n      labels: *labels\n      tags: ['r.example.org/web:next']\n      secrets: [token, {source: key, target: /run/k}]\n      ssh: [default]\n      additional_contexts: {shared: ../shared, alpine: 'docker-image://alpine:3'}\n  db:\n    image: postgres:${PG:-16}\n  tool:\n    profiles: [debug]\n    build: ./tool\nsecrets:\n  token: {environment: NPM_TOKEN}\n  key: {file: ./key.pem}\n",
    )]);
    let project = project(&files, &options(&["compose.yaml"]));
    assert_eq!(project.name, "shop");
    assert_eq!(project.model["services"]["db"]["image"], "postgres:16");
    let found = builds(&project, &[]).unwrap();
    assert_eq!(found.len(), 1);
    let web = &found[0];
    assert_eq!(web.image.as_deref(), Some("r.example.org/web:1.2"));
    assert_eq!((web.context.as_str(), web.dockerfile.as_deref()), ("/p/web", Some("Dockerfile.prod")));
    assert_eq!(web.args, BTreeMap::from([("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]));
    assert_eq!(web.labels["team"], "core");
    assert_eq!(web.contexts["shared"], "/shared");
    assert_eq!(web.contexts["alpine"], "docker-image://alpine:3");
    assert_eq!(
        web.secrets[0],
        ServiceSecret { id: "token".into(), source: SecretSource::Variable("NPM_TOKEN".into()) }
    );
    assert_eq!(web.secrets[1], ServiceSecret { id: "k".into(), source: SecretSource::File("/p/key.pem".into()) });
    let with = Options { profiles: BTreeSet::from(["debug".to_owned()]), ..options(&["compose.yaml"]) };
    assert_eq!(builds(&load(&with, &files).unwrap(), &[]).unwrap().len(), 2);
}

#[test]
fn services_extend_others_and_files_include_files() {
    let files = BTreeMap::from([
        (
            "/p/compose.yaml",
            "include:\n  - sub/more.yaml\n  - path: [other.yaml]\n    env_file: other.env\nservices:\n  a:\n    extends: base\n    build:\n      target: a\n  base:\n    build:\n      context: .\n      args: {X: 1}\n  far:\n    extends: {service: far, file: far/far.yaml}\n",
        ),
        ("/p/far/far.yaml", "services:\n  far:\n    build: ./src\n"),
        ("/p/sub/more.yaml", "services:\n  more:\n    build: .\n    image: more:$OWN\n"),
        ("/p/sub/.env", "OWN=own\nTAG=not this\n"),
        ("/p/other.yaml", "services:\n  other:\n    image: o:$V-$TAG\n"),
        ("/p/other.env", "V=2\n"),
    ]);
    let project = project(&files, &options(&["compose.yaml"]));
    let services = &project.model["services"];
    assert_eq!(services["a"]["build"], serde_json::json!({ "context": "/p", "args": { "X": 1 }, "target": "a" }));
    assert_eq!(services["far"]["build"]["context"], "/p/far/src");
    assert_eq!(services["more"]["build"]["context"], "/p/sub");
    assert_eq!(services["more"]["image"], "more:own");
    assert_eq!(services["other"]["image"], "o:2-1.2");
    assert!(project.unset.is_empty(), "{:?}", project.unset);
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    for (text, why) in [
        ("services: [", "/p/compose.yaml: "),
        ("a: ${A", "not closed"),
        ("services:\n  a:\n    build: ${NO:?say it}\n", "services.a.build: the variable `NO` must be set: say it"),
        ("services:\n  a:\n    extends: b\n", "no service `b`"),
        ("services:\n  a:\n    extends: b\n  b:\n    extends: a\n", "extends itself"),
        ("include: [none.yaml]\n", "/p/none.yaml: is not there"),
        ("include: [compose.yaml]\n", "circle"),
        ("- a\n", "a map is expected"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "duplicate"),
    ] {
        let files = BTreeMap::from([("/p/compose.yaml", text)]);
        let error = load(&options(&["compose.yaml"]), &files).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let files = BTreeMap::from([("/p/compose.yaml", "services:\n  a:\n    build:\n      secrets: [none]\n")]);
    let project = project(&files, &options(&["compose.yaml"]));
    assert!(builds(&project, &[]).unwrap_err().to_string().contains("no secret `none`"));
    assert!(builds(&project, &["b".to_owned()]).unwrap_err().to_string().contains("there are a"));
}
