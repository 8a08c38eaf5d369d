//! How values look on a page.

use std::fmt::Display;

use askama::{Result, Values};
use records::{Severity, StepKind, StepRun, StepState, Timestamp};

use super::seen;
use crate::cli::{ago, exact};

/// Bytes in the unit that fits.
#[askama::filter_fn]
pub fn bytes(size: &u64, _: &dyn Values) -> Result<String> {
    let mut value = *size as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return Ok(if unit == "B" { format!("{size} B") } else { format!("{value:.1} {unit}") });
        }
        value /= 1024.0;
    }
    Ok(format!("{value:.1} GiB"))
}

/// What a step is.
#[askama::filter_fn]
pub fn kind(kind: &StepKind, _: &dyn Values) -> Result<&'static str> {
    Ok(match kind {
        StepKind::Step => "step",
        StepKind::Image => "image",
        StepKind::Evidence => "evidence",
    })
}

#[askama::filter_fn]
pub fn severity(severity: &Severity, _: &dyn Values) -> Result<&'static str> {
    Ok(match severity {
        Severity::Unknown => "unknown",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    })
}

/// How long ago, as HTML that the page's script keeps true.
#[askama::filter_fn]
pub fn age(at: &Timestamp, _: &dyn Values) -> Result<String> {
    let (machine, person) = written(*at);
    Ok(format!(r#"<time datetime="{machine}" title="{person}" data-age>{} ago</time>"#, ago(*at, seen::now())))
}

/// How long something that began then has been going on, as HTML that the page's script keeps true.
#[askama::filter_fn]
pub fn since(at: &Timestamp, _: &dyn Values) -> Result<String> {
    let (machine, person) = written(*at);
    let took = exact(*at, seen::now());
    Ok(format!(r#"<time datetime="{machine}" title="since {person}" data-since>{took}</time>"#))
}

/// A time for machines and for people, to the second.
fn written(at: Timestamp) -> (String, String) {
    let machine = at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let person = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    (machine, person)
}

/// What became of a step, in a few words of HTML.
#[askama::filter_fn]
pub fn outcome(step: &StepRun, values: &dyn Values) -> Result<String> {
    Ok(match &step.state {
        StepState::Waiting => "waiting".into(),
        StepState::Running { since: at } => since::default().execute(at, values)?,
        StepState::Passed { cached: true, .. } => "cached".into(),
        StepState::Passed { since, at, .. } => exact(*since, *at),
        StepState::Failed { since, at, exit_code, .. } => {
            let code = exit_code.map(|code| format!("exit {code}, ")).unwrap_or_default();
            format!("{code}{}", exact(*since, *at))
        }
        StepState::Skipped { .. } => "skipped".into(),
        StepState::Cancelled { .. } => "cancelled".into(),
    })
}

/// Why a step did not pass, to stand behind its name; empty where there is nothing to say.
#[askama::filter_fn]
pub fn why(step: &StepRun, _: &dyn Values) -> Result<String> {
    Ok(match &step.state {
        StepState::Failed { reason, .. } => format!(": {reason}"),
        StepState::Skipped { because } => format!(": {because}"),
        _ => String::new(),
    })
}

/// Whether a step's log is shown at once.
#[askama::filter_fn]
pub fn interesting(step: &StepRun, _: &dyn Values) -> Result<bool> {
    Ok(matches!(step.state, StepState::Running { .. } | StepState::Failed { .. }))
}

/// Whether a step has ended.
#[askama::filter_fn]
pub fn ended(step: &StepRun, _: &dyn Values) -> Result<bool> {
    Ok(!matches!(step.state, StepState::Waiting | StepState::Running { .. }))
}

/// The first digits of a digest.
#[askama::filter_fn]
pub fn short(digest: impl Display, _: &dyn Values) -> Result<String> {
    let text = digest.to_string();
    Ok(text.rsplit(':').next().unwrap_or_default().chars().take(12).collect())
}

/// Text as one segment of a path.
#[askama::filter_fn]
pub fn urlpath(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(crate::cli::urlencode(&text.to_string()))
}
