//! The files of an image as its layers say, without unpacking them: kind, mode, owner, content, attributes, names of the same file, times.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use serde_json::Value;
use testbed::{json, said, sha256};

/// What stands at a path. Two paths with the same one are two names of a file.
struct Entry {
    what: String,
    time: u64,
}

#[derive(Clone, Default)]
pub struct Tree(BTreeMap<String, Rc<Entry>>);

/// An image: its configuration and its files.
pub struct Image {
    pub config: Value,
    pub tree: Lines,
}

/// Each path with what is there, and its time.
pub struct Lines(BTreeMap<String, (String, u64)>);

impl Lines {
    pub fn lines(&self) -> &BTreeMap<String, (String, u64)> {
        &self.0
    }
}

fn clean(path: &Path) -> String {
    let path = path.to_str().unwrap();
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

impl Tree {
    fn remove(&mut self, path: &str, itself: bool) {
        let inside = format!("{path}/");
        self.0.retain(|known, _| !(known.starts_with(&inside) || itself && known == path));
    }

    /// Lays a layer over it.
    fn apply(&mut self, layer: impl Read) {
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = clean(&entry.path().unwrap());
            if path.is_empty() {
                continue;
            }
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.remove(parent, false);
                continue;
            }
            if let Some(gone) = name.strip_prefix(".wh.") {
                let gone = if parent.is_empty() { gone.to_owned() } else { format!("{parent}/{gone}") };
                self.remove(&gone, true);
                continue;
            }
            let kind = entry.header().entry_type();
            if kind.is_hard_link() {
                let first = clean(&entry.link_name().unwrap().unwrap());
                let same = self.0[&first].clone();
                self.0.insert(path, same);
                continue;
            }
            if !kind.is_dir() {
                self.remove(&path, true);
            }
            let what = what(&mut entry);
            let time = entry.header().mtime().unwrap();
            self.0.insert(path, Rc::new(Entry { what, time }));
        }
    }

    fn into_lines(self) -> Lines {
        let mut names: HashMap<*const Entry, Vec<String>> = HashMap::new();
        for (path, entry) in &self.0 {
            names.entry(Rc::as_ptr(entry)).or_default().push(path.clone());
        }
        let line = |(path, entry): (String, Rc<Entry>)| {
            let what = match names[&Rc::as_ptr(&entry)].as_slice() {
                [_] => entry.what.clone(),
                several => format!("{} = {}", entry.what, several.join(" = ")),
            };
            (path, (what, entry.time))
        };
        Lines(self.0.into_iter().map(line).collect())
    }
}

/// `file 644 0:0 content`, with attributes where there are some.
fn what<R: Read>(entry: &mut tar::Entry<'_, R>) -> String {
    let mut attributes: Vec<String> = Vec::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            attributes.push(format!(" {name}={:?}", extension.value_bytes()));
        }
    }
    attributes.sort();
    let header = entry.header().clone();
    let kind = header.entry_type();
    let (kind, content) = if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_symlink() {
        ("link", format!(" to {}", entry.link_name().unwrap().unwrap().display()))
    } else if kind.is_file() {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        ("file", format!(" {} {}", content.len(), &sha256(&content)[7..19]))
    } else {
        let number = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or_default();
        let device = format!(" {kind:?} {},{}", number(header.device_major()), number(header.device_minor()));
        ("special", device)
    };
    // The mode of a link means nothing.
    let mode = if kind == "link" { 0o777 } else { header.mode().unwrap() & 0o7777 };
    let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
    format!("{kind} {mode:o} {uid}:{gid}{content}{}", attributes.concat())
}

/// Reads images; a base that many have is read once.
#[derive(Default)]
pub struct Reader {
    bases: HashMap<PathBuf, Tree>,
}

impl Reader {
    fn image(&mut self, config: Value, layers: &[PathBuf]) -> Image {
        let mut tree = Tree::default();
        for (number, layer) in layers.iter().enumerate() {
            let layer = layer.canonicalize().unwrap();
            let open = || image::layer::Reader::new(File::open(&layer).unwrap()).unwrap();
            match number {
                0 => {
                    let read = || {
                        let mut tree = Tree::default();
                        tree.apply(open());
                        tree
                    };
                    tree = self.bases.entry(layer.clone()).or_insert_with(read).clone();
                }
                _ => tree.apply(open()),
            }
        }
        Image { config, tree: tree.into_lines() }
    }

    /// One image of an archive as `docker save` writes it, unpacked.
    pub fn archived(&mut self, directory: &Path, image: &Value) -> Image {
        let at = |name: &Value| directory.join(name.as_str().unwrap());
        let layers: Vec<PathBuf> = image["Layers"].as_array().unwrap().iter().map(at).collect();
        self.image(read(&at(&image["Config"])), &layers)
    }

    /// The one image of an OCI layout.
    pub fn layout(&mut self, directory: &Path) -> Image {
        let blob = |descriptor: &Value| {
            directory.join("blobs").join(descriptor["digest"].as_str().unwrap().replacen(':', "/", 1))
        };
        let manifest = read(&blob(&read(&directory.join("index.json"))["manifests"][0]));
        let layers: Vec<PathBuf> = manifest["layers"].as_array().unwrap().iter().map(blob).collect();
        self.image(read(&blob(&manifest["config"])), &layers)
    }
}

fn read(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).unwrap())
}

/// Unpacks an archive as `docker save` writes it, and gives its images by name.
pub fn archive(file: &Path, into: &Path) -> BTreeMap<String, Value> {
    std::fs::create_dir(into).unwrap();
    said(Command::new("tar").arg("-xf").arg(file).arg("-C").arg(into), b"").ok();
    std::fs::remove_file(file).unwrap();
    let mut images = BTreeMap::new();
    for image in read(&into.join("manifest.json")).as_array().unwrap() {
        for name in image["RepoTags"].as_array().unwrap() {
            images.insert(name.as_str().unwrap().to_owned(), image.clone());
        }
    }
    images
}
