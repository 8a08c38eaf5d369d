//! Evidence for images: made when a run has built them, and made again when what is known has changed.

use std::{path::PathBuf, sync::Arc};

use evidence::{Database, DatabaseFiles, RunFacts, Source, Vex, plan::plan};
use futures::FutureExt;
use records::{Commit, Evidence, EvidenceKind, Image, Run};
use store::{Expect, Records};
use tokio::sync::OnceCell;

use super::{
    manifests,
    tree::{Files, Tree},
};
use crate::{
    app::App,
    fault::{Class, Fault, Result},
};

/// The vulnerability database. A server starts without one, and then nothing can be scanned, so nothing passes.
pub struct Osv {
    directory: PathBuf,
    files: OnceCell<DatabaseFiles>,
}

impl Osv {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, files: OnceCell::new() }
    }

    /// The database as its files are now.
    pub async fn current(&self) -> Result<Arc<Database>> {
        let open = || DatabaseFiles::open(self.directory.clone());
        let files = self.files.get_or_try_init(open).await.map_err(|e| {
            Fault::from_error(Class::Unavailable, &e)
                .hint("put OSV records (JSON, or an exported all.zip) there, or name another directory with --osv")
        })?;
        if let Err(error) = files.refresh().await {
            tracing::warn!(%error, "the vulnerability database cannot be read again; the last one stays in use");
        }
        Ok(files.current())
    }
}

/// Makes and attaches all evidence of an image and writes it down. Doing it again changes nothing.
pub async fn make(app: &App, run: &Run, image: &Image, commit: &Commit, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let tree = Tree { repositories: &app.rooms.repositories, project: &run.id.project, commit: &commit.id };
    let text = tree.text(pipeline::FILE_NAME).await?.unwrap_or_default();
    let source = Source {
        uri: format!("git+http://{}/git/{}.git", app.rooms.address(), run.id.project),
        branch: commit.branch.clone(),
        pipeline: pipeline::FILE_NAME.into(),
        pipeline_digest: image::hash::digest(image::Algorithm::Sha256, text.as_bytes()),
    };
    let facts = RunFacts::of(run, image, commit, source, BUILDER);
    let vex = vex(&tree, &text).await?;
    let database = app.rooms.osv.current().await?;
    let made = app.rooms.maker.make(&image.repository, &image.digest, &facts, &database, &vex, app.now()).boxed().await;
    let made = made.map_err(|e| Fault::from_error(Class::Unavailable, &e))?;
    for piece in &made {
        say(&format!("{}: {} is {}", image.repository, piece.detail.kind().title(), piece.referrer));
    }
    write(&app.records, &made).await
}

/// Who builds, in provenance: this program in this version.
const BUILDER: &str = concat!("https://shipway.dev/builder/v", env!("CARGO_PKG_VERSION"));

async fn write(records: &Records, made: &[Evidence]) -> Result<()> {
    let changes: store::Result<Vec<_>> = made.iter().map(|piece| Records::change(piece, Expect::Any)).collect();
    records.log().append(changes?).await?;
    Ok(())
}

/// The VEX documents that the pipeline file names.
async fn vex(tree: &Tree<'_>, pipeline_text: &str) -> Result<Vex> {
    let mut vex = Vex::default();
    let Ok(parsed) = pipeline::parse(pipeline_text, pipeline::FILE_NAME) else { return Ok(vex) };
    for (path, content) in manifests::matching(tree, &parsed.verify.vex).await? {
        vex.add(&path, &content).map_err(|e| Fault::usage(e.to_string()))?;
    }
    Ok(vex)
}

/// Looks for images whose evidence is missing or out of date: of a server that died, or after the database has changed.
pub async fn activate(app: &Arc<App>) -> Result<()> {
    let images: Vec<Image> = app.newest_first("").await?;
    if images.is_empty() {
        return Ok(());
    }
    let known: Vec<Evidence> = app.newest_first("").await?;
    let database = app.rooms.osv.current().await?;
    for lack in plan(&images, &known, Some(database.digest())) {
        let Some(run) = app.records.get::<Run>(&lack.run.key()).await?.map(|found| found.record) else { continue };
        // The run itself makes the evidence of its images.
        if !run.state.ended() {
            continue;
        }
        let key = format!("{}/{}", run.id.project, run.commit);
        let commit = app.records.get::<Commit>(&key).await?.map(|found| found.record);
        let image = images.iter().find(|image| image.run == lack.run && image.repository == lack.repository);
        let (Some(commit), Some(image)) = (commit, image) else { continue };
        if lack.kinds == [EvidenceKind::Vulnerabilities] {
            rescan(app, &run, image, &commit, &database).await?;
        } else {
            make(app, &run, image, &commit, &|_| {}).await?;
        }
    }
    Ok(())
}

async fn rescan(app: &App, run: &Run, image: &Image, commit: &Commit, database: &Database) -> Result<()> {
    let tree = Tree { repositories: &app.rooms.repositories, project: &run.id.project, commit: &commit.id };
    let vex = vex(&tree, &tree.text(pipeline::FILE_NAME).await?.unwrap_or_default()).await?;
    let maker = &app.rooms.maker;
    let made = maker.rescan(&image.repository, &image.digest, &run.id, BUILDER, database, &vex, app.now()).await;
    write(&app.records, &[made.map_err(|e| Fault::from_error(Class::Unavailable, &e))?]).await
}
