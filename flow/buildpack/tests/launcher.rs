//! The launcher as a process. What is expected is what the lifecycle's own launcher (0.21.11) does with the same files.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

/// A program that another thread is just forking with open for writing cannot be started: one test at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

const METADATA: &str = r#"
[[buildpacks]]
id = "a/b"
version = "1.0.0"
api = "0.9"

[[buildpacks]]
id = "c"
version = "1.0.0"
api = "0.8"

[[processes]]
type = "web"
command = ["show", "fixed"]
args = ["one", "two words"]
direct = true
buildpack-id = "a/b"
working-dir = "APP/sub"

[[processes]]
type = "single"
command = ["show"]
args = ["default"]
direct = true
buildpack-id = "a/b"

[[processes]]
type = "old"
command = ["show \"$X\" y"]
args = []
direct = false
buildpack-id = "c"

[[processes]]
type = "oldargs"
command = ["show"]
args = ["$X", "b c"]
direct = false
buildpack-id = "c"

[[processes]]
type = "test"
command = ["show"]
args = []
direct = true
buildpack-id = "a/b"
exec-env = ["test"]
"#;

fn put(root: &Path, name: &str, text: &str, mode: u32) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn image() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    let app = at.join("app").display().to_string();
    std::fs::create_dir_all(at.join("app/sub")).unwrap();
    put(at, "layers/config/metadata.toml", &METADATA.replace("APP", &app), 0o644);
    let show = "#!/bin/bash\nfor a in \"$@\"; do echo -n \"[$a]\"; done; echo \" X=$X Y=$Y E=$FROM_EXEC W=$FOR_WEB P=$PROFILE D=$DOT L=$CNB_LAYERS_DIR ${PWD##*/} $PATH\"\n";
    put(at, "layers/a_b/one/bin/show", show, 0o755);
    let exec = "#!/bin/bash\necho said\nprintf 'FROM_EXEC = \"a\\\\tb\"\\nSECOND = %s\\n' \"'lit'\" >&3\n";
    put(at, "layers/a_b/one/exec.d/first", exec, 0o755);
    put(at, "layers/a_b/one/exec.d/web/w", "#!/bin/bash\nprintf 'FOR_WEB = \"\"\"\\nx\"\"\"\\n' >&3\n", 0o755);
    for (name, text) in [
        ("a_b/one/env/X", "1"),
        ("a_b/one/env.launch/X.append", "2"),
        ("a_b/one/env.launch/X.delim", ":"),
        ("a_b/one/env.launch/web/X.prepend", "web"),
        ("a_b/one/profile.d/p.sh", "export PROFILE=1"),
        ("c/two/env/Y.default", "d"),
        ("c/two/env/X.prepend", "z"),
    ] {
        put(at, &format!("layers/{name}"), text, 0o644);
    }
    put(at, "app/.profile", "export DOT=dot", 0o644);
    put(at, "launcher", "", 0o755);
    std::fs::write(at.join("launcher"), buildpack::LAUNCHER).unwrap();
    for kind in ["web", "single", "old", "oldargs", "test"] {
        std::os::unix::fs::symlink("launcher", at.join(kind)).unwrap();
    }
    root
}

fn run(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(root.join(arguments[0]))
        .args(&arguments[1..])
        .env_clear()
        .envs([("PATH", "/cnb/process:/cnb/lifecycle:/usr/bin:/bin"), ("Y", "own"), ("CNB_PLATFORM_API", "0.15")])
        .env("CNB_LAYERS_DIR", root.join("layers"))
        .env("CNB_APP_DIR", root.join("app"))
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), text.replace(&root.display().to_string(), "ROOT"))
}

#[test]
fn processes_start_as_with_the_lifecycles_launcher() {
    if !Path::new("/bin/bash").exists() {
        eprintln!("SKIPPED: there is no /bin/bash");
        return;
    }
    let _alone = ALONE.lock();
    let root = image();
    let path = "ROOT/layers/a_b/one/bin:/usr/bin:/bin";
    let direct = format!("Y=own E=a\tb W= P= D= L= app {path}");
    let shell = format!("X=z1:2 Y=own E=a\tb W= P=1 D=dot L= app {path}");
    for (arguments, expected) in [
        (&["web"][..], format!("[fixed][one][two words] X=zweb1:2 Y=own E=a\tb W=x P= D= L= sub {path}")),
        (&["web", "u", "x y"], format!("[fixed][u][x y] X=zweb1:2 Y=own E=a\tb W=x P= D= L= sub {path}")),
        (&["single"], format!("[default] X=z1:2 {direct}")),
        (&["single", "u"], format!("[u] X=z1:2 {direct}")),
        (&["old"], format!("[z1:2][y] {shell}")),
        (&["oldargs"], format!("[z1:2][b c] {shell}")),
        (&["oldargs", "e", "$Y"], format!("[z1:2][b c][e][own] {shell}")),
        (&["launcher", "--", "show", "a", "b"], format!("[a][b] X=z1:2 {direct}")),
        (&["launcher", "show \"$X\" $DOT"], format!("[z1:2][dot] {shell}")),
        (&["launcher", "show", "$X", "p q"], format!("[z1:2][p q] {shell}")),
    ] {
        let (code, text) = run(root.path(), arguments);
        assert_eq!((code, text.as_str()), (0, format!("said\n{expected}\n").as_str()), "{arguments:?}");
    }
    for (arguments, why) in [
        (&["launcher"][..], "a command is required"),
        (&["test"], "process type test was not found"),
        (&["launcher", "--", "absent", "x"], "executable file not found in $PATH"),
    ] {
        let (code, text) = run(root.path(), arguments);
        assert!(code == 82 && text.contains("ERROR: failed to launch: ") && text.contains(why), "{code} {text}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let _alone = ALONE.lock();
    let root = image();
    put(root.path(), "layers/config/metadata.toml", "[[processes]]\ntype = \"web\n", 0o644);
    let (code, text) = run(root.path(), &["web"]);
    assert!(code == 82 && text.contains("line 2: a text does not end"), "{code} {text}");
    std::fs::remove_file(root.path().join("layers/config/metadata.toml")).unwrap();
    let (code, text) = run(root.path(), &["web"]);
    assert!(code == 82 && text.contains("read metadata"), "{code} {text}");
}
