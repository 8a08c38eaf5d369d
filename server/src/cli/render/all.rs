//! Every app below a directory, on all cores, each only if something changed that it is made of.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use manifest::{App, How, Kitchen, Tree, recognise_path, tree::EntryKind};

use super::{Options, disk::Disk, kept::Kept, show};
use crate::fault::{Class, Fault, Result};

/// Directories in directories.
const DEEPEST: usize = 60;
/// Apps of one directory.
const MOST: usize = 100_000;

struct Done {
    text: String,
    warnings: Vec<String>,
    fresh: bool,
}

pub fn run(options: &Options, how: &How, here: &Path) -> Result<ExitCode> {
    let root = manifest::tree::join(&here.to_string_lossy(), &options.path);
    if options.validate || !options.schemas.is_empty() || options.json {
        return Err(Fault::usage("--all prints objects: check or explain one app at a time"));
    }
    if options.output == "json" {
        return Err(Fault::usage("--all prints YAML, or writes it into a directory"));
    }
    let mut apps = Vec::new();
    find(&root, 0, &mut apps)?;
    apps.sort();
    if apps.is_empty() {
        return Err(Fault::not_found(format!("there is no chart and no kustomization below {}", options.path)));
    }
    let kept = if options.no_cache { None } else { Kept::open(how) };
    let shown = show::Shown::new(here);
    let results = render(&apps, how, kept.as_ref());
    let (mut fresh, mut unchanged, mut failed) = (0, 0, 0);
    let mut all = String::new();
    for (app, result) in apps.iter().zip(results) {
        let relative = app.strip_prefix(&format!("{root}/")).unwrap_or(".");
        match result {
            Some(Ok(done)) => {
                *(if done.fresh { &mut fresh } else { &mut unchanged }) += 1;
                done.warnings.iter().for_each(|warning| eprintln!("{relative}: {warning}"));
                if options.output == "yaml" {
                    all.push_str(&format!("# App: {relative}\n"));
                    all.push_str(&done.text);
                    if !all.ends_with("---\n") {
                        all.push_str("---\n");
                    }
                } else {
                    write(Path::new(&options.output), relative, &done.text)?;
                }
            }
            Some(Err(error)) => {
                failed += 1;
                eprintln!("error: {relative}: {}", shown.text(&error));
            }
            None => {}
        }
    }
    show::write(all.strip_suffix("---\n").unwrap_or(&all))?;
    eprintln!("{} apps: {fresh} rendered, {unchanged} unchanged, {failed} failed", apps.len());
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Charts and kustomizations. What is inside of a chart belongs to it; components and library charts are no apps.
fn find(directory: &str, depth: usize, apps: &mut Vec<String>) -> Result<()> {
    if depth > DEEPEST || apps.len() > MOST {
        return Err(Fault::usage(format!("there are more than {MOST} apps below {directory}, or it is too deep")));
    }
    match recognise_path(&Disk, directory) {
        Ok(App::Chart) => {
            if !says(directory, &["Chart.yaml"], "type", "library") {
                apps.push(directory.to_owned());
            }
            return Ok(());
        }
        Ok(App::Kustomization) if !says(directory, &kustomize::NAMES, "kind", "Component") => {
            apps.push(directory.to_owned());
        }
        _ => {}
    }
    for (name, kind) in Disk.entries(directory) {
        if kind == EntryKind::Directory && !name.starts_with('.') && name != "node_modules" {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            // A link to a directory would be found twice, or for ever.
            if !Path::new(&path).is_symlink() {
                find(&path, depth + 1, apps)?;
            }
        }
    }
    Ok(())
}

/// Whether a file says `key: word` at its top level.
fn says(directory: &str, files: &[&str], key: &str, word: &str) -> bool {
    files.iter().any(|file| {
        let text = std::fs::read_to_string(Path::new(directory).join(file)).unwrap_or_default();
        text.lines().any(|line| {
            let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
            value.is_some_and(|value| value.trim().trim_matches('"') == word)
        })
    })
}

type Slot = Option<std::result::Result<Done, manifest::Error>>;

fn render(apps: &[String], how: &How, kept: Option<&Kept>) -> Vec<Slot> {
    let results: Vec<Mutex<Slot>> = apps.iter().map(|_| Mutex::new(None)).collect();
    let (next, kitchen) = (AtomicUsize::new(0), Kitchen::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(apps.len());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(app), Some(slot)) = (apps.get(at), results.get(at)) else { return };
            let done = one(app, how, kept, &kitchen);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn one(app: &str, how: &How, kept: Option<&Kept>, kitchen: &Kitchen) -> std::result::Result<Done, manifest::Error> {
    // Values are for charts: kustomizations do not take them.
    if let Some(text) = kept.and_then(|kept| kept.get(app)) {
        return Ok(Done { text, warnings: Vec::new(), fresh: false });
    }
    let watched = manifest::Watched::new(&Disk);
    let output = kitchen.render(&watched, app, how)?;
    let text = show::yaml(&output);
    if let Some(kept) = kept {
        kept.put(app, watched.asked(), &text);
    }
    Ok(Done { text, warnings: output.warnings, fresh: true })
}

fn write(directory: &Path, app: &str, text: &str) -> Result<()> {
    let file = if app == "." { directory.join("app.yaml") } else { directory.join(format!("{app}.yaml")) };
    let same = std::fs::read(&file).is_ok_and(|there| there == text.as_bytes());
    if same {
        return Ok(());
    }
    let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, text));
    written.map_err(|error| Fault::new(Class::Unavailable, format!("cannot write {}: {error}", file.display())))
}
