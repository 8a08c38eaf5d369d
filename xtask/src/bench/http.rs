//! A client of HTTP/1.1 that costs almost nothing: one connection, one request after the other, bodies thrown away.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

pub struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
    /// What is sent with every request besides: whole lines.
    more: String,
}

pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self {
            address,
            stream: BufReader::with_capacity(64 << 10, stream),
            buffer: vec![0; 256 << 10],
            more: String::new(),
        })
    }

    /// Sends a header with every request.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more += &format!("{name}: {value}\r\n");
        self
    }

    /// Sends a request whose body is the parts one after the other, and gives every piece of the answer's body to `each`.
    pub fn send(&mut self, method: &str, path: &str, body: &[&[u8]], each: impl FnMut(&[u8])) -> Result<Response> {
        self.send_as("application/octet-stream", method, path, body, each)
    }

    /// The same with a body of a kind.
    pub fn send_as(
        &mut self,
        kind: &str,
        method: &str,
        path: &str,
        body: &[&[u8]],
        mut each: impl FnMut(&[u8]),
    ) -> Result<Response> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\nContent-Type: {kind}\r\n{}\r\n",
            self.address, self.more
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        for part in body {
            stream.write_all(part)?;
        }
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no status: {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the answer broke off");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let response = Response { status, headers };
        let length = response.header("content-length").map(str::parse::<u64>).transpose()?.unwrap_or(0);
        let mut rest = if method == "HEAD" || status == 204 { 0 } else { length };
        while rest > 0 {
            let most = self.buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut self.buffer[..most])?;
            ensure!(read > 0, "the body broke off");
            each(&self.buffer[..read]);
            rest -= read as u64;
        }
        Ok(response)
    }
}
