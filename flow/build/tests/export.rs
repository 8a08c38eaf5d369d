//! A lowered Dockerfile and its layers as an image in the registry.

mod support;

use std::collections::HashMap;

use build::{
    ContextEntry, ContextTree, Error, ExportOptions, Exported, Ignore, ImageConfig, LayerInfo, Options, Platform,
    ResolvedBase, export, lower,
};
use graph::{Graph, Origin, vertex::SelectedKind};
use image::{
    layer::{WriteOptions, write_blob},
    layout,
    registry::{Document, ManifestRef},
};
use support::Store;

/// A layer with one file, in the store.
async fn layer(store: &Store, name: &str) -> LayerInfo {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join(name), name).unwrap();
    let options = WriteOptions { epoch: Some(0), ..WriteOptions::default() };
    LayerInfo::from(&write_blob(&store.blobs, tree.path().to_owned(), options).await.unwrap())
}

async fn image(
    store: &Store,
    dockerfile: &str,
    layers: &[Option<LayerInfo>],
    bases: HashMap<String, ResolvedBase>,
) -> Result<Exported, Error> {
    let file = build::dockerfile::parse("Dockerfile", dockerfile).unwrap();
    let entry = ContextEntry { path: "a".into(), mode: 0o644, kind: SelectedKind::File, content: "1".into(), size: 1 };
    let context = ContextTree::new(Origin::Blobs, [entry], Ignore::default()).unwrap();
    let plan = lower(&file, &context, &Options::default(), &bases).unwrap();
    let lowered = plan.add_to(&mut Graph::new(), "image");
    let options = ExportOptions { epoch: 1_700_000_000, ..ExportOptions::default() };
    export(&store.registry, "journal/frontend", &["0123456789ab-1"], &lowered, layers, &options).await
}

#[tokio::test]
async fn layers_of_the_base_come_first_and_the_digest_is_always_the_same() {
    let mut digests = Vec::new();
    for _ in 0..2 {
        let store = Store::new();
        let base = layer(&store, "base").await;
        let mut config = ImageConfig::empty(&Platform::host());
        config.rootfs.diff_ids = vec![base.diff_id.to_string()];
        let descriptor = serde_json::json!({ "mediaType": base.media_type, "digest": base.digest, "size": base.size });
        let resolved = ResolvedBase {
            name: "node".into(),
            repository: "base/node".into(),
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            config,
            layers: vec![serde_json::from_value(descriptor).unwrap()],
        };
        let own = layer(&store, "own").await;
        let text = "FROM node\nENV A=1\nWORKDIR /\nCOPY a /a\nRUN nothing\nCMD [\"x\"]\n";
        let layers = [Some(own.clone()), None];
        let exported = image(&store, text, &layers, HashMap::from([("node".to_owned(), resolved)])).await.unwrap();
        assert_eq!(
            exported.layers.iter().map(|l| l.created_by.as_str()).collect::<Vec<_>>(),
            ["FROM node", "COPY a /a"]
        );
        assert_eq!(exported.size, base.size + own.size);

        let (info, manifest) = store.registry.manifest("journal/frontend", &exported.digest).await.unwrap();
        let (document, _) = Document::parse(&info.media_type, &manifest).unwrap();
        assert_eq!(document.annotations.unwrap()["org.opencontainers.image.base.name"], "base/node");
        let found: Vec<_> = document.layers.unwrap().into_iter().map(|l| l.digest).collect();
        assert_eq!(found, [base.digest, own.digest]);
        let config = store::blobs::get(&*store.blobs, &document.config.unwrap().digest, 1 << 20).await.unwrap();
        let config = ImageConfig::from_json(&config).unwrap();
        assert_eq!(config.rootfs.diff_ids, [base.diff_id.to_string(), own.diff_id.to_string()]);
        let history: Vec<(&str, bool)> =
            config.history.iter().map(|h| (h.created_by.as_deref().unwrap(), h.empty_layer)).collect();
        assert_eq!(
            history,
            [
                ("ENV A=1", true),
                ("WORKDIR /", true),
                ("COPY a /a", false),
                ("RUN nothing", true),
                ("CMD [\"x\"]", true)
            ]
        );
        assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(store.registry.resolve("journal/frontend", "0123456789ab-1").await.unwrap(), exported.digest);
        inspect(&store, &exported).await;
        digests.push(exported.digest);
    }
    assert_eq!(digests[0], digests[1]);
}

/// The field's own tool reads it.
async fn inspect(store: &Store, exported: &Exported) {
    let directory = store.dir.path().join("layout");
    let references = [ManifestRef::Tag(exported.tags[0].clone())];
    layout::save_directory(&store.registry, &exported.repository, &references, &directory).await.unwrap();
    let run = std::process::Command::new("skopeo").arg("inspect").arg(format!("oci:{}", directory.display())).output();
    match run {
        Err(error) => eprintln!("SKIPPED: skopeo cannot be run: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(shown["Digest"], exported.digest.to_string());
            assert_eq!(shown["Layers"].as_array().unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let store = Store::new();
    let one = layer(&store, "one").await;
    let text = "FROM scratch\nCOPY a /a\n";
    let error = image(&store, text, &[], HashMap::new()).await.unwrap_err().to_string();
    assert_eq!(error, "the layers: are fewer than the plan has");
    let many = [Some(one.clone()), Some(one.clone())];
    assert!(image(&store, text, &many, HashMap::new()).await.unwrap_err().to_string().contains("more than"));
    // A layer that is not in the store.
    let missing = LayerInfo { digest: format!("sha256:{}", "c".repeat(64)).parse().unwrap(), ..one.clone() };
    assert!(matches!(image(&store, text, &[Some(missing)], HashMap::new()).await, Err(Error::Registry { .. })));
    let lowered = {
        let file = build::dockerfile::parse("Dockerfile", "FROM scratch\nCMD [\"x\"]\n").unwrap();
        let plan = lower(&file, &ContextTree::empty(), &Options::default(), &HashMap::new()).unwrap();
        plan.add_to(&mut Graph::new(), "image")
    };
    let options = ExportOptions::default();
    let error = export(&store.registry, "a", &["latest"], &lowered, &[], &options).await.unwrap_err();
    assert!(matches!(error, Error::Reference { .. }), "{error}");
}
