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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own loopback only.
    None,
    /// The bridge: other machines through NAT, names through DNS.
    #[default]
    Bridge,
}

/// A secret by name. The value is never in a vertex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretUse {
    pub name: String,
    /// The environment variable that holds it.
    pub env: String,
}

/// A secret by name that the program finds in a file. The file is never on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretFile {
    pub name: String,
    /// An absolute path in the container.
    pub target: String,
    /// Unix permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// An SSH agent that the program reaches at a socket. Its secret is named `ssh/<id>`, and the value is the path of the agent's socket
/// on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshAgent {
    pub id: String,
    /// An absolute path in the container; `SSH_AUTH_SOCK` names it.
    pub target: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl SshAgent {
    /// The name of the secret that holds the path of the socket.
    pub fn secret(&self) -> String {
        format!("ssh/{}", self.id)
    }
}

/// What happens when two programs want the same cache directory at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// Both write into it.
    #[default]
    Shared,
    /// The second gets another directory.
    Private,
    /// The second waits.
    Locked,
}

/// A directory that stays from one run to the next. What is in it is no part of any address, nor of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Which directory: the same id is the same directory.
    pub id: String,
    /// An absolute path in the container.
    pub target: String,
    pub sharing: Sharing,
    pub readonly: bool,
    /// An input (and a path in it) that a new directory begins with.
    pub from: Option<(usize, String)>,
    /// Of a new directory.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Memory that is seen as a directory and gone with the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// An absolute path in the container.
    pub target: String,
    /// Bytes at most.
    pub size: Option<u64>,
}

/// A limit of the kernel for the processes of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// In small letters, without `RLIMIT_`: `nofile`.
    pub name: String,
    /// `u64::MAX` for none.
    pub soft: u64,
    pub hard: u64,
}

/// Runs a program in a container whose root file system is input 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheMount>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_files: Vec<SecretFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<SshAgent>,
    /// Names with their addresses, for `/etc/hosts` besides what stands there anyway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<(String, std::net::IpAddr)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
}

impl Exec {
    /// The names of all secrets that the program is given, each once.
    pub fn secret_names(&self) -> Vec<String> {
        let variables = self.secrets.iter().map(|secret| secret.name.clone());
        let files = self.secret_files.iter().map(|secret| secret.name.clone());
        let mut names: Vec<String> = variables.chain(files).chain(self.agents.iter().map(SshAgent::secret)).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Puts files of input 1 onto input 0 (or onto nothing, when there is only one input: then input 0 is the source).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Absolute paths in the source, wildcards resolved by the executor with Dockerfile rules.
    pub sources: Vec<String>,
    /// An absolute path; with `/` at its end a directory.
    pub target: String,
    /// `user[:group]` looked up in input 0; `None` for root, or for those that it has (`owners`).
    pub chown: Option<String>,
    pub chmod: Option<u32>,
    /// The letters of chmod, for example `u=rwX,go=rX`, in place of `chmod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<String>,
    /// The directories of each source are kept below the target; a `/./` in a source says where they begin.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parents: bool,
    /// Patterns with `**`, relative to each source's directory, of what is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Tar archives (plain or compressed) among the sources are unpacked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unpack: bool,
    /// What is copied keeps its owners where `chown` names none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub owners: bool,
}

fn is_false(value: &bool) -> bool {
    !value
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
    /// Puts files from outside straight onto input 0 (or onto nothing, without an input): what [`Op::Files`] and [`Op::Copy`] would do one
    /// after the other, with every file written once. Sources name paths of the files (`to`), with wildcards escaped.
    Put {
        files: FileSource,
        copy: Copy,
    },
    /// Makes a directory (`WORKDIR`).
    Mkdir {
        path: String,
        user: String,
    },
    /// The files of input 1 over those of input 0, whatever was there: input 1 stands on nothing.
    Merge,
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

/// What an address covers of an operation.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Covered<'a> {
    Image(&'a Digest),
    Scratch,
    Files(&'a [Selected]),
    Exec(&'a Exec),
    Copy(&'a Copy),
    Merge,
    Artifacts,
    #[serde(untagged)]
    Put {
        files: &'a [Selected],
        put: &'a Copy,
    },
    #[serde(untagged)]
    Mkdir {
        mkdir: &'a str,
        user: &'a str,
    },
}

/// What an address covers of a vertex, in a form that is stable across versions: the order of the fields counts.
#[derive(Serialize)]
struct Address<'a> {
    v: u32,
    op: Covered<'a>,
    inputs: Vec<&'a VertexId>,
    scope: &'a Scope,
}

/// Takes the text piece by piece: that of a context of a million files is never held as a whole.
struct Hashed(aws_lc_rs::digest::Context);

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn address(vertex: &Vertex, ids: &[VertexId]) -> VertexId {
    let op = match &vertex.op {
        Op::Image { digest, .. } => Covered::Image(digest),
        Op::Scratch => Covered::Scratch,
        Op::Files(source) => Covered::Files(&source.files),
        Op::Exec(exec) => Covered::Exec(exec),
        Op::Copy(copy) => Covered::Copy(copy),
        Op::Put { files, copy } => Covered::Put { files: &files.files, put: copy },
        Op::Mkdir { path, user } => Covered::Mkdir { mkdir: path, user },
        Op::Merge => Covered::Merge,
        Op::Artifacts => Covered::Artifacts,
    };
    let inputs = vertex.inputs.iter().map(|i| &ids[*i]).collect();
    let whole = Address { v: 1, op, inputs, scope: &vertex.scope };
    let mut out = std::io::BufWriter::new(Hashed(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256)));
    // Texts, numbers and lists of them always have a form in JSON, and the hash takes all of it.
    let written = serde_json::to_writer(&mut out, &whole).map_err(|error| error.to_string());
    let hashed = out.into_inner().map_err(|error| error.to_string());
    let (Ok(()), Ok(hashed)) = (written, hashed) else { unreachable!("a vertex has a form in JSON") };
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hashed.0.finish().as_ref());
    VertexId(Digest::sha256(&bytes))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The addresses of what earlier versions made: another form would throw away every cache there is.
    #[test]
    fn addresses_are_those_of_earlier_versions() {
        let file = Selected {
            from: "a".into(),
            to: "b/\"c".into(),
            mode: 0o644,
            content: "00ff".into(),
            kind: SelectedKind::File,
        };
        let digest = Digest::sha256(&[7; 32]);
        let copy = Copy { sources: vec!["/".into()], target: "/x".into(), ..Copy::default() };
        let files = FileSource { origin: Origin::Blobs, files: vec![file] };
        let ops = [
            Op::Scratch,
            Op::Image { repository: "r".into(), digest: digest.clone() },
            Op::Files(files.clone()),
            Op::Copy(copy.clone()),
            Op::Put { files: files.clone(), copy: copy.clone() },
            Op::Mkdir { path: "/w".into(), user: "u".into() },
            Op::Merge,
            Op::Artifacts,
        ];
        let ids = [VertexId(digest.clone())];
        for op in ops {
            let said = match &op {
                Op::Image { digest, .. } => serde_json::json!({ "image": digest }),
                Op::Scratch => serde_json::json!("scratch"),
                Op::Files(source) => serde_json::json!({ "files": source.files }),
                Op::Exec(exec) => serde_json::json!({ "exec": exec }),
                Op::Copy(copy) => serde_json::json!({ "copy": copy }),
                Op::Put { files, copy } => serde_json::json!({ "files": files.files, "put": copy }),
                Op::Mkdir { path, user } => serde_json::json!({ "mkdir": path, "user": user }),
                Op::Merge => serde_json::json!("merge"),
                Op::Artifacts => serde_json::json!("artifacts"),
            };
            let scope = Scope::Within("run/a/1".into());
            let text = serde_json::json!({ "v": 1, "op": said, "inputs": &ids, "scope": scope }).to_string();
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            let vertex = Vertex { name: "n".into(), group: "g".into(), op, inputs: vec![0], after: Vec::new(), scope };
            let hex: String = HEXLOWER.encode(sum.as_ref());
            assert_eq!(address(&vertex, &ids).to_string(), format!("sha256:{hex}"), "{text}");
        }
    }
}
