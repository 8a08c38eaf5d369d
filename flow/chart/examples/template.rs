//! `helm template` without the rest of the binary, for holding the renderer against the real thing.
//!
//! `template [--helm3] [--crds] [-f FILE]… [--set X]… NAME CHART`

use std::{io::Write, path::Path};

use chart::{Flavor, Given, Loader, Render, Warnings, load::Kind, render::Shown};

struct Disk(std::path::PathBuf);

impl chart::Tree for Disk {
    fn list(&self, directory: &str) -> std::io::Result<Vec<(String, Kind)>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(self.0.join(directory))? {
            let entry = entry?;
            let data = std::fs::metadata(entry.path())?;
            let kind = match (data.is_dir(), data.is_file()) {
                (true, _) => Kind::Directory,
                (_, true) => Kind::File(data.len()),
                _ => Kind::Irregular,
            };
            out.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        Ok(out)
    }

    fn read(&self, file: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.0.join(file))
    }
}

fn main() -> std::process::ExitCode {
    let mut given = Given::default();
    let mut flavor = Flavor::Helm4;
    let mut rest = Vec::new();
    let mut crds = false;
    let mut kube = None;
    let mut times = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--helm3" => flavor = Flavor::Helm3,
            "--crds" | "--include-crds" => crds = true,
            "--kube-version" => kube = arguments.next(),
            "--times" => times = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "-f" => given.files.extend(arguments.next()),
            "--set" => given.typed.extend(arguments.next()),
            _ => rest.push(argument),
        }
    }
    let [name, path] = rest.as_slice() else {
        eprintln!("usage: template [--helm3] [--crds] [-f FILE] [--set X] NAME CHART");
        return 2.into();
    };
    let warnings = Warnings::default();
    let run = || {
        let loader = Loader { flavor, ..Loader::default() };
        let path = Path::new(path);
        let chart = match path.is_dir() {
            true => loader.tree(&Disk(path.to_owned()), &warnings)?,
            false => loader.archive(&std::fs::read(path).unwrap_or_default(), &warnings)?,
        };
        let values = given.merge(&mut |file| std::fs::read(file).map_err(|error| error.to_string()), flavor)?;
        chart.installable()?;
        chart.check_dependencies(flavor)?;
        let mut render = Render { include_crds: crds, ..Render::offline(flavor, name, "default") };
        if let Some(kube) = &kube {
            render.capabilities.kube = chart::KubeVersion::parse(kube, flavor).map_err(chart::Error::Values)?;
        }
        render.cache = Some(Default::default());
        render.last = times == 1;
        let mut rendered = render.run(&chart, &values, &warnings)?;
        for _ in 1..times {
            rendered = render.run(&chart, &values, &warnings)?;
        }
        let text = rendered.print(&Shown::default(), flavor);
        // As `shipway helm template` does, which ends then.
        std::mem::forget((render, chart, values));
        text
    };
    match run() {
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            0.into()
        }
        Err(error) => {
            eprintln!("Error: {error}");
            1.into()
        }
    }
}
