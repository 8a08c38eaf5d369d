//! Files as people write them, in; objects as the cluster gets them, or an error that people understand, out.

use std::collections::BTreeMap;

use manifest::{Error, Pinned, Placement, SourceFile, apply_order, parse, pin, place, references};
use proptest::prelude::*;
use serde_json::{Value, json};

const PROJECT: &str = "shipway.dev/project";
const RELEASE: &str = "shipway.dev/release";

fn one(text: &str) -> manifest::Result<Vec<Value>> {
    let files = [SourceFile { path: "deploy/app.yaml", content: text.as_bytes() }];
    parse("deploy/", &files).map(|objects| objects.into_iter().map(|object| object.value).collect())
}

fn deployment(name: &str, image: &str) -> Value {
    let containers = json!([{ "name": "web", "image": image }]);
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": { "template": { "spec": { "containers": containers } } } })
}

const APP: &str = "\
# The application.
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: frontend, labels: { app: frontend } }
spec:
  replicas: 3
  template:
    metadata: { labels: { app: frontend } }
    spec:
      initContainers:
        - { name: wait, image: redis }
      containers:
        - name: web
          image: journal/frontend:{tag}
          securityContext: { runAsNonRoot: yes }
          volumeMounts: []
      volumes:
        - { name: config, configMap: { name: c, defaultMode: 0644 } }
---
---
# nothing here
---
apiVersion: v1
kind: Service
metadata:
  name: frontend
";

#[test]
fn yaml_is_read_as_kubernetes_reads_it() {
    let objects = one(&APP.replace("{tag}", "latest")).unwrap();
    assert_eq!(objects.len(), 2);
    let spec = &objects[0]["spec"]["template"]["spec"];
    assert_eq!(spec["volumes"][0]["configMap"]["defaultMode"], 420);
    assert_eq!(spec["containers"][0]["securityContext"]["runAsNonRoot"], true);
    let files = [SourceFile { path: "a.yaml", content: APP.as_bytes() }];
    let lines: Vec<u64> = parse("", &files).unwrap().iter().map(|object| object.at.line).collect();
    assert_eq!(lines, [3, 24]);
    let list = "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: a}}, {apiVersion: v1, kind: Secret, metadata: {name: b}}]}";
    assert_eq!(one(list).unwrap().len(), 2);
    let data = one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: \"yes\", text: |\n  x\n}\n").err();
    assert!(data.is_some(), "a block in braces is no YAML");
    let block =
        one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: \"yes\"\n  text: |\n    ---\n    b\n")
            .unwrap();
    assert_eq!(block[0]["data"], json!({ "a": "yes", "text": "---\nb\n" }), "an indented marker is text");
}

#[test]
fn errors_say_file_line_what_and_what_to_do() {
    let cases = [
        (
            "syntax",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n---\nkind: Service\nmetadata:\n  name: [a\nspec: 1\n",
        ),
        ("tab", "apiVersion: v1\n\tkind: Service\n"),
        ("template", "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\n"),
        ("scalar", "# x\n\njust text\n"),
        ("kind", "apiVersion: v1\nmetadata: { name: a }\n"),
        ("api version", "kind: Service\nmetadata: { name: a }\n"),
        ("name", "apiVersion: v1\nkind: Service\nmetadata: {}\n"),
        ("name with a slash", "apiVersion: v1\nkind: Service\nmetadata: { name: ../x }\n"),
        ("labels", "apiVersion: v1\nkind: Service\nmetadata: { name: a, labels: [b] }\n"),
        (
            "twice",
            "apiVersion: v1\nkind: Service\nmetadata: { name: a }\n---\napiVersion: v1\nkind: Service\nmetadata: { name: a }\n",
        ),
        ("empty", "# nothing\n"),
    ];
    let shown = cases.map(|(name, text)| format!("== {name}\n{}\n", one(text).unwrap_err()));
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_belongs_to_other_tools_is_refused_by_name() {
    for (path, what, hint) in [
        ("x/Chart.yaml", "Helm chart", "`deploy.from`"),
        ("x/kustomization.yaml", "kustomization", "`deploy.from`"),
        ("skaffold.yaml", "Skaffold", "rendered"),
    ] {
        let error = parse("", &[SourceFile { path, content: b"" }]).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(what) && error.contains(hint), "{error}");
    }
    let large = vec![b'#'; manifest::MAX_FILE_BYTES + 1];
    assert!(parse("", &[SourceFile { path: "a.yaml", content: &large }]).unwrap_err().to_string().contains("4 MiB"));
    assert!(parse("", &[SourceFile { path: "a.yaml", content: b"\xff" }]).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn aliases_do_not_explode() {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(10);
        text += &format!("a{i}: &a{i} [{}]\n", before.trim_end_matches(", "));
    }
    assert!(matches!(one(&text), Err(Error::Problem(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(one(&deep), Err(Error::Problem(_))));
    let deep = "a:\n".to_owned() + &(1..3000).map(|i| " ".repeat(i) + "a:\n").collect::<String>();
    assert!(one(&deep).is_err());
}

fn pinned(repository: &str, digit: char) -> Pinned {
    Pinned { repository: repository.into(), digest: format!("sha256:{}", digit.to_string().repeat(64)) }
}

#[test]
fn every_image_is_pinned_or_named() {
    let images = BTreeMap::from([
        ("journal/frontend".to_owned(), pinned("journal/frontend", 'a')),
        ("redis".to_owned(), pinned("base/redis", 'b')),
    ]);
    let registry = "127.0.0.1:8080";
    let mut objects = one(&APP.replace("{tag}", "v1-3")).unwrap();
    assert_eq!(references(&objects), ["journal/frontend", "redis"]);
    let used = pin(&mut objects, registry, &images).unwrap();
    assert_eq!(used, [pinned("base/redis", 'b'), pinned("journal/frontend", 'a')]);
    let spec = &objects[0]["spec"]["template"]["spec"];
    assert_eq!(spec["containers"][0]["image"], format!("127.0.0.1:8080/journal/frontend@sha256:{}", "a".repeat(64)));
    assert_eq!(spec["initContainers"][0]["image"], format!("127.0.0.1:8080/base/redis@sha256:{}", "b".repeat(64)));
    let again = objects.clone();
    assert_eq!(pin(&mut objects, registry, &BTreeMap::new()).unwrap(), used, "what is by digest stays");
    assert_eq!(objects, again);

    let c = "c".repeat(64);
    let cases = |image: &str| {
        let mut objects = [deployment("d", image)];
        pin(&mut objects, registry, &images)
            .map(|_| objects[0]["spec"]["template"]["spec"]["containers"][0]["image"].clone())
    };
    assert_eq!(cases(&format!("quay.io/x/y:1@sha256:{c}")).unwrap(), format!("quay.io/x/y@sha256:{c}"));
    assert_eq!(cases(&format!("x/y@sha256:{c}")).unwrap(), format!("{registry}/x/y@sha256:{c}"));
    assert!(cases("127.0.0.1:8080/journal/frontend").is_ok());
    for bad in [
        "nginx",
        "quay.io/redis",
        "journal/frontend@sha256:abc",
        "journal/frontend@md5:0",
        "",
        "redis/x",
        "localhost:5000/redis",
    ] {
        let error = cases(bad).unwrap_err();
        assert!(error.to_string().contains("container web of Deployment d"), "{error}");
    }
    let mut kinds = [
        json!({ "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "x" }] } }),
        json!({ "kind": "CronJob", "metadata": { "name": "p" }, "spec": { "jobTemplate": { "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": "x" }] } } } } } }),
        json!({ "kind": "StatefulSet", "metadata": { "name": "p" }, "spec": { "template": { "spec": { "volumes": [{ "name": "v", "image": { "reference": "x" } }] } } } }),
    ];
    let Err(Error::Unpinned(found)) = pin(&mut kinds, registry, &images) else { panic!("none of them is known") };
    assert_eq!(found.len(), 3);
}

#[test]
fn objects_are_placed_and_ordered() {
    let labels = BTreeMap::from([(PROJECT.to_owned(), "journal".to_owned())]);
    let annotations = BTreeMap::from([(RELEASE.to_owned(), "journal/prod/3".to_owned())]);
    let placement = Placement { namespace: "journal-dev".into(), labels, annotations };
    let mut objects = one(APP).unwrap();
    objects[1]["metadata"]["namespace"] = json!("elsewhere");
    let subject = json!({ "kind": "ServiceAccount", "name": "a", "namespace": "elsewhere" });
    objects.push(json!({ "kind": "RoleBinding", "metadata": { "name": "r" }, "subjects": [subject] }));
    objects.push(json!({ "kind": "ClusterRole", "metadata": { "name": "r", "labels": null } }));
    objects.push(json!({ "kind": "Widget", "metadata": { "name": "w" } }));
    place(&mut objects, &placement);
    apply_order(&mut objects);
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Namespace", "ClusterRole", "RoleBinding", "Service", "Deployment", "Widget"]);
    assert_eq!(objects[0], json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "journal-dev" } }));
    assert!(objects[1]["metadata"].get("namespace").is_none());
    for object in &objects[1..] {
        assert_eq!(object["metadata"]["labels"][PROJECT], "journal");
        assert_eq!(object["metadata"]["annotations"][RELEASE], "journal/prod/3");
    }
    for object in &objects[2..] {
        assert_eq!(object["metadata"]["namespace"], "journal-dev");
    }
    assert_eq!(objects[2]["subjects"][0]["namespace"], "journal-dev");
    let deployment = &objects[4];
    assert_eq!(deployment["metadata"]["labels"]["app"], "frontend", "what was there stays");
    assert_eq!(
        deployment["spec"]["template"]["metadata"],
        json!({ "labels": { "app": "frontend", "shipway.dev/project": "journal" } })
    );
    let once = objects.clone();
    place(&mut objects, &placement);
    assert_eq!(objects, once, "placing twice is placing once");
}

proptest! {
    #[test]
    fn no_input_panics(text in "[ -~\n\t]{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = one(&text);
        let _ = parse("", &[SourceFile { path: "a.yaml", content: &bytes }]);
        let mut objects = [deployment("d", &text)];
        let _ = pin(&mut objects, "r", &BTreeMap::new());
    }

    /// Whatever objects there are, printed as a stream of JSON documents they come back as they were.
    #[test]
    fn a_stream_keeps_its_objects(names in prop::collection::hash_set("[a-z]{1,8}", 1..20), blank in "[ \n]{0,3}") {
        let objects: Vec<Value> = names.iter().map(|name| deployment(name, "x")).collect();
        let text = objects.iter().map(|object| format!("---\n{object}\n{}", blank.replace(' ', "# c\n"))).collect::<String>();
        prop_assert_eq!(one(&text).unwrap(), objects);
    }
}
