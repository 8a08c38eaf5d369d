//! `ADD` of what lies on other machines, in a pipeline: a file over HTTP, and a git repository.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use testbed::{said, sha256};

use super::server;

/// An address of this machine that is neither its loopback nor its link: a server fetches from no other.
fn address() -> Option<IpAddr> {
    // Nothing is sent: the kernel says which address it would be sent from.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Serves the files of a directory until the test ends.
fn serve(address: IpAddr, root: PathBuf) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.by_ref().find(String::is_empty);
            let path = path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned();
            let (status, body) = match std::fs::read(root.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    port
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments).current_dir(directory);
    said(&mut command, b"").ok()
}

#[test]
fn an_image_takes_files_and_repositories_from_other_machines() {
    let Some(server) = server() else { return };
    let Some(address) = address() else {
        testbed::skip("this machine has no address but its loopback");
        return;
    };
    let home = testbed::directory();
    let (files, work) = (home.path().join("files"), home.path().join("work"));
    std::fs::create_dir_all(&files).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(files.join("file.txt"), "from afar\n").unwrap();
    git(&work, &["init", "-q", "-b", "main"]);
    std::fs::create_dir(work.join("sub")).unwrap();
    std::fs::write(work.join("sub/inside"), "from git\n").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "One"]);
    let commit = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
    git(home.path(), &["clone", "-q", "--bare", "work", "files/lib.git"]);
    git(&files.join("lib.git"), &["update-server-info"]);
    let base = format!("http://{address}:{}", serve(address, files));
    let pipeline = "images:\n- { name: remote/app }\n";
    let dockerfile = |url: &str, sum: &str| {
        format!(
            "FROM debian\nADD --checksum={sum} {url}/file.txt /file\nADD --checksum={commit} {url}/lib.git#main:sub /lib/\n\
             RUN grep afar /file && grep git /lib/inside && test ! -e /lib/.git\n"
        )
    };
    let right = sha256(b"from afar\n");
    let project = server.project("remote");
    project.push(&[(".shipway.yaml", pipeline), ("Dockerfile", &dockerfile(&base, &right))]);
    project.passed(1);
    // Another content, and a file that is not there: the line is named.
    project.push(&[("Dockerfile", &dockerfile(&base, &sha256(b"other")))]);
    let failed = project.failed(2);
    assert!(failed.contains("Dockerfile:2:") && failed.contains("--checksum says"), "{failed}");
    project.push(&[("Dockerfile", &format!("FROM debian\nADD {base}/nothing /x\n"))]);
    let failed = project.failed(3);
    assert!(failed.contains("Dockerfile:2:5: cannot fetch") && failed.contains("404"), "{failed}");
}
