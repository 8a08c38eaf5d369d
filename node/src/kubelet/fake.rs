//! A runtime in memory that is stricter than a real one: what a careful caller never does is kept as a fault.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::objects::Clock;
use crate::runtime::{
    ContainerId, ExecRequest, ExecSession, Exit, ImageConfig, ImageHandle, PodNetwork, PodSandbox, Runtime,
    RuntimeError, RuntimeResult, StartContainer, SurvivingPod, Survivor,
};

/// A test's clock: it goes with tokio's.
pub fn clock() -> Clock {
    let start = tokio::time::Instant::now();
    let base = Timestamp::from_second(1_800_000_000).unwrap();
    Arc::new(move || base + jiff::SignedDuration::try_from(start.elapsed()).unwrap())
}

/// What a container does: it works until it is ended.
pub type Program = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
type Programs = Arc<dyn Fn(&StartContainer, IpAddr) -> Program + Send + Sync>;

struct Running {
    start: StartContainer,
    at: Timestamp,
    exit: watch::Sender<Option<Exit>>,
}

#[derive(Default)]
struct World {
    pods: BTreeMap<String, IpAddr>,
    programs: BTreeMap<ContainerId, Running>,
    addresses: u8,
    /// Everything that was done, in order.
    done: Vec<String>,
    faults: Vec<String>,
    /// How programs answer to commands: container name → status.
    answers: HashMap<String, i32>,
    /// Containers that pay no heed to signals.
    deaf: HashSet<String>,
    missing_images: HashSet<String>,
    broken: HashSet<String>,
}

#[derive(Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    clock: Clock,
    programs: Option<Programs>,
}

impl Fake {
    pub fn new(clock: Clock) -> Self {
        Self { world: Arc::default(), clock, programs: None }
    }

    /// Containers that do something.
    pub fn with_programs(
        mut self,
        programs: impl Fn(&StartContainer, IpAddr) -> Program + Send + Sync + 'static,
    ) -> Self {
        self.programs = Some(Arc::new(programs));
        self
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn done(&self) -> Vec<String> {
        self.world().done.clone()
    }

    /// How often something was done whose line starts so.
    pub fn count(&self, prefix: &str) -> usize {
        self.world().done.iter().filter(|line| line.starts_with(prefix)).count()
    }

    pub fn faults(&self) -> Vec<String> {
        self.world().faults.clone()
    }

    pub fn answer(&self, container: &str, status: i32) {
        self.world().answers.insert(container.to_owned(), status);
    }

    pub fn be_deaf(&self, container: &str) {
        self.world().deaf.insert(container.to_owned());
    }

    pub fn hide_image(&self, reference: &str, hidden: bool) {
        let mut world = self.world();
        if hidden {
            world.missing_images.insert(reference.to_owned())
        } else {
            world.missing_images.remove(reference)
        };
    }

    pub fn break_program(&self, container: &str) {
        self.world().broken.insert(container.to_owned());
    }

    /// Ends the running container of this name.
    pub fn end(&self, container: &str, code: i32) {
        let exit = Exit { code, out_of_memory: false, at: (self.clock)() };
        let world = self.world();
        let running = world.programs.values().find(|p| p.start.id.name == container && p.exit.borrow().is_none());
        running.expect("a running container of this name").exit.send_replace(Some(exit));
    }

    pub fn running(&self) -> Vec<String> {
        let world = self.world();
        world.programs.values().filter(|p| p.exit.borrow().is_none()).map(|p| p.start.id.name.clone()).collect()
    }

    pub fn pods(&self) -> usize {
        self.world().pods.len()
    }

    pub fn started(&self, container: &str) -> Option<StartContainer> {
        let world = self.world();
        world.programs.values().rev().find(|p| p.start.id.name == container).map(|p| p.start.clone())
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn pull(&self, reference: &str, _: &CancellationToken) -> RuntimeResult<ImageHandle> {
        let mut world = self.world();
        world.done.push(format!("pull {reference}"));
        if world.missing_images.contains(reference) {
            return Err(RuntimeError::Image(format!("there is no image {reference}")));
        }
        let config = ImageConfig { entrypoint: vec!["serve".into()], ..ImageConfig::default() };
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        Ok(ImageHandle { repository: reference.to_owned(), digest, config })
    }

    async fn create_pod(&self, pod: &PodSandbox) -> RuntimeResult<PodNetwork> {
        let mut world = self.world();
        world.done.push(format!("network {}", pod.name));
        if let Some(ip) = world.pods.get(&pod.uid) {
            return Ok(PodNetwork { ip: *ip });
        }
        world.addresses += 1;
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 5, world.addresses));
        world.pods.insert(pod.uid.clone(), ip);
        Ok(PodNetwork { ip })
    }

    async fn start_container(&self, start: &StartContainer) -> RuntimeResult<Timestamp> {
        let mut world = self.world();
        world.done.push(format!("start {} {}", start.id.name, start.id.attempt));
        if !world.pods.contains_key(&start.id.pod) {
            world.faults.push(format!("{} was started before its network", start.id));
        }
        if world.programs.contains_key(&start.id) {
            world.faults.push(format!("{} was started twice", start.id));
        }
        let twin = |p: &Running| p.start.id.pod == start.id.pod && p.start.id.name == start.id.name;
        if world.programs.values().any(|program| twin(program) && program.exit.borrow().is_none()) {
            world.faults.push(format!("{} was started while an earlier one runs", start.id));
        }
        for mount in &start.mounts {
            if !mount.source.exists() {
                world.faults.push(format!("{} mounts {}, which is not there", start.id, mount.source.display()));
            }
        }
        if world.broken.contains(&start.id.name) {
            return Err(RuntimeError::Start(format!("{:?}: not found", start.argv[0])));
        }
        let at = (self.clock)();
        let program = Running { start: start.clone(), at, exit: watch::Sender::new(None) };
        if let (Some(programs), Some(ip)) = (&self.programs, world.pods.get(&start.id.pod)) {
            let (work, mut exit) = (programs(start, *ip), program.exit.subscribe());
            tokio::spawn(async move {
                tokio::select! {
                    () = work => {}
                    _ = exit.wait_for(Option::is_some) => {}
                }
            });
        }
        world.programs.insert(start.id.clone(), program);
        Ok(at)
    }

    async fn wait(&self, id: &ContainerId) -> RuntimeResult<Exit> {
        let mut exit = {
            let world = self.world();
            let program = world.programs.get(id).ok_or_else(|| RuntimeError::NotFound(id.to_string()))?;
            program.exit.subscribe()
        };
        let exit = exit.wait_for(Option::is_some).await.map_err(|_| RuntimeError::NotFound(id.to_string()))?;
        Ok(exit.clone().expect("waited for it"))
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> RuntimeResult<()> {
        let mut world = self.world();
        world.done.push(format!("signal {} {signal}", id.name));
        let deaf = world.deaf.contains(&id.name);
        if let Some(program) = world.programs.get(id).filter(|program| !deaf && program.exit.borrow().is_none()) {
            let exit = Exit { code: 128 + signal, out_of_memory: false, at: (self.clock)() };
            program.exit.send_replace(Some(exit));
        }
        Ok(())
    }

    async fn kill(&self, id: &ContainerId) -> RuntimeResult<()> {
        let mut world = self.world();
        world.done.push(format!("kill {}", id.name));
        if let Some(program) = world.programs.get(id).filter(|program| program.exit.borrow().is_none()) {
            program.exit.send_replace(Some(Exit { code: 137, out_of_memory: false, at: (self.clock)() }));
        }
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, request: &ExecRequest) -> RuntimeResult<ExecSession> {
        let mut world = self.world();
        world.done.push(format!("exec {} {}", id.name, request.argv.join(" ")));
        let status = world.answers.get(&id.name).copied().unwrap_or(0);
        let running = world.programs.get(id).is_some_and(|program| program.exit.borrow().is_none());
        if !running {
            return Err(RuntimeError::NotFound(id.to_string()));
        }
        let (send, exit) = oneshot::channel();
        let _ = send.send(status);
        Ok(ExecSession {
            stdin: None,
            stdout: Box::new(std::io::Cursor::new(b"said\n".to_vec())),
            stderr: None,
            resize: mpsc::channel(1).0,
            exit,
        })
    }

    async fn remove_container(&self, id: &ContainerId) -> RuntimeResult<()> {
        let mut world = self.world();
        if world.programs.get(id).is_some_and(|program| program.exit.borrow().is_none()) {
            world.faults.push(format!("{id} was removed while it runs"));
        }
        world.programs.remove(id);
        Ok(())
    }

    async fn remove_pod(&self, uid: &str) -> RuntimeResult<()> {
        let mut world = self.world();
        world.done.push("remove pod".into());
        world.pods.remove(uid);
        world.programs.retain(|id, _| id.pod != uid);
        Ok(())
    }

    async fn list(&self) -> RuntimeResult<Vec<SurvivingPod>> {
        let world = self.world();
        let pods = world.pods.iter().map(|(uid, ip)| {
            let own = world.programs.values().filter(|program| program.start.id.pod == *uid);
            let containers = own.map(|program| Survivor {
                id: program.start.id.clone(),
                image: Some(program.start.image.digest.clone()),
                started_at: Some(program.at),
                exit: program.exit.borrow().clone(),
            });
            SurvivingPod { uid: uid.clone(), network: Some(PodNetwork { ip: *ip }), containers: containers.collect() }
        });
        Ok(pods.collect())
    }
}
