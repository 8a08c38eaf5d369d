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
