//! Packets as the kernel counts them for each socket, so that nobody else's are among them.

use anyhow::Result;

/// Packets sent so far, by both ends, over the open connections to `port` of this host.
///
/// # Errors
/// The system is not Linux, or its kernel does not tell (`CONFIG_INET_DIAG`).
#[cfg(target_os = "linux")]
pub(crate) fn sent(port: u16) -> Result<u64> {
    linux::sent(port)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn sent(_port: u16) -> Result<u64> {
    anyhow::bail!("packets per socket are counted on Linux only")
}

#[cfg(target_os = "linux")]
mod linux {
    //! The `sock_diag` family of netlink, which `ss` uses too. It needs no privilege.

    use anyhow::{Context, Result, bail, ensure};
    use netlink_packet_core::{
        NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    };
    use netlink_packet_sock_diag::{
        AF_INET, IPPROTO_TCP, SockDiagMessage,
        inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
    };
    use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

    pub(super) fn sent(port: u16) -> Result<u64> {
        let mut packets = 0;
        let mut ends = 0;
        for_each_connection(|connection| {
            let id = &connection.header.socket_id;
            let is_local = id.source_address.is_loopback() && id.destination_address.is_loopback();
            if is_local && (id.source_port == port || id.destination_port == port) {
                ends += 1;
                packets += packets_of(&connection)?;
            }
            Ok(())
        })
        .context("asking the kernel about our sockets (sock_diag of netlink)")?;
        ensure!(ends > 0 && ends % 2 == 0, "{ends} ends of connections to port {port}");
        Ok(packets)
    }

    fn packets_of(connection: &InetResponse) -> Result<u64> {
        let info = connection.nlas.iter().find_map(|nla| match nla {
            Nla::TcpInfo(info) => Some(info),
            _ => None,
        });
        Ok(info.context("a connection without its TCP_INFO")?.segs_out.into())
    }

    fn for_each_connection(mut each: impl FnMut(InetResponse) -> Result<()>) -> Result<()> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&request(), 0)?;
        loop {
            // A dump comes in several datagrams, and each holds several messages.
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
                let length = message.header.length as usize;
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(connection)) => {
                        each(*connection)?;
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => bail!("{error}"),
                    _ => {}
                }
                // Messages begin at multiples of four bytes.
                rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// All established connections over IPv4, with their TCP_INFO.
    fn request() -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let request = InetRequest {
            family: AF_INET,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED,
            socket_id: SocketId::new_v4(),
        };
        let payload = SockDiagMessage::InetRequest(request).into();
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn only_the_packets_of_the_port_are_counted() {
        let pair = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, address) = listener.accept().unwrap();
            assert_eq!(address, client.local_addr().unwrap());
            (listener.local_addr().unwrap().port(), client, server)
        };
        let (port, mut client, mut server) = pair();
        let (_other_port, mut other_client, mut other_server) = pair();
        let before = sent(port).unwrap();
        let mut byte = [0];
        for _ in 0..10 {
            other_client.write_all(b"x").unwrap();
            other_server.read_exact(&mut byte).unwrap();
        }
        assert_eq!(sent(port).unwrap(), before);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut byte).unwrap();
        // The byte, and perhaps its acknowledgement.
        assert!((1..=2).contains(&(sent(port).unwrap() - before)));
    }

    #[test]
    fn a_port_without_connections_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = sent(listener.local_addr().unwrap().port()).unwrap_err();
        assert!(error.to_string().starts_with("0 ends"), "{error}");
    }
}
