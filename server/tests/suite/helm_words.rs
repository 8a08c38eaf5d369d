//! What `shipway helm` understands without a cluster: the words that people's scripts have for helm.

use std::{path::Path, process::Command};

use testbed::{Said, said};

use crate::shipway;

fn run(home: &Path, line: &[&str]) -> Said {
    let mut command = Command::new(shipway());
    command.arg("helm").args(line).current_dir(home).env("HOME", home);
    for name in
        ["KUBECONFIG", "HELM_NAMESPACE", "HELM_DRIVER", "HELM_KUBECONTEXT", "HELM_DATA_HOME", "HELM_CONFIG_HOME"]
    {
        command.env_remove(name);
    }
    for name in ["HELM_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    said(&mut command, b"")
}

#[test]
fn a_chart_from_nothing_and_the_words_for_it() {
    let home = tempfile::tempdir().unwrap();
    let ok = |line: &[&str]| run(home.path(), line).ok();
    let no = |line: &[&str]| run(home.path(), line).failed();

    assert_eq!(ok(&["create", "web"]), "Creating web\n");
    assert!(no(&["create", "web"]).contains("is there already"));
    assert!(no(&["create", "a b"]).contains("chart name must match"));
    assert!(ok(&["lint", "web"]).contains("1 chart(s) linted, 0 chart(s) failed"));
    let named =
        ok(&["template", "web", "--name-template", r#"x-{{ upper "a" | lower }}"#, "-s", "templates/service.yaml"]);
    assert!(named.contains("name: x-a-web\n"), "{named}");
    assert!(ok(&["template", "web", "-g", "-s", "templates/service.yaml"]).contains("name: release-name-web\n"));
    assert!(no(&["template", "n", "web", "-g"]).contains("cannot set --generate-name and also specify a name"));
    assert!(no(&["template", "UP", "web"]).contains("invalid release name"));
    // What every command takes stands before its name or after it.
    let line = ["--namespace", "other", "template", "r", "web", "-s", "templates/tests/connection.yaml"];
    assert!(ok(&line).contains("kind: Pod"));
    assert_eq!(ok(&["inspect", "values", "web", "--jsonpath", "{.image.repository} {.port}"]), "nginx 80");
    assert_eq!(ok(&["dep", "ls", "web"]), "WARNING: no dependencies at web/charts\n");
    // A dependency that is not there is fetched when that is wanted.
    ok(&["create", "part"]);
    let chart = std::fs::read_to_string(home.path().join("web/Chart.yaml")).unwrap();
    let needs = "dependencies:\n- { name: part, version: 0.1.0, repository: \"file://../part\" }\n";
    std::fs::write(home.path().join("web/Chart.yaml"), chart.clone() + needs).unwrap();
    assert!(no(&["template", "r", "web"]).contains("missing in charts/ directory: part"));
    assert!(ok(&["template", "r", "web", "--dependency-update"]).contains("# Source: web/charts/part/templates/"));
    assert!(ok(&["template", "r", "web"]).contains("# Source: web/charts/part/templates/"));
    std::fs::write(home.path().join("web/Chart.yaml"), chart).unwrap();
    assert!(ok(&["package", "web", "-d", "out"]).ends_with("saved it to: out/web-0.1.0.tgz\n"));

    assert!(ok(&["version", "--short"]).starts_with("v4."));
    assert!(ok(&["version", "--template", "{{.Version}}"]).starts_with("v4."));
    assert_eq!(ok(&["env", "HELM_NAMESPACE", "-n", "there"]), "there\n");
    assert!(ok(&["env"]).contains("HELM_REPOSITORY_CONFIG="));
    assert!(no(&["plugin", "install", "x"]).contains("plugins of helm are not run"));
    assert!(no(&["search", "hub", "x"]).contains("Artifact Hub"));
    assert!(no(&["search", "repo"]).contains("no repositories configured"));
    let post = no(&["template", "r", "web", "--post-renderer", "no-such-plugin"]);
    assert!(post.contains("plugins, which helm 4 wants here, are not run"), "{post}");
    let unreachable = no(&["list", "--kube-apiserver", "http://127.0.0.1:1", "--kube-token", "secret-token"]);
    assert!(unreachable.contains("unreachable") && !unreachable.contains("secret-token"), "{unreachable}");
}

#[test]
fn repositories_are_listed_without_their_passwords_and_searched() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/helm");
    let cache = home.path().join(".cache/helm/repository");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(
        config.join("repositories.yaml"),
        "repositories:\n- {name: r, url: 'http://u:secret@127.0.0.1:1/charts'}\n",
    )
    .unwrap();
    let index =
        "apiVersion: v1\nentries:\n  lib:\n  - {apiVersion: v2, name: lib, version: 0.1.0, urls: [lib-0.1.0.tgz]}\n";
    std::fs::write(cache.join("r-index.yaml"), index).unwrap();
    let ok = |line: &[&str]| run(home.path(), line).ok();

    assert_eq!(ok(&["repo", "list", "--no-headers"]), "r\thttp://u:xxxxx@127.0.0.1:1/charts\n");
    for format in ["table", "json", "yaml"] {
        assert!(!ok(&["repo", "list", "-o", format]).contains("secret"));
    }
    let table = "NAME \tCHART VERSION\tAPP VERSION\tDESCRIPTION\nr/lib\t0.1.0        \t           \t           \n";
    assert_eq!(ok(&["search", "repo", "lib"]), table);
    assert_eq!(ok(&["search", "repo", "nothing"]), "No results found\n");
    assert_eq!(ok(&["search", "repo", "-o", "json", "zzz"]), "[]\n");
    assert!(run(home.path(), &["search", "repo", "zzz", "--fail-on-no-result"]).failed().contains("no results found"));
}
