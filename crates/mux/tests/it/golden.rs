//! The bytes of version 1, which never change: `tests/golden/v1` has one file for each kind of
//! frame, and one for each side of a whole exchange.
//!
//! With `SINEW_BLESS=1` in the environment the files are written anew instead of compared. That
//! is for a new version of the protocol, never for a difference in this one.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use sinew_mux::{
    Attach, Consumer, Credit, Event, MuxConfig, Open, Outbound, Outbox, PREFACE, Producer, Role,
};
use sinew_plane::{
    AppCode, CancelReason, Checkpoint, Code, Error, Executed, Headers, InstanceId, ItemBatch,
    ProcessId, StopKind, StreamId, Terminal, Window,
};

use crate::{
    frames::{self, kind},
    reading::{Reader, config},
};

const WINDOW: Window = Window { items: 4, bytes: 1024 };
/// The default window, as an open and the credit of a stream carry it.
const FULL: Window = Window { items: 1024, bytes: 256 << 10 };
const CREDIT: Credit = Credit { consumed: 512, items: FULL.items, bytes: FULL.bytes };
const ID: StreamId = StreamId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
const ATTACH: Attach = Attach {
    id: ID,
    secret: 0x8877_6655_4433_2211,
    counter: 3,
    next_item: 515,
    credit: CREDIT,
    origin: ProcessId(0x0102_0304_0506_0708),
};
const TOKEN: u64 = 0x0102_0304_0506_0708;

struct Golden {
    name: &'static str,
    /// Who reads it.
    reader: Role,
    write: fn(&mut Outbound),
    means: fn(&Event) -> bool,
}

const GOLDEN: &[Golden] = &[
    Golden {
        name: "open",
        reader: Role::Acceptor,
        write: |outbound| {
            let mut open = Open::new(ID, "text/words/split", InstanceId(42), FULL);
            open.headers.insert("content-type", "text/plain").unwrap();
            open.remaining = Some(Duration::from_millis(1500));
            open.secret = ATTACH.secret;
            open.attempt = 1;
            outbound.open(&open, &Bytes::from_static(b"to be split")).unwrap();
        },
        means: |event| {
            let Event::Opened(opened) = event else { return false };
            let open = &opened.open;
            let numbers = (opened.stream, open.id, open.instance, open.attempt);
            numbers == (1, ID, InstanceId(42), 1)
                && (open.window, open.remaining) == (FULL, Some(Duration::from_millis(1500)))
                && open.endpoint() == "text/words/split"
                && open.headers.get("content-type") == Some("text/plain")
                && opened.body == "to be split"
        },
    },
    Golden {
        name: "accept",
        reader: Role::Dialler,
        write: |outbound| produce(outbound, &[]),
        means: |event| matches!(event, Event::Accept { stream: 1 }),
    },
    Golden {
        name: "head",
        reader: Role::Dialler,
        write: |outbound| {
            let mut producer = Producer::new(WINDOW);
            producer.set_head(headers("model", "words-1"));
            producer.poll_frame(1, outbound.outbox());
        },
        means: |event| matches!(event, Event::Head { stream: 1, head } if *head == headers("model", "words-1")),
    },
    Golden {
        name: "checkpoint",
        reader: Role::Dialler,
        write: |outbound| {
            let mut producer = Producer::new(WINDOW);
            producer.push("to".into()).unwrap();
            producer.poll_frame(1, &mut Outbox::default());
            producer.add_checkpoint(Checkpoint { items: 1, state: "seen: to".into() });
            producer.poll_frame(1, outbound.outbox());
        },
        means: |event| {
            let checkpoint = Checkpoint { items: 1, state: "seen: to".into() };
            matches!(event, Event::Checkpoint { stream: 1, checkpoint: it } if *it == checkpoint)
        },
    },
    Golden {
        name: "item",
        reader: Role::Dialler,
        write: |outbound| produce(outbound, &["to"]),
        means: |event| matches!(event, Event::Items { stream: 1, items } if items.clone().into_iter().eq(["to"])),
    },
    Golden {
        name: "chunk",
        reader: Role::Dialler,
        write: |outbound| {
            outbound.body_chunk(1, &Bytes::from_static(b"splitted"), 5);
        },
        means: |event| matches!(event, Event::Chunk { stream: 1 }),
    },
    Golden {
        name: "complete",
        reader: Role::Dialler,
        write: |outbound| outbound.terminal(1, &Terminal::Complete { items: 0 }, 0),
        means: |event| {
            matches!(
                event,
                Event::Ended { stream: 1, terminal: Terminal::Complete { items: 0 }, items: 0, facts }
                    if facts.is_empty()
            )
        },
    },
    Golden {
        name: "complete_facts",
        reader: Role::Dialler,
        write: |outbound| finish(outbound, Terminal::Complete { items: 0 }),
        means: |event| {
            matches!(
                event,
                Event::Ended { stream: 1, terminal: Terminal::Complete { items: 0 }, items: 0, facts }
                    if *facts == headers("tokens", "17")
            )
        },
    },
    Golden {
        name: "failed_facts",
        reader: Role::Dialler,
        write: |outbound| finish(outbound, Terminal::Failed { error: Error::handler("no words") }),
        means: |event| {
            matches!(
                event,
                Event::Ended { stream: 1, terminal: Terminal::Failed { error }, items: 0, facts }
                    if error.message() == "no words" && *facts == headers("tokens", "17")
            )
        },
    },
    Golden {
        name: "cancelled_facts",
        reader: Role::Dialler,
        write: |outbound| {
            finish(outbound, Terminal::Cancelled { reason: CancelReason::Caller });
        },
        means: |event| {
            matches!(
                event,
                Event::Ended {
                    stream: 1,
                    terminal: Terminal::Cancelled { reason: CancelReason::Caller },
                    items: 0,
                    facts,
                } if *facts == headers("tokens", "17")
            )
        },
    },
    Golden {
        name: "failed",
        reader: Role::Dialler,
        write: |outbound| {
            let error = Error::application(AppCode::INVALID_ARGUMENT, "no words");
            let error = error.with_details("{\"field\":\"text\"}").unwrap();
            outbound.terminal(1, &Terminal::Failed { error }, 0);
        },
        means: |event| {
            let Event::Ended { stream: 1, terminal: Terminal::Failed { error }, items: 0, .. } =
                event
            else {
                return false;
            };
            (error.code(), error.executed()) == (Code::HandlerFailed, Executed::Yes)
                && (error.message(), error.retry_after()) == ("no words", None)
                && error.app_code() == Some(AppCode::INVALID_ARGUMENT)
                && error.details() == "{\"field\":\"text\"}"
        },
    },
    Golden {
        name: "cancelled",
        reader: Role::Dialler,
        write: |outbound| {
            let reason = CancelReason::Shutdown;
            outbound.terminal(1, &Terminal::Cancelled { reason }, 3);
        },
        means: |event| {
            matches!(
                event,
                Event::Ended {
                    stream: 1,
                    terminal: Terminal::Cancelled { reason: CancelReason::Shutdown },
                    items: 3,
                    ..
                }
            )
        },
    },
    Golden {
        name: "reject",
        reader: Role::Dialler,
        write: |outbound| {
            let delay = Duration::from_millis(250);
            outbound.reject(1, &Error::new(Code::Overloaded, "full").with_retry_after(delay));
        },
        means: |event| {
            let Event::Ended { stream: 1, terminal: Terminal::Failed { error }, items: 0, .. } =
                event
            else {
                return false;
            };
            (error.code(), error.executed()) == (Code::Overloaded, Executed::No)
                && error.retry_after() == Some(Duration::from_millis(250))
        },
    },
    Golden {
        name: "credit",
        reader: Role::Acceptor,
        write: |outbound| outbound.credit(1, CREDIT),
        means: |event| matches!(event, Event::Credit { stream: 1, credit } if *credit == CREDIT),
    },
    Golden {
        name: "attach",
        reader: Role::Acceptor,
        write: |outbound| {
            outbound.attach(&ATTACH).unwrap();
        },
        means: |event| matches!(event, Event::Attach { stream: 1, attach } if *attach == ATTACH),
    },
    Golden {
        name: "cancel",
        reader: Role::Acceptor,
        write: |outbound| outbound.cancel(1, StopKind::Kill, CancelReason::DeadlineExceeded),
        means: |event| {
            matches!(
                event,
                Event::Cancel {
                    stream: 1,
                    kind: StopKind::Kill,
                    reason: CancelReason::DeadlineExceeded
                }
            )
        },
    },
    Golden {
        name: "done",
        reader: Role::Acceptor,
        write: |outbound| {
            outbound.done(1);
            outbound.done(5);
        },
        means: |event| matches!(event, Event::Done { streams } if streams.iter().eq([1, 5])),
    },
    Golden {
        name: "grant",
        reader: Role::Acceptor,
        write: |outbound| outbound.grant(32 << 20),
        means: |event| matches!(event, Event::Grant { total: 0x0200_0000 }),
    },
    Golden {
        name: "ping",
        reader: Role::Acceptor,
        write: |outbound| outbound.ping(TOKEN),
        means: |event| matches!(event, Event::Ping { token: TOKEN }),
    },
    Golden {
        name: "goaway",
        reader: Role::Dialler,
        write: |outbound| outbound.go_away(9, &Error::new(Code::Draining, "leaving")),
        means: |event| {
            matches!(event, Event::GoAway { last_stream: 9, error }
                if (error.code(), error.message()) == (Code::Draining, "leaving"))
        },
    },
];

/// Lets a producer write its accept, or the items instead of it.
fn produce(outbound: &mut Outbound, items: &[&'static str]) {
    let mut producer = Producer::new(WINDOW);
    producer.accept();
    for item in items {
        producer.push(Bytes::from_static(item.as_bytes())).unwrap();
    }
    producer.poll_frame(1, outbound.outbox());
}

/// Lets a producer without items write its end, with facts.
fn finish(outbound: &mut Outbound, terminal: Terminal) {
    let mut producer = Producer::new(WINDOW);
    producer.set_facts(headers("tokens", "17"));
    producer.finish(terminal);
    producer.poll_frame(1, outbound.outbox());
}

fn headers(name: &str, value: &str) -> Headers {
    let mut headers = Headers::new();
    headers.insert(name, value).unwrap();
    headers
}

/// Compares with the file of this name, or writes it.
fn compare(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1"));
    let path = path.join(name).with_extension("bin");
    if std::env::var_os("SINEW_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, bytes).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(hex(bytes), hex(&golden), "{name}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}

fn written(outbound: &mut Outbound) -> Vec<u8> {
    outbound.take_batch().parts().flatten().copied().collect()
}

/// The sending direction of a connection behind both hellos.
fn established(role: Role, config: &MuxConfig) -> Outbound {
    let mut outbound = Outbound::new(role, &config.clone().checked().unwrap());
    let mut reader = Reader::new(role, config.clone());
    let Some(Event::Hello(hello)) = reader.events(&frames::greeting()).unwrap().pop() else {
        panic!("a greeting is a hello");
    };
    outbound.on_hello(hello);
    written(&mut outbound);
    outbound
}

/// What a reader behind the hellos, with one stream running each way, makes of a frame.
fn read(reader: Role, config: &MuxConfig, frame: &[u8]) -> Vec<Event> {
    let mut reader = Reader::new(reader, config.clone());
    let mut hello = frames::greeting();
    if frame[3] != kind::OPEN && frame[3] != kind::ATTACH {
        let opened = frames::open(reader.role.peer().first_stream(), b"");
        hello.extend(if config.integrity { frames::checked(opened) } else { opened });
    }
    reader.events(&hello).unwrap();
    reader.events(frame).unwrap()
}

#[test]
fn every_frame_is_written_and_read_as_ever() {
    for golden in GOLDEN {
        let mut outbound = established(golden.reader.peer(), &config());
        (golden.write)(&mut outbound);
        let bytes = written(&mut outbound);
        compare(golden.name, &bytes);
        let events = read(golden.reader, &config(), &bytes);
        let [event] = &events[..] else { panic!("{}: {events:?}", golden.name) };
        assert!((golden.means)(event), "{}: {event:?}", golden.name);
    }
}

#[test]
fn a_hello_is_written_and_read_as_ever() {
    let config = MuxConfig { process: ProcessId(7), ..config() };
    let mut outbound = Outbound::new(Role::Dialler, &config.checked().unwrap());
    let bytes = written(&mut outbound);
    assert_eq!(bytes[..8], frames::PREFACE);
    compare("hello", &bytes[8..]);
    let events = Reader::new(Role::Acceptor, MuxConfig::default()).events(&bytes).unwrap();
    let [Event::Hello(hello)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((hello.versions, hello.process, hello.max_streams), ((1, 1), ProcessId(7), 16_384));
    assert_eq!((hello.max_message_bytes, hello.request_window_bytes), (32 << 20, 16 << 20));
    assert_eq!((hello.integrity, hello.capabilities, hello.resumes()), (false, 1, true));
}

/// An encoder begins only items over 64 KiB in this way, so the file is written by hand, and
/// compared with the beginning of a large one.
#[test]
fn a_large_item_begins_as_ever() {
    let golden = frames::frame(kind::ITEM_BEGIN, 1, b"\0\0\0\x08split");
    compare("item_begin", &golden);
    let whole = [golden, frames::frame(kind::CHUNK, 1, b"ted")].concat();
    let events = read(Role::Dialler, &config(), &whole);
    assert!(matches!(&events[..],
        [Event::ItemBegin { stream: 1, total: 8 }, Event::ItemEnd { stream: 1, item }]
            if item == "splitted"));

    let mut producer = Producer::new(Window { items: 1, bytes: 1 });
    let mut outbox = Outbox::default();
    producer.push(Bytes::from(vec![b'x'; 65_537])).unwrap();
    producer.poll_frame(1, &mut outbox);
    producer.poll_frame(1, &mut outbox);
    let mut outbound = established(Role::Acceptor, &config());
    *outbound.outbox() = outbox;
    let mut expected = b"\x01\0\x04\x05\0\0\0\x01\0\x01\0\x01".to_vec();
    expected.resize(12 + 65_536, b'x');
    expected.extend(frames::frame(kind::CHUNK, 1, b"x"));
    assert!(written(&mut outbound) == expected);
}

/// A pong is read without an event, so its meaning is compared with its bytes only.
#[test]
fn a_pong_is_written_as_ever() {
    let mut outbound = established(Role::Acceptor, &config());
    outbound.pong(TOKEN);
    let bytes = written(&mut outbound);
    compare("pong", &bytes);
    assert!(read(Role::Dialler, &config(), &bytes).is_empty());
}

#[test]
fn a_checked_frame_is_written_and_read_as_ever() {
    let config = MuxConfig { integrity: true, ..config() };
    let mut outbound = established(Role::Dialler, &config);
    outbound.ping(TOKEN);
    let bytes = written(&mut outbound);
    compare("ping_checked", &bytes);
    let events = read(Role::Acceptor, &config, &bytes);
    assert!(matches!(events[..], [Event::Ping { token: TOKEN }]));
    let document: Vec<u8> = documented("With checks").into_iter().flat_map(|it| it.bytes).collect();
    assert_eq!(hex(&document), hex(&bytes));
}

/// One piece of the exchange in section 15 of the specification.
#[derive(Debug, PartialEq)]
struct Said {
    who: String,
    what: String,
    bytes: Vec<u8>,
}

/// The pieces in the first block of text behind `after`, from `docs/protocol.md`.
fn documented(after: &str) -> Vec<Said> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, rest) = document.split_once(after).unwrap();
    let block = rest.split("```").nth(1).unwrap();
    let mut said: Vec<Said> = Vec::new();
    for line in block.lines().skip(1) {
        let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let words: Vec<&str> = line.split_whitespace().collect();
        let names = words.iter().take_while(|word| !is_byte(word)).count();
        if names > 0 {
            let [who, what] = [words[0], words[names - 1]].map(str::to_owned);
            said.push(Said { who, what, bytes: Vec::new() });
        }
        let bytes = words[names..].iter().map(|word| u8::from_str_radix(word, 16).unwrap());
        said.last_mut().unwrap().bytes.extend(bytes);
    }
    said
}

/// Cuts what one side wrote into preface and frames.
fn pieces(who: &str, mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while !bytes.is_empty() {
        let (what, len) = if bytes.starts_with(&PREFACE) {
            ("preface", PREFACE.len())
        } else {
            let what = match bytes[3] {
                kind::HELLO => "hello",
                kind::OPEN => "open",
                kind::ACCEPT => "accept",
                kind::ITEM => "item",
                kind::CREDIT => "credit",
                kind::COMPLETE => "complete",
                kind::DONE => "done",
                _ => "unexpected",
            };
            (what, 8 + usize::from(bytes[2]))
        };
        let (piece, rest) = bytes.split_at(len);
        said.push(Said { who: who.into(), what: what.into(), bytes: piece.into() });
        bytes = rest;
    }
    said
}

/// One end of the exchange: writes into the record, and hands on what the peer's bytes mean.
struct End {
    who: &'static str,
    outbound: Outbound,
    reader: Reader,
}

impl End {
    fn new(who: &'static str, role: Role, process: u64) -> Self {
        let config =
            MuxConfig { process: ProcessId(process), resume: false, ..config() }.checked().unwrap();
        Self { who, outbound: Outbound::new(role, &config), reader: Reader::of(role, &config) }
    }

    fn tell(&mut self, other: &mut End, record: &mut Vec<Said>) -> Vec<Event> {
        let bytes = written(&mut self.outbound);
        record.extend(pieces(self.who, &bytes));
        let mut events = other.reader.events(&bytes).unwrap();
        events.retain(|event| match event {
            Event::Hello(hello) => {
                other.outbound.on_hello(*hello);
                false
            }
            _ => true,
        });
        events
    }
}

/// The exchange of section 15, by the machines.
fn exchange() -> Vec<Said> {
    let mut record = Vec::new();
    let mut dialler = End::new("dialler", Role::Dialler, 1);
    let mut acceptor = End::new("acceptor", Role::Acceptor, 2);
    dialler.tell(&mut acceptor, &mut record);
    acceptor.tell(&mut dialler, &mut record);

    let mut open = Open::new(StreamId(0xABCD), "text/words/split", InstanceId(0x2A), WINDOW);
    open.headers.insert("content-type", "text/plain").unwrap();
    dialler.outbound.open(&open, &Bytes::from_static(b"hi")).unwrap();
    let mut consumer = Consumer::new(WINDOW);
    let events = dialler.tell(&mut acceptor, &mut record);
    assert!(matches!(&events[..], [Event::Opened(opened)] if opened.body == "hi"));

    let mut producer = Producer::new(WINDOW);
    producer.accept();
    producer.poll_frame(1, acceptor.outbound.outbox());
    producer.push("h".into()).unwrap();
    producer.push("i".into()).unwrap();
    producer.poll_frame(1, acceptor.outbound.outbox());
    for event in acceptor.tell(&mut dialler, &mut record) {
        match event {
            Event::Accept { stream: 1 } => consumer.on_accept().unwrap(),
            Event::Items { stream: 1, items } => consumer.on_items(items).unwrap(),
            event => panic!("{event:?}"),
        }
    }

    let mut items = ItemBatch::new();
    consumer.take(&mut items);
    assert!(items.by_ref().eq(["h", "i"]));
    consumer.take(&mut items);
    dialler.outbound.credit(1, consumer.credit_due().unwrap());
    let events = dialler.tell(&mut acceptor, &mut record);
    let [Event::Credit { stream: 1, credit }] = events[..] else { panic!("{events:?}") };
    producer.on_credit(credit).unwrap();
    assert_eq!(producer.kept(), 0);

    producer.finish(Terminal::Complete { items: 2 });
    producer.poll_frame(1, acceptor.outbound.outbox());
    for event in acceptor.tell(&mut dialler, &mut record) {
        let Event::Ended { stream: 1, terminal, items, facts } = event else { panic!("{event:?}") };
        consumer.on_terminal(terminal, items, facts).unwrap();
    }
    dialler.outbound.done(1);
    dialler.tell(&mut acceptor, &mut record);
    record
}

#[test]
fn the_exchange_in_the_specification_is_what_is_written() {
    let documented = documented("## 15.");
    let written = exchange();
    for (documented, written) in documented.iter().zip(&written) {
        assert_eq!((&documented.who, &documented.what), (&written.who, &written.what));
        assert_eq!(hex(&documented.bytes), hex(&written.bytes), "{}", written.what);
    }
    assert_eq!(documented.len(), written.len());
}

#[test]
fn an_exchange_is_written_as_ever() {
    let written = exchange();
    for who in ["dialler", "acceptor"] {
        let said = written.iter().filter(|said| said.who == who);
        let bytes: Vec<u8> = said.flat_map(|said| &said.bytes).copied().collect();
        compare(&format!("exchange_{who}"), &bytes);
    }
}
