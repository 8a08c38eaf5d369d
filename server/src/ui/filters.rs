//! How values look on a page.

use std::fmt::Display;

use askama::{Result, Values};
use records::{Severity, StepKind, StepRun, StepState};

use crate::cli::duration;

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

/// One short line on what became of a step.
#[askama::filter_fn]
pub fn outcome(step: &StepRun, _: &dyn Values) -> Result<String> {
    let took = |since: records::Timestamp, at: records::Timestamp| duration(at.duration_since(since).as_secs());
    Ok(match &step.state {
        StepState::Waiting => "waiting".into(),
        StepState::Running { .. } => "running".into(),
        StepState::Passed { cached: true, .. } => "cached".into(),
        StepState::Passed { since, at, .. } => took(*since, *at),
        StepState::Failed { reason, .. } => reason.clone(),
        StepState::Skipped { because } => because.clone(),
        StepState::Cancelled { .. } => "cancelled".into(),
    })
}

/// Whether a step's log is shown at once.
#[askama::filter_fn]
pub fn interesting(step: &StepRun, _: &dyn Values) -> Result<bool> {
    Ok(matches!(step.state, StepState::Running { .. } | StepState::Failed { .. }))
}

/// Text as one segment of a path.
#[askama::filter_fn]
pub fn urlpath(text: impl Display, _: &dyn Values) -> Result<String> {
    Ok(crate::cli::urlencode(&text.to_string()))
}
