//! `shipway helm` against the server's own node, as somebody uses it who was given its kubeconfig: a release's life, and one
//! whose process was killed.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use testbed::{Options, Said, Shared, Shipway, json, need_root, need_tool, said};

use crate::shipway;

const CONFIG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: '{{ .Release.Name }}' }
data: { greeting: '{{ .Values.greeting }}', kind: '{{ .Capabilities.APIVersions.Has \"apps/v1/Deployment\" }}' }
";

/// Its image is nowhere, so it never ends.
const HOOK: &str = "\
{{- if .Values.stuck }}
apiVersion: batch/v1
kind: Job
metadata: { name: stuck, annotations: { helm.sh/hook: pre-upgrade } }
spec:
  template: { spec: { restartPolicy: Never, containers: [{ name: c, image: nowhere/none:1 }] } }
{{- end }}
";

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    (need_root() && need_tool("git")).then(|| SERVER.get(|| Options::new(shipway()).start()))
}

fn command(server: &Shipway, arguments: &[&str]) -> Command {
    let mut command = Command::new(shipway());
    command.arg("helm").args(arguments).env("KUBECONFIG", server.data().join("kubeconfig"));
    command.env_remove("HELM_NAMESPACE").env_remove("HELM_DRIVER").env_remove("HELM_KUBECONTEXT");
    command
}

fn run(server: &Shipway, arguments: &[&str]) -> Said {
    said(&mut command(server, arguments), b"")
}

fn chart(directory: &Path) {
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: words\nversion: 1.0.0\n"),
        ("values.yaml", "greeting: hello\nstuck: false\n"),
        ("templates/config.yaml", CONFIG),
        ("templates/hook.yaml", HOOK),
        ("templates/NOTES.txt", "It says {{ .Values.greeting }}."),
    ];
    std::fs::create_dir_all(directory.join("templates")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn a_release_and_a_killed_upgrade() {
    let Some(server) = server() else { return };
    let directory = tempfile::tempdir().unwrap();
    chart(directory.path());
    let path = directory.path().to_str().unwrap();
    let helm = |arguments: &[&str]| run(server, arguments).ok();

    let missing = run(server, &["install", "web", path, "-n", "words"]).failed();
    assert!(
        missing.contains("INSTALLATION FAILED: create: failed to create: namespaces \"words\" not found"),
        "{missing}"
    );
    let installed = helm(&["install", "web", path, "-n", "words", "--create-namespace", "--wait"]);
    assert!(installed.starts_with("NAME: web\nLAST DEPLOYED: "), "{installed}");
    assert!(
        installed.ends_with("\nNAMESPACE: words\nSTATUS: deployed\nREVISION: 1\nDESCRIPTION: Install complete\nTEST SUITE: None\nNOTES:\nIt says hello.\n"),
        "{installed}"
    );
    let listed = json(&helm(&["list", "-A", "-o", "json"]));
    assert_eq!((&listed[0]["name"], &listed[0]["chart"]), (&"web".into(), &"words-1.0.0".into()), "{listed}");
    let status = helm(&["status", "web", "-n", "words"]);
    assert!(status.contains("RESOURCES:\n==> v1/ConfigMap\nNAME   DATA   AGE\nweb    2      "), "{status}");
    assert!(helm(&["get", "manifest", "web", "-n", "words"]).contains("kind: 'true'"), "what the cluster has is known");

    let mut killed = command(server, &["upgrade", "web", path, "-n", "words", "--set", "stuck=true,greeting=never"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.wait_for("the upgrade has begun", || {
        let history = helm(&["history", "web", "-n", "words", "-o", "json"]);
        if history.contains("pending-upgrade") { Ok(()) } else { Err(history) }
    });
    let busy = run(server, &["upgrade", "web", path, "-n", "words"]).failed();
    assert!(busy.contains("UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress"), "{busy}");
    killed.kill().unwrap();
    killed.wait().unwrap();

    let upgraded = helm(&["upgrade", "web", path, "-n", "words", "--set", "greeting=again"]);
    assert!(upgraded.starts_with("Release \"web\" has been upgraded. Happy Helming!\nNAME: web\n"), "{upgraded}");
    let history = json(&helm(&["history", "web", "-n", "words", "-o", "json"]));
    let said: Vec<&str> = history.as_array().unwrap().iter().filter_map(|line| line["description"].as_str()).collect();
    assert_eq!(
        said,
        ["Install complete", "Interrupted while pending-upgrade: the process that did it is gone", "Upgrade complete"]
    );
    assert_eq!(helm(&["get", "values", "web", "-n", "words"]), "USER-SUPPLIED VALUES:\ngreeting: again\n");
    assert_eq!(helm(&["rollback", "web", "1", "-n", "words"]), "Rollback was a success! Happy Helming!\n");
    assert_eq!(helm(&["get", "notes", "web", "-n", "words"]), "NOTES:\nIt says hello.\n");
    assert_eq!(helm(&["uninstall", "web", "-n", "words", "--wait"]), "release \"web\" uninstalled\n");
    let gone = run(server, &["status", "web", "-n", "words"]);
    assert_eq!((gone.code, gone.failed().contains("release: not found")), (Some(4), true));
}

#[test]
fn templates_are_told_of_the_cluster_that_would_take_the_objects() {
    let Some(server) = server() else { return };
    let directory = tempfile::tempdir().unwrap();
    chart(directory.path());
    let config = "\
apiVersion: v1
kind: ConfigMap
metadata: { name: '{{ .Release.Name }}' }
data:
  found: '{{ with lookup \"v1\" \"Namespace\" \"\" \"default\" }}{{ .metadata.name }}{{ end }}'
  jobs: '{{ .Capabilities.APIVersions.Has \"batch/v1/Job\" }}'
  ingresses: '{{ .Capabilities.APIVersions.Has \"nowhere.example/v1\" }}'
  scales: '{{ or (.Capabilities.APIVersions.Has \"apps/v1/Scale\") (.Capabilities.APIVersions.Has \"autoscaling/v1/Scale\") (.Capabilities.APIVersions.Has \"v1/PodExecOptions\") }}'
";
    std::fs::write(directory.path().join("templates/config.yaml"), config).unwrap();
    let path = directory.path().to_str().unwrap();
    let told = |flags: &[&str]| run(server, &[&["template", "asked", path], flags].concat());

    let offline = told(&[]).ok();
    assert!(offline.contains("found: ''") && offline.contains("jobs: 'false'"), "{offline}");
    let online = told(&["--dry-run=server", "--api-versions", "nowhere.example/v1"]).ok();
    assert!(online.contains("found: 'default'") && online.contains("jobs: 'true'"), "{online}");
    // A cluster says itself what it has.
    assert!(online.contains("ingresses: 'false'"), "{online}");
    // With what parts of resources take, as helm has it.
    assert!(online.contains("scales: 'true'"), "{online}");
    let validated = told(&["--validate"]);
    assert!(validated.err.contains("Flag --validate has been deprecated"), "{}", validated.err);
    assert_eq!(validated.ok(), told(&["--dry-run=server"]).ok());
    // Helm 3 does not look anything up for it, and does for `--dry-run=server` alone.
    assert!(told(&["--validate", "--compatible", "3"]).ok().contains("found: ''"));
    assert!(told(&["--dry-run=server", "--compatible", "3"]).ok().contains("found: 'default'"));
    assert!(told(&["--dry-run=none"]).failed().contains("Must be \"server\" or \"client\""));
    assert!(told(&["--validate", "--dry-run=server"]).failed().contains("[validate dry-run]"));

    // What is there and somebody else's is not taken, and a kind that it does not have is no object.
    std::fs::write(directory.path().join("templates/config.yaml"), config.replace("'{{ .Release.Name }}'", "taken"))
        .unwrap();
    run(server, &["install", "owner", path]).ok();
    let foreign = told(&["--dry-run=server"]).failed();
    assert!(
        foreign.contains("unable to continue with install: ConfigMap \"taken\" in namespace \"default\" exists"),
        "{foreign}"
    );
    assert!(told(&["--dry-run=server", "--is-upgrade"]).ok().contains("name: taken"));
    std::fs::write(
        directory.path().join("templates/config.yaml"),
        "apiVersion: nowhere.example/v1\nkind: Thing\nmetadata: { name: a }\n",
    )
    .unwrap();
    let unknown = told(&["--dry-run=server"]).failed();
    assert!(
        unknown.contains("unable to build kubernetes objects") && unknown.contains("no matches for kind \"Thing\""),
        "{unknown}"
    );
    assert!(told(&[]).ok().contains("kind: Thing"));
    let nobody =
        run(server, &["template", "asked", path, "--dry-run=server", "--kube-apiserver", "http://127.0.0.1:1"]);
    assert!(nobody.failed().contains("unreachable"));
}

#[test]
fn a_registry_on_this_machine_is_spoken_to_with_tls_when_flags_say_so() {
    let Some(server) = server() else { return };
    // The node's API speaks TLS only; it is no registry, which it says.
    let kubeconfig = std::fs::read_to_string(server.data().join("kubeconfig")).unwrap();
    let after = |key: &str| kubeconfig.split(key).nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let host = after("server: ").trim_matches('"').trim_start_matches("https://").to_owned();
    let place = tempfile::tempdir().unwrap();
    let authority = place.path().join("ca.pem");
    let mut decode = Command::new("base64");
    let decoded = said(decode.arg("-d"), after("certificate-authority-data: ").trim_matches('"').as_bytes()).ok();
    std::fs::write(&authority, decoded).unwrap();
    let login = |flags: &[&str]| {
        let config = place.path().join("config.json");
        let line =
            ["registry", "login", &host, "-u", "me", "-p", "secret", "--registry-config", config.to_str().unwrap()];
        run(server, &[&line[..], flags].concat()).failed()
    };
    for flags in [&["--ca-file", authority.to_str().unwrap()][..], &["--insecure"]] {
        let answered = login(flags);
        assert!(answered.contains(&format!("https://{host} wants credentials")), "{flags:?}: {answered}");
    }
    let plain = login(&[]);
    assert!(!plain.contains("wants credentials"), "{plain}");
}
