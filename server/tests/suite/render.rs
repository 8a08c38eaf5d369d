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
    let place_of = "web/templates/service.yaml:6: error: Service/release-name: `spec.type` cannot be `Clusterip`";
    assert!(wrong.out.contains(place_of) && wrong.out.contains("did you mean `ClusterIP`?"), "{wrong:?}");
    assert!(wrong.out.contains("`spec.ports[0].port` has to be a whole number"), "{wrong:?}");
    let why = render(&["chart", "--explain", "service/release-name.spec.type"]).ok();
    assert!(why.contains("chart/templates/service.yaml:6") && why.contains("chart/values.yaml:1"), "{why}");
    let why = render(&["prod", "--explain", "configmap/prod-app.metadata.name", "--json"]).ok();
    assert!(why.contains("PrefixTransformer") && why.contains("\"file\": \"prod/app.yaml\""), "{why}");
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
