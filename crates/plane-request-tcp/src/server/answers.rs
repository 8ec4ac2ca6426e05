//! Writes acknowledgements to the connection.

use std::io;

use sinew_codec::{TcpResponseCodec, TcpResponseMessage};
use sinew_dynamo_wire::acknowledgement::{self, MAX_ACK_BYTES};
use sinew_plane::Error;

use super::{Serving, closing::LINGER};

/// Acknowledgements gathered before they are written even though more requests have been read.
pub(super) const ANSWERS_BYTES: usize = 16 << 10;

impl Serving<'_> {
    pub(super) fn put_answer(&mut self, outcome: &Result<(), Error>) {
        let codec = TcpResponseCodec::new(MAX_ACK_BYTES);
        let message = TcpResponseMessage { data: acknowledgement::encode(outcome) };
        // An error's message has at most 4,096 bytes, so that it always fits.
        let _ = codec.encode_frame(&message, &mut self.answers);
    }

    pub(super) async fn write_answers(&mut self) -> io::Result<()> {
        let Self { plane, ending, .. } = self;
        while !self.answers.is_empty() {
            match self.write.try_write(&self.answers) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.meter.sent(written);
                    let _ = self.answers.split_to(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let patience = async {
                        let shutdown = async {
                            ending.cancelled().await;
                            tokio::time::sleep(LINGER).await;
                        };
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(plane.config.write_timeout) => {}
                            () = shutdown => {}
                        }
                    };
                    tokio::select! {
                        biased;
                        ready = self.write.writable() => ready?,
                        () = patience => {
                            let message = "the peer does not read its acknowledgements";
                            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
