//! Vertices: what is done, described so completely that its digest names the result.

use std::{collections::BTreeMap, time::Duration};

use records::Digest;
use serde::{Deserialize, Serialize};

/// The content address of a vertex: the digest of its operation and of the ids of its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VertexId(pub Digest);

impl std::fmt::Display for VertexId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// In how wide a circle a result may be used again. It is part of the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Whoever has the same inputs.
    Shared,
    /// Only whoever names the same scope, for example a run: `run/journal/3`. A crashed run finds its finished steps again.
    Within(String),
}

/// One file that was chosen from a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    /// Where it lies in the source, relative, `/`-separated.
    pub from: String,
    /// Where it goes, relative to the root of the result.
    pub to: String,
    /// Unix permission bits.
    pub mode: u32,
    /// The content id: for files the git blob id or SHA-256 in hex, for links the target, empty for directories.
    pub content: String,
    pub kind: SelectedKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SelectedKind {
    File,
    Link,
    Directory,
}

/// Where the files of a source lie. Not part of the address: the same files from elsewhere are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A directory inside the tree of a commit of a project hosted here.
    Git { project: records::Name, commit: records::CommitId, path: String },
    /// A directory on this machine.
    Directory(std::path::PathBuf),
    /// Blobs in the store: `content` of each file is `sha256:…`.
    Blobs,
}

/// Files from outside the graph.
#[derive(Debug, Clone)]
pub struct FileSource {
    pub origin: Origin,
    pub files: Vec<Selected>,
}

/// A file system of an input that an [`Exec`] sees at `target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Index into the vertex's inputs.
    pub input: usize,
    /// A path inside that input; empty for its root.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    /// What is written there is seen by this vertex alone (and by `collect`); else it is read-only.
    pub writable: bool,
}

/// Files to keep when an [`Exec`] has ended, also when it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// A glob relative to `root`, for example `reports/**/*.xml`.
    pub glob: String,
    /// An absolute path in the container.
    pub root: String,
}

/// What the container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own loopback only.
    None,
    /// The bridge: other machines through NAT, names through DNS.
    Bridge,
}

/// A secret by name. The value is never in a vertex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    pub name: String,
    /// The environment variable that holds it.
    pub env: String,
}

/// Runs a program in a container whose root file system is input 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    /// `user[:group]`, by name or number, as in an image's configuration; empty for root.
    pub user: String,
    pub mounts: Vec<Mount>,
    pub network: Network,
    pub secrets: Vec<SecretUse>,
    pub collect: Vec<Collect>,
    pub timeout: Option<Duration>,
    /// Bytes of memory; `None` for no limit.
    pub memory: Option<u64>,
}

/// Puts files of input 1 onto input 0 (or onto nothing, when there is only one input: then input 0 is the source).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Absolute paths in the source, wildcards resolved by the executor with Dockerfile rules.
    pub sources: Vec<String>,
    /// An absolute path; with `/` at its end a directory.
    pub target: String,
    /// `user[:group]` looked up in input 0; `None` for root.
    pub chown: Option<String>,
    pub chmod: Option<u32>,
}

/// What a vertex does.
#[derive(Debug, Clone)]
pub enum Op {
    /// The root file system of an image of this installation's registry, by manifest digest.
    Image {
        repository: String,
        digest: Digest,
    },
    /// An empty root file system.
    Scratch,
    /// Files from outside.
    Files(FileSource),
    Exec(Exec),
    Copy(Copy),
    /// Makes a directory (`WORKDIR`).
    Mkdir {
        path: String,
        user: String,
    },
    /// The artifacts that the inputs collected, one over the other, as one file system.
    Artifacts,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// For people: `test`, `[build 2/5] RUN npm ci`.
    pub name: String,
    /// The step or image of the run that it belongs to; logs and states are kept under it.
    pub group: String,
    pub op: Op,
    /// Indices of earlier vertices whose results it uses.
    pub inputs: Vec<usize>,
    /// Indices of earlier vertices that must have succeeded before it starts, and that it uses nothing of.
    pub after: Vec<usize>,
    pub scope: Scope,
}

/// A graph without cycles: a vertex only names earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
    ids: Vec<VertexId>,
}

impl Graph {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a vertex and returns its index.
    ///
    /// # Panics
    /// When it names a vertex that is not there yet: a defect of the caller, not of its input.
    pub fn add(&mut self, vertex: Vertex) -> usize {
        let index = self.vertices.len();
        assert!(vertex.inputs.iter().chain(&vertex.after).all(|i| *i < index), "a vertex may only name earlier ones");
        self.ids.push(address(&vertex, &self.ids));
        self.vertices.push(vertex);
        index
    }

    pub fn vertices(&self) -> &[Vertex] {
        &self.vertices
    }

    pub fn id(&self, index: usize) -> &VertexId {
        &self.ids[index]
    }

    /// The index that the next vertex will have.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }
}

/// The part of a vertex that its address covers, in a form that is stable across versions.
fn address(vertex: &Vertex, ids: &[VertexId]) -> VertexId {
    let inputs: Vec<&VertexId> = vertex.inputs.iter().map(|i| &ids[*i]).collect();
    let op = match &vertex.op {
        Op::Image { digest, .. } => serde_json::json!({ "image": digest }),
        Op::Scratch => serde_json::json!("scratch"),
        Op::Files(source) => serde_json::json!({ "files": source.files }),
        Op::Exec(exec) => serde_json::json!({ "exec": exec }),
        Op::Copy(copy) => serde_json::json!({ "copy": copy }),
        Op::Mkdir { path, user } => serde_json::json!({ "mkdir": path, "user": user }),
        Op::Artifacts => serde_json::json!("artifacts"),
    };
    let text = serde_json::json!({ "v": 1, "op": op, "inputs": inputs, "scope": vertex.scope }).to_string();
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(sum.as_ref());
    VertexId(Digest::sha256(&bytes))
}
