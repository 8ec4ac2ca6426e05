//! A system that does not exist: an item stands between `<` and `>`, and `.` is the end.

use std::{
    collections::BTreeMap,
    task::{self, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_dynamo_wire::PayloadCodec;
use sinew_plane::{
    Code, Error, Headers, OutgoingRequest, ResponseSink, SinkTarget, Terminal, TransportId,
    TrySendError,
};
use sinew_split::{Content, Frame, ItemFormat, LateFrames, PeerCodec, PeerHeaders, PeerResponse};

/// The header that every request of the system has beside it.
pub(crate) const MARK: &str = "made-up";

/// Speaks with peers of the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MadeUpPeer {
    /// How often a response says that it is at its end. Once is right.
    pub(crate) ends: usize,
}

impl PeerCodec for MadeUpPeer {
    fn write_headers(&self, request: &OutgoingRequest) -> Result<PeerHeaders, Error> {
        if request.headers.get("unspeakable").is_some() {
            return Err(Error::new(Code::NoTransport, "there is no word for it"));
        }
        let mut beside = Headers::new();
        beside.insert(MARK, "1").unwrap();
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(PeerHeaders {
            format: ItemFormat { codec: PayloadCodec::Json, annotated: false },
            metadata: request.headers.iter().map(pair).collect(),
            beside,
        })
    }

    fn read_item(&self, _: ItemFormat, frame: &Bytes) -> Result<Frame, Error> {
        let is_final = frame == ".";
        let content = match &frame[..] {
            b"." => Content::Nothing,
            [b'<', .., b'>'] => Content::Item(frame.slice(1..frame.len() - 1)),
            other => return Err(Error::new(Code::Violation, other.escape_ascii().to_string())),
        };
        Ok(Frame { content, is_final })
    }

    fn transport(&self, plane: &TransportId) -> TransportId {
        TransportId::new(format!("made-up-{plane}"))
    }

    fn read_headers(
        &self,
        beside: &Headers,
        _: PayloadCodec,
        metadata: &BTreeMap<String, String>,
    ) -> Headers {
        let mut headers = beside.clone();
        for (name, value) in metadata {
            headers.insert(name, value).unwrap();
        }
        headers
    }

    fn item_sink(&self, response: PeerResponse) -> ResponseSink {
        let PeerResponse { sink, context, late, .. } = response;
        let target = MadeUpSink { open: Mutex::new(Some(sink)), late, ends: self.ends };
        ResponseSink::new(std::sync::Arc::new(target), context)
    }
}

struct MadeUpSink {
    open: Mutex<Option<ResponseSink>>,
    late: LateFrames,
    ends: usize,
}

impl SinkTarget for MadeUpSink {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.open.lock().as_mut().unwrap().poll_ready(cx)
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let frame = [b"<", &item[..], b">"].concat();
        match self.open.lock().as_mut().unwrap().try_send(frame.into()) {
            Err(TrySendError::Full(_)) => Err(TrySendError::Full(item)),
            sent => sent,
        }
    }

    fn head(&self, head: Headers) {
        self.open.lock().as_mut().unwrap().head(head).unwrap();
    }

    fn set_facts(&self, facts: Headers) {
        self.open.lock().as_mut().unwrap().set_facts(facts);
    }

    fn accept(&self) {
        self.open.lock().as_mut().unwrap().accept();
    }

    fn finish(&self, terminal: Terminal) {
        let Some(sink) = self.open.lock().take() else { return };
        match terminal {
            Terminal::Complete { .. } => self.late.send(sink, vec![".".into(); self.ends]),
            Terminal::Failed { error } => sink.fail(error),
            Terminal::Cancelled { reason } => sink.cancelled(reason),
        }
    }

    fn flush(&self) {
        if let Some(sink) = &*self.open.lock() {
            sink.flush();
        }
    }
}
