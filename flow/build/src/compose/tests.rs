//! Projects of several files, as the specification has them.

use super::*;

impl Files for BTreeMap<&str, &str> {
    fn read(&self, path: &Path) -> Result<Option<String>, String> {
        Ok(self.get(path.to_str().unwrap()).map(|text| (*text).to_owned()))
    }
}

fn options(files: &[&str]) -> Options {
    Options {
        files: files.iter().map(|file| PathBuf::from(format!("/p/{file}"))).collect(),
        directory: "/p".into(),
        variables: BTreeMap::from([("TAG".to_owned(), "1.2".to_owned())]),
        ..Options::default()
    }
}

fn project(files: &BTreeMap<&str, &str>, options: &Options) -> Project {
    load(options, files).unwrap()
}

#[test]
fn builds_are_what_services_say() {
    let files = BTreeMap::from([(
        "/p/compose.yaml",
        "name: Shop\nx-labels: &labels {team: core}\nx-build: &build\n  context: ./web\n  args: [A=1, B]\nservices:\n  web:\n    image: r.example.org/web:${TAG:?}\n    build:\n      <<: *build\n      dockerfile: Dockerfile.prod\n      target: run\n      labels: *labels\n      tags: ['r.example.org/web:next']\n      secrets: [token, {source: key, target: /run/k}]\n      ssh: [default]\n      additional_contexts: {shared: ../shared, alpine: 'docker-image://alpine:3'}\n  db:\n    image: postgres:${PG:-16}\n  tool:\n    profiles: [debug]\n    build: ./tool\nsecrets:\n  token: {environment: NPM_TOKEN}\n  key: {file: ./key.pem}\n",
    )]);
    let project = project(&files, &options(&["compose.yaml"]));
    assert_eq!(project.name, "shop");
    assert_eq!(project.model["services"]["db"]["image"], "postgres:16");
    let found = builds(&project, &[]).unwrap();
    assert_eq!(found.len(), 1);
    let web = &found[0];
    assert_eq!(web.image.as_deref(), Some("r.example.org/web:1.2"));
    assert_eq!((web.context.as_str(), web.dockerfile.as_deref()), ("/p/web", Some("Dockerfile.prod")));
    assert_eq!(web.args, BTreeMap::from([("A".to_owned(), Some("1".to_owned()))]), "B has no value anywhere");
    assert_eq!(web.labels["team"], "core");
    assert_eq!(web.contexts["shared"], "/shared");
    assert_eq!(web.contexts["alpine"], "docker-image://alpine:3");
    assert_eq!(
        web.secrets[0],
        ServiceSecret { id: "token".into(), source: SecretSource::Variable("NPM_TOKEN".into()) }
    );
    assert_eq!(web.secrets[1], ServiceSecret { id: "k".into(), source: SecretSource::File("/p/key.pem".into()) });
    let with = Options { profiles: BTreeSet::from(["debug".to_owned()]), ..options(&["compose.yaml"]) };
    assert_eq!(builds(&load(&with, &files).unwrap(), &[]).unwrap().len(), 2);
}

#[test]
fn services_extend_others_and_files_include_files() {
    let files = BTreeMap::from([
        (
            "/p/compose.yaml",
            "include:\n  - sub/more.yaml\n  - path: [other.yaml]\n    env_file: other.env\nservices:\n  a:\n    extends: base\n    build:\n      target: a\n  base:\n    build:\n      context: .\n      args: {X: 1}\n  far:\n    extends: {service: far, file: far/far.yaml}\n",
        ),
        ("/p/far/far.yaml", "services:\n  far:\n    build: ./src\n"),
        ("/p/sub/more.yaml", "services:\n  more:\n    build: .\n    image: more:$OWN\n"),
        ("/p/sub/.env", "OWN=own\nTAG=not this\n"),
        ("/p/other.yaml", "services:\n  other:\n    image: o:$V-$TAG\n"),
        ("/p/other.env", "V=2\n"),
    ]);
    let project = project(&files, &options(&["compose.yaml"]));
    let services = &project.model["services"];
    assert_eq!(
        services["a"]["build"],
        serde_json::json!({ "context": "/p", "args": { "X": "1" }, "target": "a", "dockerfile": "Dockerfile" })
    );
    assert_eq!(services["far"]["build"]["context"], "/p/far/src");
    assert_eq!(services["more"]["build"]["context"], "/p/sub");
    assert_eq!(services["more"]["image"], "more:own");
    assert_eq!(services["other"]["image"], "o:2-1.2");
    assert!(project.unset.is_empty(), "{:?}", project.unset);
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    for (text, why) in [
        ("services: [", "/p/compose.yaml: "),
        ("x-a: ${A", "not closed"),
        ("services:\n  a:\n    build: ${NO:?say it}\n", "services.a.build: the variable `NO` must be set: say it"),
        ("services:\n  a:\n    extends: b\n", "no service `b`"),
        ("services:\n  a:\n    extends: b\n  b:\n    extends: a\n", "extends itself"),
        ("include: [none.yaml]\n", "/p/none.yaml: is not there"),
        ("include: [compose.yaml]\n", "circle"),
        ("- a\n", "a map is expected"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "duplicate"),
        ("servces:\n  a: {image: x}\n", "1:1: a Compose file has no key `servces`: did you mean `services`?"),
        ("services:\n  a:\n    imag: x\n", "3:5: `services.a` has no key `imag`: did you mean `image`?"),
        ("services:\n  a:\n    build:\n      dockerfil: x\n", "4:7: `services.a.build` has no key `dockerfil`"),
        ("services:\n  a:\n    build: {contxt: x}\n", "3:13: `services.a.build` has no key `contxt`"),
        ("x-fine: 1\nservices:\n  a: {image: x, x-own: 1}\nfoo: 1\n", "4:1: a Compose file has no key `foo`: keys of"),
        ("services:\n  a: {image: 5}\n", "2:7: `services.a.image` is to be a text, not a number"),
        ("services:\n  a: {build: [x]}\n", "2:7: `services.a.build` is to be a directory or a map, not a list"),
        ("services: [a]\n", "1:1: `services` is to be a map, not a list"),
        ("services:\n  a b: {image: x}\n", "2:3: `services.a b` is no name of a service"),
        ("services:\n  a: {image: x}\nvolumes:\n  v: {drivr: x}\n", "`volumes.v` has no key `drivr`"),
    ] {
        let files = BTreeMap::from([("/p/compose.yaml", text)]);
        let error = load(&options(&["compose.yaml"]), &files).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let files = BTreeMap::from([("/p/compose.yaml", "services:\n  a:\n    build:\n      secrets: [none]\n")]);
    let project = project(&files, &options(&["compose.yaml"]));
    assert!(builds(&project, &[]).unwrap_err().to_string().contains("no secret `none`"));
    assert!(builds(&project, &["b".to_owned()]).unwrap_err().to_string().contains("there are a"));
    // What is somewhere else can be printed, and not built.
    let text =
        "services:\n  a: {build: {secrets: [s]}}\n  b: {build: {privileged: true}}\nsecrets: {s: {external: true}}\n";
    let files = BTreeMap::from([("/p/compose.yaml", text)]);
    let found = builds(&self::project(&files, &options(&["compose.yaml"])), &[]).unwrap();
    let refused: Vec<&str> = found.iter().filter_map(|one| one.refused.as_deref()).collect();
    assert_eq!(refused, ["the secret `s` has neither a file nor a variable", "a build may not run privileged"]);
}

#[test]
fn later_files_take_away_and_replace() {
    let files = BTreeMap::from([
        (
            "/p/compose.yaml",
            "services:\n  a:\n    image: a:1\n    ports: ['80:80']\n    build: {context: ., args: {X: 1}, target: t}\n    environment: {A: 1, B: 2}\n  gone:\n    image: g\n  base:\n    image: b\n    ports: ['1:1']\n    command: [x]\n  derived:\n    extends: base\n    ports: !override ['2:2']\n    command: !reset null\n",
        ),
        (
            "/p/over.yaml",
            "services:\n  a:\n    ports: !override ['81:81']\n    build: !override {context: ./b}\n    environment: {B: !reset null}\n  gone: !reset null\n",
        ),
    ]);
    let project = project(&files, &options(&["compose.yaml", "over.yaml"]));
    let services = &project.model["services"];
    assert_eq!(services["a"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(services["a"]["ports"][0]["published"], "81");
    assert_eq!(services["a"]["build"], serde_json::json!({ "context": "/p/b", "dockerfile": "Dockerfile" }));
    assert_eq!(services["a"]["environment"], serde_json::json!({ "A": "1" }));
    assert_eq!(services["derived"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(services["derived"]["ports"][0]["target"], 2);
    assert_eq!(services["derived"].get("command"), None);
    assert!(services.get("gone").is_none());
    // An included file can be overridden by one that stands with it.
    let files = BTreeMap::from([
        ("/p/compose.yaml", "include:\n  - path: [one.yaml, two.yaml]\n"),
        ("/p/one.yaml", "services:\n  a: {image: a, ports: ['1:1'], labels: {x: y}}\n"),
        ("/p/two.yaml", "services:\n  a: {image: b, ports: !reset [], labels: !override {z: w}}\n"),
    ]);
    let project = self::project(&files, &options(&["compose.yaml"]));
    let expected = serde_json::json!({ "image": "b", "labels": { "z": "w" }, "networks": { "default": null } });
    assert_eq!(project.model["services"]["a"], expected);
}

#[test]
fn services_that_others_take_from_come_first() {
    let file = "services:\n  a:\n    build: {context: ., additional_contexts: {lib: 'service:c'}}\n  b: {build: .}\n  c:\n    build: {context: ., additional_contexts: {x: 'service:d'}}\n  d: {build: .}\n";
    let files = BTreeMap::from([("/p/compose.yaml", file)]);
    let project = project(&files, &options(&["compose.yaml"]));
    let names = |services: &[String]| -> Vec<String> {
        builds_in_order(&project, services).unwrap().into_iter().map(|one| one.service).collect()
    };
    assert_eq!(names(&[]), ["d", "c", "a", "b"]);
    assert_eq!(names(&["a".to_owned()]), ["d", "c", "a"]);
    for (text, why) in [
        ("services:\n  a: {build: {context: ., additional_contexts: {x: 'service:a'}}}\n", "take from each other"),
        (
            "services:\n  a: {build: {context: ., additional_contexts: {x: 'service:b'}}}\n  b: {image: x}\n",
            "builds nothing",
        ),
    ] {
        let files = BTreeMap::from([("/p/compose.yaml", text)]);
        let project = self::project(&files, &options(&["compose.yaml"]));
        let error = builds_in_order(&project, &[]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn variables_stay_as_they_are_written_when_asked_for() {
    let files = BTreeMap::from([(
        "/p/compose.yaml",
        "services:\n  a: {image: 'a:${TAG:?}', profiles: [x]}\n  b: {image: 'b:${NO}'}\n",
    )]);
    let as_written = Options { verbatim: true, ..options(&["compose.yaml"]) };
    let project = load(&as_written, &files).unwrap();
    assert_eq!(project.model["services"]["b"]["image"], "b:${NO}");
    assert!(project.unset.is_empty());
    assert_eq!(project.profiles, BTreeSet::from(["x".to_owned()]));
}

/// What the loader of Docker Compose makes of the same file.
#[test]
fn short_forms_become_long_ones() {
    let file = "services:
  a:
    image: a
    command: echo \"hello world\" 'x y'
    ports: ['8080:80', '443', '127.0.0.1:9000-9001:9000-9001/udp']
    volumes: ['./data:/data:ro', 'named:/n', '/anon']
    depends_on: [b]
    environment: [X=1, Y, TAG]
    env_file: e.env
    labels: {n: 1, t: true}
    healthcheck: {test: curl x, interval: 90s, timeout: 1m}
    secrets: [s, {source: s, target: /x, mode: 0440}]
    mem_limit: 512m
    extra_hosts: ['h:1.2.3.4']
    dns: 8.8.8.8
    stop_grace_period: 1500ms
    deploy: {resources: {limits: {cpus: '0.5', memory: 50M}}}
  b:
    build: {context: ., shm_size: 1g, secrets: [s]}
    network_mode: host
volumes: {named: }
secrets: {s: {file: ./s}}
networks: {other: {external: true}}
";
    let files = BTreeMap::from([("/p/compose.yaml", file), ("/p/e.env", "X=2\nE=$TAG-e\n")]);
    let project = project(&files, &options(&["compose.yaml"]));
    let port = |target: u32, more: serde_json::Value| {
        let mut port = serde_json::json!({ "mode": "ingress", "target": target, "protocol": "tcp" });
        port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        port
    };
    let udp = |target: u32| {
        let more = serde_json::json!({ "host_ip": "127.0.0.1", "published": target.to_string(), "protocol": "udp" });
        port(target, more)
    };
    let started = serde_json::json!({ "condition": "service_started", "required": true });
    let expected = serde_json::json!({
        "name": "p",
        "services": {
            "a": {
                "image": "a",
                "command": ["echo", "hello world", "x y"],
                "ports": [
                    port(80, serde_json::json!({ "published": "8080" })),
                    port(443, serde_json::json!({})),
                    udp(9000),
                    udp(9001),
                ],
                "volumes": [
                    { "type": "bind", "source": "/p/data", "target": "/data", "read_only": true, "bind": {} },
                    { "type": "volume", "source": "named", "target": "/n", "volume": {} },
                    { "type": "volume", "target": "/anon", "volume": {} },
                ],
                "depends_on": { "b": started },
                "environment": { "X": "1", "Y": null, "TAG": "1.2", "E": "1.2-e" },
                "labels": { "n": "1", "t": "true" },
                "healthcheck": { "test": ["CMD-SHELL", "curl x"], "interval": "1m30s", "timeout": "1m0s" },
                "secrets": [
                    { "source": "s", "target": "/run/secrets/s" },
                    { "source": "s", "target": "/x", "mode": "0440" },
                ],
                "mem_limit": "536870912",
                "extra_hosts": ["h=1.2.3.4"],
                "dns": ["8.8.8.8"],
                "stop_grace_period": "1.5s",
                "deploy": { "resources": { "limits": { "cpus": 0.5, "memory": "52428800" } } },
                "networks": { "default": null },
            },
            "b": {
                "build": {
                    "context": "/p",
                    "dockerfile": "Dockerfile",
                    "shm_size": "1073741824",
                    "secrets": [{ "source": "s" }],
                },
                "network_mode": "host",
            },
        },
        "volumes": { "named": { "name": "p_named" } },
        "secrets": { "s": { "file": "/p/s", "name": "p_s" } },
        "networks": { "default": { "name": "p_default" } },
    });
    assert_eq!(project.model, expected, "{:#}", project.model);
}

#[test]
fn what_is_named_and_not_there_is_refused() {
    for (text, why) in [
        ("services:\n  a: {}\n", "service `a` has neither `image` nor `build`"),
        ("services:\n  a: {image: a, depends_on: [b]}\n", "service `a` depends on `b`"),
        ("services:\n  a: {image: a, networks: [n]}\n", "service `a` uses the network `n`"),
        ("services:\n  a: {image: a, volumes: ['v:/x']}\n", "service `a` uses the volume `v`"),
        ("services:\n  a: {image: a, secrets: [s]}\n", "service `a` uses `s`, which `secrets` does not have"),
        ("services:\n  a: {image: a, env_file: no.env}\n", "/p/no.env: is not there"),
        ("services:\n  a: {image: a, scale: 2, container_name: x}\n", "more than one container"),
        ("services:\n  a: {image: a, label_file: no.labels}\n", "/p/no.labels: is not there"),
        ("services:\n  a: {image: a, depends_on: {b: {required: false}}}\n", "service `a` depends on `b`"),
        ("services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b, depends_on: [a]}\n", "in a circle: a → b → a"),
        ("services:\n  a: {image: a, depends_on: [a]}\n", "in a circle: a → a"),
        ("services:\n  a: {image: a, network_mode: host, networks: [n]}\nnetworks: {n: }\n", "both `network_mode`"),
        ("services:\n  a: {image: a}\nsecrets: {s: {name: x}}\n", "`secrets.s` says none of file, environment"),
        (
            "services:\n  a: {build: {context: ., platforms: [linux/amd64]}, platform: linux/arm64}\n",
            "runs on \"linux/arm64\", which its `build.platforms`",
        ),
        ("services:\n  a: {image: a, models: [m]}\n", "uses the model `m`"),
        ("services:\n  a: {image: a}\njobs:\n  a: {image: a}\n", "both a service and a job"),
    ] {
        let files = BTreeMap::from([("/p/compose.yaml", text)]);
        let error = load(&options(&["compose.yaml"]), &files).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

/// What the loader of Docker Compose makes of the same files.
#[test]
fn parts_of_services_have_their_long_forms() {
    let file = "services:
  a:
    image: ${COMPOSE_PROJECT_NAME}-a
    container_name: ''
    volumes: ['v:/x/:nocopy,ro', '/a/:/b', '~/x:/y', {type: tmpfs, target: /t, tmpfs: {size: 1m}}]
    gpus: all
    depends_on: {off: {condition: service_started, required: false}}
    devices: [/dev/x, '/dev/y:/dev/z:r']
    post_start: [{command: \"sh -c 'a b'\"}]
    extra_hosts: {z: 1.2.3.4, a: ['::1', '[::2]']}
    mem_swappiness: 60
    label_file: l.labels
    labels: [q=1]
    provider: {type: p, options: {a: 1, b: [true]}}
    blkio_config: {device_read_bps: [{path: /d, rate: 1k}]}
    deploy: {resources: {reservations: {devices: [{count: all}, {count: '2'}, {device_ids: [x]}]}}}
  off: {image: x, profiles: [p]}
  d: {image: d, links: [c]}
  b:
    build:
      context: ~/b
      additional_contexts: {y: ./r, z: ~/q}
      ssh: {default: , k: ./id}
      dockerfile_inline: |
        RUN echo $(seq 3)
  c:
    build: {dockerfile: '', ssh: [default, k=./id]}
volumes: {v: , unused: }
configs: {unused: {content: x}}
---
services:
  b: {image: second}
";
    let files = BTreeMap::from([("/p/compose.yaml", file), ("/p/l.labels", "A=1\nq=2\n")]);
    let mut options = options(&["compose.yaml"]);
    options.variables.insert("HOME".into(), "/home/me".into());
    let project = project(&files, &options);
    let expected = serde_json::json!({
        "name": "p",
        "services": {
            "a": {
                "image": "p-a",
                "volumes": [
                    { "type": "volume", "source": "v", "target": "/x", "read_only": true, "volume": { "nocopy": true } },
                    { "type": "bind", "source": "/a/", "target": "/b", "bind": {} },
                    { "type": "bind", "source": "/home/me/x", "target": "/y", "bind": {} },
                    { "type": "tmpfs", "target": "/t", "tmpfs": { "size": "1048576" } },
                ],
                "gpus": [{ "count": -1 }],
                "depends_on": { "off": { "condition": "service_started", "required": false } },
                "devices": [
                    { "source": "/dev/x", "target": "/dev/x", "permissions": "rwm" },
                    { "source": "/dev/y", "target": "/dev/z", "permissions": "r" },
                ],
                "post_start": [{ "command": ["sh", "-c", "a b"] }],
                "extra_hosts": ["a=::1", "a=::2", "z=1.2.3.4"],
                "mem_swappiness": "60",
                "label_file": ["/p/l.labels"],
                "labels": { "q": "1", "A": "1" },
                "provider": { "type": "p", "options": { "a": ["1"], "b": ["true"] } },
                "blkio_config": { "device_read_bps": [{ "path": "/d", "rate": "1024" }] },
                "deploy": { "resources": { "reservations": { "devices": [
                    { "count": -1 }, { "count": 2 }, { "device_ids": ["x"] },
                ] } } },
            },
            "b": {
                "image": "second",
                "build": {
                    "context": "/home/me/b",
                    "additional_contexts": { "y": "/p/r", "z": "/home/me/q" },
                    "ssh": ["default", "k=/p/id"],
                    "dockerfile_inline": "RUN echo $(seq 3)\n",
                },
                "networks": { "default": null },
            },
            "d": {
                "image": "d",
                "links": ["c"],
                "depends_on": { "c": { "condition": "service_started", "required": true, "restart": true } },
                "networks": { "default": null },
            },
            "c": {
                "build": { "context": "/p", "dockerfile": "Dockerfile", "ssh": ["default", "k=/p/id"] },
                "networks": { "default": null },
            },
        },
        "volumes": { "v": { "name": "p_v" } },
        "networks": { "default": { "name": "p_default" } },
    });
    assert_eq!(project.model, expected, "{:#}", project.model);
    assert_eq!(builds(&project, &[]).unwrap()[0].ssh, ["default", "k=/p/id"]);
}

#[test]
fn the_project_is_named_by_the_environment_and_includes_count_from_here() {
    let files = BTreeMap::from([
        (
            "/p/compose.yaml",
            "name: written\ninclude: [{path: sub/c.yaml, env_file: here.env, project_directory: other}]\nservices:\n  a: {image: 'x:${COMPOSE_PROJECT_NAME}'}\n",
        ),
        ("/p/sub/c.yaml", "services:\n  b: {build: {target: t}, image: 'b:$HERE'}\n"),
        ("/p/here.env", "HERE=1\n"),
    ]);
    let mut options = options(&["compose.yaml"]);
    let model = project(&files, &options).model;
    assert_eq!((&model["name"], &model["services"]["a"]["image"]), (&"written".into(), &"x:written".into()));
    assert_eq!(model["services"]["b"]["image"], "b:1");
    assert_eq!(model["services"]["b"]["build"]["context"], "/p/other");
    // A file over another that says nothing of the context leaves it as it is.
    let over = BTreeMap::from([
        ("/p/compose.yaml", "services:\n  a: {build: sub}\n"),
        ("/p/over.yaml", "services:\n  a: {build: {target: t}}\n"),
    ]);
    let both = Options { files: vec!["/p/compose.yaml".into(), "/p/over.yaml".into()], ..options.clone() };
    assert_eq!(project(&over, &both).model["services"]["a"]["build"]["context"], "/p/sub");
    options.variables.insert("COMPOSE_PROJECT_NAME".into(), "Named".into());
    assert_eq!(project(&files, &options).model["services"]["a"]["image"], "x:named");
}

#[test]
fn services_are_chosen_with_what_they_need() {
    let files = BTreeMap::from([(
        "/p/compose.yaml",
        "services:\n  a: {image: a, depends_on: [b], volumes: ['v:/v']}\n  b: {image: b, networks: [n]}\n  c: {image: c, volumes: ['w:/w']}\nvolumes: {v: , w: }\nnetworks: {n: , m: }\n",
    )]);
    let mut project = project(&files, &options(&["compose.yaml"]));
    let error = project.select(&["x".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("no service `x`: there are a, b, c"), "{error}");
    project.select(&["a".to_owned()]).unwrap();
    let keys = |kind: &str| project.model[kind].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((keys("services"), keys("volumes")), (vec!["a".to_owned(), "b".to_owned()], vec!["v".to_owned()]));
    assert_eq!(keys("networks"), ["n", "default"]);
}
