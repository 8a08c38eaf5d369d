//! Every app below a directory, on all cores, each only if something changed that it is made of.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use manifest::{
    App, Finding, How, Kitchen, Tree, recognise_path,
    tree::{EntryKind, join},
};

use super::{
    Options,
    checks::{Sources, learn},
    disk::Disk,
    git,
    kept::Kept,
    show::{self, Counted, Form, Shown},
    written::Written,
};
use crate::fault::{Fault, Result};

/// Directories in directories.
const DEEPEST: usize = 60;
/// Apps of one directory.
const MOST: usize = 100_000;

struct Done {
    text: String,
    warnings: Vec<String>,
    fresh: bool,
}

pub fn run(options: &Options, how: &How, here: &Path, form: Form, sources: Option<&Sources>) -> Result<ExitCode> {
    let root = manifest::tree::join(&here.to_string_lossy(), &options.path);
    let shown = Shown::new(here);
    if let Some(reference) = &options.diff {
        return difference(options, how, &shown, &root, reference, &form);
    }
    let apps = found(options, &[&Disk], &root)?;
    if let Some(sources) = sources {
        return check(&apps, how, &shown, &root, sources, &form);
    }
    if form == Form::Json {
        return Err(Fault::usage("--all prints YAML, or writes it into a directory"));
    }
    let kept = if options.no_cache { None } else { Kept::open(how) };
    let results = each(&apps, |kitchen, app| one(app, how, kept.as_ref(), kitchen));
    let (mut fresh, mut unchanged, mut failed) = (0, 0, 0);
    let mut all = String::new();
    let mut written = match &form {
        Form::Directory(directory) => Some(Written::into(directory)),
        _ => None,
    };
    for (app, result) in apps.iter().zip(results) {
        let relative = relative(app, &root);
        let file = format!("{}.yaml", if relative == "." { "app" } else { relative });
        match result {
            Ok(done) => {
                *(if done.fresh { &mut fresh } else { &mut unchanged }) += 1;
                done.warnings.iter().for_each(|warning| eprintln!("{relative}: {}", shown.text(warning)));
                match &mut written {
                    Some(written) => written.write(&file, &done.text)?,
                    None => {
                        all.push_str(&format!("# App: {relative}\n"));
                        all.push_str(&done.text);
                        if !all.ends_with("---\n") {
                            all.push_str("---\n");
                        }
                    }
                }
            }
            Err(error) => {
                failed += 1;
                eprintln!("error: {relative}: {}", shown.text(&error));
                if let Some(written) = &mut written {
                    written.keep(&file);
                }
            }
        }
    }
    written.map_or(Ok(()), Written::finish)?;
    show::write(all.strip_suffix("---\n").unwrap_or(&all))?;
    eprintln!("{} apps: {fresh} rendered, {unchanged} unchanged, {failed} failed", apps.len());
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn relative<'a>(app: &'a str, root: &str) -> &'a str {
    app.strip_prefix(&format!("{}/", root.trim_end_matches('/'))).unwrap_or(".")
}

/// The apps below a directory in any of the trees.
fn found(options: &Options, trees: &[&dyn Tree], root: &str) -> Result<Vec<String>> {
    let mut apps = Vec::new();
    for tree in trees {
        find(*tree, root, 0, &mut apps)?;
    }
    apps.sort();
    apps.dedup();
    if apps.is_empty() {
        return Err(Fault::not_found(format!("there is no chart and no kustomization below {}", options.path)));
    }
    Ok(apps)
}

struct Checked {
    found: Vec<Finding>,
    objects: usize,
    warnings: Vec<String>,
}

/// Holds the objects of every app against the schemas; definitions count in the app that has them.
fn check(apps: &[String], how: &How, shown: &Shown, root: &str, sources: &Sources, form: &Form) -> Result<ExitCode> {
    let results = each(apps, |kitchen, app| {
        let output = kitchen.render(&Disk, app, how)?;
        let mut schemas = sources.schemas()?;
        learn(&mut schemas, &output);
        let found = output.documents.iter().flat_map(|document| schemas.check(document)).collect();
        Ok(Checked { found, objects: output.documents.len(), warnings: output.warnings })
    });
    let (mut text, mut list) = (String::new(), Vec::new());
    let (mut counted, mut objects, mut failed) = (Counted::default(), 0, 0);
    for (app, result) in apps.iter().zip(results) {
        let relative = relative(app, root);
        match result {
            Ok(checked) => {
                checked.warnings.iter().for_each(|warning| eprintln!("{relative}: {}", shown.text(warning)));
                objects += checked.objects;
                counted += Counted::of(&checked.found);
                if *form == Form::Json {
                    list.extend(shown.findings_json(&checked.found, Some(relative)));
                } else if !checked.found.is_empty() {
                    text.push_str(&format!("# App: {relative}\n{}", shown.findings(&checked.found)));
                }
            }
            Err(error) => {
                failed += 1;
                eprintln!("error: {relative}: {}", shown.text(&error));
            }
        }
    }
    if *form == Form::Json {
        crate::cli::output::json(&list)?;
    } else {
        show::write(&text)?;
    }
    eprintln!("{} apps, {failed} failed; {}", apps.len(), counted.said(objects, sources.version));
    Ok(if failed + counted.errors > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What the working tree changes in every app since a commit. Git is asked by one thread.
fn difference(
    options: &Options,
    how: &How,
    shown: &Shown,
    root: &str,
    reference: &str,
    form: &Form,
) -> Result<ExitCode> {
    let before = git::at(Path::new(root), reference)?;
    let apps = found(options, &[&before, &Disk], root)?;
    let kitchen = Kitchen::default();
    let (mut text, mut list) = (String::new(), Vec::new());
    let (mut all, mut failed, mut differ) = (Vec::new(), 0, 0);
    for app in &apps {
        let relative = relative(app, root);
        let sides = [(&before as &dyn Tree, reference), (&Disk, "the working tree")].map(|(tree, name)| {
            let output =
                super::side(&kitchen, tree, app, how).map_err(|error| format!("{name}: {}", shown.text(&error)));
            output.map(|output| output.map(|output| output.documents).unwrap_or_default())
        });
        match sides {
            [Ok(was), Ok(is)] => {
                let found = manifest::differences(&was, &is);
                if found.is_empty() {
                    continue;
                }
                differ += 1;
                if *form == Form::Json {
                    list.extend(show::differences_json(&found, reference, Some(relative)));
                } else {
                    text.push_str(&format!("# App: {relative}\n{}", shown.differences(&found, reference)));
                }
                all.extend(found);
            }
            sides => {
                failed += 1;
                for error in sides.into_iter().filter_map(std::result::Result::err) {
                    eprintln!("error: {relative}: {error}");
                }
            }
        }
    }
    if *form == Form::Json {
        crate::cli::output::json(&list)?;
    } else {
        show::write(&text)?;
    }
    eprintln!("{} apps, {differ} differ, {failed} failed; {}", apps.len(), show::changes(&all));
    Ok(match (failed, options.exit_code) {
        (0, true) if differ > 0 => ExitCode::from(1),
        (0, _) => ExitCode::SUCCESS,
        // With --exit-code, 1 says that there are differences, and nothing else.
        (_, true) => ExitCode::from(2),
        (_, false) => ExitCode::from(1),
    })
}

/// Charts and kustomizations. What is inside of a chart belongs to it; components and library charts are no apps.
fn find(tree: &dyn Tree, directory: &str, depth: usize, apps: &mut Vec<String>) -> Result<()> {
    if depth > DEEPEST {
        return Err(Fault::usage(format!("directories below {directory} are nested deeper than {DEEPEST}")));
    }
    if apps.len() > MOST {
        return Err(Fault::usage(format!("there are more than {MOST} apps: name a directory further below")));
    }
    match recognise_path(tree, directory) {
        Ok(App::Chart) => {
            if !says(tree, directory, &["Chart.yaml"], "type", "library") {
                apps.push(directory.to_owned());
            }
            return Ok(());
        }
        Ok(App::Kustomization) if !says(tree, directory, &kustomize::NAMES, "kind", "Component") => {
            apps.push(directory.to_owned());
        }
        _ => {}
    }
    let real = tree.canonical(directory);
    for (name, kind) in tree.entries(directory) {
        if kind == EntryKind::Directory && !name.starts_with('.') && name != "node_modules" {
            let path = join(directory, &name);
            // A link to a directory would be found twice, or for ever.
            if tree.canonical(&path) == real.as_ref().map(|real| join(real, &name)) {
                find(tree, &path, depth + 1, apps)?;
            }
        }
    }
    Ok(())
}

/// Whether a file says `key: word` at its top level.
fn says(tree: &dyn Tree, directory: &str, files: &[&str], key: &str, word: &str) -> bool {
    files.iter().any(|file| {
        let content = tree.read(&join(directory, file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&content);
        text.lines().any(|line| {
            let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
            value.is_some_and(|value| value.trim().trim_matches('"') == word)
        })
    })
}

/// Does something with every app, on all cores.
fn each<T: Send>(
    apps: &[String],
    work: impl Fn(&Kitchen, &str) -> manifest::Result<T> + Sync,
) -> Vec<manifest::Result<T>> {
    let results: Vec<Mutex<Option<manifest::Result<T>>>> = apps.iter().map(|_| Mutex::new(None)).collect();
    let (next, kitchen) = (AtomicUsize::new(0), Kitchen::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(apps.len());
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(app), Some(slot)) = (apps.get(at), results.get(at)) else { return };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(work(&kitchen, app));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(run);
        }
    });
    // Every place was taken by one of the threads; a thread that panicked has ended the program's answer already.
    results.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn one(app: &str, how: &How, kept: Option<&Kept>, kitchen: &Kitchen) -> manifest::Result<Done> {
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
