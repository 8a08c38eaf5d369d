//! Files that no template asks for are not read; those that one asks for are, however it asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chart::{Flavor, Loader, Render, Tree, Warnings, load::Kind};

/// A chart in memory that notes what is read of it.
struct Noting {
    files: BTreeMap<String, Bytes>,
    read: Mutex<Vec<String>>,
    /// A file that is there and cannot be read.
    broken: &'static str,
}

impl Tree for Noting {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        self.files.list(directory)
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        self.read.lock().unwrap().push(file.to_owned());
        if file == self.broken {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        self.files.read(file)
    }

    fn is_plain(&self, file: &str) -> bool {
        !file.starts_with("links/")
    }
}

fn chart(template: &str, broken: &'static str) -> Arc<Noting> {
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("README.md", "read me"),
        ("docs/a.txt", "a"),
        ("links/b.txt", "b"),
        ("crds/c.yaml", "kind: CustomResourceDefinition\n"),
        ("values.yaml", "x: 1\n"),
        ("templates/out.yaml", template),
        ("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n"),
        ("charts/sub/notes.md", "of the subchart"),
        ("charts/sub/templates/s.yaml", "sub: {{ (index . (print \"Fi\" \"les\")).Get \"notes.md\" }}\n"),
    ];
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())));
    Arc::new(Noting { files: files.collect(), read: Mutex::default(), broken })
}

fn rendered(tree: &Arc<Noting>, whole: bool) -> Result<String, String> {
    let (loader, warnings) = (Loader::default(), Warnings::default());
    let chart = if whole { loader.tree(&**tree, &warnings) } else { loader.tree_to_render(tree.clone(), &warnings) };
    let chart = chart.map_err(|error| error.to_string())?;
    let render = Render::offline(Flavor::Helm4, "r", "default");
    let rendered = render.run(&chart, &yaml::Map::new(), &warnings).map_err(|error| error.to_string())?;
    Ok(rendered.manifest)
}

#[test]
fn only_what_is_asked_for_is_read() {
    for (template, asked) in [
        ("a: {{ .Values.x }}\n", &[][..]),
        // Nobody sees this one before it is carried out.
        ("a: {{ (index . (print \"Fi\" \"les\")).Get \"docs/a.txt\" }}\n", &["docs/a.txt"]),
        ("a: {{ len ((index . (print \"Fi\" \"les\")).Glob \"docs/*\") }}\n", &["docs/a.txt"]),
        ("a: {{ .Files.Get \"README.md\" }}\n", &["README.md", "docs/a.txt"]),
        ("{{ range $path, $_ := .Files }}{{ $path }}: b\n{{ end }}", &["README.md", "docs/a.txt"]),
    ] {
        let tree = chart(template, "");
        let lazily = rendered(&tree, false).unwrap();
        let read = tree.read.lock().unwrap().clone();
        for path in ["README.md", "docs/a.txt"] {
            assert_eq!(read.iter().any(|known| known == path), asked.contains(&path), "{template}: {path} of {read:?}");
        }
        for path in ["links/b.txt", "crds/c.yaml", "charts/sub/notes.md"] {
            assert!(read.iter().any(|known| known == path), "{template}: {path} of {read:?}");
        }
        assert!(lazily.contains("sub: of the subchart\n"), "{lazily}");
        assert_eq!(lazily, rendered(&chart(template, ""), true).unwrap(), "{template}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_for_who_asks() {
    let said = |template| rendered(&chart(template, "docs/a.txt"), false);
    assert!(said("a: {{ .Values.x }}\n").is_ok());
    for template in
        ["a: {{ (index . (print \"Fi\" \"les\")).Get \"docs/a.txt\" }}\n", "a: {{ .Files.Get \"README.md\" }}\n"]
    {
        let error = said(template).unwrap_err();
        assert!(error.contains("docs/a.txt") && error.contains("permission denied"), "{error}");
    }
}
