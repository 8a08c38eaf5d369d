//! `shipway render` on a working tree, as people use it.

use std::{path::Path, process::Command};

use tempfile::TempDir;
use testbed::{Said, need_tool, said};

use crate::shipway;

const TEMPLATE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
spec:
  type: {{ .Values.type }}
  ports:
  - port: {{ .Values.port }}
";

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A repository with a chart, a kustomization and plain objects, committed.
fn repository() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    write(root, "chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    write(root, "chart/values.yaml", "type: ClusterIP\nport: 80\n");
    write(root, "chart/templates/service.yaml", TEMPLATE);
    write(root, "prod/kustomization.yaml", "resources: [app.yaml]\nnamePrefix: prod-\n");
    write(root, "prod/app.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app\ndata:\n  a: \"1\"\n");
    write(root, "plain/a.yaml", "# Mine.\napiVersion: v1\nkind: Secret\nmetadata: { name: a }\n");
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "first"]] {
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        let mut git = Command::new("git");
        git.args(identity).args(arguments).current_dir(root);
        said(&mut git, b"").ok();
    }
    place
}

fn render(root: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(shipway());
    command.arg("render").args(arguments).current_dir(root).env("XDG_CACHE_HOME", root.join(".cache"));
    said(&mut command, b"apiVersion: v1\nkind: Pod\nmetadata: { name: in }\n")
}

#[test]
fn what_is_there_is_found_out_and_rendered() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let render = |arguments: &[&str]| render(place.path(), arguments);
    let chart = render(&["chart", "--name", "shop", "--set", "port=8080"]).ok();
    assert!(chart.starts_with("---\n# Source: web/templates/service.yaml\napiVersion: v1\n"), "{chart}");
    assert!(chart.contains("name: shop") && chart.contains("port: 8080"), "{chart}");
    assert!(render(&["prod"]).ok().starts_with("apiVersion: v1\n"));
    assert_eq!(render(&["plain"]).ok(), "---\n# Mine.\napiVersion: v1\nkind: Secret\nmetadata: { name: a }\n");
    assert!(render(&["-", "-o", "json"]).ok().contains("\"Pod\""));
    let refused = render(&["prod", "--set", "a=b"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("prod is a kustomization"), "{refused:?}");
    let absent = render(&["nowhere"]);
    assert!(absent.code == Some(4) && absent.err.contains("error: nowhere: no such file"), "{absent:?}");
    render(&["chart", "-o", "out"]).ok();
    assert!(place.path().join("out/service_release-name.yaml").is_file());
}

#[test]
fn what_the_working_tree_changes_is_shown() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let render = |arguments: &[&str]| render(place.path(), arguments);
    let same = render(&["chart", "--diff", "HEAD", "--exit-code"]);
    assert_eq!((same.code, same.out.as_str()), (Some(0), ""), "{same:?}");
    write(place.path(), "chart/values.yaml", "type: NodePort\nport: 80\n");
    let changed = render(&["chart", "--diff", "HEAD", "--exit-code"]);
    assert_eq!(changed.code, Some(1));
    assert!(changed.out.starts_with("changed Service/release-name\n--- HEAD/Service/release-name\n"), "{changed:?}");
    assert!(changed.out.contains("\n-  type: ClusterIP\n+  type: NodePort\n"), "{changed:?}");
    assert!(changed.err.contains("0 added, 0 removed, 1 changed"), "{changed:?}");
    std::fs::remove_dir_all(place.path().join("prod")).unwrap();
    let gone = render(&["prod", "--diff", "HEAD", "--json"]).ok();
    assert!(gone.contains("\"change\": \"removed\"") && gone.contains("prod-app"), "{gone}");
    let nothing = render(&["chart", "--diff", "no-such-branch"]);
    assert!(nothing.code == Some(4) && nothing.err.contains("`no-such-branch` is no commit"), "{nothing:?}");
}

#[test]
fn objects_are_checked_and_fields_explained() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let render = |arguments: &[&str]| render(place.path(), arguments);
    assert!(render(&["chart", "--validate"]).ok().is_empty());
    let wrong = render(&["chart", "--validate", "--set", "type=Clusterip,port=http"]);
    assert_eq!(wrong.code, Some(1));
    let place_of = "chart/templates/service.yaml:6: error: Service/release-name: `spec.type` cannot be `Clusterip`";
    assert!(wrong.out.contains(place_of) && wrong.out.contains("did you mean `ClusterIP`?"), "{wrong:?}");
    assert!(wrong.out.contains("`spec.ports[0].port` has to be a whole number"), "{wrong:?}");
    let why = render(&["chart", "--explain", "service/release-name.spec.type"]).ok();
    assert!(why.contains("chart/templates/service.yaml:6") && why.contains("chart/values.yaml:1"), "{why}");
    let why = render(&["prod", "--explain", "configmap/prod-app.metadata.name", "--json"]).ok();
    assert!(why.contains("PrefixTransformer") && why.contains("\"file\": \"prod/app.yaml\""), "{why}");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    for (arguments, said) in [
        (&["chart", "--json"][..], "--json goes with --diff"),
        (&["chart", "--validate", "-o", "out"], "-o out does not go with it"),
        (&["chart", "--no-cache"], "--all"),
        (&["chart", "--validate", "--diff", "HEAD"], "cannot be used with"),
        (&["chart", "--validate", "--explain", "x"], "cannot be used with"),
        (&["-", "--set", "a=b"], "standard input is a file of objects"),
        (&["-", "--name", "x"], "standard input is a file of objects"),
        (&["chart", "-o", "xml"], "there is no such format"),
        (&["chart", "-o", "out.yaml"], "looks like a file"),
        (&["."], "--all"),
    ] {
        let refused = render(place.path(), arguments);
        assert!(refused.code == Some(2) && refused.err.contains(said), "{arguments:?}: {refused:?}");
    }
    let json = render(place.path(), &["chart", "--validate", "-o", "json", "--set", "port=x"]);
    assert!(json.code == Some(1) && json.out.contains("\"severity\": \"error\""), "{json:?}");
    assert!(!place.path().join("xml").exists() && !place.path().join("out.yaml").exists());
}

#[test]
fn templates_are_told_the_version_that_is_checked_for() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let root = place.path();
    let template = "apiVersion: {{ if semverCompare \">=1.30-0\" .Capabilities.KubeVersion.Version }}v1{{ else }}policy/v1beta1{{ end }}\nkind: ConfigMap\nmetadata: { name: v{{ .Capabilities.KubeVersion.Minor }} }\ndata: { a: 1 }\n";
    write(root, "chart/templates/map.yaml", template);
    let checked = render(root, &["chart", "--validate"]);
    assert!(checked.out.contains("ConfigMap/v34"), "{checked:?}");
    assert!(checked.err.contains("as of Kubernetes 1.34"), "{checked:?}");
    let swagger = r##"{ "info": { "version": "v1.31.2" }, "definitions": { "io.k8s.api.core.v1.ConfigMap": { "type": "object",
        "properties": { "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "data": { "type": "object", "additionalProperties": { "type": "boolean" } } },
        "x-kubernetes-group-version-kind": [{ "group": "", "kind": "ConfigMap", "version": "v1" }] } } }"##;
    write(root, "swagger.json", swagger);
    let given = render(root, &["chart", "--schemas", "swagger.json"]);
    assert!(given.out.contains("ConfigMap/v31: `data.a` has to be true or false"), "{given:?}");
    let asked = render(root, &["chart", "--validate", "--kube-version", "1.29"]);
    assert!(asked.out.contains("ConfigMap/v29"), "{asked:?}");
}

#[test]
fn schemas_come_from_the_cluster_of_the_current_context() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    write(root, "a.yaml", "apiVersion: x.example/v1\nkind: Thing\nmetadata: { name: a }\nspec: 1\n");
    let swagger = r##"{ "info": { "version": "v1.33.0" }, "definitions": { "x.Thing": { "type": "object",
        "properties": { "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "spec": { "type": "boolean" } },
        "x-kubernetes-group-version-kind": [{ "group": "x.example", "kind": "Thing", "version": "v1" }] } } }"##;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cluster = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
            asked.push(byte[0]);
        }
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", swagger.len());
        std::io::Write::write_all(&mut stream, format!("{head}{swagger}").as_bytes()).unwrap();
        String::from_utf8_lossy(&asked).into_owned()
    });
    let config = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters:\n- {{ name: c, cluster: {{ server: \"http://{address}\" }} }}\ncontexts:\n- {{ name: x, context: {{ cluster: c, user: u }} }}\nusers:\n- {{ name: u, user: {{}} }}\n"
    );
    write(root, "kubeconfig", &config);
    let mut command = Command::new(shipway());
    command.args(["render", "a.yaml", "--schemas", "cluster"]).current_dir(root);
    command.env("KUBECONFIG", root.join("kubeconfig")).env("NO_PROXY", "127.0.0.1");
    let checked = said(&mut command, b"");
    assert!(checked.out.contains("a.yaml:4:7: error: Thing/a: `spec` has to be true or false"), "{checked:?}");
    assert!(checked.err.contains("as of Kubernetes 1.33"), "{checked:?}");
    assert!(cluster.join().unwrap().starts_with("GET /openapi/v2 "), "it is asked once");
}

#[test]
fn all_apps_are_checked_and_compared() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let root = place.path();
    let render = |arguments: &[&str]| render(root, arguments);
    assert_eq!(render(&["--all", "--diff", "HEAD", "--exit-code"]).code, Some(0));
    assert!(render(&["--all", "--validate"]).err.contains("2 apps, 0 failed; 2 objects"));
    write(root, "chart/values.yaml", "type: Nodeport\nport: 80\n");
    let checked = render(&["--all", "--validate"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.out.starts_with("# App: chart\nchart/templates/service.yaml:6: error: "), "{checked:?}");
    let changed = render(&["--all", "--diff", "HEAD", "--exit-code"]);
    assert!(changed.code == Some(1) && changed.out.starts_with("# App: chart\nchanged Service/"), "{changed:?}");
    std::fs::remove_dir_all(root.join("prod")).unwrap();
    let json = render(&["--all", "--diff", "HEAD", "--json"]).ok();
    assert!(json.contains("\"app\": \"prod\"") && json.contains("\"change\": \"removed\""), "{json}");
}

#[test]
fn files_of_an_earlier_run_go() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let root = place.path();
    render(root, &["chart", "-o", "out"]).ok();
    write(root, "out/mine.yaml", "");
    render(root, &["chart", "-o", "out", "--name", "shop"]).ok();
    let there = |name: &str| root.join("out").join(name).is_file();
    assert!(there("service_shop.yaml") && there("mine.yaml") && !there("service_release-name.yaml"));
    render(root, &["--all", "-o", "all"]).ok();
    std::fs::remove_dir_all(root.join("prod")).unwrap();
    write(root, "chart/templates/service.yaml", "{{ fail \"no\" }}");
    assert_eq!(render(root, &["--all", "-o", "all"]).code, Some(1));
    assert!(root.join("all/chart.yaml").is_file(), "what fails keeps what it was");
    assert!(!root.join("all/prod.yaml").exists());
}

/// `shipway TOOL …` in a directory.
fn run(root: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(shipway());
    command.args(arguments).current_dir(root);
    said(&mut command, b"")
}

/// Expectations are what `kustomize` 5.8 writes.
#[test]
fn kustomizations_are_made_and_edited() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    write(root, "a.yaml", map);
    write(root, "sub/b.yaml", map);
    write(root, "k/c.yaml", map);
    write(root, "k/kustomization.yaml", "resources: [c.yaml]\n");
    write(root, "not.yaml", "x: 1\n");
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    let text = || std::fs::read_to_string(root.join("kustomization.yaml")).unwrap();
    for (arguments, expected) in [
        (&["--autodetect"][..], "resources:\n- a.yaml\n"),
        (&["--autodetect", "--recursive"], "resources:\n- a.yaml\n- k\n- sub/b.yaml\n"),
        (
            &[
                "--resources",
                "a.yaml,k",
                "--namespace",
                "n1",
                "--nameprefix",
                "p-",
                "--labels",
                "a:b,c:d",
                "--annotations",
                "e:f",
            ],
            "resources:\n- a.yaml\n- k\nnamePrefix: p-\nnamespace: n1\ncommonLabels:\n  a: b\n  c: d\ncommonAnnotations:\n  e: f\n",
        ),
    ] {
        run(root, &[&["kustomize", "create"], arguments].concat()).ok();
        assert_eq!(text(), format!("{head}{expected}"));
        assert_eq!(run(root, &["kustomize", "create"]).code, Some(5), "there is one");
        std::fs::remove_file(root.join("kustomization.yaml")).unwrap();
    }
    assert_eq!(run(root, &["kustomize", "create", "--resources", "zz"]).code, Some(4));
    assert_eq!(run(root, &["kustomize", "build"]).code, Some(4), "there is none");
    for (before, arguments, code, after) in [
        ("", &["set", "label", "a:b,c:d", "e:\"f\""][..], 0, "commonLabels:\n  a: b,c:d\n  e: f\n"),
        ("", &["add", "label", "a:b", "--without-selector"], 0, "labels:\n- pairs:\n    a: b\n"),
        ("", &["add", "label", "a:b", "--include-templates"], 2, ""),
        ("", &["add", "label", ":b"], 2, ""),
        ("", &["set", "configmap", "zz", "--from-literal=a=b"], 4, ""),
        ("", &["set", "secret", "zz"], 2, ""),
        ("", &["remove", "configmap", "zz"], 4, ""),
        (
            "secretGenerator:\n- name: s\n  namespace: nn\n  literals: [k=1]\n",
            &["set", "secret", "s", "--namespace", "nn", "--from-literal=k=2"],
            0,
            "secretGenerator:\n- name: s\n  namespace: nn\n  literals: [k=2]\n",
        ),
        (
            "configMapGenerator:\n- name: s\n- name: s\n  namespace: nn\n",
            &["remove", "configmap", "s", "--namespace=nn"],
            0,
            "configMapGenerator:\n- name: s\n",
        ),
        ("", &["fix"], 0, ""),
        ("", &["fix", "--vars"], 0, ""),
    ] {
        write(root, "kustomization.yaml", &format!("{head}{before}"));
        let done = run(root, &[&["kustomize", "edit"], arguments].concat());
        assert_eq!(done.code, Some(code), "{arguments:?}: {done:?}");
        assert_eq!(text(), format!("{head}{after}"), "{arguments:?}");
    }
    for absent in ["cfg", "fn"] {
        let refused = run(root, &["kustomize", absent, "tree", "--x"]);
        assert!(refused.code == Some(2) && refused.err.contains("hint: "), "{refused:?}");
    }
}

#[test]
fn a_skaffold_project_is_rendered_with_images() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    write(
        root,
        "skaffold.yaml",
        "apiVersion: skaffold/v4beta11\nkind: Config\nbuild: {artifacts: [{image: app}]}\nmanifests: {rawYaml: [k8s/*.yaml]}\nprofiles:\n- name: two\n  manifests: {rawYaml: [two.yaml]}\n",
    );
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - image: app:old\n    name: c\n"
        )
    };
    write(root, "k8s/a.yaml", &pod("one"));
    write(root, "two.yaml", &pod("two"));
    let skaffold = |arguments: &[&str]| run(root, &[&["skaffold", "render"], arguments].concat());
    assert_eq!(skaffold(&[]).ok(), pod("one"), "nothing is given for the image");
    assert_eq!(skaffold(&["-p", "two"]).ok(), pod("two"));
    let given = skaffold(&["-i", "app=r.example/app:1"]).ok();
    assert!(given.contains("image: r.example/app:1\n"), "{given}");
    assert!(skaffold(&["-i", "app:2"]).ok().contains("image: app:2\n"));
    for (argument, said) in
        [("bogus", "names no image"), ("bogus=x:1", "this is no artifact"), ("=x", "names no image")]
    {
        let refused = skaffold(&["-i", argument]);
        assert!(refused.code == Some(2) && refused.err.contains(said), "{refused:?}");
    }
    skaffold(&["-o", "out.yaml"]).ok();
    assert_eq!(std::fs::read_to_string(root.join("out.yaml")).unwrap(), pod("one"));
    assert_eq!(skaffold(&["-f", "none.yaml"]).code, Some(4));
}

#[test]
fn all_apps_are_rendered_once() {
    if !need_tool("git") {
        return;
    }
    let place = repository();
    let render = || render(place.path(), &["--all", "-o", "out", "."]);
    assert!(render().err.contains("2 apps: 2 rendered, 0 unchanged, 0 failed"));
    let text = std::fs::read_to_string(place.path().join("out/prod.yaml")).unwrap();
    assert!(text.contains("name: prod-app"), "{text}");
    assert!(render().err.contains("2 apps: 0 rendered, 2 unchanged, 0 failed"));
    write(place.path(), "chart/values.yaml", "type: NodePort\nport: 80\n");
    assert!(render().err.contains("2 apps: 1 rendered, 1 unchanged, 0 failed"));
    write(place.path(), "prod/kustomization.yaml", "resources: [absent.yaml]\n");
    let failed = render();
    assert!(
        failed.code == Some(1) && failed.err.contains("error: prod: ") && failed.err.contains("1 failed"),
        "{failed:?}"
    );
}

#[test]
fn a_kustomization_is_copied_with_what_it_names() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    write(
        root,
        "s/app/kustomization.yaml",
        &format!("# own\nresources: [../base]\n{head}images: [{{name: a, newTag: '1'}}]\nnamespace: ''\n"),
    );
    write(root, "s/base/kustomization.yaml", "configMapGenerator:\n- {files: [k=a.txt], name: c}\n");
    write(root, "s/base/a.txt", "text");
    let ok = run(root, &["kustomize", "localize", "s/app", "copy", "--scope", "s"]);
    assert!(
        ok.code == Some(0)
            && ok.err.contains("VERIFICATION SUCCESS")
            && ok.err.contains("SUCCESS: localized \"s/app\""),
        "{ok:?}"
    );
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    // As kustomize writes it.
    assert_eq!(
        read("copy/app/kustomization.yaml"),
        "apiVersion: kustomize.config.k8s.io/v1beta1\nimages:\n- name: a\n  newTag: \"1\"\nkind: Kustomization\nresources:\n- ../base\n"
    );
    assert_eq!(read("copy/base/kustomization.yaml"), "configMapGenerator:\n- files:\n  - k=a.txt\n  name: c\n");
    assert_eq!(read("copy/base/a.txt"), "text");
    let again = run(root, &["kustomize", "localize", "s/app", "copy", "--scope", "s"]);
    assert!(again.code == Some(5) && again.err.contains("localize destination \"copy\" already exists"), "{again:?}");
    let outside = run(root, &["kustomize", "localize", "s/app", "other"]);
    assert!(outside.code == Some(2) && outside.err.contains("outside localize scope"), "{outside:?}");
    assert!(!root.join("other").exists());
}
