//! The whole journey as the README's command runs it: all nine points hold, and nothing is left. A test program of its own, so that
//! no other test takes the processors from the load that it drives.

use std::process::Command;

use testbed::{json, leftovers, need_mirror, need_root, need_tool, package_cache, said};

#[test]
fn the_whole_journey_holds() {
    if !(need_root() && need_tool("git") && need_tool("kubectl") && need_mirror()) {
        return;
    }
    let workspace = testbed::directory();
    let data = workspace.path().join("data");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_shipway"));
    demo.args(["demo", "--json", "--rate", "40", "--package-cache"]).arg(package_cache()).arg("--data").arg(&data);
    let said = said(demo.env("TMPDIR", workspace.path()), b"");
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = json(&said.out);
    let points = report["points"].as_array().unwrap();
    assert_eq!(points.len(), 9, "{report:#}");
    for point in points {
        assert_eq!(point["held"], true, "{point:#}");
        assert!(!point["detail"].as_str().unwrap().is_empty(), "{point:#}");
    }
    assert!(report["requests_sent"].as_u64().unwrap() >= 1000, "{report:#}");
    assert_eq!(report["requests_failed"], 0, "{report:#}");
    for figure in
        ["ready_s", "first_pod_ready_s", "push_to_first_log_s", "push_to_image_s", "push_to_serving_s", "rss_mib"]
    {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report:#}");
    }
    assert!(report["digests"].as_object().is_some_and(|digests| !digests.is_empty()), "{report:#}");
    assert_eq!(leftovers(&data), Vec::<String>::new());
}
