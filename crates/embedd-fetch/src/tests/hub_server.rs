//! A small hub on this machine that can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use embedd_common::checksum::Sha256Hex;

/// How the hub behaves. Changed while it runs.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Says another tag for every file, as if all were uploaded anew.
    pub(super) generation: u32,
    /// The connection breaks after so many bytes of a body; once for each entry.
    pub(super) cuts: Vec<usize>,
    /// The status of every answer, with the hub's name for it.
    pub(super) refuses: Option<(u16, &'static str)>,
    /// Statuses of the next answers.
    pub(super) hiccups: Vec<u16>,
    /// Where the weights are: the address of another host.
    pub(super) storage: Option<String>,
    /// The large files' digests are not told.
    pub(super) tells_no_sha256: bool,
    pub(super) ranges: Ranges,
}

/// What the hub makes of a range that is asked for on a condition.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    #[default]
    Right,
    /// Sends the whole file.
    Ignored,
    /// Sends the range of whatever file it has now.
    Unconditional,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Request>,
    body_bytes: u64,
}

pub(super) struct HubServer {
    pub(super) address: String,
    behaviour: Arc<Mutex<Behaviour>>,
    seen: Arc<Mutex<Seen>>,
}

impl HubServer {
    pub(super) fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("its address"));
        let behaviour = Arc::new(Mutex::new(Behaviour { files, ..Behaviour::default() }));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Self { address, behaviour: Arc::clone(&behaviour), seen: Arc::clone(&seen) };
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, seen) = (Arc::clone(&behaviour), Arc::clone(&seen));
                thread::spawn(move || while answer(&stream, &behaviour, &seen).is_some() {});
            }
        });
        server
    }

    pub(super) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().expect("the test's own lock"));
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("the test's own lock").requests.clone()
    }

    /// How many bytes of files were sent.
    pub(super) fn body_bytes(&self) -> u64 {
        self.seen.lock().expect("the test's own lock").body_bytes
    }
}

/// Answers one request; `None` ends the connection.
fn answer(mut stream: &TcpStream, behaviour: &Mutex<Behaviour>, seen: &Mutex<Seen>) -> Option<()> {
    let request = read_request(stream)?;
    seen.lock().expect("the test's own lock").requests.push(request.clone());
    let mut behaviour = behaviour.lock().expect("the test's own lock");
    let (head, body) = behaviour.answer(&request);
    write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len()).ok()?;
    let cut = if body.len() > 1000 && !behaviour.cuts.is_empty() { Some(behaviour.cuts.remove(0)) } else { None };
    let sent = &body[..cut.unwrap_or(body.len()).min(body.len())];
    stream.write_all(sent).ok()?;
    seen.lock().expect("the test's own lock").body_bytes += sent.len() as u64;
    if cut.is_some() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return None;
    }
    Some(())
}

impl Behaviour {
    /// The head of the answer, without its length, and its body.
    fn answer(&mut self, request: &Request) -> (String, Vec<u8>) {
        let refusal =
            |status: u16, code: &str| (format!("HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\n"), Vec::new());
        let hiccup = if self.hiccups.is_empty() { None } else { Some((self.hiccups.remove(0), "")) };
        if let Some((status, code)) = hiccup.or(self.refuses) {
            return refusal(status, code);
        }
        let file = request.path.split_once("/resolve/").and_then(|(_, rest)| rest.split_once('/'));
        let file = file.map_or("", |(_, file)| file);
        let Some(bytes) = self.files.get(file) else { return refusal(404, "EntryNotFound") };
        let digest = Sha256Hex::of(bytes);
        let large = file == "model.safetensors";
        let mut facts = "X-Repo-Commit: c0ffee\r\n".to_owned();
        if large && !self.tells_no_sha256 {
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

/// The start of the range that is sent.
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
