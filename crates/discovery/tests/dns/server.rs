//! A name server that says what it is told to, over UDP and TCP.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What it says to one kind of question about one name.
#[derive(Clone)]
pub(crate) struct Answer {
    /// `None` for every kind.
    kind: Option<u16>,
    what: What,
    ttl: u32,
}

#[derive(Clone)]
enum What {
    /// The data of records, and the code.
    Records(Vec<Vec<u8>>, u8),
    Garbage,
    Silence,
}

impl Answer {
    fn of(kind: Option<u16>, what: What) -> Self {
        Self { kind, what, ttl: 1 }
    }

    pub(crate) fn a(ips: &[&str]) -> Self {
        let data = |ip: &&str| ip.parse::<Ipv4Addr>().unwrap().octets().to_vec();
        Self::of(Some(A), What::Records(ips.iter().map(data).collect(), 0))
    }

    pub(crate) fn aaaa(ips: &[&str]) -> Self {
        let data = |ip: &&str| match ip.parse().unwrap() {
            IpAddr::V6(ip) => ip.octets().to_vec(),
            IpAddr::V4(_) => unreachable!("an IPv6 address"),
        };
        Self::of(Some(AAAA), What::Records(ips.iter().map(data).collect(), 0))
    }

    /// Priority, weight, port, target.
    pub(crate) fn srv(records: &[(u16, u16, u16, &str)]) -> Self {
        let data = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            let mut data = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
            data.extend(encode(target));
            data
        };
        Self::of(Some(SRV), What::Records(records.iter().map(data).collect(), 0))
    }

    /// The name is there, and has no such records.
    pub(crate) fn nothing() -> Self {
        Self::of(None, What::Records(Vec::new(), 0))
    }

    pub(crate) fn failure() -> Self {
        Self::of(None, What::Records(Vec::new(), 2))
    }

    pub(crate) fn no_such_name() -> Self {
        Self::of(None, What::Records(Vec::new(), 3))
    }

    pub(crate) fn garbage() -> Self {
        Self::of(None, What::Garbage)
    }

    pub(crate) fn silence() -> Self {
        Self::of(None, What::Silence)
    }

    /// The same, to questions for IPv6 alone.
    pub(crate) fn over_ipv6(self) -> Self {
        Self { kind: Some(AAAA), ..self }
    }

    pub(crate) fn ttl(self, ttl: u32) -> Self {
        Self { ttl, ..self }
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    answers: Mutex<HashMap<(String, Option<u16>), Answer>>,
    asked: watch::Sender<HashMap<String, usize>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The same port, if it is free.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                return Self::serve(udp, tcp);
            }
        }
    }

    /// On the port of DNS, at a loopback address of its own; `None` where that is not allowed.
    pub(crate) async fn at_port_53() -> Option<Self> {
        let mut random = sinew_plane::random::generator();
        for _ in 0..16 {
            let ip = Ipv4Addr::new(127, random.u8(1..255), random.u8(..), random.u8(1..255));
            if let Ok(udp) = UdpSocket::bind((ip, 53)).await
                && let Ok(tcp) = TcpListener::bind((ip, 53)).await
            {
                return Some(Self::serve(udp, tcp));
            }
        }
        None
    }

    fn serve(udp: UdpSocket, tcp: TcpListener) -> Self {
        let address = udp.local_addr().unwrap();
        let state = Arc::new(State::default());
        let over_udp = Arc::clone(&state);
        tokio::spawn(async move {
            let mut question = [0; 4096];
            loop {
                let Ok((size, from)) = udp.recv_from(&mut question).await else { continue };
                if let Some(mut answer) = over_udp.answer(&question[..size]) {
                    if answer.len() > 1232 {
                        // Truncated: come again over TCP.
                        let (_, end) = decode(&answer).unwrap();
                        answer.truncate(end + 4);
                        answer[2] |= 2;
                        answer[6..12].fill(0);
                    }
                    let _ = udp.send_to(&answer, from).await;
                }
            }
        });
        let over_tcp = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&over_tcp)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on; an answer to every kind replaces all.
    pub(crate) fn say(&self, name: &str, answer: Answer) {
        let mut answers = self.state.answers.lock().unwrap();
        if answer.kind.is_none() {
            answers.retain(|(known, _), _| known != name);
        } else {
            answers.remove(&(name.to_owned(), None));
        }
        answers.insert((name.to_owned(), answer.kind), answer);
    }

    /// How many questions about a name have come.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.state.asked.borrow().get(name).copied().unwrap_or(0)
    }

    pub(crate) async fn until_asked(&self, name: &str, times: usize) {
        let mut asked = self.state.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.get(name).copied().unwrap_or(0) >= times);
        tokio::time::timeout(crate::PATIENCE, enough).await.unwrap().unwrap();
    }
}

async fn converse(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    loop {
        let size = stream.read_u16().await.ok()?;
        let mut question = vec![0; size.into()];
        stream.read_exact(&mut question).await.ok()?;
        if let Some(answer) = state.answer(&question) {
            stream.write_u16(answer.len().try_into().ok()?).await.ok()?;
            stream.write_all(&answer).await.ok()?;
        }
    }
}

impl State {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = decode(question)?;
        let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
        self.asked.send_modify(|asked| *asked.entry(name.clone()).or_default() += 1);
        let answers = self.answers.lock().unwrap();
        let found = answers.get(&(name.clone(), Some(kind))).or(answers.get(&(name, None)));
        let (what, ttl) = match found {
            Some(answer) => (answer.what.clone(), answer.ttl),
            None => (What::Records(Vec::new(), 0), 1),
        };
        let (records, code) = match what {
            What::Records(records, code) => (records, code),
            What::Garbage => return Some(vec![0xc0; 40]),
            What::Silence => return None,
        };
        let mut answer = question[..2].to_vec();
        // A response, recursion desired and available.
        answer.extend([0x81, 0x80 | code, 0, 1]);
        answer.extend((records.len() as u16).to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(&question[12..end + 4]);
        for data in records {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }
}

/// The name in the question, with a dot at its end, and where it ends.
fn decode(question: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut name = String::new();
    loop {
        let size = usize::from(*question.get(at)?);
        at += 1;
        if size == 0 {
            return Some((name.to_lowercase(), at));
        }
        name.push_str(std::str::from_utf8(question.get(at..at + size)?).ok()?);
        name.push('.');
        at += size;
    }
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
