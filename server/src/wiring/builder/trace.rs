//! Where the time of a build goes: spans, written as a file that Perfetto and `chrome://tracing` open (the Trace Event Format of Chrome).
//!
//! A span with the field `vertex` lies on the track of that vertex, one without on the track of the span that it is in; the build itself has
//! the first track.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::clock::Clock;

/// Spans that are kept; a build with more is not shown to its end.
const MOST: usize = 1_000_000;

/// Takes down spans. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    clock: Clock,
    begun: i128,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Of vertices, by their ids.
    tracks: BTreeMap<String, usize>,
    titles: BTreeMap<usize, String>,
    events: Vec<Value>,
}

/// What is known of an open span.
struct Open {
    at: i128,
    track: usize,
    fields: Fields,
}

#[derive(Default)]
struct Fields(serde_json::Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Recorder {
    pub fn new(clock: Clock) -> Self {
        let begun = clock().as_nanosecond();
        let state = State { titles: BTreeMap::from([(0, "build".to_owned())]), ..State::default() };
        Self { clock, begun, state: Arc::new(Mutex::new(state)) }
    }

    fn now(&self) -> i128 {
        (self.clock)().as_nanosecond() - self.begun
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or push.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The document as it is now.
    pub fn document(&self) -> Value {
        let state = self.state();
        let names = state.titles.iter().flat_map(|(track, title)| {
            let event =
                |name: &str, args: Value| json!({ "name": name, "ph": "M", "pid": 1, "tid": track, "args": args });
            [event("thread_name", json!({ "name": title })), event("thread_sort_index", json!({ "sort_index": track }))]
        });
        let all: Vec<Value> = names.chain(state.events.iter().cloned()).collect();
        json!({ "displayTimeUnit": "ms", "traceEvents": all })
    }

    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.document().to_string())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let vertex = fields.0.remove("vertex").and_then(|vertex| vertex.as_str().map(str::to_owned));
        let title = fields.0.remove("title").and_then(|title| title.as_str().map(str::to_owned));
        let inherited = span.parent().and_then(|parent| parent.extensions().get::<Open>().map(|open| open.track));
        let track = match vertex {
            Some(vertex) => {
                let mut state = self.state();
                let next = state.tracks.len() + 1;
                let track = *state.tracks.entry(vertex.clone()).or_insert(next);
                let known = state.titles.entry(track).or_insert(vertex);
                if let Some(title) = title {
                    *known = title;
                }
                track
            }
            None => inherited.unwrap_or(0),
        };
        span.extensions_mut().insert(Open { at: self.now(), track, fields });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let mut state = self.state();
        if state.events.len() >= MOST {
            return;
        }
        let micros = |nanoseconds: i128| nanoseconds as f64 / 1000.0;
        state.events.push(json!({
            "name": span.name(),
            "cat": span.metadata().target(),
            "ph": "X",
            "ts": micros(open.at),
            "dur": micros(self.now() - open.at),
            "pid": 1,
            "tid": open.track,
            "args": open.fields.0,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use tracing_subscriber::prelude::*;

    use super::*;

    #[test]
    fn each_vertex_has_a_track_and_what_is_in_it_lies_there() {
        let ticks = Arc::new(AtomicI64::new(0));
        let clock: Clock = Arc::new(move || {
            records::Timestamp::from_nanosecond(i128::from(ticks.fetch_add(1000, Ordering::Relaxed))).unwrap()
        });
        let recorder = Recorder::new(clock);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(recorder.clone()), || {
            let _scan = tracing::info_span!("scan").entered();
            let vertex = tracing::info_span!("vertex", vertex = "sha256:a", title = "RUN make").entered();
            tracing::info_span!("run", bytes = tracing::field::Empty).record("bytes", 5_u64);
            drop(vertex);
            drop(tracing::info_span!("compress", vertex = "sha256:a"));
        });
        let document = recorder.document();
        let events = document["traceEvents"].as_array().unwrap();
        let track = |name: &str| events.iter().find(|event| event["name"] == name).unwrap()["tid"].as_u64().unwrap();
        assert_eq!([track("scan"), track("vertex"), track("run"), track("compress")], [0, 1, 1, 1]);
        let title = events.iter().find(|event| event["ph"] == "M" && event["tid"] == 1).unwrap();
        assert_eq!(title["args"]["name"], "RUN make");
        let run = events.iter().find(|event| event["name"] == "run").unwrap();
        assert_eq!((run["args"]["bytes"].as_u64(), run["dur"].as_f64() > Some(0.0)), (Some(5), true));
    }
}
