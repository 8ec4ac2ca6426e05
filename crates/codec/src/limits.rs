//! Sizes that both ends of a connection must agree on, and the default bounds.

/// Bytes before the header part of a two-part frame: three big-endian `u64`.
pub const TWO_PART_PREFIX_BYTES: usize = 24;

/// Bytes before the payload of a node envelope: magic, version, message type, size.
pub const ENVELOPE_PREFIX_BYTES: usize = 12;

/// Default bound of one frame, prefix included: 32 MiB, the limit Dynamo's TCP plane uses, so that
/// each side accepts every message that the other may send. Layers above this crate split larger
/// bodies into chunks.
pub const DEFAULT_MAX_MESSAGE_SIZE: usize = 32 * 1024 * 1024;

/// Default bound of the header part: 64 KiB. Control headers have a few hundred bytes; this is also
/// the memory that a peer can make a process hold before it is authenticated. Dynamo peers may send
/// up to 128 KiB, so a codec for them raises the limit.
pub const DEFAULT_MAX_HEADER_SIZE: usize = 64 * 1024;

/// Step by which a decoder asks for room. One typical socket read; small enough that a declared
/// length which never arrives costs next to nothing.
const RESERVE_STEP_BYTES: usize = 64 * 1024;

/// With this much room left there is no need to ask. Asking after every short read would double the
/// capacity although the last request is still unused.
const ENOUGH_ROOM_BYTES: usize = 8 * 1024;

/// Makes room for the next read of a frame that still lacks `missing` bytes, and never more than
/// the larger of what has arrived and one step.
///
/// Doubling with the received bytes keeps the copying linear in the frame size. Capacity stays at
/// or under twice the received bytes plus a step, whatever length the prefix declared.
pub(crate) fn reserve_for(buffer: &mut bytes::BytesMut, missing: usize) {
    let room = buffer.capacity() - buffer.len();
    if room < missing.min(ENOUGH_ROOM_BYTES) {
        buffer.reserve(missing.min(buffer.len().max(RESERVE_STEP_BYTES)));
    }
}
