//! Builds that belong together: side by side, with one scheduler and one cache, so that what two of them need is done once.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use graph::Cancel;
use tokio::sync::OnceCell;

use super::{Built, END, Happening, Home, Progress, Request, Work, local};
use crate::{
    fault::{Fault, Result},
    wiring::workshop::Workshop,
};

/// One of them.
pub struct Part<'a> {
    pub request: &'a Request,
    /// Those (by their place in the list) that must have been built before it begins.
    pub needs: Vec<usize>,
    pub progress: Arc<dyn Progress>,
}

/// Builds. Cancelled by Ctrl-C, it cleans up before it returns.
pub async fn build(home: &Home, request: &Request, progress: Arc<dyn Progress>) -> Result<Built> {
    let part = Part { request, needs: Vec::new(), progress };
    match build_all(home, &[part], |_, _| {}).await {
        Ok(mut built) => Ok(built.pop().unwrap_or_default()),
        Err((_, fault)) => Err(fault),
    }
}

/// Builds all of them, each as soon as what it needs is there; `done` is told of each. The first that fails stops the others, and is the
/// error, with its place in the list.
pub async fn build_all(
    home: &Home,
    parts: &[Part<'_>],
    mut done: impl FnMut(usize, &Built),
) -> std::result::Result<Vec<Built>, (usize, Fault)> {
    let cancel = Cancel::new();
    let _signals = local::cancelled_by_signals(&cancel).map_err(|fault| (0, fault))?;
    let shop: Arc<OnceCell<Workshop>> = Arc::default();
    let mut built: Vec<Option<Built>> = vec![None; parts.len()];
    let mut begun = vec![false; parts.len()];
    let mut failed: Option<(usize, Fault)> = None;
    let mut running = FuturesUnordered::new();
    loop {
        for (at, part) in parts.iter().enumerate() {
            let ready = part.needs.iter().all(|needed| built.get(*needed).is_some_and(Option::is_some));
            if failed.is_none() && ready && !std::mem::replace(&mut begun[at], true) {
                let (request, progress) = (part.request, part.progress.clone());
                let mut work = Work {
                    home,
                    request,
                    progress,
                    cancel: cancel.clone(),
                    shop: shop.clone(),
                    alone: parts.len() == 1,
                    held: Vec::new(),
                };
                running.push(async move { (at, work.build().await) }.boxed_local());
            }
        }
        match running.next().await {
            Some((at, Ok(one))) => {
                done(at, &one);
                built[at] = Some(one);
            }
            Some((at, Err(fault))) => {
                if failed.is_none() {
                    let fault = if cancel.is_cancelled() { local::cancelled(&cancel) } else { fault };
                    failed = Some((at, fault));
                    cancel.cancel("another build failed");
                }
            }
            None => break,
        }
    }
    drop(running);
    if let Some(shop) = shop.get() {
        shop.close(END).await;
    }
    match failed {
        Some(failed) => Err(failed),
        // Whoever was never begun waits for itself: callers put them in an order.
        None => Ok(built.into_iter().flatten().collect()),
    }
}

/// Shows one build among others: its vertices get numbers of their own, and its name.
pub struct Among {
    pub name: String,
    pub place: usize,
    pub progress: Arc<dyn Progress>,
}

/// Vertices that one build has at most, for their numbers.
const APART: usize = 1 << 20;

impl Progress for Among {
    fn happened(&self, happening: &Happening) {
        let mut happening = happening.clone();
        match &mut happening {
            Happening::Started { vertex, name, .. }
            | Happening::Finished { vertex, name, .. }
            | Happening::Failed { vertex, name, .. }
            | Happening::Stopped { vertex, name } => {
                *vertex += self.place * APART;
                *name = format!("{} {name}", self.name);
            }
            Happening::Output { vertex, .. } => *vertex += self.place * APART,
            Happening::AllCached { names } => {
                names.iter_mut().for_each(|name| *name = format!("{} {name}", self.name));
            }
        }
        self.progress.happened(&happening);
    }

    fn note(&self, text: &str) {
        self.progress.note(&format!("{} {text}", self.name));
    }

    fn warning(&self, warning: &build::Warning) {
        self.progress.warning(warning);
    }
}
