//! Tables of Dockerfiles and what they are lowered to.

use std::collections::HashMap;

use graph::{Network, Origin, vertex::SelectedKind};

use super::*;
use crate::{context::ContextEntry, dockerfile, ignore::Ignore};

fn context() -> ContextTree {
    let file = |path: &str, content: &str| ContextEntry {
        path: path.into(),
        mode: 0o644,
        kind: SelectedKind::File,
        content: content.into(),
        size: 1,
    };
    let entries = [
        file("package.json", "p1"),
        file("package-lock.json", "p2"),
        file("src/server.js", "s1"),
        file("src/lib/a.js", "s2"),
        file("src/lib/[id].js", "s3"),
        file("README.md", "r"),
        file("secret.key", "k"),
        file("app.tar.gz", "t"),
        ContextEntry { path: "current".into(), mode: 0o777, kind: SelectedKind::Link, content: "src".into(), size: 0 },
        ContextEntry {
            path: "escape".into(),
            mode: 0o777,
            kind: SelectedKind::Link,
            content: "../../etc".into(),
            size: 0,
        },
    ];
    let ignore = Ignore::parse(".dockerignore", "*.key\n").unwrap();
    ContextTree::new(Origin::Directory("/src".into()), entries, ignore).unwrap()
}

fn bases() -> HashMap<String, ResolvedBase> {
    let base = |name: &str, user: &str| {
        let mut config = ImageConfig::empty(&Platform::host());
        config.config.user = user.into();
        config.config.cmd = Some(vec!["base-cmd".into()]);
        config.rootfs.diff_ids = vec![format!("sha256:{}", "d".repeat(64))];
        let layer = image::registry::Descriptor {
            media_type: image::media::OCI_LAYER_ZSTD.into(),
            digest: format!("sha256:{}", "b".repeat(64)).parse().unwrap(),
            size: 10,
            artifact_type: None,
            annotations: None,
            urls: None,
            data: None,
        };
        ResolvedBase {
            name: name.into(),
            repository: format!("base/{name}"),
            digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            config,
            layers: vec![layer],
        }
    };
    [("node", ""), ("runtime", "65532")].into_iter().map(|(name, user)| (name.to_owned(), base(name, user))).collect()
}

fn plan_with(text: &str, options: Options) -> Result<Plan, String> {
    let file = dockerfile::parse("Dockerfile", text).map_err(|e| e.to_string())?;
    lower(&file, &context(), &options, &bases()).map_err(|e| e.to_string())
}

fn plan(text: &str) -> Plan {
    plan_with(text, Options::default()).unwrap()
}

fn error(text: &str) -> String {
    plan_with(text, Options::default()).err().unwrap_or_else(|| panic!("no error: {text:?}"))
}

fn exec(plan: &Plan, nth: usize) -> graph::Exec {
    let mut execs = plan.vertices.iter().filter_map(|v| if let Op::Exec(exec) = &v.op { Some(exec) } else { None });
    execs.nth(nth).cloned().unwrap()
}

/// Sources, target, and the files given to the copy with their content.
fn copied(plan: &Plan) -> Vec<(Vec<String>, String, Vec<String>)> {
    let copies = plan.vertices.iter().filter_map(|vertex| {
        let Op::Copy(copy) = &vertex.op else { return None };
        let files = match &plan.vertices[vertex.inputs[1]].op {
            Op::Files(source) => source.files.iter().map(|f| format!("{}={}", f.to, f.content)).collect(),
            _ => Vec::new(),
        };
        Some((copy.sources.clone(), copy.target.clone(), files))
    });
    copies.collect()
}

#[test]
fn a_whole_file_becomes_vertices() {
    let plan = plan(
        "FROM node AS build\nWORKDIR /src\nCOPY package.json ./\nRUN npm ci\nFROM runtime\nENV A=1\nCOPY --from=build --chown=65532 /src/dist/ ./app/\nCMD [\"x\"]\n",
    );
    let shown: Vec<String> = plan.vertices.iter().map(|v| format!("{} {:?}", v.name, v.inputs)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    [build] FROM node []
    [build 2/4] WORKDIR /src [0]
    [build] context []
    [build 3/4] COPY package.json ./ [1, 2]
    [build 4/4] RUN npm ci [3]
    [stage-1] FROM runtime []
    [stage-1 2/2] COPY --from=build --chown=65532 /src/dist/ ./app/ [5, 4]
    ");
    assert_eq!(copied(&plan)[1].1, "/app/");
    let made: Vec<(&str, bool)> = plan.steps.iter().map(|s| (s.created_by.as_str(), s.layer.is_some())).collect();
    assert_eq!(
        made,
        [("ENV A=1", false), ("COPY --from=build --chown=65532 /src/dist/ ./app/", true), ("CMD [\"x\"]", false)]
    );
    let mut graph = Graph::new();
    graph.add(Vertex {
        name: "other".into(),
        group: "g".into(),
        op: Op::Scratch,
        inputs: vec![],
        after: vec![],
        scope: Scope::Shared,
    });
    let lowered = plan.add_after(&mut graph, "image", &[0]);
    assert_eq!((lowered.result, graph.len()), (7, 8));
    assert_eq!(lowered.layer_vertices.len(), 1);
    assert!(graph.vertices()[1..].iter().all(|v| v.after == [0] && v.group == "image"));
    assert_eq!(lowered.base.unwrap().name, "runtime");
}

#[test]
fn stages_that_are_not_needed_are_not_lowered() {
    let text = "FROM missing AS a\nRUN a\nFROM node AS b\nRUN b\nFROM node AS c\nCOPY --from=b /x /x\n";
    let file = dockerfile::parse("Dockerfile", text).unwrap();
    let names = base_names(&file, &Options::default()).unwrap();
    let names: Vec<_> = names.into_iter().map(|base| (base.name, base.platform)).collect();
    assert_eq!(names, [("node".to_owned(), Platform::host())]);
    assert_eq!(plan(text).vertices.len(), 3);
    let target = Options { target: Some("b".into()), ..Options::default() };
    assert_eq!(plan_with(text, target).unwrap().vertices.len(), 2);
    let target = Options { target: Some("a".into()), ..Options::default() };
    assert!(plan_with(text, target).unwrap_err().contains("there is no image `missing`"));
    let target = Options { target: Some("d".into()), ..Options::default() };
    assert!(plan_with(text, target).unwrap_err().contains("the stage to build, `d`, is not in this file"));
}

#[test]
fn a_copy_depends_on_nothing_but_its_files() {
    let id = |source: &str, content: &str| {
        let entries = ["a", "b"].map(|path| ContextEntry {
            path: path.into(),
            mode: 0o644,
            kind: SelectedKind::File,
            content: if path == "b" { content.into() } else { "same".into() },
            size: 1,
        });
        let context = ContextTree::new(Origin::Directory("/elsewhere".into()), entries, Ignore::default()).unwrap();
        let file = dockerfile::parse("Dockerfile", &format!("FROM node\nCOPY {source} /\n")).unwrap();
        let plan = lower(&file, &context, &Options::default(), &bases()).unwrap();
        let mut graph = Graph::new();
        let lowered = plan.add_to(&mut graph, "g");
        graph.id(lowered.result).clone()
    };
    assert_eq!(id("a", "1"), id("a", "2"));
    assert_ne!(id("b", "1"), id("b", "2"));
    assert_ne!(id(".", "1"), id(".", "2"));
}

#[test]
fn sources_mean_what_docker_means() {
    // (instruction, sources, target, files)
    for (copy, sources, target, files) in [
        ("COPY package.json /a", vec!["/package.json"], "/a", vec!["package.json=p1"]),
        ("COPY ./package.json /a/", vec!["/package.json"], "/a/", vec!["package.json=p1"]),
        ("COPY ../package.json a", vec!["/package.json"], "/w/a", vec!["package.json=p1"]),
        ("COPY package.json .", vec!["/package.json"], "/w/", vec!["package.json=p1"]),
        ("COPY package.json ..", vec!["/package.json"], "/", vec!["package.json=p1"]),
        (
            "COPY package*.json ./",
            vec!["/package-lock.json", "/package.json"],
            "/w/",
            vec!["package-lock.json=p2", "package.json=p1"],
        ),
        (
            "COPY [\"package.json\", \"README.md\", \"d/\"]",
            vec!["/package.json", "/README.md"],
            "/w/d/",
            vec!["README.md=r", "package.json=p1"],
        ),
        (
            "COPY src /x",
            vec!["/src"],
            "/x",
            vec!["src=", "src/lib=", "src/lib/[id].js=s3", "src/lib/a.js=s2", "src/server.js=s1"],
        ),
        ("COPY src/lib/[[]id].js /x", vec!["/src/lib/\\[id].js"], "/x", vec!["src/lib/[id].js=s3"]),
        ("COPY src/*/a.js /x", vec!["/src/lib/a.js"], "/x", vec!["src/lib/a.js=s2"]),
        // A link that is named is followed.
        ("COPY current/server.js /x", vec!["/current/server.js"], "/x", vec!["current/server.js=s1"]),
        (
            "COPY current/lib /x",
            vec!["/current/lib"],
            "/x",
            vec!["current/lib=", "current/lib/[id].js=s3", "current/lib/a.js=s2"],
        ),
        ("ADD README.md /x", vec!["/README.md"], "/x", vec!["README.md=r"]),
    ] {
        let plan = plan(&format!("FROM node\nWORKDIR /w\n{copy}\n"));
        let (found, to, chosen) = copied(&plan).remove(0);
        assert_eq!(
            (found, to.as_str(), chosen),
            (
                sources.iter().map(ToString::to_string).collect(),
                target,
                files.iter().map(ToString::to_string).collect()
            ),
            "{copy}"
        );
    }
    // The whole context, without what is ignored.
    let whole = copied(&plan("FROM node\nCOPY . /x\n")).remove(0);
    assert_eq!(whole.0, ["/"]);
    assert!(whole.2.iter().any(|f| f == "README.md=r") && !whole.2.iter().any(|f| f.starts_with("secret")));
    // Nothing matches: allowed, said, and no layer.
    let empty = plan("FROM node\nCOPY nothing* /x/\n");
    assert!(empty.warnings.iter().any(|w| w.rule == "NothingMatches") && empty.steps.is_empty());
}

#[test]
fn flags_of_copies() {
    let plan = plan("FROM node\nARG who=app\nCOPY --chown=$who:app --chmod=0750 --link package.json /a\n");
    let Op::Copy(copy) = &plan.vertices.last().unwrap().op else { panic!() };
    assert_eq!((copy.chown.as_deref(), copy.chmod), (Some("app:app"), Some(0o750)));
    let letters = self::plan("FROM node\nCOPY --chmod=u=rwX,go=rX package.json /a\n");
    let Op::Copy(copy) = &letters.vertices.last().unwrap().op else { panic!() };
    assert_eq!((copy.chmod, copy.modes.as_deref()), (None, Some("u=rwX,go=rX")));
}

#[test]
fn heredocs_are_files_and_scripts() {
    let text = "FROM node\nENV WHO=you\nRUN <<EOF\necho $WHO\nexit 0\nEOF\nCOPY <<one <<\"two\" /etc/x/\nhi $WHO\none\nhi $WHO\ntwo\nRUN <<run\n#!/usr/bin/node\nx\nrun\nRUN cat <<-a <<b | sort\n\tA\n\ta\nB\nb\n";
    let plan = plan(text);
    assert_eq!(exec(&plan, 0).argv, ["/bin/sh", "-c", "echo $WHO\nexit 0\n"]);
    let texts: Vec<&str> = plan.inline.iter().map(|(_, c)| std::str::from_utf8(c).unwrap()).collect();
    assert_eq!(texts, ["hi you\n", "hi $WHO\n", "#!/usr/bin/node\nx\n"]);
    let script = exec(&plan, 1);
    assert_eq!(script.argv, ["/dev/pipes/run"]);
    assert_eq!((script.mounts[0].input, script.mounts[0].target.as_str()), (1, "/dev/pipes"));
    assert_eq!(exec(&plan, 2).argv[2], "cat <<-a <<b | sort\n\tA\na\nB\nb");
}

#[test]
fn arguments_have_scopes() {
    let text = "ARG base=node\nARG version=1\nFROM $base AS a\nRUN echo $version\nARG version\nRUN x\nARG version=2\nRUN x\nENV version=3\nRUN x\nFROM a\nRUN x\nARG TARGETARCH\nRUN x\nFROM node\nRUN x\nCOPY --from=1 /x /y\n";
    let told = plan_with(
        text,
        Options { build_args: BTreeMap::from([("HTTP_PROXY".into(), "p".into())]), ..Options::default() },
    )
    .unwrap();
    let seen = |nth: usize| exec(&told, nth).env.get("version").cloned();
    assert_eq!(
        (seen(0), seen(1), seen(2), seen(3), seen(4)),
        (None, Some("1".into()), Some("2".into()), Some("3".into()), Some("3".into()))
    );
    assert_eq!(exec(&told, 5).env["TARGETARCH"], Platform::host().architecture);
    assert!(!exec(&told, 4).env.contains_key("TARGETARCH"));
    assert_eq!(seen(6), None);
    assert_eq!(exec(&told, 6).env["HTTP_PROXY"], "p");
    let options = Options { build_args: BTreeMap::from([("version".into(), "9".into())]), ..Options::default() };
    let told = plan_with(text, options).unwrap();
    assert_eq!(exec(&told, 2).env["version"], "9");
    assert_eq!(exec(&told, 3).env["version"], "3", "ENV wins");
    // The arguments of a build are not left in the image.
    assert!(told.config.config.env("version").is_none());
}

#[test]
fn settings_become_the_configuration() {
    let plan = plan(
        "FROM node\nENV A=1 B=\"two words\"\nENV C=$A D=${B:-x}\nENV A=2 E=$A\nLABEL a=b \"c d\"=e\nUSER app\nWORKDIR /x\nWORKDIR y/../z\nEXPOSE 80 53/udp 8000-8001\nVOLUME /data [\"x\"]\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK --interval=1m --retries=2 CMD check it\nENTRYPOINT [\"run\"]\nMAINTAINER me\n",
    );
    let config = serde_json::to_value(&plan.config.config).unwrap();
    insta::assert_json_snapshot!(config, @r#"
    {
      "User": "app",
      "ExposedPorts": {
        "53/udp": {},
        "80/tcp": {},
        "8000/tcp": {},
        "8001/tcp": {}
      },
      "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "A=2",
        "B=two words",
        "C=1",
        "D=two words",
        "E=1"
      ],
      "Entrypoint": [
        "run"
      ],
      "Volumes": {
        "/data": {},
        "[x]": {}
      },
      "WorkingDir": "/x/z",
      "Labels": {
        "a": "b",
        "c d": "e"
      },
      "StopSignal": "SIGINT",
      "Healthcheck": {
        "Test": [
          "CMD-SHELL",
          "check it"
        ],
        "Interval": 60000000000,
        "Retries": 2
      },
      "Shell": [
        "/bin/bash",
        "-c"
      ]
    }
    "#);
    // An ENTRYPOINT resets the base's CMD, not one of the same stage.
    assert_eq!(plan.config.config.cmd, None);
    let kept = self::plan("FROM node\nCMD a b\nENTRYPOINT [\"x\"]\n");
    assert_eq!(kept.config.config.cmd.unwrap(), ["/bin/sh", "-c", "a b"]);
    assert_eq!(self::plan("FROM node\nENV a=b\n").config.config.cmd.unwrap(), ["base-cmd"]);
    let mkdirs = plan
        .vertices
        .iter()
        .filter_map(|v| if let Op::Mkdir { path, user } = &v.op { Some((path.as_str(), user.as_str())) } else { None });
    assert_eq!(mkdirs.collect::<Vec<_>>(), [("/x", "app"), ("/x/z", "app")]);
}

#[test]
fn commands_run_as_they_say() {
    let plan = plan(
        "FROM node\nUSER 1000:1000\nWORKDIR /w\nRUN --network=none a && \\\n  # comment\n  b\nRUN [\"x\", \"$HOME\"]\nRUN --mount=type=bind,source=package.json,target=p.json --mount=type=secret,id=T,env=TOKEN c\n",
    );
    let first = exec(&plan, 0);
    assert_eq!(first.argv, ["/bin/sh", "-c", "a &&   b"]);
    assert_eq!((first.cwd.as_str(), first.user.as_str(), first.network), ("/w", "1000:1000", Network::None));
    assert_eq!(exec(&plan, 1).argv, ["x", "$HOME"]);
    let third = exec(&plan, 2);
    assert_eq!((third.mounts[0].source.as_str(), third.mounts[0].target.as_str()), ("package.json", "/w/p.json"));
    assert_eq!((third.secrets[0].name.as_str(), third.secrets[0].env.as_str()), ("T", "TOKEN"));
    assert_eq!(third.network, Network::Bridge);
}

#[test]
fn scratch_has_a_search_path_and_no_base() {
    let plan = plan("FROM scratch\nCOPY README.md /\n");
    assert!(plan.base.is_none() && plan.config.config.env("PATH").is_some());
    assert_eq!(plan.config.rootfs.diff_ids.len(), 0);
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let texts = [
        "FROM nod\n",
        "FROM node\nCOPY pakage.json /\n",
        "FROM node\nCOPY secret.key /\n",
        "FROM node\nCOPY a b /c\n",
        "FROM node\nCOPY package*.json /c\n",
        "FROM node\nCOPY escape /c\n",
        "FROM node AS first\nCOPY --from=later /a /b\nFROM node AS later\nCOPY --from=first /a /b\n",
        "FROM node\nCOPY --chmod=u+q README.md /b\n",
        "FROM node\nCOPY --parents=maybe README.md /b\n",
        "FROM node\nADD https://example.org/x /b\n",
        "FROM node\nADD --checksum=md5:1 https://example.org/x /b\n",
        "FROM node\nADD --checksum=sha256:1 app.tar.gz /b\n",
        "FROM node\nRUN --mount=type=cache,target=/x,sharing=never a\n",
        "FROM node\nRUN --mount=type=cahce,target=/x a\n",
        "FROM node\nRUN --mount=type=tmpfs,target=/x,sise=1m a\n",
        "FROM node\nRUN --mount=type=bind,source=/x a\n",
        "FROM node\nRUN --security=insecure a\n",
        "FROM node\nRUN --device=nvidia.com/gpu a\n",
        "FROM node\nRUN --network=host a\n",
        "FROM node\nONBUILD FROM a\n",
        "FROM node\nEXPOSE http\n",
        "FROM node\nSTOPSIGNAL SIGWHAT\n",
        "FROM node\nHEALTHCHECK --interval=10 CMD x\n",
        "FROM node\nENV A=${B:?B must be there}\n",
        "FROM node\nWORKDIR $none\n",
        "ARG none\nFROM $none\n",
        "FROM --platform=linux/s390x node\n",
        "FROM node\nCOPY [b-a package.json /x\n",
    ];
    let shown: Vec<String> = texts.iter().map(|text| error(text)).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn what_is_unwise_is_said() {
    let text = "# check=skip=MaintainerDeprecated\nFROM docker.io/library/alpine:latest AS unused\nFROM node\nMAINTAINER me\nARG NPM_TOKEN\nENV DB_PASSWORD=x PUBLIC_KEY=y\nENV old value\nRUN a \\\n\n  b\nCMD node server.js\nUSER root\nLABEL a=$unset\nENV p=$TARGETARCH\n";
    let options = Options { build_args: BTreeMap::from([("typo".into(), "x".into())]), ..Options::default() };
    let plan = plan_with(text, options).unwrap();
    let shown: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn what_is_foreseen_is_not_unwise() {
    let text = "FROM node\nENV UID=${UID:-1000} A=${B+x} DOCKER_AUTH_VERSION=1.5.0 C=$C\nUSER node\n";
    let plan = plan_with(text, Options::default()).unwrap();
    let rules: Vec<String> = plan.warnings.iter().map(|w| format!("{} {}", w.rule, w.diagnostic.reason)).collect();
    assert_eq!(rules, ["UndefinedVar `$C` is not set here: it counts as empty"]);
}

/// What went wrong outside is shown where the file names it, with the stages that may have been meant.
#[test]
fn images_are_named_with_their_places() {
    let text = "FROM node AS build\nFROM biuld AS x\nFROM other\nCOPY --from=thing /a /b\nCOPY --from=build /a /b\nFROM r.org/a:1\n";
    let named = |target: &str| -> Vec<String> {
        let file = dockerfile::parse("Dockerfile", text).unwrap();
        let options = Options { target: Some(target.into()), ..Options::default() };
        let shown = |base: BaseName| {
            let BaseName { name, place, .. } = base;
            format!("{name} {}:{} {}", place.line, place.column, place.hint.unwrap_or_default())
        };
        base_names(&file, &options).unwrap().into_iter().map(shown).collect()
    };
    assert_eq!(named("x"), ["biuld 2:6 did you mean the stage `build`?"]);
    assert_eq!(
        named("2"),
        [
            "node 1:6 ",
            "other 3:6 no stage above it has this name: there are build, x",
            "thing 4:13 no stage above it has this name: there are build, x",
        ]
    );
    assert_eq!(named("3"), ["r.org/a:1 6:6 "]);
}

#[test]
fn vertices_of_several_platforms_say_which_they_are_of() {
    let options = Options { several_platforms: true, ..Options::default() };
    let plan = plan_with("FROM node AS a\nRUN x\nFROM node\nCOPY --from=a /x /y\n", options).unwrap();
    let host = Platform::host();
    let names: Vec<&str> = plan.vertices.iter().map(|vertex| vertex.name.as_str()).collect();
    assert!(names.contains(&format!("[{host} a 2/2] RUN x").as_str()), "{names:?}");
    assert!(names.contains(&format!("[{host} stage-1 2/2] COPY --from=a /x /y").as_str()), "{names:?}");
}

fn remote(url: &str) -> Remote {
    Remote::File { url: url.into(), checksum: None }
}

#[test]
fn what_is_fetched_is_asked_for_first_and_copied_then() {
    let text = "FROM node\nARG V=1\nADD https://example.org/a-$V.tgz https://example.org/b /x/\nADD https://example.org/r.git#main /r\n";
    let file = dockerfile::parse("Dockerfile", text).unwrap();
    let mut options = Options::default();
    let Attempt::Needs(needs) = lower_or_needs(&file, &context(), &options, &bases()).unwrap() else { panic!() };
    let git = Remote::Git { url: "https://example.org/r.git#main".into(), checksum: None, keep_git: false };
    assert!(needs[0].1.to_string().starts_with("Dockerfile:3:5: "), "{}", needs[0].1);
    let needs: Vec<Remote> = needs.into_iter().map(|(remote, _)| remote).collect();
    assert_eq!(needs, [remote("https://example.org/a-1.tgz"), remote("https://example.org/b"), git.clone()]);
    let digest: Digest = format!("sha256:{}", "e".repeat(64)).parse().unwrap();
    let fetched = |name: &str| Fetched::File { digest: digest.clone(), name: name.into() };
    options.remotes.insert(needs[0].clone(), fetched("a-1.tgz"));
    options.remotes.insert(needs[1].clone(), fetched("b"));
    options.remotes.insert(git, Fetched::Tree(Box::new(context())));
    let Attempt::Ready(plan) = lower_or_needs(&file, &context(), &options, &bases()).unwrap() else { panic!() };
    let copies = copied(&plan);
    assert_eq!(copies[0], (vec!["/a-1.tgz".into()], "/x/".into(), vec![format!("a-1.tgz={digest}")]));
    assert_eq!(copies[2].1, "/r");
    assert!(copies[2].2.contains(&"src/lib/a.js=s2".to_owned()));
    // What is fetched is not unpacked, what is local is.
    let unpacks = |text: &str| -> Vec<bool> {
        let plan = self::plan(text);
        plan.vertices.iter().filter_map(|v| if let Op::Copy(copy) = &v.op { Some(copy.unpack) } else { None }).collect()
    };
    let text = "FROM node\nADD app.tar.gz /x/\nADD --unpack=false app.tar.gz /x/\nCOPY app.tar.gz /x/\n";
    assert_eq!(unpacks(text), [true, false, false]);
}

#[test]
fn mounts_are_what_they_say() {
    let text = "FROM node\nWORKDIR /w\nRUN --mount=type=cache,target=/c,id=npm,sharing=locked,uid=1 \\\n --mount=type=cache,target=d,from=node,source=/seed,ro --mount=type=tmpfs,target=/t,size=64m \\\n --mount=type=secret,id=token --mount=type=secret,id=env,env=E,required --mount=type=secret,id=both,env=B,target=/b,mode=0440 \\\n --mount=type=ssh --mount=type=ssh,id=other,target=/s,required=true a\n";
    let plan = plan(text);
    let exec = exec(&plan, 0);
    let shown = serde_json::to_value(&exec).unwrap();
    insta::assert_json_snapshot!(serde_json::json!({
        "caches": shown["caches"], "tmpfs": shown["tmpfs"], "secrets": shown["secrets"],
        "files": shown["secret_files"], "agents": shown["agents"],
    }));
    assert_eq!(exec.secret_names(), ["both", "env", "ssh/default", "ssh/other", "token"]);
    let scope = &plan.vertices.iter().find(|v| matches!(v.op, Op::Exec(_))).unwrap().scope;
    assert_eq!(scope, &Some(Scope::Within("secret/local".into())));
}

#[test]
fn a_secret_that_is_not_needed_may_be_missing() {
    let options = |names: &[&str]| Options {
        secrets: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..Options::default()
    };
    let text = "FROM node\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,required a\n";
    let plan = plan_with(text, options(&["b"])).unwrap();
    assert_eq!(exec(&plan, 0).secret_names(), ["b"]);
    assert!(plan_with(text, options(&["a"])).unwrap_err().contains("--secret id=b"));
}

#[test]
fn triggers_of_a_base_are_done_and_its_own_are_kept() {
    let mut bases = bases();
    let config = &mut bases.get_mut("node").unwrap().config.config;
    config.on_build = Some(vec!["COPY package.json /app/".into(), "RUN <<EOF\nnpm ci\nEOF".into()]);
    let lowered = |text: &str| {
        let file = dockerfile::parse("Dockerfile", text).unwrap();
        lower(&file, &context(), &Options::default(), &bases)
    };
    let plan = lowered("FROM node\nONBUILD RUN later\nONBUILD ENV A=1\n").unwrap();
    assert_eq!(exec(&plan, 0).argv[2], "npm ci\n");
    assert_eq!(copied(&plan)[0].1, "/app/");
    assert_eq!(plan.config.config.on_build.clone().unwrap(), ["RUN later", "ENV A=1"]);
    // A stage that builds on another one sets off what that one left.
    let plan = lowered("FROM runtime AS a\nONBUILD RUN fired\nFROM a\n").unwrap();
    assert_eq!(exec(&plan, 0).argv[2], "fired");
    assert_eq!(plan.config.config.on_build, None);
    bases.get_mut("node").unwrap().config.config.on_build = Some(vec!["COPY nothing /".into()]);
    let file = dockerfile::parse("Dockerfile", "FROM node\n").unwrap();
    let error = lower(&file, &context(), &Options::default(), &bases).unwrap_err().to_string();
    assert!(error.starts_with("ONBUILD of node:1:6: `nothing` is not in the build context"), "{error}");
}

#[test]
fn parents_and_exclusions_choose_exactly() {
    let plan = plan(
        "FROM node\nCOPY --parents src/lib/a.js src/./server.js /x/\nCOPY --exclude=src/lib --exclude=*.md . /y/\nCOPY --parents **/*.js /z/\n",
    );
    let copies = copied(&plan);
    assert_eq!(copies[0].0, ["/"]);
    assert_eq!(copies[0].2, ["server.js=s1", "src=", "src/lib=", "src/lib/a.js=s2"]);
    assert!(copies[1].2.iter().all(|file| !file.contains("lib") && !file.contains("README")), "{:?}", copies[1].2);
    assert!(copies[2].2.contains(&"src/lib/[id].js=s3".to_owned()));
}

#[test]
fn a_linked_copy_does_not_depend_on_what_is_below() {
    let ids = |base: &str| {
        let file = dockerfile::parse("Dockerfile", &format!("FROM {base}\nCOPY --link package.json /\n")).unwrap();
        let plan = lower(&file, &context(), &Options::default(), &bases()).unwrap();
        let mut graph = Graph::new();
        let lowered = plan.add_to(&mut graph, "g");
        let copied = graph.vertices()[lowered.result].inputs[1];
        (graph.id(copied).clone(), graph.id(lowered.result).clone())
    };
    let (first, second) = (ids("node"), ids("scratch"));
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

#[test]
fn contexts_stand_for_stages_images_and_directories() {
    let named = BTreeMap::from([
        ("nod".to_owned(), Named::Image("node".into())),
        ("files".to_owned(), Named::Tree(Box::new(context()))),
    ]);
    let options = Options { contexts: named, ..Options::default() };
    let text = "FROM nod\nCOPY --from=files src/server.js /\nRUN --mount=from=files,source=README.md,target=/r a\n";
    let plan = plan_with(text, options.clone()).unwrap();
    assert_eq!(plan.base.as_ref().unwrap().repository, "base/node");
    assert_eq!(copied(&plan)[0].2, ["src/server.js=s1"]);
    let plan = plan_with("FROM files\nCMD [\"x\"]\n", options).unwrap();
    assert!(plan.base.is_none());
    assert_eq!(plan.steps.iter().filter(|step| step.layer.is_some()).count(), 1);
}

#[test]
fn fresh_stages_are_addressed_anew() {
    let id = |fresh: Option<Fresh>, stage: usize| {
        let options = Options { fresh, ..Options::default() };
        let plan = plan_with("FROM node AS a\nRUN a\nFROM node AS b\nRUN b\nCOPY --from=a /x /\n", options).unwrap();
        let mut graph = Graph::new();
        plan.add_to(&mut graph, "g");
        let execs: Vec<usize> = (0..graph.len()).filter(|at| matches!(graph.vertices()[*at].op, Op::Exec(_))).collect();
        graph.id(execs[stage]).clone()
    };
    let only = |stages: &[&str], nonce: &str| {
        Some(Fresh { stages: stages.iter().map(|s| (*s).to_owned()).collect(), nonce: nonce.into() })
    };
    assert_ne!(id(only(&[], "1"), 0), id(only(&[], "2"), 0));
    assert_ne!(id(None, 0), id(only(&["a"], "1"), 0));
    assert_eq!(id(None, 1), id(only(&["a"], "1"), 1));
}

#[test]
fn layers_know_what_of_the_context_they_are_made_from() {
    let plan = plan(
        "FROM node AS a\nCOPY package.json /\nRUN x\nFROM node\nRUN y\nCOPY --from=a /o /o\nCOPY src /src\nCOPY . /all\n",
    );
    let lowered = plan.add_to(&mut Graph::new(), "g");
    let own = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    assert_eq!(lowered.layer_paths, [own(&[]), own(&["package.json"]), own(&["package.json", "src"]), own(&[""])]);
}
