//! Speaks to a server for the command line.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use crate::{
    fault::{Class, Fault, Result},
    token::Token,
};

// Which server, and with whose rights.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "SHIPWAY_SERVER", global = true)]
    pub server: String,

    /// File with the token; for the server's own machine DIR/admin-token
    #[arg(long, value_name = "FILE", env = "SHIPWAY_TOKEN_FILE", global = true)]
    pub token_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// A client of one server.
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<Token>,
}

impl Client {
    pub fn connect(connection: &Connection) -> Result<Self> {
        let token = match (&connection.token_file, std::env::var("SHIPWAY_TOKEN")) {
            (Some(path), _) => Some(Token::load(path)?),
            (None, Ok(text)) => Some(Token::given(&text)),
            (None, Err(_)) => None,
        };
        Self::new(&connection.server, token)
    }

    pub fn new(server: &str, token: Option<Token>) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build().map_err(|e| Fault::from_error(Class::Internal, &e))?;
        Ok(Self { http, base: server.trim_end_matches('/').to_owned(), token })
    }

    /// Sends a request and returns the response of a success; anything else is the server's own error.
    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<reqwest::Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.finish(request).await
    }

    /// Puts content of any type, for the registry.
    pub async fn put(&self, path: &str, content_type: &str, content: Vec<u8>) -> Result<reqwest::Response> {
        let mut request = self.http.put(format!("{}{path}", self.base)).body(content);
        request = request.header(reqwest::header::CONTENT_TYPE, content_type);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        self.finish(request).await
    }

    /// The response of a success; anything else is the server's own error.
    async fn finish(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let response = request.send().await.map_err(|e| {
            Fault::new(Class::Unavailable, format!("cannot reach {}: {}", self.base, crate::fault::chain(&e)))
                .hint("start it with `shipway up --data DIR`, or name another with --server URL")
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: serde_json::Value = response.json().await.unwrap_or_default();
        // The registry answers in the form of the distribution specification.
        let said = body["error"].as_str().or_else(|| body["errors"][0]["message"].as_str());
        let message = said.unwrap_or("the server gave no reason").to_owned();
        let class = match status.as_u16() {
            401 => Class::Unauthorized,
            404 => Class::NotFound,
            409 => Class::Conflict,
            413 => Class::TooLarge,
            422 => Class::Failed,
            400..=499 => Class::Usage,
            503 => Class::Unavailable,
            _ => Class::Internal,
        };
        let mut fault = Fault::new(class, message);
        fault.hint = body["hint"].as_str().map(str::to_owned);
        if class == Class::Unauthorized && fault.hint.is_none() {
            fault.hint = Some("name the token with --token-file DIR/admin-token".into());
        }
        Err(fault)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(reqwest::Method::GET, path, None).await?;
        response.json().await.map_err(|e| Fault::from_error(Class::Internal, &e))
    }

    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value> {
        let response = self.send(reqwest::Method::POST, path, Some(body)).await?;
        response.json().await.map_err(|e| Fault::from_error(Class::Internal, &e))
    }
}
