//! The command line as people meet it: answers, errors, exit codes.

use testbed::{Said, Shared, Shipway, need_root, said};

use crate::{golden, shipway};

fn server() -> Option<&'static Shipway> {
    static SERVER: Shared = Shared::new();
    need_root().then(|| SERVER.get(|| Shipway::start(shipway())))
}

fn shown(arguments: &[&str], said: &Said) -> String {
    let (out, err) = (&said.out, &said.err);
    let code = said.code.map_or("a signal".into(), |code| code.to_string());
    format!("$ shipway {}\n{out}{err}[{code}]\n\n", arguments.join(" "))
}

/// Without a server.
fn alone(arguments: &[&str]) -> Said {
    let mut command = std::process::Command::new(shipway());
    command
        .args(arguments)
        .env_remove("SHIPWAY_TOKEN_FILE")
        .env_remove("SHIPWAY_TOKEN")
        .env_remove("SHIPWAY_PACKAGE_CACHE");
    said(&mut command, b"")
}

#[test]
fn what_can_be_said() {
    let mut all = String::new();
    for arguments in
        [&["--help"][..], &["up", "--help"], &["runs", "--help"], &["rollout", "--help"], &["run", "--help"]]
    {
        all.push_str(&shown(arguments, &alone(arguments)));
    }
    golden!(all);
}

#[test]
fn what_cannot_be_said() {
    let mut all = String::new();
    for arguments in [
        &[][..],
        &["launch"],
        &["up"],
        &["up", "--data", "/nowhere/x", "--listen", "8080"],
        &["project", "create", "Not A Name"],
        &["runs", "show", "journal"],
        &["run"],
        // Nobody listens on this port.
        &["project", "list", "--server", "http://127.0.0.1:1"],
        &["project", "list", "--token-file", "/nowhere/admin-token"],
    ] {
        all.push_str(&shown(arguments, &alone(arguments)));
    }
    golden!(all);
}

#[test]
fn what_a_server_answers() {
    if !need_root() {
        return;
    }
    let server = Shipway::start(shipway());
    let mut all = String::new();
    let mut tell = |arguments: &[&str], input: &[u8]| {
        let text = server.plain(&shown(arguments, &server.cli_with(arguments, input)));
        // On a slow machine the project is older than it looks here.
        all.extend(
            text.split_inclusive('\n')
                .map(|line| if line.starts_with("journal  main") { "journal  main    0s\n" } else { line }),
        );
    };
    tell(&["project", "list"], b"");
    tell(&["project", "create", "journal"], b"");
    tell(&["project", "create", "journal"], b"");
    tell(&["project", "list"], b"");
    tell(&["secret", "set", "journal", "NPM_TOKEN"], b"hush\n");
    tell(&["secret", "set", "journal", "npm token"], b"hush\n");
    tell(&["secret", "set", "nowhere", "NPM_TOKEN"], b"hush\n");
    tell(&["runs", "list", "journal"], b"");
    tell(&["runs", "list", "nowhere"], b"");
    tell(&["runs", "show", "journal/1"], b"");
    tell(&["runs", "logs", "journal/1", "test"], b"");
    tell(&["runs", "cancel", "journal/1"], b"");
    tell(&["rollout", "status", "journal", "prod"], b"");
    tell(&["rollout", "history", "journal", "prod"], b"");
    tell(&["rollout", "undo", "journal", "prod"], b"");
    tell(&["trace", "nothing"], b"");
    tell(&["trace", "pod/default/nothing"], b"");
    golden!(all);
    server.stop();
}

#[test]
fn a_token_that_is_wrong_or_too_open() {
    let Some(server) = server() else { return };
    let directory = testbed::directory();
    let path = directory.path().join("token");
    let file = path.display().to_string();
    let create = || {
        let mut command = std::process::Command::new(shipway());
        command.args(["project", "create", "refused", "--server", &server.url(""), "--token-file", &file]);
        said(&mut command, b"")
    };
    let mode = |mode: u32| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    std::fs::write(&path, "swt_wrong").unwrap();
    mode(0o600);
    let wrong = create();
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(wrong.err.contains("admin-token"), "{wrong:?}");
    std::fs::write(&path, server.token()).unwrap();
    mode(0o644);
    let open = create();
    assert_eq!(open.code, Some(3), "{open:?}");
    assert!(open.err.contains("can be read by others") && open.err.contains("chmod 600"), "{open:?}");
    mode(0o600);
    assert_eq!(create().code, Some(0));
}

#[test]
fn the_schema_and_completions_are_what_they_should_be() {
    let schema = testbed::json(&alone(&["schema"]).ok());
    assert!(schema["properties"]["steps"].is_object(), "{schema}");
    // What each says of the commands that `help` can be asked about below another.
    let shells = [
        ("bash", "shipway__subcmd__help__subcmd__base)"),
        ("zsh", "_shipway__subcmd__help__subcmd__base_commands()"),
        ("fish", "__fish_shipway_using_subcommand help; and __fish_seen_subcommand_from base\" -f -a \"build\""),
        ("elvish", "&'shipway;help;base'= {\n            cand build "),
        ("powershell", "'shipway;help;base' {\n            [CompletionResult]::new('build'"),
    ];
    for (shell, topics) in shells {
        let script = alone(&["completion", shell]).ok();
        assert!(script.contains("rollout"), "{shell}");
        assert!(script.contains(topics), "{shell}: nothing like {topics} among\n{}", about_help(&script));
    }
    // Asked as bash asks.
    let line = |words: &str| {
        let ask = format!(
            "source /dev/stdin; COMP_WORDS=({words} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _shipway shipway '' ''; echo \"${{COMPREPLY[@]}}\""
        );
        let mut bash = std::process::Command::new("bash");
        let said = said(bash.args(["-c", &ask]), alone(&["completion", "bash"]).ok().as_bytes()).ok();
        said.split_whitespace()
            .filter(|word| !word.starts_with('-') && *word != "help")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for command in ["base", "runs", "helm repo", "kustomize edit add", "registry", ""] {
        let below = line(&format!("shipway {command}"));
        assert!(below.len() > 1, "{command}: {below:?}");
        let topics = line(&format!("shipway help {command}"));
        assert_eq!(topics, below, "help {command}");
    }
}

fn about_help(script: &str) -> String {
    script.lines().filter(|line| line.contains("help") && line.contains("base")).take(20).collect::<Vec<_>>().join("\n")
}
