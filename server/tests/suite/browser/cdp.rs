//! A small client of the Chrome DevTools Protocol, over the pipe that Chromium offers: JSON objects with a zero byte behind each.

#![allow(clippy::disallowed_methods, reason = "it waits for a real browser, on a thread of its own")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long anything on a page may take to become true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless Chromium with a profile of its own, and one page.
pub struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    session: Value,
    id: u64,
    /// Addresses that were asked for.
    pub asked: Vec<String>,
    /// What the page complained of: exceptions, errors and warnings of the console, refused loads.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the program. Its own chatter with its maker is switched off.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \\
            --disable-component-update --disable-sync --disable-extensions --disable-default-apps --remote-debugging-pipe";
        // The pipe is at the descriptors 3 and 4.
        let script =
            format!("exec chromium {flags} --user-data-dir=\"$0\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (requests, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                let parsed = serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message));
                if parsed.is_ok_and(|message| sender.send(message).is_err()) {
                    return;
                }
                message.clear();
            }
        });
        let (asked, complaints, session) = (Vec::new(), Vec::new(), Value::Null);
        let mut browser = Self { child, requests, answers, session, id: 0, asked, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method and returns its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.ask(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// As [`Self::call`]; `Err` is what the browser says against it.
    #[track_caller]
    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.id += 1;
        let mut request = json!({ "id": self.id, "method": method, "params": parameters });
        if !self.session.is_null() {
            request["sessionId"] = self.session.clone();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(answer) if answer["id"] == self.id => {
                    let error = &answer["error"];
                    return if error.is_null() { Ok(answer["result"].clone()) } else { Err(error.clone()) };
                }
                Ok(event) => self.note(&event),
                Err(RecvTimeoutError::Timeout) => panic!("Chromium does not answer {method}"),
                Err(RecvTimeoutError::Disconnected) => panic!("Chromium ended"),
            }
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Network.requestWillBeSent" => {
                self.asked.push(parameters["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            "Runtime.exceptionThrown" => self.complaints.push(parameters["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled"
                if ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind) =>
            {
                self.complaints.push(parameters["args"].to_string());
            }
            "Log.entryAdded" if parameters["entry"]["level"] != "info" && parameters["entry"]["level"] != "verbose" => {
                let entry = parameters["entry"].to_string();
                // Other tests make and remove bridges on this machine, which the browser notices.
                if !entry.contains("ERR_NETWORK_CHANGED") {
                    self.complaints.push(entry);
                }
            }
            _ => {}
        }
    }

    /// Opens an address and waits until it is loaded.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        // The mark of the old document is gone once the new one is there.
        self.eval("window.old = true");
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        self.loaded();
    }

    /// Waits until a document without the mark that `open` leaves is loaded.
    #[track_caller]
    pub fn loaded(&mut self) {
        self.wait("!window.old && document.readyState === 'complete'");
    }

    /// The value of an expression on the page.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// A text on the page.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? null"));
        text.as_str().unwrap_or_else(|| panic!("the page has no {selector}")).to_owned()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            // While a page goes away its scripts cannot be asked.
            let parameters = json!({ "expression": expression, "returnByValue": true });
            match self.ask("Runtime.evaluate", parameters) {
                Ok(answer) if answer["result"]["value"] == true => return,
                Err(error) if !error.to_string().contains("navigated or closed") => panic!("{expression}: {error}"),
                _ => {}
            }
            if Instant::now() > until {
                let shown = self.eval("location.href + '\\n' + document.body.innerText");
                panic!("never true: {expression}\n{}", shown.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks on the first element that a selector finds, and waits for the page that comes then.
    #[track_caller]
    pub fn follow(&mut self, selector: &str) {
        self.eval("window.old = true");
        self.eval(&format!("document.querySelector({selector:?}).click()"));
        self.loaded();
    }

    /// The address of the page, without its fragment.
    pub fn address(&mut self) -> String {
        self.eval("location.href.split('#')[0]").as_str().unwrap_or_default().to_owned()
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", parameters);
    }

    /// Takes back the one complaint that was to be expected: that a page was answered with this status.
    #[track_caller]
    pub fn forgive(&mut self, status: &str) {
        // It may come after the page itself.
        self.wait("true");
        let expected = self.complaints.iter().position(|complaint| complaint.contains(&format!("status of {status}")));
        let at = expected.unwrap_or_else(|| panic!("nothing was answered with {status}: {:?}", self.complaints));
        self.complaints.remove(at);
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", parameters);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when its pipe does; what hangs is killed.
        let _ = self.requests.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
