//! A small local hub that can be made to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use embedd_common::checksum::Sha256Hex;

/// The behavior of the hub, which tests change while it runs.
#[derive(Debug, Default)]
pub(crate) struct Behavior {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Part of every entity tag. A change simulates a new upload of all files.
    pub(crate) generation: u32,
    /// For each entry, one connection breaks after that many bytes of a body.
    pub(crate) cuts: Vec<usize>,
    /// The status and error code of every response.
    pub(crate) refusal: Option<(u16, &'static str)>,
    /// Statuses of the next responses.
    pub(crate) failures: Vec<u16>,
    /// The address of the host to which requests for the weights are redirected.
    pub(crate) storage: Option<String>,
    /// Do not report the digests of large files.
    pub(crate) omits_sha256: bool,
    pub(crate) ranges: Ranges,
    /// The number of seconds that a refusal asks clients to wait.
    pub(crate) retry_after: Option<u64>,
    /// The commit that it reports, instead of a valid one.
    pub(crate) commit: Option<&'static str>,
    /// A file that is sent without its length and never ends.
    pub(crate) endless: Option<&'static str>,
}

/// The response to a conditional range request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranges {
    #[default]
    Right,
    /// Sends the whole file.
    Ignored,
    /// Sends the range of its current file, ignoring the condition.
    Unconditional,
}

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    body_bytes: u64,
}

pub(crate) struct HubServer {
    pub(crate) address: String,
    behavior: Arc<Mutex<Behavior>>,
    seen: Arc<Mutex<Seen>>,
}

impl HubServer {
    pub(crate) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let behavior = Arc::new(Mutex::new(Behavior { files, ..Behavior::default() }));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Self { address, behavior: Arc::clone(&behavior), seen: Arc::clone(&seen) };
        // The thread ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behavior = Arc::clone(&behavior);
                let seen = Arc::clone(&seen);
                thread::spawn(move || while answer(&stream, &behavior, &seen).is_some() {});
            }
        });
        server
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behavior)) {
        change(&mut self.behavior.lock().expect("the test's own lock"));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("the test's own lock").requests.clone()
    }

    /// The number of file bytes sent.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.seen.lock().expect("the test's own lock").body_bytes
    }
}

/// Answers one request. `None` closes the connection.
fn answer(mut stream: &TcpStream, behavior: &Mutex<Behavior>, seen: &Mutex<Seen>) -> Option<()> {
    let request = read_request(stream)?;
    seen.lock().expect("the test's own lock").requests.push(request.clone());
    let mut behavior = behavior.lock().expect("the test's own lock");
    if behavior.endless.is_some_and(|file| request.path.ends_with(file)) {
        drop(behavior);
        return send_without_end(stream);
    }
    let (head, body) = behavior.answer(&request);
    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len()).ok()?;
    let cut = if body.len() > 1000 && !behavior.cuts.is_empty() { Some(behavior.cuts.remove(0)) } else { None };
    let sent = &body[..cut.unwrap_or(body.len()).min(body.len())];
    stream.write_all(sent).ok()?;
    seen.lock().expect("the test's own lock").body_bytes += sent.len() as u64;
    if cut.is_some() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return None;
    }
    Some(())
}

/// Sends until the client closes the connection.
fn send_without_end(mut stream: &TcpStream) -> Option<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").ok()?;
    let blanks = vec![b' '; 1 << 16];
    while stream.write_all(&blanks).is_ok() {}
    None
}

impl Behavior {
    /// The head of the response without Content-Length, and the body.
    fn answer(&mut self, request: &Request) -> (String, Vec<u8>) {
        let retry_after = self.retry_after.map_or_else(String::new, |seconds| format!("Retry-After: {seconds}\r\n"));
        let refuse = |status: u16, code: &str| {
            (format!("HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\n{retry_after}"), Vec::new())
        };
        let failure = if self.failures.is_empty() { None } else { Some((self.failures.remove(0), "")) };
        if let Some((status, code)) = failure.or(self.refusal) {
            return refuse(status, code);
        }
        let file = request.path.split_once("/resolve/").and_then(|(_, rest)| rest.split_once('/'));
        let file = file.map_or("", |(_, file)| file);
        let Some(bytes) = self.files.get(file) else { return refuse(404, "EntryNotFound") };
        let digest = Sha256Hex::of(bytes);
        let large = file == "model.safetensors";
        let mut facts = format!("X-Repo-Commit: {}\r\n", self.commit.unwrap_or("c0ffee"));
        if large && !self.omits_sha256 {
            facts += &format!("X-Linked-Etag: \"{digest}\"\r\n");
        }
        if let Some(storage) = self.storage.as_ref().filter(|_| large) {
            let to = format!("{storage}/store/resolve/main/{file}");
            return (format!("HTTP/1.1 302 There\r\n{facts}Location: {to}\r\n"), Vec::new());
        }
        let etag = format!("\"{}-{}\"", self.generation, &digest.as_str()[..8]);
        facts += &format!("ETag: {etag}\r\n");
        let length = bytes.len();
        match range(request, &etag, self.ranges) {
            None => (format!("HTTP/1.1 200 OK\r\n{facts}"), bytes.clone()),
            Some(from) if from >= length => {
                (format!("HTTP/1.1 416 No\r\nContent-Range: bytes */{length}\r\n"), Vec::new())
            }
            Some(from) => {
                let part = format!("Content-Range: bytes {from}-{}/{length}", length - 1);
                (format!("HTTP/1.1 206 Part\r\n{part}\r\n{facts}"), bytes[from..].to_vec())
            }
        }
    }
}

/// The start of the range to send.
fn range(request: &Request, etag: &str, ranges: Ranges) -> Option<usize> {
    let from = request.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
    let holds = request.headers.get("if-range").is_none_or(|tag| tag == etag);
    match ranges {
        Ranges::Right => holds.then_some(from),
        Ranges::Ignored => None,
        Ranges::Unconditional => Some(from),
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Request { path, headers })
}
