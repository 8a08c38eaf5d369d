//! A whole server whose content lies in a real S3 server: `gofakes3` in PATH, or what `S3_SERVER` names.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use testbed::{Options, need_root, need_tool, sha256, skip};

use crate::{
    registry::{copy, layout},
    shipway,
};

struct S3(Child);

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn content_is_kept_in_s3() {
    if !need_root() || !need_tool("skopeo") {
        return;
    }
    let program = std::env::var("S3_SERVER").unwrap_or_else(|_| "gofakes3".into());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let home = testbed::directory();
    let mut s3 = Command::new(&program);
    s3.args(["-backend", "memory", "-autobucket", "-initialbucket", "blobs", "-host", &host]);
    let Ok(child) = s3.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return skip(&format!("there is no S3 server {program}; S3_SERVER names one"));
    };
    let _s3 = S3(child);
    testbed::wait_for("the S3 server answers", std::time::Duration::from_secs(60), || {
        std::net::TcpStream::connect(&host).map(drop).map_err(|e| e.to_string())
    });
    let server = Options::new(shipway())
        .argument("--blobs")
        .argument("s3://blobs/some/prefix")
        .variable("AWS_ENDPOINT", format!("http://{host}"))
        .variable("AWS_REGION", "us-east-1")
        .variable("AWS_ACCESS_KEY_ID", "test")
        .variable("AWS_SECRET_ACCESS_KEY", "test")
        .start();
    // One that is sent whole, and one in parts.
    for (tag, bytes) in [("small", 1000), ("large", 40_000_000)] {
        let home = testbed::directory();
        std::fs::create_dir_all(home.path().join("files/etc")).unwrap();
        std::fs::write(home.path().join("files/etc/file"), vec![1; bytes]).unwrap();
        let digest = layout(home.path(), &["etc"]);
        let from = format!("oci:{}:v1", home.path().join("layout").display());
        let name = format!("docker://s3/app:{tag}");
        copy(&server, home.path(), &from, &name, Some(&server.token())).ok();
        let to = home.path().join("back");
        copy(&server, home.path(), &name, &format!("dir:{}", to.display()), None).ok();
        assert_eq!(sha256(&std::fs::read(to.join("manifest.json")).unwrap()), digest);
    }
    assert!(!server.data().join("blobs/sha256").exists(), "nothing of it lies here");
    assert_eq!(std::fs::read_dir(server.data().join("spool")).unwrap().count(), 0);
    // What was acknowledged is there after a kill; a clean-up keeps what is named and takes what is not.
    server.kill();
    server.restart();
    let to = home.path().join("back");
    copy(&server, home.path(), "docker://s3/app:large", &format!("dir:{}", to.display()), None).ok();
    assert_eq!(server.ask("DELETE", "/v2/s3/app/manifests/large", None).status, 202);
    server.cli(&["registry", "retention", "set", "s3", "--keep-last", "1", "--untagged", "0s"]).ok();
    let report = testbed::json(&server.cli(&["registry", "gc", "--grace", "0s", "--lease", "0s", "--json"]).ok());
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["blobs"].as_u64().unwrap() >= 2, "{report}");
    assert_eq!(server.json("/v2/s3/app/tags/list")["tags"], json!(["small"]));
    std::fs::remove_dir_all(&to).unwrap();
    copy(&server, home.path(), "docker://s3/app:small", &format!("dir:{}", to.display()), None).ok();
    server.stop();
}
