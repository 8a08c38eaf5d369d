//! What a demo found.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::trace::Trace;

/// One point of the journey.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    pub name: &'static str,
    pub held: bool,
    pub detail: String,
}

/// Every figure of a demo. Seconds unless the name says otherwise; `None` where the journey did not get that far.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub points: Vec<Point>,
    pub ready_s: Option<f64>,
    pub first_pod_ready_s: Option<f64>,
    pub push_to_first_log_s: Option<f64>,
    pub push_to_image_s: Option<f64>,
    pub push_to_serving_s: Option<f64>,
    pub requests_sent: u64,
    pub requests_failed: u64,
    pub rss_mib: Option<f64>,
    /// Image repository → digest that was released.
    pub digests: BTreeMap<String, String>,
    pub trace: Option<Trace>,
    /// Of the first requests that failed: why.
    pub failures: Vec<String>,
}

impl Report {
    pub fn held(&self) -> bool {
        self.points.len() == 9 && self.points.iter().all(|point| point.held)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(trace) = &self.trace {
            writeln!(f, "\n{trace}")?;
        }
        let seconds = |value: Option<f64>| value.map_or("–".to_owned(), |s| format!("{s:.3} s"));
        writeln!(f, "server ready                 {}", seconds(self.ready_s))?;
        writeln!(f, "applied → first pod ready    {}", seconds(self.first_pod_ready_s))?;
        writeln!(f, "push → first log line        {}", seconds(self.push_to_first_log_s))?;
        writeln!(f, "push → image                 {}", seconds(self.push_to_image_s))?;
        writeln!(f, "push → serving on 3 replicas {}", seconds(self.push_to_serving_s))?;
        writeln!(f, "requests                     {} sent, {} failed", self.requests_sent, self.requests_failed)?;
        writeln!(f, "memory of the server         {:.0} MiB", self.rss_mib.unwrap_or_default())?;
        let held = self.points.iter().filter(|point| point.held).count();
        writeln!(f, "\n{held} of 9 points held")
    }
}
