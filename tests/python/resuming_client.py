#!/usr/bin/env python3
"""Calls a Sinew worker and resumes the response after each lost connection.

Written from docs/protocol.md alone, with the standard library; the numbers in comments are its
sections. It makes one request and prints each item as a line of hexadecimal digits. The last line on
standard error is a JSON object: how the stream ended, and how often it was attached.

    resuming_client.py HOST:PORT NAMESPACE/COMPONENT/ENDPOINT INSTANCE BODY [--cancel-after ITEMS]

INSTANCE is hexadecimal. The exit code is 0 if the stream is complete, 1 if it ended in another way.
"""

import argparse
import json
import secrets
import socket
import struct
import sys
import time

PREFACE = bytes.fromhex("ff534e4557ff0d0a")
HELLO, OPEN, ACCEPT, ITEM, ITEM_BEGIN, CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
COMPLETE, FAILED, CANCELLED, REJECT, CREDIT, ATTACH = 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C
CANCEL, DONE, GRANT, PING, PONG, GOAWAY = 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12
HEAD, CHECKPOINT = 0x13, 0x14

RESUME = 1  # capability bit 0 (3)
RESUME_EXPIRED = 407  # (13)
EXECUTED_NO = 0
MAX_FRAME = 132_155  # (2)
MAX_ITEM = 32 << 20

WINDOW_ITEMS = 64
WINDOW_BYTES = 64 << 10
GRACE = 20.0  # how long one loss is worked on (8)
PING_AFTER, DEAD_AFTER = 1.0, 3.0  # keep-alive (10), shorter than its defaults
DIAL_LIMIT = 2.0
PAUSE = 0.02


class Lost(Exception):
    """The connection is gone; the stream may be attached over another one."""


class Violation(Exception):
    """The worker broke the protocol."""


class Ended(Exception):
    """The stream has its terminal, or none will come: a word, and what was said with it."""

    def __init__(self, outcome, **told):
        super().__init__(outcome)
        self.outcome, self.told = outcome, told


def header(kind, stream, length):
    return struct.pack(">I", length)[1:] + struct.pack(">BI", kind, stream)


class Connection:
    """One connection, greeted: frames in, frames out."""

    def __init__(self, place, process):
        try:
            self.socket = socket.create_connection(place, DIAL_LIMIT)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.received = bytearray()
            self.heard = time.monotonic()
            self.pinged = False
            self.send_raw(PREFACE + self.hello(process))
            # Nothing else is sent before the worker's hello (3).
            self.need(len(PREFACE))
            if self.take(len(PREFACE)) != PREFACE:
                raise Violation("this is not the preface of a Sinew worker")
            self.settings = self.read_hello()
        except OSError as error:
            raise Lost(str(error)) from error

    @staticmethod
    def hello(process):
        payload = struct.pack(">BB", 1, 1)
        for key, value in (
            (1, struct.pack(">Q", process)),
            (3, struct.pack(">I", MAX_ITEM)),
            (6, struct.pack(">Q", RESUME)),
        ):
            payload += struct.pack(">HH", key, len(value)) + value
        return header(HELLO, 0, len(payload)) + payload

    def read_hello(self):
        kind, _, payload = self.frame()
        if kind != HELLO:
            raise Violation("the first frame is no hello")
        oldest, newest = payload[0], payload[1]
        if not oldest <= 1 <= newest:
            raise Violation(f"it speaks versions {oldest} to {newest}, and not 1")
        entries, at = {}, 2
        while at < len(payload):
            key, length = struct.unpack_from(">HH", payload, at)
            entries[key] = payload[at + 4 : at + 4 + length]
            at += 4 + length
        if any(entries.get(5, b"\0")[:1]):
            # A check is XXH3-64, which the standard library does not have (2).
            raise Violation("it wants checks, which this client does not compute")
        number = lambda key: int.from_bytes(entries.get(key, b""), "big")
        return {"process": number(1), "capabilities": number(6)}

    def send_raw(self, data):
        try:
            self.socket.settimeout(DEAD_AFTER)
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from error

    def send(self, kind, stream, payload=b""):
        self.send_raw(header(kind, stream, len(payload)) + payload)

    def need(self, count):
        """Reads until `count` bytes are there. Silence is asked about, and then is a loss (10)."""
        while len(self.received) < count:
            silence = time.monotonic() - self.heard
            if silence >= DEAD_AFTER:
                raise Lost("silence")
            if silence >= PING_AFTER and not self.pinged:
                self.pinged = True
                self.send(PING, 0, secrets.token_bytes(8))
            limit = DEAD_AFTER if self.pinged else PING_AFTER
            try:
                self.socket.settimeout(max(limit - silence, 0.001))
                data = self.socket.recv(65_536)
            except TimeoutError:
                continue
            except OSError as error:
                raise Lost(str(error)) from error
            if not data:
                raise Lost("the worker closed the connection")
            self.received += data
            self.heard, self.pinged = time.monotonic(), False

    def take(self, count):
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def frame(self):
        self.need(8)
        length = int.from_bytes(self.received[:3], "big")
        if length > MAX_FRAME:
            raise Violation(f"a frame of {length} bytes")
        self.need(8 + length)
        kind, stream = struct.unpack_from(">BI", self.received, 3)
        return kind, stream, self.take(8 + length)[8:]

    def close(self):
        self.socket.close()


class Stream:
    """The consumer's end of one response, over as many connections as it takes."""

    # It opens or attaches one stream on each connection, which is therefore always the first (4).
    NUMBER = 1

    def __init__(self, place, endpoint, instance, body, cancel_after=None):
        self.place, self.endpoint, self.instance, self.body = place, endpoint, instance, body
        self.cancel_after = cancel_after
        self.process = secrets.randbits(64) or 1
        self.new_identity()
        self.worker = None
        self.connection = None
        self.consumed = 0  # items that are printed, which is also the number of the next one
        self.attaches = 0
        self.alone_since = None  # when the connection was lost, until the stream is heard of again

    def new_identity(self):
        # Both are all that an attach proves, so nobody must guess them (8).
        self.id, self.secret = secrets.token_bytes(16), secrets.token_bytes(8)
        self.counter = 0
        self.opened = False

    def credit(self):
        return struct.pack(">QII", self.consumed, WINDOW_ITEMS, WINDOW_BYTES)

    def open(self):
        endpoint = self.endpoint.encode()
        payload = self.id + self.secret + struct.pack(
            ">QQIIIIHB",
            self.instance,
            2**64 - 1,  # no deadline
            WINDOW_ITEMS,
            WINDOW_BYTES,
            len(self.body),
            0,  # no headers
            len(endpoint),
            0,  # the first attempt
        )
        self.opened = True
        self.connection.send(OPEN, self.NUMBER, payload + endpoint + self.body)

    def attach(self):
        self.counter += 1
        self.attaches += 1
        payload = self.id + self.secret + struct.pack(">IQ", self.counter, self.consumed)
        origin = struct.pack(">Q", 0)  # this process has opened the stream
        self.connection.send(ATTACH, self.NUMBER, payload + self.credit() + origin)

    def connect(self):
        """A connection to the same process, or the end of the stream."""
        while True:
            try:
                self.connection = Connection(self.place, self.process)
                break
            except Lost as lost:
                self.lost(lost)
        settings = self.connection.settings
        if not settings["capabilities"] & RESUME:
            raise Violation("it does not announce that it resumes")
        if self.opened and settings["process"] != self.worker:
            # Another process has none of the streams of the one before.
            raise self.truncated("another process answers")
        self.worker = settings["process"]

    def lost(self, why):
        """Pauses between two tries, and gives up when none has brought anything within the grace."""
        now = time.monotonic()
        if self.alone_since is None:
            self.alone_since = now  # the first try is made at once
        elif now - self.alone_since >= GRACE:
            raise self.truncated(str(why))
        else:
            time.sleep(PAUSE)

    def truncated(self, why):
        return Ended("truncated", received=self.consumed, why=why)

    def run(self, on_item):
        try:
            while True:
                self.connect()
                try:
                    self.attach() if self.opened else self.open()
                    self.read(on_item)
                except Lost as lost:
                    self.connection.close()
                    self.lost(lost)
        except Ended as ended:
            if ended.outcome in ("complete", "failed", "cancelled"):
                self.say_done()
            return ended

    def say_done(self):
        # It lets the worker forget the stream; without it the worker does so after its grace (7).
        try:
            self.connection.send(DONE, 0, struct.pack(">I", self.NUMBER))
            self.connection.socket.shutdown(socket.SHUT_WR)
        except (Lost, OSError):
            pass

    def read(self, on_item):
        """Reads frames until the stream ends or the connection is lost."""
        partial, missing = bytearray(), None  # an item that is under way
        granted = self.consumed, 0  # items when credit was last given, bytes since
        if self.wants_cancel():
            self.cancel()  # one that was sent before the attach may be lost (8)
        while True:
            kind, stream, payload = self.connection.frame()
            if kind == PING:
                self.connection.send(PONG, 0, payload[:8])
                continue
            if kind == GOAWAY:
                # No further stream is opened here. A violation comes with it too, and ends the
                # connection (11): such a stream has no better end on another one.
                code, = struct.unpack_from(">H", payload, 4)
                if 200 <= code < 300:
                    raise Violation(f"the worker refuses this connection with {code}")
                continue
            if kind in (PONG, GRANT, HELLO) or kind & 0x80 or stream != self.NUMBER:
                continue
            self.alone_since = None
            item = None
            if kind == ITEM:
                item = payload
            elif kind == ITEM_BEGIN:
                missing = int.from_bytes(payload[:4], "big")
                partial = bytearray(payload[4:])
            elif kind == CHUNK:
                partial += payload
                if len(partial) == missing:
                    item, missing = bytes(partial), None
            elif kind in (COMPLETE, FAILED, CANCELLED, REJECT):
                self.end(kind, payload)
                return
            elif kind not in (ACCEPT, HEAD, CHECKPOINT):
                raise Violation(f"a frame of kind {kind:#x}")
            if item is None:
                continue
            on_item(item)
            self.consumed += 1
            if self.consumed == self.cancel_after:
                self.cancel()
            items, count = granted[0], granted[1] + len(item)
            if self.consumed - items >= WINDOW_ITEMS // 2 or count >= WINDOW_BYTES // 2:
                self.connection.send(CREDIT, self.NUMBER, self.credit())
                granted = self.consumed, 0
            else:
                granted = items, count

    def wants_cancel(self):
        return self.cancel_after is not None and self.consumed >= self.cancel_after

    def cancel(self):
        self.connection.send(CANCEL, self.NUMBER, struct.pack(">BB", 2, 1))

    def end(self, kind, payload):
        if kind == REJECT:
            code, = struct.unpack_from(">H", payload)
            raise Ended("rejected", code=code)
        items, = struct.unpack_from(">Q", payload)
        if items != self.consumed:
            raise Violation(f"a terminal of {items} items behind {self.consumed}")
        if kind == COMPLETE:
            raise Ended("complete")
        if kind == CANCELLED:
            raise Ended("cancelled", reason=payload[8])
        code, executed = struct.unpack_from(">HB", payload, 8)
        if code == RESUME_EXPIRED and self.counter:
            if executed == EXECUTED_NO and items == 0:
                # The open has not arrived and never will under this id: the request is sent anew.
                self.new_identity()
                raise Lost("the open was lost")
            raise self.truncated("the worker does not have the stream any more")
        raise Ended("failed", code=code)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", metavar="HOST:PORT")
    parser.add_argument("endpoint")
    parser.add_argument("instance", type=lambda text: int(text, 16))
    parser.add_argument("body")
    parser.add_argument("--cancel-after", type=int)
    asked = parser.parse_args()
    host, port = asked.place.rsplit(":", 1)
    stream = Stream(
        (host, int(port)), asked.endpoint, asked.instance, asked.body.encode(), asked.cancel_after
    )
    ended = stream.run(lambda item: print(item.hex(), flush=True))
    told = {"outcome": ended.outcome, "items": stream.consumed, "attaches": stream.attaches}
    print(json.dumps(told | ended.told), file=sys.stderr)
    return 0 if ended.outcome == "complete" else 1


if __name__ == "__main__":
    sys.exit(main())
