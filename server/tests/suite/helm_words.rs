//! What `shipway helm` understands without a cluster: the words that people's scripts have for helm.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::Command,
};

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
    // What is no YAML can be looked at.
    std::fs::write(home.path().join("web/templates/bad.yaml"), "a: [\n").unwrap();
    let bad = run(home.path(), &["template", "r", "web"]);
    assert!(bad.out.is_empty() && bad.err.contains("YAML parse error on web/templates/bad.yaml"), "{bad:?}");
    assert!(bad.err.contains("hint: --debug prints what was rendered"), "{bad:?}");
    let bad = run(home.path(), &["template", "r", "web", "--debug"]);
    assert!(bad.code == Some(1) && bad.out.contains("---\n# Source: web/templates/bad.yaml\na: [\n"), "{bad:?}");
    std::fs::remove_file(home.path().join("web/templates/bad.yaml")).unwrap();
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
    assert!(post.contains("no such program, and no plugin of this name"), "{post}");
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

/// A server of these files for as long as the tests run; its address.
fn served(files: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let _ = lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
            let path = line.split(' ').nth(1).unwrap_or_default();
            let answer = match files.iter().find(|(name, _)| *name == path) {
                Some((_, text)) => {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", text.len())
                        + "Connection: close\r\n\r\n"
                        + text
                }
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn values_come_from_addresses_too() {
    let home = tempfile::tempdir().unwrap();
    let base = served(&[("/v.yaml", "x: { z: [1] }\n"), ("/text", "some text")]);
    let chart = home.path().join("c/templates");
    std::fs::create_dir_all(&chart).unwrap();
    std::fs::write(home.path().join("c/Chart.yaml"), "apiVersion: v2\nname: c\nversion: 1.0.0\n").unwrap();
    std::fs::write(chart.join("v.yaml"), "v: {{ .Values | toJson }}\n").unwrap();
    let (v, text) = (format!("{base}/v.yaml"), format!("k={base}/text"));
    let line = ["template", "r", "c", "-f", &v, "--set-file", &text];
    let said = run(home.path(), &line).ok();
    assert!(said.contains(r#"v: {"k":"some text","x":{"z":[1]}}"#), "{said}");
    assert!(run(home.path(), &["lint", "c", "-f", &v]).ok().contains("0 chart(s) failed"));
    // As helm says it.
    let missing = run(home.path(), &["template", "r", "c", "-f", &format!("{base}/none")]).failed();
    assert!(missing.contains(&format!("failed to fetch {base}/none : 404 Not Found")), "{missing}");
    let missing = run(home.path(), &["template", "r", "c", "--set-file", &format!("a={base}/none")]).failed();
    assert!(missing.contains("failed parsing --set-file data: failed to fetch "), "{missing}");
    let other = run(home.path(), &["template", "r", "c", "-f", "s3://b/v.yaml"]).failed();
    assert!(other.contains("open s3://b/v.yaml: no such file or directory (values come from"), "{other}");
}

/// What helm 4.3 gave a plugin, and what it made of the answer.
const GIVEN: &str = "\
# of the map
apiVersion: v1
kind: ConfigMap
metadata:
  name: a # its name
  annotations:
    postrenderer.helm.sh/postrender-filename: 'c/templates/a.yaml'
data:
  k: \"hello\"
  list:
  - 1
---
apiVersion: batch/v1
kind: Job
metadata:
  name: h
  annotations: {helm.sh/hook: pre-install, postrenderer.helm.sh/postrender-filename: 'c/templates/hook.yaml'}
";
const MADE: &str = "\
---
# Source: c/templates/a.yaml
# of the map
apiVersion: v1
kind: ConfigMap
metadata:
  name: a # its name
data:
  k: \"changed\"
  list:
  - 1

---
# Source: generated-by-postrender-2.yaml
kind: Added
---
# Source: c/templates/hook.yaml
apiVersion: batch/v1
kind: Job
metadata:
  name: h
  annotations: {helm.sh/hook: pre-install}
";

#[test]
fn post_renderers_of_helm_4_see_everything_with_its_template() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("c/Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    let map = "# of the map\napiVersion: v1\nkind: ConfigMap\nmetadata:\n    name: a   # its name\ndata:\n    k: \"hello\"\n    list:\n      - 1\n";
    write("c/templates/a.yaml", map);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: h\n  annotations: {helm.sh/hook: pre-install}\n";
    write("c/templates/hook.yaml", job);
    write(
        ".local/share/helm/plugins/change/plugin.yaml",
        "apiVersion: v1\nname: change\ntype: postrenderer/v1\nversion: 1.0.0\nruntime: subprocess\nruntimeConfig:\n  platformCommand:\n  - { command: '${HELM_PLUGIN_DIR}/run.sh', args: ['$HELM_PLUGIN_NAME'] }\n",
    );
    write(
        ".local/share/helm/plugins/change/run.sh",
        "#!/bin/sh\necho \"$*\" > arguments\ntee given | sed s/hello/changed/\nprintf -- '---\\nkind: Added\\n'\n",
    );
    write(
        ".local/share/helm/plugins/wasm/plugin.yaml",
        "apiVersion: v1\nname: wasm\ntype: postrenderer/v1\nversion: 1.0.0\nruntime: extism/v1\n",
    );
    let text = |path: &str| std::fs::read_to_string(home.path().join(path)).unwrap();
    let line = ["template", "r", "c", "--post-renderer", "change", "--post-renderer-args", "--x"];
    let said = run(home.path(), &line).ok();
    assert_eq!(text("given"), GIVEN);
    assert_eq!(text("arguments"), "change --x\n");
    assert_eq!(said.trim_end(), MADE.trim_end());
    let refused = run(home.path(), &["template", "r", "c", "--post-renderer", "wasm"]).failed();
    assert!(refused.contains("runs in `extism/v1`"), "{refused}");
    // A program is asked the same way; helm 3 gives it what is to be installed, as it was written.
    let program = ".local/share/helm/plugins/change/run.sh";
    let said = run(home.path(), &["template", "r", "c", "--post-renderer", program]).ok();
    assert_eq!((said.trim_end(), text("given").as_str()), (MADE.trim_end(), GIVEN));
    run(home.path(), &["template", "r", "c", "--compatible", "3", "--post-renderer", program]).ok();
    assert_eq!(text("given"), format!("---\n# Source: c/templates/a.yaml\n{}\n", map.trim_end()));
}
