use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::controllers::pods::tests::at;

/// A Deployment and its sets, as the store and the ReplicaSet controller would have them.
struct World {
    object: Value,
    sets: Vec<Owned>,
    second: i64,
}

impl World {
    fn new(replicas: i32, strategy: Value) -> Self {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {
                "replicas": replicas, "strategy": strategy, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 60,
                "selector": {"matchLabels": {"app": "web"}}, "template": template("v1"),
            },
        });
        Self { object, sets: Vec::new(), second: 0 }
    }

    fn rolling(replicas: i32) -> Self {
        Self::new(replicas, json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}))
    }

    fn step(&mut self) -> Plan {
        self.second += 1;
        let deployment: Deployment = typed::read(&self.object).unwrap();
        let plan = plan(&self.object, &deployment, &self.sets, None, at(self.second));
        for action in plan.actions.clone() {
            self.apply(action);
        }
        self.object["status"] = serde_json::to_value(&plan.status).unwrap();
        plan
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CreateSet(mut object) => {
                object["metadata"]["creationTimestamp"] = meta::time(at(self.second)).into();
                let mut owned = Owned::new(Arc::new(*object), Counts::default()).unwrap();
                owned.counts.active = owned.wanted();
                self.sets.push(owned);
            }
            Action::ChangeSet { name, replicas, annotations, .. } => {
                let owned = self.sets.iter_mut().find(|set| set.name() == name).expect("a set of this name");
                let mut object = Value::clone(&owned.object);
                object["spec"]["replicas"] = replicas.into();
                for (key, value) in annotations {
                    object["metadata"]["annotations"][key] = value.into();
                }
                let mut counts = owned.counts;
                counts.active = replicas;
                counts.ready = counts.ready.min(replicas);
                counts.available = counts.available.min(replicas);
                *owned = Owned::new(Arc::new(object), counts).unwrap();
            }
            Action::DeleteSet { name } => self.sets.retain(|set| set.name() != name),
            Action::Revision(revision) => {
                self.object["metadata"]["annotations"][REVISION] = revision.to_string().into();
            }
        }
    }

    fn all_ready(&mut self) {
        for set in &mut self.sets {
            set.counts.ready = set.counts.active;
            set.counts.available = set.counts.active;
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.step();
            self.all_ready();
        }
        self.step();
    }

    fn deploy(&mut self, version: &str) {
        self.object["spec"]["template"] = template(version);
        self.object["metadata"]["generation"] = (self.object["metadata"]["generation"].as_i64().unwrap() + 1).into();
    }

    fn sizes(&self) -> Vec<(String, i32)> {
        let image = |set: &Owned| set.object["spec"]["template"]["spec"]["image"].as_str().unwrap().to_owned();
        self.sets.iter().map(|set| (image(set), set.wanted())).collect()
    }

    fn progressing(&self) -> (&str, &str) {
        let conditions = self.object["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == "Progressing").unwrap();
        (found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
    }
}

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"image": version, "containers": []}})
}

fn sizes(list: &[(&str, i32)]) -> Vec<(String, i32)> {
    list.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
}

#[test]
fn a_first_version_gets_a_set_of_the_full_size() {
    let mut world = World::rolling(3);
    let plan = world.step();
    assert_eq!(world.sizes(), sizes(&[("v1", 3)]));
    assert!(plan.actions.contains(&Action::Revision(1)));
    assert_eq!(world.progressing(), ("True", "NewReplicaSetCreated"));
    let set = &world.sets[0].object;
    assert_eq!(
        set["metadata"]["labels"]["pod-template-hash"],
        set["spec"]["selector"]["matchLabels"]["pod-template-hash"]
    );
    assert_eq!(set["metadata"]["annotations"][DESIRED], "3");
    assert_eq!(set["metadata"]["annotations"][MAX], "4");
    world.settle();
    assert_eq!(world.progressing(), ("True", "NewReplicaSetAvailable"));
    assert_eq!(world.object["status"]["availableReplicas"], 3);
    assert_eq!(world.object["status"]["observedGeneration"], 1);
    assert!(world.step().actions.is_empty(), "a settled Deployment does nothing");
}

#[test]
fn rolling_over_and_back_counts_revisions_up() {
    let mut world = World::rolling(3);
    world.settle();
    world.deploy("v2");
    world.step();
    assert_eq!(world.sizes(), sizes(&[("v1", 3), ("v2", 1)]));
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 0), ("v2", 3)]));
    assert_eq!(world.object["metadata"]["annotations"][REVISION], "2");
    world.deploy("v1");
    world.step();
    assert_eq!(world.progressing(), ("True", "FoundNewReplicaSet"));
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 3), ("v2", 0)]));
    assert_eq!(world.object["metadata"]["annotations"][REVISION], "3");
    let back = &world.sets[0].object["metadata"]["annotations"];
    assert_eq!((&back[REVISION], &back[REVISION_HISTORY]), (&json!("3"), &json!("1")));
}

#[test]
fn a_version_that_never_serves_runs_into_the_deadline_and_going_back_starts_the_clock_again() {
    let mut world = World::rolling(3);
    world.settle();
    world.deploy("v2");
    let plan = world.step();
    assert_eq!(plan.again, Some(Duration::from_secs(61)));
    // The pod that was made is seen: that is progress.
    world.step();
    world.second += 61;
    world.step();
    assert_eq!(world.progressing(), ("False", "ProgressDeadlineExceeded"));
    assert_eq!(world.sizes(), sizes(&[("v1", 3), ("v2", 1)]));
    world.deploy("v1");
    world.step();
    assert_eq!(world.progressing().0, "True");
    assert_eq!(world.sizes(), sizes(&[("v1", 3), ("v2", 0)]));
    world.settle();
    assert_eq!(world.progressing(), ("True", "NewReplicaSetAvailable"));
}

#[test]
fn scaling_resizes_at_once_and_keeps_revision_and_condition() {
    let mut world = World::rolling(3);
    world.settle();
    world.object["spec"]["replicas"] = 5.into();
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 5)]));
    assert_eq!(world.object["metadata"]["annotations"][REVISION], "1");
    world.object["spec"]["replicas"] = 0.into();
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 0)]));
    world.object["spec"]["replicas"] = 2.into();
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 2)]));
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::rolling(3);
    world.settle();
    world.object["spec"]["paused"] = true.into();
    world.deploy("v2");
    world.object["spec"]["replicas"] = 4.into();
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 4)]));
    assert_eq!(world.progressing(), ("Unknown", "DeploymentPaused"));
    world.object["spec"]["paused"] = false.into();
    world.step();
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 0), ("v2", 4)]));
    assert_eq!(world.progressing(), ("True", "NewReplicaSetAvailable"));
}

#[test]
fn recreate_waits_until_every_old_pod_is_gone() {
    let mut world = World::new(3, json!({"type": "Recreate"}));
    world.settle();
    world.deploy("v2");
    world.step();
    assert_eq!(world.sizes(), sizes(&[("v1", 0)]));
    world.sets[0].counts.terminating = 2;
    world.step();
    assert_eq!(world.sizes(), sizes(&[("v1", 0)]), "two old pods still run");
    world.sets[0].counts.terminating = 0;
    world.settle();
    assert_eq!(world.sizes(), sizes(&[("v1", 0), ("v2", 3)]));
}

#[test]
fn old_sets_beyond_the_limit_are_forgotten_oldest_first() {
    let mut world = World::rolling(1);
    world.object["spec"]["revisionHistoryLimit"] = 2.into();
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        world.deploy(version);
        world.settle();
    }
    assert_eq!(world.sizes(), sizes(&[("v3", 0), ("v4", 0), ("v5", 1)]));
}

#[test]
fn a_hash_that_another_set_has_is_counted_as_a_collision() {
    let mut world = World::rolling(1);
    world.step();
    let mut object = Value::clone(&world.sets[0].object);
    object["spec"]["template"]["spec"]["image"] = "other".into();
    world.sets = vec![Owned::new(Arc::new(object), Counts::default()).unwrap()];
    let plan = world.step();
    assert_eq!(plan.status.collision_count, Some(1));
    let names: Vec<&str> = world.sets.iter().map(Owned::name).collect();
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_deployment_that_is_being_deleted_only_reports() {
    let mut world = World::rolling(2);
    world.settle();
    world.deploy("v2");
    let mut deployment: Deployment = typed::read(&world.object).unwrap();
    deployment.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = plan(&world.object, &deployment, &world.sets, None, at(99));
    assert_eq!(plan.actions, []);
}

#[derive(Debug, Clone)]
enum Chance {
    Step,
    Ready(usize),
    Deploy(u8),
    Fail(usize),
}

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        6 => Just(Chance::Step),
        6 => (0..8_usize).prop_map(Chance::Ready),
        1 => (1..5_u8).prop_map(Chance::Deploy),
        1 => (0..8_usize).prop_map(Chance::Fail),
    ]
}

proptest! {
    /// Whatever is deployed in the middle of whichever rollout: never more than allowed, and nothing that the rollout itself
    /// does takes a serving pod away below the floor.
    #[test]
    fn rollouts_over_rollouts_keep_the_bounds(
        replicas in 1..8_i32, surge in 0..4_i32, unavailable in 0..3_i32,
        chances in proptest::collection::vec(chance(), 1..120),
    ) {
        let rolling = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        let mut world = World::new(replicas, json!({"type": "RollingUpdate", "rollingUpdate": rolling}));
        world.settle();
        let bounds = Bounds::of(&typed::read(&world.object).unwrap());
        let floor = bounds.replicas - bounds.max_unavailable;
        for chance in chances {
            match chance {
                Chance::Deploy(version) => world.deploy(&format!("v{version}")),
                Chance::Ready(at) => {
                    let at = at % world.sets.len();
                    let counts = &mut world.sets[at].counts;
                    counts.available = (counts.available + 1).min(counts.active);
                    counts.ready = counts.available;
                }
                Chance::Fail(at) => {
                    let at = at % world.sets.len();
                    let counts = &mut world.sets[at].counts;
                    counts.available = (counts.available - 1).max(0);
                    counts.ready = counts.available;
                }
                Chance::Step => {
                    let serving = |world: &World| world.sets.iter().map(|set| set.counts.available).sum::<i32>();
                    let before = serving(&world);
                    world.step();
                    let (all, after) = (world.sets.iter().map(Owned::wanted).sum::<i32>(), serving(&world));
                    prop_assert!(all <= bounds.replicas + bounds.max_surge, "{:?}", world.sizes());
                    prop_assert!(after >= before.min(floor), "{before} → {after} below {floor}: {:?}", world.sizes());
                }
            }
        }
        world.settle();
        let standing: i32 = world.sets.iter().map(Owned::wanted).filter(|size| *size > 0).sum();
        prop_assert_eq!(standing, replicas);
        prop_assert_eq!(world.progressing(), ("True", "NewReplicaSetAvailable"));
    }
}
