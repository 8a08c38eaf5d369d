//! Logs, commands and ports, over whichever protocol the client speaks.

use std::time::Duration;

use node::objects::resource;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::harness::{Node, POD, kubectls};

#[tokio::test(flavor = "multi_thread")]
async fn logs() {
    for program in kubectls() {
        let node = Node::start().await;
        let kubectl = node.client(&program);
        kubectl.ok_with("apply -f -", POD).await;
        assert_eq!(kubectl.ok("logs p -c side --tail=1").await, "p/side 4 previous=false\n");
        assert!(kubectl.ok("logs p -c main -p").await.starts_with("p/main 0 previous=true\n"));
        assert!(kubectl.ok("logs -f p -c main").await.ends_with("followed\n"));
        let said = kubectl.run("logs p -c nope", "").await;
        assert!(said.err.contains("container nope is not valid for pod p"), "{said:?}");
        let said = kubectl.run("logs q", "").await;
        assert!(said.err.contains("pods \"q\" not found"), "{said:?}");
        node.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands() {
    for program in kubectls() {
        let node = Node::start().await;
        let kubectl = node.client(&program);
        kubectl.ok_with("apply -f -", POD).await;
        let line = ["exec", "p", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 3"];
        let said = kubectl.words(&line, "").await;
        assert_eq!((said.code, said.out.as_str()), (3, "out\n"), "{said:?}");
        assert!(said.err.contains("err\n") && said.err.contains("exit code 3"), "{said:?}");
        let text: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
        let said = kubectl.run("exec -i p -c main -- cat", &text).await;
        assert!(said.code == 0 && said.out == text, "{} bytes of {} came back", said.out.len(), text.len());
        let said = kubectl.run("exec p -c main -- /does/not/exist", "").await;
        assert!(said.code != 0 && said.err.contains("cannot start /does/not/exist"), "{said:?}");
        // The one who goes takes the command along, and the server does not mind.
        let mut child = kubectl.command(&["exec", "p", "-c", "main", "--", "sleep", "60"]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        child.kill().await.unwrap();
        assert_eq!(kubectl.ok("exec p -c side -- echo still there").await, "still there\n");
        node.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 5];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(b"you said ").await.unwrap();
                stream.write_all(&request).await.unwrap();
            });
        }
    });
    for program in kubectls() {
        let node = Node::start().await;
        let kubectl = node.client(&program);
        kubectl.ok_with("apply -f -", POD).await;
        let run = |pod: &mut Value| pod["status"] = json!({"phase": "Running"});
        node.objects.modify(&resource::PODS, "default", "p", run).await.unwrap();
        let mut child = kubectl.command(&["port-forward", "pod/p", &format!(":{port}")]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap();
        let line = line.expect("port-forward says where it listens");
        let local = line.split(['>', ' ']).find_map(|word| word.strip_prefix("127.0.0.1:")).expect(&line).to_owned();
        for word in ["hello", "again"] {
            let mut stream = tokio::net::TcpStream::connect(format!("127.0.0.1:{local}")).await.unwrap();
            stream.write_all(word.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, format!("you said {word}"));
        }
        child.kill().await.unwrap();
        node.server.shutdown().await;
    }
}
