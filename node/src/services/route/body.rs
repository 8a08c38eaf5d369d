//! Bodies on their way: requests that are kept until somebody reads them, answers that are counted until they end.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::Data;
use crate::services::load::Under;
use crate::services::stats::Stats;
use crate::services::table::ServiceKey;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's body, for as long as nobody has begun to read it.
pub struct Slot {
    body: Arc<Mutex<Option<Body>>>,
    size: SizeHint,
    empty: bool,
}

impl Slot {
    pub fn new(body: Body) -> Self {
        let (size, empty) = (body.size_hint(), body.is_end_stream());
        Self { body: Arc::new(Mutex::new(Some(body))), size, empty }
    }

    /// Whether it can still be sent from its beginning.
    pub fn is_whole(&self) -> bool {
        self.empty || self.body.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The body for one try. Whichever try reads first has it.
    pub fn body(&self) -> Replayable {
        Replayable { slot: self.body.clone(), taken: None, size: self.size, empty: self.empty }
    }
}

/// The body of one try.
pub struct Replayable {
    slot: Arc<Mutex<Option<Body>>>,
    taken: Option<Body>,
    size: SizeHint,
    empty: bool,
}

impl HttpBody for Replayable {
    type Data = Data;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Data>, Error>>> {
        if self.empty {
            return Poll::Ready(None);
        }
        if self.taken.is_none() {
            let body = self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.taken = body;
        }
        match &mut self.taken {
            Some(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(Some(Err("the request's body was read before".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.empty || self.taken.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.taken {
            Some(body) => body.size_hint(),
            None => self.size,
        }
    }
}

/// An answer's body. The pod counts as busy until it ends, and one that breaks off counts as a failure.
pub struct Counted<B> {
    body: B,
    under: Option<Under>,
    stats: Arc<Stats>,
    key: ServiceKey,
}

impl<B> Counted<B> {
    pub fn new(body: B, under: Under, stats: Arc<Stats>, key: ServiceKey) -> Self {
        Self { body, under: Some(under), stats, key }
    }
}

impl<B: HttpBody<Data = Data> + Unpin> HttpBody for Counted<B>
where
    B::Error: Into<Error>,
{
    type Data = Data;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Data>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.under = None,
            Poll::Ready(Some(Err(_))) => {
                self.under = None;
                self.stats.broke_off(&self.key);
            }
            _ => {}
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
