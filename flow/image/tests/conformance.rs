//! The conformance suite of the OCI distribution specification, where its program is at hand: its path in `OCI_CONFORMANCE`.

mod support;

use std::{collections::BTreeMap, sync::Arc};

use image::registry::{Limits, http::AllowAll};

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_passes() {
    let Ok(program) = std::env::var("OCI_CONFORMANCE") else {
        eprintln!("SKIPPED: OCI_CONFORMANCE does not name the conformance program of opencontainers/distribution-spec");
        return;
    };
    for stores in support::ALL {
        let limits =
            Limits { sparse: std::env::var("OCI_DATA_SPARSE").is_ok_and(|value| value == "true"), ..Limits::default() };
        let served = support::serve_with(stores, limits, Arc::new(AllowAll)).await;
        let results = served.directory.path().join("results");
        let output = tokio::process::Command::new(&program)
            .current_dir(served.directory.path())
            .env("OCI_REGISTRY", &served.host)
            .env("OCI_TLS", "disabled")
            .env("OCI_VERSION", std::env::var("OCI_VERSION").unwrap_or_else(|_| "1.1".into()))
            .env("OCI_REPO1", "conformance/one")
            .env("OCI_REPO2", "conformance/two")
            .env("OCI_RESULTS_DIR", &results)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = std::fs::read_to_string(results.join("junit.xml")).unwrap_or_default();
        let mut counts = BTreeMap::new();
        for what in ["<testcase", "<failure", "<error", "<skipped"] {
            counts.insert(&what[1..], report.matches(what).count());
        }
        eprintln!("{stores:?}: {counts:?}");
        if let Ok(copy) = std::env::var("OCI_CONFORMANCE_REPORT") {
            let _ = std::fs::write(format!("{copy}.{stores:?}.txt"), &text);
            let _ = std::fs::write(format!("{copy}.{stores:?}.xml"), &report);
        }
        let failed = ["failure", "error"].iter().map(|what| counts[what]).sum::<usize>();
        assert!(output.status.success() && failed == 0, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
