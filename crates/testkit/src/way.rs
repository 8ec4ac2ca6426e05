//! The way between a server and its clients, which a case can break.

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Both ends read the end of the connection. Over TCP: FIN.
    Fin,
    /// The connection breaks. Over TCP: RST, which may also take away what an end has not read yet.
    /// Over a Unix domain socket: it closes.
    Reset,
    /// Nothing passes any more, in either direction, and neither end is told. Each end finds that
    /// out by its keep-alive.
    Silence,
}

impl Cut {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Fin, Self::Reset, Self::Silence];
}

/// What stands between a server and its clients, and breaks their connections when it is told to.
///
/// [`CuttingProxy`](crate::CuttingProxy) is one for transports over TCP and Unix domain sockets.
pub trait Way: Send + Sync {
    /// Cuts each connection of this moment once it has passed `bytes` more to its client; with 0 at
    /// once. A connection that is [silent](Cut::Silence) already is cut at once.
    fn cut_after(&self, bytes: u64, how: Cut);

    /// Cuts the next connection that a client makes once it has passed `bytes` to it; with 0 before
    /// it has passed any.
    fn cut_next_after(&self, bytes: u64, how: Cut);

    /// From now on takes connections and passes nothing on them, until [`release`](Self::release).
    fn hold(&self);

    /// Passes on what the connections of the time since [`hold`](Self::hold) have to say.
    fn release(&self);

    /// How many connections clients have made, cut ones included.
    fn made(&self) -> u64;
}

impl dyn Way + '_ {
    /// Cuts all connections at once.
    pub fn cut(&self, how: Cut) {
        self.cut_after(0, how);
    }
}
