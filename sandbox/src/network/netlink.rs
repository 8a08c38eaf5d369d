//! Netlink sockets, used synchronously: a request, its acknowledgement.

use std::{io, os::fd::AsRawFd, time::Duration};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
        NetlinkSerializable,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols},
};

/// The kernel answers at once; what takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Links, addresses, routes of the network namespace that the calling thread is in.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let patience = libc::timeval { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_usec: 0 };
        // SAFETY: the structure lives until the call returns.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&patience as *const libc::timeval).cast(),
                size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, sequence: 0 })
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// One change, acknowledged.
    pub(super) fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let sequence = self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.acknowledged(&[sequence])
    }

    /// All objects of a kind.
    pub(super) fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let sequence = self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let (buffer, _) = self.socket.recv_from_full()?;
            for message in messages::<RouteNetlinkMessage>(&buffer) {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// One object.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let sequence = self.send(message, NLM_F_REQUEST)?;
        loop {
            let (buffer, _) = self.socket.recv_from_full()?;
            for message in messages::<RouteNetlinkMessage>(&buffer) {
                let message = message?;
                match message.payload {
                    _ if message.header.sequence_number != sequence => {}
                    NetlinkPayload::InnerMessage(inner) => return Ok(inner),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    fn send<M: NetlinkSerializable>(&mut self, message: M, flags: u16) -> io::Result<u32>
    where
        NetlinkPayload<M>: From<M>,
    {
        let sequence = self.next_sequence();
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        Ok(sequence)
    }

    /// Sends ready-made messages and waits for the acknowledgement of those whose numbers are given.
    pub(super) fn send_raw(&mut self, bytes: &[u8], sequences: &[u32]) -> io::Result<()> {
        self.socket.send(bytes, 0)?;
        self.acknowledged(sequences)
    }

    /// All objects that a ready-made dump request asks for: what follows the header of each message.
    pub(super) fn dump_raw(&mut self, bytes: &[u8], sequence: u32) -> io::Result<Vec<Vec<u8>>> {
        self.socket.send(bytes, 0)?;
        let mut found = Vec::new();
        loop {
            let (buffer, _) = self.socket.recv_from_full()?;
            for message in messages::<Bytes>(&buffer) {
                let message = message?;
                match message.payload {
                    _ if message.header.sequence_number != sequence => {}
                    NetlinkPayload::InnerMessage(Bytes(bytes)) => found.push(bytes),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// The first error counts, but all answers are read.
    fn acknowledged(&mut self, sequences: &[u32]) -> io::Result<()> {
        let mut waiting: Vec<u32> = sequences.to_vec();
        let mut result = Ok(());
        while !waiting.is_empty() {
            let (buffer, _) = self.socket.recv_from_full()?;
            for message in messages::<Ignored>(&buffer) {
                let message = message?;
                if let NetlinkPayload::Error(error) = message.payload {
                    let expected = waiting.iter().position(|s| *s == message.header.sequence_number);
                    if let Some(at) = expected {
                        waiting.remove(at);
                    }
                    if error.code.is_some() {
                        if result.is_ok() {
                            result = Err(error.to_io());
                        }
                        if expected.is_none() {
                            // The frame around a batch was refused: nothing else will come.
                            return result;
                        }
                    }
                }
            }
        }
        result
    }
}

/// A payload as it came.
struct Bytes(Vec<u8>);

impl NetlinkDeserializable for Bytes {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(payload.to_vec()))
    }
}

/// A payload that nobody reads.
#[derive(Debug)]
struct Ignored;

impl NetlinkDeserializable for Ignored {
    type Error = std::convert::Infallible;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self)
    }
}

fn messages<M: NetlinkDeserializable>(buffer: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<M>>> + '_ {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        if length < 16 || length > rest.len() {
            return None;
        }
        let message = NetlinkMessage::<M>::deserialize(&rest[..length]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    })
}
