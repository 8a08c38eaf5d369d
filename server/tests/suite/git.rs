//! Hosting, driven by git itself.

use std::process::Command;

use testbed::{Options, Shared, Shipway, WorkTree, need_root, need_tool, said};

use crate::shipway;

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    let able = need_root() && need_tool("git");
    able.then(|| SERVER.get(|| Options::new(shipway()).argument("--max-push-mib=2").start()))
}

/// A tree with one commit that has no token.
fn stranger(server: &Shipway, project: &str) -> WorkTree {
    let tree = WorkTree::new(None);
    tree.write("README.md", "a stranger\n");
    tree.commit("Try");
    tree.git(&["remote", "add", "origin", &server.git_url(project)]).ok();
    tree
}

#[test]
fn what_is_pushed_can_be_cloned_and_fetched() {
    let Some(server) = server() else { return };
    let project = server.project("hosted");
    let first = project.push(&[("README.md", "one\n"), ("src/main.rs", "fn main() {}\n")]);
    let clone = WorkTree::new(None);
    clone.git(&["clone", "--quiet", &server.git_url("hosted"), "clone"]).ok();
    let inside = |arguments: &[&str]| clone.git(&[&["-C", "clone"], arguments].concat()).ok();
    assert_eq!(inside(&["rev-parse", "HEAD"]).trim(), first);
    assert_eq!(std::fs::read_to_string(clone.path().join("clone/src/main.rs")).unwrap(), "fn main() {}\n");

    let second = project.push(&[("README.md", "two\n")]);
    inside(&["pull", "--quiet", "--ff-only"]);
    assert_eq!(inside(&["rev-parse", "HEAD"]).trim(), second);
    // A part of the history only, as CI systems fetch it.
    clone.git(&["clone", "--quiet", "--depth", "1", &server.git_url("hosted"), "shallow"]).ok();
    assert_eq!(clone.git(&["-C", "shallow", "rev-list", "--count", "HEAD"]).ok().trim(), "1");

    let commits = project.json("/commits");
    let ids: Vec<&str> = commits.as_array().unwrap().iter().map(|commit| commit["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()], "newest first, each once");
    assert_eq!(commits[0]["author"]["name"], "Ada Example", "{commits}");
    inside(&["fsck", "--strict"]);
}

#[test]
fn the_second_version_of_the_protocol_is_spoken() {
    let Some(server) = server() else { return };
    let project = server.project("protocol");
    let commit = project.push(&[("README.md", "one\n")]);
    for (version, announced) in [("2", true), ("0", false)] {
        let mut git = Command::new("git");
        git.args(["-c", &format!("protocol.version={version}"), "ls-remote", &server.git_url("protocol")]);
        let said = said(git.env("GIT_TRACE_PACKET", "1"), b"");
        assert_eq!(said.err.contains("< version 2"), announced, "{said:?}");
        let listed = said.ok();
        assert!(listed.contains(&format!("{commit}\trefs/heads/main")), "{listed}");
    }
}

#[test]
fn branches_are_recorded_and_the_default_branch_is_run() {
    let Some(server) = server() else { return };
    let project = server.project("branches");
    let first = project.push(&[("README.md", "main\n")]);
    project.ended(1);
    project.tree.git(&["switch", "--quiet", "--create", "topic"]).ok();
    project.tree.write("README.md", "topic\n");
    let topic = project.tree.commit("On a branch");
    project.tree.git(&["push", "--quiet", "origin", "topic"]).ok();
    let commits = project.json("/commits");
    let branch = |id: &str| {
        let found: Vec<_> = commits.as_array().unwrap().iter().filter(|commit| commit["id"] == id).collect();
        assert_eq!(found.len(), 1, "{id} is recorded once: {commits:#}");
        found[0]["branch"].as_str().unwrap().to_owned()
    };
    assert_eq!((branch(&first).as_str(), branch(&topic).as_str()), ("main", "topic"));
    assert_eq!(project.json("/runs").as_array().unwrap().len(), 1, "a branch is not run");

    // What arrives on the default branch is, though it was known before.
    project.tree.git(&["push", "--quiet", "origin", "topic:main"]).ok();
    let run = project.ended(2);
    assert_eq!(run["commit"], topic.as_str());
    let both = server.json("/api/v1/projects/branches/commits");
    assert_eq!(both.as_array().unwrap().len(), 2, "{both:#}");

    // To delete a branch takes nothing away.
    project.tree.git(&["push", "--quiet", "origin", "--delete", "topic"]).ok();
    assert_eq!(server.json("/api/v1/projects/branches/commits"), both);
}

#[test]
fn a_push_without_a_token() {
    let Some(server) = server() else { return };
    server.project("guarded");
    let tree = stranger(server, "guarded");
    let refused = tree.git(&["push", "origin", "main"]).failed();
    assert!(refused.contains("could not read Username"), "git asks for credentials: {refused}");
    for wrong in ["admin:wrong", "admin:", "nobody:wrong"] {
        let url = server.git_url("guarded").replace("http://", &format!("http://{wrong}@"));
        let refused = tree.git(&["push", &url, "main"]).failed();
        assert!(
            refused.contains("Authentication failed") || refused.contains("could not read Password"),
            "{wrong}: {refused}"
        );
    }
    assert_eq!(tree.git(&["ls-remote", "origin"]).ok(), "", "nothing arrived");

    // As people give it: the user `admin` with the token as password.
    let url = server.git_url("guarded").replace("http://", &format!("http://admin:{}@", server.token()));
    tree.git(&["push", "--quiet", &url, "main"]).ok();
    assert!(tree.git(&["ls-remote", "origin"]).ok().contains("refs/heads/main"));
}

#[test]
fn a_push_to_a_project_that_does_not_exist() {
    let Some(server) = server() else { return };
    for (name, why) in [("nowhere", "there is no project nowhere"), ("No_Name", "`No_Name` is not a name")] {
        let tree = WorkTree::new(Some(&server.token()));
        tree.write("README.md", "x\n");
        tree.commit("Try");
        let refused = tree.git(&["push", &server.git_url(name), "main"]).failed();
        assert!(refused.contains("not found") || refused.contains("error: 400"), "{refused}");
        assert!(refused.contains(&format!("remote: {why}")), "git shows what the server says: {refused}");
        assert!(!server.data().join(format!("git/{name}.git")).exists());
    }
}

#[test]
fn a_push_that_is_too_large() {
    let Some(server) = server() else { return };
    let project = server.project("large");
    project.push(&[("README.md", "small\n")]);
    let before = project.json("/commits");
    let mut random = testbed::Random::seeded_by("SHIPWAY_LARGE_SEED");
    let noise: Vec<u8> = std::iter::repeat_with(|| random.number().to_le_bytes()).take(400_000).flatten().collect();
    project.tree.write("noise", &noise);
    project.tree.commit("Noise of 3 MiB");
    let refused = project.tree.git(&["push", "origin", "main"]).failed();
    assert!(refused.contains("pack exceeds maximum allowed size"), "{refused}");
    assert_eq!(project.json("/commits"), before, "nothing was recorded");
    let objects = server.data().join("git/large.git/objects");
    let left: Vec<_> = std::fs::read_dir(objects).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let left: Vec<_> = left.iter().filter_map(|name| name.to_str()).filter(|name| name.contains("incoming")).collect();
    assert!(left.is_empty(), "half a push is left: {left:?}");
    // The repository takes what is small enough.
    project.tree.git(&["reset", "--quiet", "--hard", "HEAD~1"]).ok();
    project.push(&[("README.md", "small again\n")]);
}

#[test]
fn what_is_no_request_of_git_is_told_so() {
    let Some(server) = server() else { return };
    server.project("dumb");
    let dumb = server.get("/git/dumb.git/info/refs");
    assert_eq!(dumb.status, 400, "{dumb:?}");
    assert!(dumb.body.contains("dumb HTTP protocol"), "{dumb:?}");
    for path in [
        "/git/dumb.git/HEAD",
        "/git/dumb.git/../../admin-token",
        "/git/..%2Fadmin-token/info/refs?service=git-upload-pack",
    ] {
        let answer = testbed::Answer::fetch(&["--path-as-is", &server.url(path)], b"");
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.body.contains(&server.token()), "{path}");
    }
}
