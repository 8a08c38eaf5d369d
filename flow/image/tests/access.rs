//! Who may do what: robots, tokens, open and closed repositories, tags that stand still, quotas, and the record of it all.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use image::{
    Kind,
    registry::{
        Limits, Settings,
        events::{Action, Events},
        http::{Door, Extras},
        robots::{Grant, Verb},
    },
};
use records::Timestamp;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use support::{Served, Stores, open, push_image, serve_extras};
use tempfile::TempDir;

struct World {
    served: Served,
    http: Client,
    now: Arc<AtomicI64>,
}

async fn world() -> World {
    let directory = TempDir::new().unwrap();
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = now.clone();
    let clock: image::Clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
    let registry = open(Stores::Disk, directory.path(), Limits::default(), clock).await;
    let door = Door::new(registry.clone(), Arc::new(|text| text == "root")).unwrap();
    let door = door.close("base/", "base images are assembled here");
    let (events, writing) = Events::new(registry.clone());
    tokio::spawn(writing.run());
    let extras = Extras { events: Some(events), ..Extras::default() };
    let served = serve_extras(registry, Arc::new(door), extras, directory).await;
    World { served, http: Client::new(), now }
}

impl World {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.served.host)
    }

    async fn ask(&self, method: Method, path: &str, who: Option<(&str, &str)>) -> Response {
        let request = self.http.request(method, self.url(path));
        match who {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
        .send()
        .await
        .unwrap()
    }

    async fn bearer(&self, method: Method, path: &str, token: &str) -> Response {
        self.http.request(method, self.url(path)).bearer_auth(token).send().await.unwrap()
    }

    /// As clients do: what the challenge says is asked of its realm.
    async fn token(&self, challenge: &str, who: Option<(&str, &str)>) -> Result<String, StatusCode> {
        let part = |name: &str| {
            let start = challenge.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            challenge[start..].split('"').next().unwrap().to_owned()
        };
        let mut url = format!("{}?service={}", part("realm"), part("service"));
        if challenge.contains("scope=") {
            url += &format!("&scope={}", part("scope"));
        }
        let mut request = self.http.get(url);
        if let Some((user, password)) = who {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["token"], body["access_token"]);
        assert!(body["expires_in"].as_i64().unwrap() >= 60, "clients take a minute for granted");
        Ok(body["token"].as_str().unwrap().to_owned())
    }
}

fn challenge(response: &Response) -> String {
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let mut all = response.headers().get_all("www-authenticate").iter().map(|value| value.to_str().unwrap().to_owned());
    let bearer = all.next().unwrap();
    // dockerd answers every way that is offered, and fails without credentials when one of them is Basic.
    assert!(bearer.starts_with("Bearer ") && all.next().is_none(), "{bearer}");
    bearer
}

async fn code(response: Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let text = |name: &str| body["errors"][0][name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

fn grant(repository: &str, actions: &[Verb]) -> Grant {
    Grant { repository: repository.into(), actions: actions.to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_does_what_its_grants_say_until_it_ends() {
    let world = world().await;
    let registry = &world.served.registry;
    push_image(registry, "team/app", &["v1"], "x").await;
    push_image(registry, "other/app", &["v1"], "y").await;
    let closed = Settings { anonymous_pull: false, ..Settings::default() };
    registry.set_settings("", Some(&closed)).await.unwrap();
    let ends = Timestamp::from_second(world.now.load(Ordering::Relaxed) + 3600).unwrap();
    let grants = vec![grant("team/app", &[Verb::Pull]), grant("team/ci-*", &[Verb::Pull, Verb::Push])];
    let (robot, secret) = registry.create_robot("team", "ci", grants, false, Some(ends)).await.unwrap();
    assert_eq!(robot.user(), "team+ci");
    let again = registry.create_robot("team", "ci", vec![], false, None).await.unwrap_err();
    assert!(again.message.contains("is there already"), "{again}");
    let outside = registry.create_robot("team", "x", vec![grant("other/*", &[Verb::Pull])], false, None).await;
    assert_eq!(outside.unwrap_err().kind, Kind::Malformed);
    let stored = serde_json::to_string(&registry.robots(Some("team")).await.unwrap()).unwrap();
    assert!(!stored.contains(&secret), "only a hash is kept");

    let robot = Some(("team+ci", secret.as_str()));
    let get = |path: &'static str, who| world.ask(Method::GET, path, who);
    assert_eq!(get("/v2/team/app/manifests/v1", None).await.status(), 401);
    assert_eq!(get("/v2/team/app/manifests/v1", robot).await.status(), 200);
    assert_eq!(get("/v2/team/app/manifests/v1", Some(("team+ci", "wrong"))).await.status(), 401);
    let (status, code_, message) = code(get("/v2/other/app/manifests/v1", robot).await).await;
    assert_eq!((status, code_.as_str()), (403, "DENIED"));
    assert_eq!(message, "robot team+ci may not pull from other/app");
    let begin = world.ask(Method::POST, "/v2/team/app/blobs/uploads/", robot).await;
    assert_eq!(code(begin).await.2, "robot team+ci may not push to team/app");
    assert_eq!(world.ask(Method::POST, "/v2/team/ci-x/blobs/uploads/", robot).await.status(), 202);

    // With tokens, as docker has it.
    let bearer = challenge(&get("/v2/team/app/manifests/v1", None).await);
    assert!(bearer.contains("scope=\"repository:team/app:pull\""), "{bearer}");
    assert_eq!(world.token(&bearer, Some(("team+ci", "wrong"))).await.unwrap_err(), 401);
    let nobody = world.token(&bearer, None).await.unwrap();
    challenge(&world.bearer(Method::GET, "/v2/team/app/manifests/v1", &nobody).await);
    let token = world.token(&bearer, robot).await.unwrap();
    assert_eq!(world.bearer(Method::GET, "/v2/team/app/manifests/v1", &token).await.status(), 200);
    assert_eq!(world.bearer(Method::GET, "/v2/", &token).await.status(), 200);
    // It can be asked for more, and then it is said what is not to be had.
    let more = challenge(&world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &token).await);
    let token2 = world.token(&more, robot).await.unwrap();
    let (status, _, message) = code(world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &token2).await).await;
    assert_eq!((status, message.as_str()), (403, "robot team+ci may not push to team/app"));
    assert_eq!(world.bearer(Method::GET, "/v2/team/app/manifests/v1", &format!("{token}x")).await.status(), 401);
    // A token holds for minutes, the robot until it ends or is removed.
    world.now.fetch_add(301, Ordering::Relaxed);
    challenge(&world.bearer(Method::GET, "/v2/team/app/manifests/v1", &token).await);
    let token = world.token(&bearer, robot).await.unwrap();
    world.now.fetch_add(3300, Ordering::Relaxed);
    assert_eq!(get("/v2/team/app/manifests/v1", robot).await.status(), 401, "it has ended");
    challenge(&world.bearer(Method::GET, "/v2/team/app/manifests/v1", &token).await);
    let (_, secret) = registry.create_robot("team", "two", vec![grant("*", &[Verb::Pull])], false, None).await.unwrap();
    let two = Some(("team+two", secret.as_str()));
    let token = world.token(&bearer, two).await.unwrap();
    registry.remove_robot("team", "two").await.unwrap();
    assert_eq!(world.bearer(Method::GET, "/v2/team/app/manifests/v1", &token).await.status(), 401, "it was removed");
    assert!(registry.remove_robot("team", "two").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_and_everybody() {
    let world = world().await;
    let registry = &world.served.registry;
    let (_, layer) = push_image(registry, "team/app", &["v1"], "x").await;
    let admin = Some(("admin", "root"));
    let bearer = challenge(&world.ask(Method::GET, "/v2/", None).await);
    assert!(!bearer.contains("scope"));
    assert_eq!(world.ask(Method::GET, "/v2/", admin).await.status(), 200);
    assert_eq!(world.ask(Method::GET, "/v2/", Some(("admin", "x"))).await.status(), 401);
    assert_eq!(world.bearer(Method::GET, "/v2/", "root").await.status(), 200, "the token itself is one");
    // Open to everybody, with and without an anonymous token.
    assert_eq!(world.ask(Method::GET, "/v2/team/app/manifests/v1", None).await.status(), 200);
    let pull = format!("{bearer},scope=\"repository:team/app:pull\"");
    let nobody = world.token(&pull, None).await.unwrap();
    assert_eq!(world.bearer(Method::GET, "/v2/team/app/manifests/v1", &nobody).await.status(), 200);
    challenge(&world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &nobody).await);
    let push = challenge(&world.ask(Method::POST, "/v2/team/app/blobs/uploads/", None).await);
    let token = world.token(&push, admin).await.unwrap();
    assert_eq!(world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &token).await.status(), 202);
    // A token for something else opens what is open to everybody, and closes nothing.
    let elsewhere = format!("{bearer},scope=\"repository:team/other:pull,push\"");
    let elsewhere = world.token(&elsewhere, admin).await.unwrap();
    assert_eq!(world.bearer(Method::GET, "/v2/team/app/manifests/v1", &elsewhere).await.status(), 200);
    let mount = format!("/v2/team/other/blobs/uploads/?mount={layer}&from=team/app");
    assert_eq!(world.bearer(Method::POST, &mount, &elsewhere).await.status(), 201);
    challenge(&world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &elsewhere).await);
    // Not even the administrator pushes there.
    let refused = code(world.ask(Method::POST, "/v2/base/debian/blobs/uploads/", admin).await).await;
    assert_eq!((refused.0, refused.2.as_str()), (403, "base images are assembled here"));
    // One part of the registry is closed.
    registry.set_settings("team", Some(&Settings { anonymous_pull: false, ..Settings::default() })).await.unwrap();
    assert_eq!(world.ask(Method::GET, "/v2/team/app/manifests/v1", None).await.status(), 401);
    challenge(&world.bearer(Method::GET, "/v2/team/app/manifests/v1", &elsewhere).await);
    assert_eq!(world.ask(Method::GET, "/v2/_catalog", None).await.status(), 200);
    registry.set_settings("team", None).await.unwrap();
    assert_eq!(world.ask(Method::GET, "/v2/team/app/manifests/v1", None).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_stand_still_and_quotas() {
    let world = world().await;
    let registry = &world.served.registry;
    let settings = Settings {
        immutable_tags: vec!["v*".into()],
        quota_tags: Some(3),
        quota_bytes: Some(100),
        ..Settings::default()
    };
    registry.set_settings("team", Some(&settings)).await.unwrap();
    let (one, layer) = push_image(registry, "team/app", &["v1", "latest"], "one").await;
    let (two, _) = push_image(registry, "team/app", &["latest"], "two").await;
    assert_ne!(one, two);
    let (_, again) = registry.manifest("team/app", &two).await.unwrap();
    let moved = registry.put_manifest("team/app", &["v1"], None, "", again.clone()).await.unwrap_err();
    assert_eq!(moved.kind, Kind::Denied, "{moved}");
    assert_eq!(registry.resolve("team/app", "v1").await.unwrap(), one);
    let (_, same) = registry.manifest("team/app", &one).await.unwrap();
    registry.put_manifest("team/app", &["v1"], None, "", same).await.unwrap();
    let admin = Some(("admin", "root"));
    for path in ["/v2/team/app/manifests/v1".to_owned(), format!("/v2/team/app/manifests/{one}")] {
        let (status, code, _) = code(world.ask(Method::DELETE, &path, admin).await).await;
        assert_eq!((status, code.as_str()), (403, "DENIED"), "{path}");
    }
    assert_eq!(world.ask(Method::DELETE, &format!("/v2/team/app/manifests/{two}"), admin).await.status(), 202);

    registry.put_manifest("team/app", &["a", "b"], None, "", again.clone()).await.unwrap();
    let over = registry.put_manifest("team/app", &["c"], None, "", again.clone()).await.unwrap_err();
    assert!(over.kind == Kind::Denied && over.message.contains("may hold 3 tags, holds 3"), "{over}");
    registry.delete_tag("team/app", "a").await.unwrap();
    registry.put_manifest("team/app", &["c"], None, "", again).await.unwrap();
    let used = registry.usage("team").await.unwrap();
    assert_eq!((used.bytes, used.tags), (2 * 12 + 2 * 3, 3));
    assert_eq!(registry.usage("").await.unwrap(), used);
    assert_eq!(registry.usage("tea").await.unwrap().bytes, 0, "part of a name is not part of another");
    let over = registry.put_blob("team/other", vec![0; 71]).await.unwrap_err();
    assert!(over.kind == Kind::Denied && over.message.contains("may hold 100 bytes, holds 30"), "{over}");
    registry.put_blob("team/other", vec![0; 70]).await.unwrap();
    assert!(registry.link_blob("team/third", &layer).await.is_err(), "a mount counts, too");
    registry.put_blob("elsewhere", vec![1; 1000]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_written_down() {
    let world = world().await;
    let registry = &world.served.registry;
    let (digest, layer) = push_image(registry, "team/app", &["v1"], "x").await;
    let (_, manifest) = registry.manifest("team/app", &digest).await.unwrap();
    let put = world.http.put(world.url("/v2/team/app/manifests/v2")).basic_auth("admin", Some("root"));
    let put = put.header("user-agent", "tester/1").body(manifest).send().await.unwrap();
    assert_eq!(put.status(), 201);
    world.ask(Method::GET, "/v2/team/app/manifests/v2", None).await;
    world.ask(Method::HEAD, "/v2/team/app/manifests/v2", None).await;
    world.ask(Method::GET, "/v2/team/app/manifests/none", None).await;
    world.ask(Method::DELETE, "/v2/team/app/manifests/v2", Some(("admin", "root"))).await;
    world.ask(Method::DELETE, &format!("/v2/team/app/blobs/{layer}"), Some(("admin", "root"))).await;
    let mut events = Vec::new();
    for _ in 0..1200 {
        events = registry.events("team/", Timestamp::UNIX_EPOCH, 10).await.unwrap();
        if events.len() == 4 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(events.len(), 4, "{events:?}");
    let of = |action| events.iter().filter(move |event| event.action == action);
    let push = of(Action::Push).next().unwrap();
    assert_eq!(
        (push.who.as_str(), push.agent.as_deref(), push.tag.as_deref()),
        ("admin", Some("tester/1"), Some("v2"))
    );
    assert_eq!(push.digest.as_ref(), Some(&digest));
    let pull = of(Action::Pull).next().unwrap();
    assert_eq!((pull.who.as_str(), pull.digest.as_ref()), ("", Some(&digest)));
    assert_eq!(of(Action::Delete).count(), 2);
    assert_eq!(registry.events("team/", Timestamp::UNIX_EPOCH, 2).await.unwrap().len(), 2);
    assert!(registry.events("other/", Timestamp::UNIX_EPOCH, 2).await.unwrap().is_empty());
    assert_eq!(registry.forget_events(Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    world.now.fetch_add(1, Ordering::Relaxed);
    let now = Timestamp::from_second(world.now.load(Ordering::Relaxed)).unwrap();
    assert_eq!(registry.forget_events(now).await.unwrap(), 4);
    assert!(registry.events("", Timestamp::UNIX_EPOCH, 9).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_asked_for_with_a_form() {
    let world = world().await;
    let registry = &world.served.registry;
    let grants = vec![grant("team/app", &[Verb::Pull, Verb::Push])];
    let (_, secret) = registry.create_robot("team", "ci", grants, false, None).await.unwrap();
    let ask = |form: &[(&str, &str)]| {
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", value.replace('+', "%2B").replace(' ', "+")));
        let request = world.http.post(world.url("/v2/token")).body(pairs.collect::<Vec<_>>().join("&"));
        request.header("content-type", "application/x-www-form-urlencoded").send()
    };
    let base = [("grant_type", "password"), ("service", "shipway"), ("client_id", "containerd")];
    let scope = ("scope", "repository:team/app:pull,push repository:other/app:pull");
    let good = [&base[..], &[scope, ("username", "team+ci"), ("password", secret.as_str())]].concat();
    let body: Value = ask(&good).await.unwrap().json().await.unwrap();
    assert_eq!(body["token_type"], "Bearer");
    let token = body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(world.bearer(Method::POST, "/v2/team/app/blobs/uploads/", &token).await.status(), 202);
    assert_eq!(world.bearer(Method::POST, "/v2/other/app/blobs/uploads/", &token).await.status(), 401);

    let wrong = ask(&[&base[..], &[("username", "team+ci"), ("password", "no")]].concat()).await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert_eq!(wrong.json::<Value>().await.unwrap()["error"], "invalid_grant");
    let refresh = ask(&[("grant_type", "refresh_token"), ("refresh_token", "x")]).await.unwrap();
    assert_eq!(refresh.status(), 400);
    assert_eq!(refresh.json::<Value>().await.unwrap()["error"], "unsupported_grant_type");
    let long = "x".repeat(20_000);
    assert!(ask(&[("grant_type", long.as_str())]).await.unwrap().status().is_client_error());
    let no_form = world.http.post(world.url("/v2/token")).body("{}").send().await.unwrap();
    assert_eq!(no_form.json::<Value>().await.unwrap()["error"], "invalid_request");
}

/// 20 pushes of 100 bytes each at the same time, by each of the ways, where there is room for 7.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_at_the_same_time_stay_within_the_quota() {
    for way in ["?digest", "put", "patch"] {
        let world = world().await;
        let registry = &world.served.registry;
        let settings = Settings { quota_bytes: Some(750), quota_tags: Some(3), ..Settings::default() };
        registry.set_settings("team", Some(&settings)).await.unwrap();
        let admin = Some(("admin", "root"));
        let pushes = (0..20).map(|n: u8| {
            let content = vec![n; 100];
            let digest = image::hash::digest(image::hash::Algorithm::Sha256, &content);
            let world = &world;
            async move {
                let begun = world.ask(Method::POST, &format!("/v2/team/r{n}/blobs/uploads/"), admin).await;
                let mut place = begun.headers()["location"].to_str().unwrap().to_owned();
                let send = |method, path: String, body: Vec<u8>| {
                    world.http.request(method, world.url(&path)).basic_auth("admin", Some("root")).body(body).send()
                };
                let done = match way {
                    "?digest" => {
                        send(Method::POST, format!("/v2/team/r{n}/blobs/uploads/?digest={digest}"), content).await
                    }
                    "put" => send(Method::PUT, format!("{place}?digest={digest}"), content).await,
                    _ => {
                        let part = send(Method::PATCH, place.clone(), content).await.unwrap();
                        place = part.headers()["location"].to_str().unwrap().to_owned();
                        send(Method::PUT, format!("{place}?digest={digest}"), Vec::new()).await
                    }
                };
                done.unwrap().status().as_u16()
            }
        });
        let statuses = futures::future::join_all(pushes).await;
        let taken = statuses.iter().filter(|status| **status == 201).count();
        assert!(statuses.iter().all(|status| [201, 403].contains(status)), "{way}: {statuses:?}");
        assert!((1..=7).contains(&taken), "{way}: {statuses:?}");
        assert_eq!(registry.usage("team").await.unwrap().bytes, taken as u64 * 100, "{way}");
        // One after the other, all the room there is can be used.
        for n in 0..20u8 {
            let content = vec![n; 100];
            let _ = registry.put_blob(&format!("team/r{n}"), content).await;
        }
        assert_eq!(registry.usage("team").await.unwrap().bytes, 700, "{way}");
    }
}

struct Runs(std::collections::BTreeMap<records::Digest, String>);

#[async_trait::async_trait]
impl image::registry::running::Running for Runs {
    async fn running(&self) -> Result<std::collections::BTreeMap<records::Digest, String>, String> {
        if self.0.is_empty() { Err("the records are away".into()) } else { Ok(self.0.clone()) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_not_deleted() {
    for known in [true, false] {
        let directory = TempDir::new().unwrap();
        let registry = open(Stores::Disk, directory.path(), Limits::default(), support::clock()).await;
        let (digest, layer) = push_image(&registry, "team/app", &["v1"], "x").await;
        let (other, other_layer) = push_image(&registry, "team/app", &["v2"], "y").await;
        let size = registry.manifest("team/app", &digest).await.unwrap().1.len();
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": image::media::OCI_INDEX,
            "manifests": [{ "mediaType": image::media::OCI_MANIFEST, "digest": digest, "size": size }],
        });
        let index = registry.put_manifest("team/app", &["all"], None, "", index.to_string()).await.unwrap().digest;
        let place = "environment team/prod".to_owned();
        let runs = if known { [(digest.clone(), place)].into() } else { Default::default() };
        let extras = Extras { running: Some(Arc::new(Runs(runs))), ..Extras::default() };
        let served = serve_extras(registry, Arc::new(image::registry::http::AllowAll), extras, directory).await;
        let delete = async |path: String| {
            let url = format!("http://{}/v2/team/app/{path}", served.host);
            code(Client::new().delete(url).send().await.unwrap()).await
        };
        let refused = [format!("manifests/{digest}"), format!("manifests/{index}"), format!("blobs/{layer}")];
        for path in refused {
            let (status, code, message) = delete(path).await;
            assert_eq!((status, code.as_str()), (403, "DENIED"));
            let why = if known { "is used by environment team/prod" } else { "cannot be told whether it runs" };
            assert!(message.contains(why), "{message}");
        }
        assert_eq!(served.registry.resolve("team/app", "v1").await.unwrap(), digest);
        if known {
            for path in [format!("manifests/{other}"), format!("blobs/{other_layer}"), "manifests/v1".into()] {
                let url = format!("http://{}/v2/team/app/{path}", served.host);
                assert_eq!(Client::new().delete(url).send().await.unwrap().status(), 202);
            }
        }
    }
}
