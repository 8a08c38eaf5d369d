use super::*;

fn definition(text: &str) -> Result<Definition, String> {
    let read = || Recipe::read("images/app-base.yaml", text)?.definition(&BTreeMap::new());
    read().map_err(|e| e.to_string())
}

#[test]
fn it_is_distroless_unless_it_says_otherwise() {
    let plain = definition("packages: [nodejs]\n").unwrap();
    assert_eq!((plain.name.as_str(), plain.user.as_str(), plain.shell), ("app-base", NONROOT, false));
    assert_eq!(plain.packages, ["nodejs", "base-files", "netbase", "ca-certificates", "tzdata"]);
    assert!(plain.exclude.contains(&"dpkg".to_owned()) && plain.users.iter().any(|user| user.uid == 65532));
    assert!(plain.env.contains_key("SSL_CERT_FILE"));
    let empty = definition("# nothing\n").unwrap();
    assert_eq!(empty.packages, ["base-files", "netbase", "ca-certificates", "tzdata"]);
    let less = definition("ca-certificates: false\ntime-zones: false\nuser: root\nname: x\n").unwrap();
    assert_eq!((less.packages.len(), less.user.as_str(), less.users.len()), (2, "root", 0));
    assert!(less.env.is_empty());
    let shell = definition("shell: true\npackages: [openssl, 'dash (>= 0.5)']\n").unwrap();
    assert!(shell.shell && !shell.exclude.contains(&"openssl".to_owned()));
    assert!(!shell.packages.contains(&"dash".to_owned()));
    let manager = definition("package-manager: true\n").unwrap();
    assert!(manager.shell && manager.exclude.is_empty() && manager.packages.contains(&"apt".to_owned()));
}

#[test]
fn everything_that_can_be_said_arrives() {
    let text = "\
name: tool
suite: bookworm
snapshot: 2026-01-31
architecture: arm64
packages: [curl]
exclude: [perl]
users:
  - {name: app, uid: 1000}
  - {name: web, uid: 1001, home: /srv/web, shell: /bin/sh}
user: app
working-dir: /srv
env: {A: 1, B: 'two'}
entrypoint: [/usr/bin/curl]
cmd: [--help]
labels: {team: x}
expose: [8080/tcp]
stop-signal: SIGINT
timezone: Europe/Berlin
ca-certificates: [certs/corp.pem]
files:
  - {path: /etc/motd, content: hi, mode: '0600', owner: 1000}
  - {path: /etc/app.conf, source: ./app.conf}
  - {path: /data}
  - {path: /cur, link: /data}
drop: [usr/share/x]
";
    let recipe = Recipe::read("base.yaml", text).unwrap();
    assert_eq!(recipe.sources(), ["app.conf", "certs/corp.pem"]);
    assert_eq!(recipe.platform().unwrap().architecture, "arm64");
    let contents = BTreeMap::from([
        ("app.conf".to_owned(), Bytes::from_static(b"\x00binary")),
        ("certs/corp.pem".to_owned(), Bytes::from_static(b"-----BEGIN CERTIFICATE-----\n")),
    ]);
    let definition = recipe.definition(&contents).unwrap();
    insta::assert_yaml_snapshot!(definition);
    // Without its files it is not made.
    assert!(recipe.definition(&BTreeMap::new()).unwrap_err().to_string().contains("there is no file"));
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let cases = [
        "packages: [curl]\npakages: [x]\n",
        "packages:\n  - curl\n  - 'a (>> '\n",
        "packages: [x]\nuser: nonrot\n",
        "users:\n  - {name: a, uid: 1}\n  - {name: b, uid: 1}\n",
        "users:\n  - {name: a}\n",
        "packages: [x]\narchitecture: x86_64\n",
        "snapshot: yesterday\n",
        "suite: ../..\n",
        "timezone: ../etc/passwd\n",
        "files:\n  - {path: ../x}\n",
        "files:\n  - path: /x\n    content: a\n    link: b\n",
        "files:\n  - {path: /x, source: ../secret}\n",
        "files:\n  - {path: /x, mode: '99'}\n",
        "files:\n  - {path: /x, moed: '99'}\n",
        "ca-certificates: [/etc/x.pem]\n",
        "packages: x\n",
        "packages: [a]\npackages: [b]\n",
        "name: Über\n",
        "packages: [a\n",
        "shell: maybe\n",
        "drop: ['[']\n",
        "working-dir: srv\n",
    ];
    let said: Vec<String> = cases.iter().map(|text| definition(text).unwrap_err()).collect();
    insta::assert_snapshot!(said.join("\n\n"));
}

#[test]
fn what_cannot_be_resolved_points_at_the_line() {
    let recipe = Recipe::read("base.yaml", "packages:\n  - curl\n  - wgett\n").unwrap();
    let unresolvable = crate::base::resolve::Unresolvable {
        name: "base".into(),
        reason: "wgett cannot be had: the archive has no wgett".into(),
        chain: vec!["base needs wgett".into()],
        hint: Some("did you mean `wget`?".into()),
        asked: Some("wgett".into()),
    };
    insta::assert_snapshot!(recipe.explain(Error::Unresolvable(Box::new(unresolvable))), @r"
    base.yaml:3:5: wgett cannot be had: the archive has no wgett
      |
    3 |   - wgett
      |     ^^^^^
    hint: did you mean `wget`?
    ");
}

#[test]
fn the_schema_knows_every_field() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let fields = schema["properties"].as_object().unwrap();
    // What the reader would offer for an unknown field is what the schema has.
    let said = definition("zzzzzzzzzzzzzzzz: 1\n").unwrap_err();
    let offered = said.split("there are ").nth(1).unwrap();
    for field in offered.split(", ").filter(|field| *field != "env") {
        assert!(fields.contains_key(field.trim()), "{field}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[a-z:\\[\\]{} \n,'/.-]{0,200}") {
        let _ = definition(&text);
        let _ = definition(&format!("files:\n  - {text}"));
    }
}
