//! Input that is wrong on purpose.

use super::{built, problem};
use crate::{FileError, Files, Memory, Options, build};

#[test]
fn a_base_that_contains_its_overlay_is_told() {
    let files = Memory::default()
        .with("/app/kustomization.yaml", "resources: [over]\n")
        .with("/app/over/kustomization.yaml", "resources: [..]\n");
    assert!(
        problem(&files, "/app").ends_with("cycle detected: candidate root '/app' contains visited root '/app/over'"),
        "{}",
        problem(&files, "/app")
    );
}

#[test]
fn components_in_a_circle_are_told() {
    let component = "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\ncomponents: ";
    let files = Memory::default()
        .with("/k/kustomization.yaml", "components: [../a]\n")
        .with("/a/kustomization.yaml", format!("{component}[../b]\n"))
        .with("/b/kustomization.yaml", format!("{component}[../a]\n"));
    assert!(problem(&files, "/k").ends_with("cycle detected: candidate root '/a' contains visited root '/a'"));
}

#[test]
fn no_path_leads_out() {
    for (text, expected) in [
        (
            "resources: [../../../etc/passwd]\n",
            "accumulating resources: accumulating resources from '../../../etc/passwd': security; file '/etc/passwd' is not in or below '/app'",
        ),
        ("patches: [{path: ../x.yaml}]\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("crds: [/x.yaml]\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("configurations: [../x.yaml]\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("openapi: {path: ../x.yaml}\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("replacements: [{path: ../x.yaml}]\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("secretGenerator: [{name: s, envs: [../x.yaml]}]\n", "security; file '/x.yaml' is not in or below '/app'"),
        ("resources: [/other]\n", "new root '/other' cannot be absolute"),
    ] {
        let files = Memory::default()
            .with("/x.yaml", "a: b\n")
            .with("/etc/passwd", "root\n")
            .with("/other/kustomization.yaml", "namePrefix: x\n")
            .with("/app/kustomization.yaml", text);
        let said = problem(&files, "/app");
        assert!(said.contains(expected), "{text}: {said}");
    }
}

/// Files with a link.
struct Linked(Memory);

impl Files for Linked {
    fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.0.read(&self.canonical(path).unwrap_or_default())
    }

    fn is_dir(&self, path: &str) -> bool {
        self.canonical(path).is_some_and(|path| self.0.is_dir(&path))
    }

    fn canonical(&self, path: &str) -> Option<String> {
        let path = crate::path::clean(path);
        self.0.canonical(&match path.strip_prefix("/app/link") {
            Some(rest) => format!("/secret{rest}"),
            None => path,
        })
    }
}

#[test]
fn links_lead_out_no_more_than_paths() {
    let files = Linked(
        Memory::default()
            .with("/secret/key", "x")
            .with("/app/kustomization.yaml", "configMapGenerator: [{name: c, files: [link/key]}]\n"),
    );
    let said = build(&files, "/app", &Options::default()).unwrap_err().to_string();
    assert_eq!(
        said,
        "loading KV pairs: file sources: [link/key]: security; file '/app/link/key' is not in or below '/app'"
    );
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut bomb =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            .to_owned();
    for n in 1..9 {
        bomb += &format!("  a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    }
    let files = Memory::default().with("/kustomization.yaml", "resources: [r.yaml]\n").with("/r.yaml", bomb);
    assert!(problem(&files, "/").contains("document contains excessive aliasing"), "{}", problem(&files, "/"));
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {}{}\n",
        "{a: ".repeat(20_000),
        "}".repeat(20_000)
    );
    let files = Memory::default().with("/kustomization.yaml", "resources: [r.yaml]\n").with("/r.yaml", deep);
    assert!(problem(&files, "/").contains("exceeded max depth"), "{}", problem(&files, "/"));
    let mut files = Memory::default();
    for n in 0..100 {
        files = files.with(&format!("/{n}/kustomization.yaml"), format!("resources: [../{}]\n", n + 1));
    }
    assert!(problem(&files, "/0").contains("bases nested deeper than 64: /"), "{}", problem(&files, "/0"));
}

#[test]
fn ten_thousand_resources_are_no_trouble() {
    let mut text = String::new();
    for n in 0..10_000 {
        text += &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}}}\ndata: {{n: '{n}'}}\n---\n");
    }
    let files = Memory::default()
        .with("/kustomization.yaml", "resources: [r.yaml]\nnamePrefix: p-\nnamespace: live\ncommonLabels: {a: b}\n")
        .with("/r.yaml", text);
    let text = built(&files, "/");
    assert_eq!(text.matches("\nkind: ConfigMap\n").count(), 10_000);
    assert!(text.contains("  name: p-c9999\n  namespace: live\n"));
}
