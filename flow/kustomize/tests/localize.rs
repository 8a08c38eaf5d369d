//! `localize`, from files in memory.

use kustomize::{Files, Localize, Memory, Remote, localize};

struct Elsewhere;

impl Remote for Elsewhere {
    fn text(&self, address: &str) -> std::result::Result<String, String> {
        match address {
            "https://files.example/cm.yaml" => {
                Ok("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: far}\n".to_owned())
            }
            address if address.contains("files.example") => Ok(String::new()),
            other => Err(format!("{other}: no such file")),
        }
    }

    fn repository(&self, _: &str) -> std::result::Result<(Box<dyn Files>, String), String> {
        let files = Memory::default()
            .with("/deploy/kustomization.yaml", "resources: [../base]\nnamePrefix: p-\n")
            .with("/base/kustomization.yaml", "resources: [cm.yaml]\n")
            .with("/base/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: repo}\n");
        Ok((Box::new(files), "/deploy".to_owned()))
    }
}

fn here() -> Memory {
    Memory::default()
        .with(
            "/s/app/kustomization.yaml",
            "resources:\n- https://files.example/cm.yaml\n- https://git.example/org/repo.git//deploy?ref=v1\n- ../base\nnamespace: ''\n",
        )
        .with("/s/base/kustomization.yaml", "configMapGenerator:\n- name: c\n  files: [k=a.txt]\n")
        .with("/s/base/a.txt", "text")
}

#[test]
fn what_is_elsewhere_is_copied() {
    let options = Localize { scope: Some("/s"), remote: Some(&Elsewhere) };
    let copy = localize(&here(), "/s/app", &options).unwrap();
    assert_eq!((copy.name.as_str(), copy.target.as_str()), ("localized-app", "app"));
    let text = |path: &str| String::from_utf8(copy.files[path].clone()).unwrap();
    assert_eq!(
        text("app/kustomization.yaml"),
        "resources:\n- localized-files/files.example/cm.yaml\n- localized-files/git.example/org/repo/v1/deploy\n- ../base\n"
    );
    assert_eq!(
        copy.files.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "app/kustomization.yaml",
            "app/localized-files/files.example/cm.yaml",
            "app/localized-files/git.example/org/repo/v1/base/cm.yaml",
            "app/localized-files/git.example/org/repo/v1/base/kustomization.yaml",
            "app/localized-files/git.example/org/repo/v1/deploy/kustomization.yaml",
            "base/a.txt",
            "base/kustomization.yaml",
        ]
    );
    // What was copied builds without anything from elsewhere, and makes the same.
    let build = |files: &dyn Files, root: &str, remote| {
        kustomize::build(files, root, &kustomize::Options { remote, ..kustomize::Options::default() }).unwrap().text()
    };
    let copied =
        copy.files.iter().fold(Memory::default(), |files, (path, text)| files.with(&format!("/{path}"), text.clone()));
    assert_eq!(build(&copied, "/app", None), build(&here(), "/s/app", Some(&Elsewhere)));
}

#[test]
fn what_may_not_be_copied() {
    let said = |files: &Memory, options: &Localize<'_>| localize(files, "/s/app", options).unwrap_err().to_string();
    let remote = Localize { scope: Some("/s"), remote: Some(&Elsewhere) };
    assert!(said(&here(), &Localize { scope: None, ..remote }).contains("outside localize scope"));
    assert!(said(&here(), &Localize { remote: None, ..remote }).contains("remote resources are not allowed"));
    assert!(said(&here(), &Localize { scope: Some("/s/base"), ..remote }).contains("does not contain target"));
    let taken = here().with("/s/app/localized-files/x", "");
    assert!(said(&taken, &remote).contains("already contains localized-files"));
    let loose =
        Memory::default().with("/s/app/kustomization.yaml", "resources: ['https://git.example/org/repo.git']\n");
    assert!(said(&loose, &remote).contains("missing ref query string parameter"));
    let out = Memory::default().with("/s/app/kustomization.yaml", "patches: [{path: ../../x}]\n").with("/x", "");
    assert!(said(&out, &remote).contains("is not in or below"));
    let own = Memory::default().with("/s/app/kustomization.yaml", "resources: [../app]\n");
    assert!(said(&own, &remote).contains("cycle detected"));
    let unknown = Memory::default().with("/s/app/kustomization.yaml", "resourcez: []\n");
    assert!(said(&unknown, &remote).contains("resourcez"));
}

/// Every field at once. What is expected was written by kustomize 5.8.
#[test]
fn every_field_is_written_as_kustomize_writes_it() {
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let generators = "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: x}\nfiles: [k=a.txt]\nenvs: [e.env]\n---\napiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata: {name: yy}\nname: c\nvaluesFile: v.yaml\n";
    let transformers = "apiVersion: builtin\nkind: ReplacementTransformer\nmetadata: {name: x}\nreplacements: [{path: r.yaml}]\n---\napiVersion: builtin\nkind: PatchStrategicMergeTransformer\nmetadata: {name: z}\npaths: [p.yaml]\n";
    let files = [
        ("app/kustomization.yaml", include_str!("localize_cases/whole.yaml")),
        ("app/cm.yaml", object),
        ("app/p.yaml", object),
        ("app/j.yaml", "[]\n"),
        ("app/o.json", "{}\n"),
        ("app/crd.json", "{}\n"),
        ("app/conf.yaml", "nameReference: []\n"),
        ("app/r.yaml", "replacements: []\n"),
        ("app/v.yaml", "a: 1\n"),
        ("app/v2.yaml", "a: 1\n"),
        ("app/a.txt", "t\n"),
        ("app/e.env", "A=1\n"),
        ("app/gen.yaml", generators),
        ("app/tr.yaml", transformers),
        ("app/charts/c/Chart.yaml", "name: c\n"),
        ("app/unnamed.txt", "nobody asks for it\n"),
        (
            "base/kustomization.yaml",
            "resources: []\nhelmChartInflationGenerator: [{chartName: q, values: v.yaml, chartHome: nowhere, extraArgs: []}]\nbases: []\nnamespace: null\n",
        ),
        ("base/v.yaml", "a: 2\n"),
    ];
    let here = files.iter().fold(Memory::default(), |all, (path, text)| all.with(&format!("/s/{path}"), *text));
    let copy = localize(&here, "/s/app", &Localize { scope: Some("/s"), remote: None }).unwrap();
    let text = |path: &str| String::from_utf8(copy.files[path].clone()).unwrap();
    assert_eq!(text("app/kustomization.yaml"), include_str!("localize_cases/whole.expected.yaml"));
    assert_eq!(
        text("base/kustomization.yaml"),
        "helmChartInflationGenerator:\n- chartHome: nowhere\n  chartName: q\n  values: v.yaml\n"
    );
    assert_eq!(
        text("app/gen.yaml"),
        "apiVersion: builtin\nenvs:\n- e.env\nfiles:\n- k=a.txt\nkind: ConfigMapGenerator\nmetadata:\n  name: x\n---\napiVersion: builtin\nkind: HelmChartInflationGenerator\nmetadata:\n  name: yy\nname: c\nvaluesFile: v.yaml\n"
    );
    assert!(text("app/tr.yaml").contains("paths:\n- p.yaml\n") && text("app/tr.yaml").contains("- path: r.yaml\n"));
    assert_eq!(copy.directories, ["app/charts", "app/charts/c"]);
    // All that is named is there, and nothing else.
    assert_eq!(copy.files.len(), files.len() - 1);
}

#[test]
fn places_of_what_was_elsewhere() {
    let options = Localize { scope: None, remote: Some(&Elsewhere) };
    for (field, address, place) in [
        (
            "crds",
            "https://files.example/org/repo/v1/a%20b.yaml?x=1",
            "localized-files/files.example/org/repo/v1/a%20b.yaml",
        ),
        ("crds", "http://me@files.example:8080/../x", "localized-files/files.example/x"),
        (
            "components",
            "https://github.com/org/repo//deploy?ref=v1.0",
            "localized-files/github.com/org/repo/v1.0/deploy",
        ),
        (
            "components",
            "git@gitlab.example:group/repo.git/deploy?ref=main",
            "localized-files/gitlab.example/group/repo/main/deploy",
        ),
        ("components", "ssh://git@h.example:22/a/b.git?ref=x/y", "localized-files/h.example/a/b/x/y/deploy"),
    ] {
        let files = Memory::default().with("/s/app/kustomization.yaml", format!("{field}: ['{address}']\n"));
        let copy = localize(&files, "/s/app", &options).unwrap();
        let text = String::from_utf8(copy.files["kustomization.yaml"].clone()).unwrap();
        assert_eq!(text, format!("{field}:\n- {place}\n"), "{address}");
    }
    // A target that is elsewhere itself.
    let copy = localize(&Memory::default(), "https://git.example/org/repo.git//deploy?ref=v1/x", &options).unwrap();
    assert_eq!((copy.name.as_str(), copy.target.as_str()), ("localized-deploy-v1-x", "deploy"));
    assert!(copy.files.contains_key("base/cm.yaml"));
}
