//! What people read when nothing behind a Service answers.

use axum::body::Body;
use http::{Response, StatusCode, header};

/// A page that says what is the matter and what to look at.
pub fn page(status: StatusCode, what: &str, hint: &str) -> Response<Body> {
    let (what, hint) = (escape(what), escape(hint));
    let title = status.canonical_reason().unwrap_or("Error");
    let text = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;color:#222;\
         background:#fff}}code{{background:#f2f2f2;padding:.1em .3em}}</style>\
         <h1>{title}</h1><p>{what}</p><p><code>{hint}</code></p></html>\n"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
