//! What `create` writes is a chart that lint likes and that renders whatever is switched on.

use std::collections::BTreeMap;

use bytes::Bytes;
use chart::{
    Flavor, Given, Loader, Render, Warnings,
    lint::{Severity, lint},
    scaffold,
};

#[test]
fn it_lints_clean_and_renders() {
    for name in ["web", "My_Chart.2", &"long".repeat(20)] {
        let files = scaffold::files(name);
        let tree: BTreeMap<String, Bytes> = files.iter().map(|file| (file.name.clone(), file.data.clone())).collect();
        for set in ["", "ingress.enabled=true", "autoscaling.enabled=true", "serviceAccount.create=false,env.A=b"] {
            let given = Given { typed: vec![set.to_owned()], ..Given::default() };
            let given = given.merge(&mut |_| Err("no file".to_owned()), Flavor::Helm4).unwrap();
            let mut render = Render::offline(Flavor::Helm4, "test-release", "default");
            let chart = Loader::default().files(files.clone(), &Warnings::default()).unwrap();
            let rendered = render.run(&chart, &given, &Warnings::default()).unwrap();
            assert!(rendered.manifest.contains("kind: Deployment"), "{}", rendered.manifest);
            assert_eq!(rendered.manifest.contains("kind: Ingress"), set.starts_with("ingress"));
            assert_eq!(rendered.hooks.len(), 1);
            render.options.lint = true;
            for flavor in [Flavor::Helm3, Flavor::Helm4] {
                render.flavor = flavor;
                let findings = lint(&tree, "DIR", &given, &render, &Warnings::default()).unwrap();
                let worse: Vec<_> = findings.iter().filter(|finding| finding.severity > Severity::Info).collect();
                assert!(worse.is_empty(), "{name} {set}: {worse:?}");
            }
        }
    }
}

#[test]
fn names_and_starters() {
    for bad in ["", "..", "a/b", "a b", "ü", &"x".repeat(251)] {
        scaffold::check_name(bad).unwrap_err();
    }
    let file = |name: &str, text: &str| chart::File { name: name.to_owned(), data: text.to_owned().into() };
    let starter = vec![file("Chart.yaml", "apiVersion: v2\nname: old\nversion: 1.0.0\n"), file("a", "x <CHARTNAME>")];
    let made = scaffold::of_starter(starter, "new").unwrap();
    assert_eq!(made[0].data, "apiVersion: v2\nname: new\nversion: 1.0.0\n");
    assert_eq!(made[1].data, "x new");
    scaffold::of_starter(vec![file("Chart.yaml", "a: b\n")], "new").unwrap_err();
}
