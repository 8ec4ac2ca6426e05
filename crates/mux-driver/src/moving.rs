//! Moves running streams to another way to their process, while their connection is up.

use std::sync::Arc;

use sinew_plane::{Address, Code, Error, ProcessId, ResumeReason, Way, clock};

use crate::{
    MuxTransport,
    connection::{Call, Connection, Tasks},
    resume::move_all,
};

/// Moves one stream.
pub(crate) async fn move_call(call: Arc<Call>, way: Way) -> Result<(), Error> {
    let from = call.connection();
    let process = from.peer().map(|hello| hello.process);
    let to = connect(from.driver(), process, &way).await?;
    if call.move_to(&to.0, clock::now()) {
        call_left(&from);
        to.tasks().moved(1, ResumeReason::Moved);
        return Ok(());
    }
    let message = "the stream has ended, or its handler is not known to have begun";
    Err(Error::new(Code::NoTransport, message))
}

fn call_left(from: &crate::connection::MuxConnection) {
    from.driver().room.notify_waiters();
}

impl MuxTransport {
    /// Moves up to `most` streams of all connections to an address.
    pub(crate) async fn move_from(
        &self,
        from: &Address,
        to: &Way,
        most: usize,
    ) -> Result<usize, Error> {
        let mut moved = 0;
        for connection in self.connections_to(from) {
            if moved >= most || connection.active_streams() == 0 {
                continue;
            }
            let process = connection.peer().map(|hello| hello.process);
            let to = connect(connection.tasks(), process, to).await?;
            moved += move_all(&connection.0, &to, most - moved, ResumeReason::Moved);
        }
        Ok(moved)
    }
}

/// A connection over this way, which has to lead to that process and to speak for the same caller.
async fn connect(from: &Tasks, process: Option<ProcessId>, way: &Way) -> Result<Connection, Error> {
    let carrier = way.transport.carrier_of_streams();
    let mux = carrier.and_then(|it| it.downcast_ref::<MuxTransport>());
    let Some(mux) = mux.filter(|it| it.own_process() == from.config.mux.process) else {
        let message = format!("{} carries no streams of the mux", way.transport.id());
        return Err(Error::new(Code::NoTransport, message));
    };
    let connection = mux.dialer(&way.address)?.connection().await?;
    if connection.peer().map(|hello| hello.process) != process {
        let message = format!("another process answers at {}", way.address);
        return Err(Error::new(Code::WrongPeer, message));
    }
    Ok(connection)
}
