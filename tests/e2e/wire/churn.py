#!/usr/bin/python3
"""Peers that behave badly, thousands of them: for a server that must have nothing left of them afterwards.

    churn.py URL CA_FILE TOKEN_FILE PEERS

Each peer is of one kind, in turn: it vanishes mid-frame (closed or reset), sends garbage, zeros or a wrong token and does not
wait for the answer, breaks off its TLS handshake or never begins it, says nothing, begins calls and streams and vanishes under
them, or floods the server and never reads. Prints how many of each were made. Only standard library: it shares no code with
what it tests.
"""
import random
import socket
import ssl
import struct
import sys
import time

FLOODS = 4  # of the kind that never reads: each makes the server fill a whole queue


def frame(*parts):
    data = b"".join(parts)
    return struct.pack(">I", len(data)) + data


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def number(field, value):
    return bytes([field << 3]) + varint(value)


def blob(field, data):
    return bytes([field << 3 | 2]) + varint(len(data)) + data


def hello(token):
    return frame(number(2, 1), blob(9, blob(1, b"\x01") + blob(2, token) + blob(3, b"churn")))


def call(call_id, method, credit=0, body=b""):
    return frame(number(1, call_id), number(2, 3), blob(3, method), number(5, credit), blob(9, body))


class Churn:
    def __init__(self, url, ca, token):
        scheme, _, self.place = url.partition("://")
        self.is_ipc, self.is_tls = scheme == "ipc", scheme == "tls+tcp"
        self.token = token
        self.context = ssl.create_default_context(cafile=ca) if self.is_tls else None
        self.held, self.made = [], {}

    def raw(self):
        if self.is_ipc:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(10)
            stream.connect(self.place)
            return stream
        host, _, port = self.place.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=10)

    def open(self):
        stream = self.raw()
        if self.is_tls:
            host = self.place.rpartition(":")[0].strip("[]")
            stream = self.context.wrap_socket(stream, server_hostname=host)
        return stream

    def hold(self, stream):
        """Keeps a peer for a while, but not all of them."""
        self.held.append(stream)
        if len(self.held) > 50:
            self.held.pop(0).close()

    @staticmethod
    def reset(stream):
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()

    # ---- kinds ----

    def vanishes_mid_frame(self):
        stream = self.open()
        stream.sendall(struct.pack(">I", 500) + b"half a frame")
        stream.close()

    def resets_mid_frame(self):
        stream = self.open()
        stream.sendall(struct.pack(">I", 500) + b"half a frame")
        self.reset(stream)

    def sends_garbage(self):
        stream = self.open()
        stream.sendall(random.randbytes(200))
        stream.close()

    def sends_zeros(self):
        stream = self.open()
        stream.sendall(bytes(64))
        self.hold(stream)

    def has_a_wrong_token(self):
        stream = self.open()
        stream.sendall(hello(b"wrong"))
        stream.close()

    def says_nothing(self):
        self.hold(self.raw())

    def says_nothing_under_tls(self):
        self.hold(self.open())

    def breaks_off_the_handshake(self):
        stream = self.raw()
        stream.sendall(bytes.fromhex("16030100c8010000c4"))
        stream.close()

    def never_ends_the_handshake(self):
        stream = self.raw()
        stream.sendall(bytes.fromhex("16030100c8010000c4"))
        self.hold(stream)

    def vanishes_under_its_calls(self):
        stream = self.open()
        stream.sendall(hello(self.token) + call(1, b"postern.v1.Grants/List", 1) + call(2, b"postern.v1.Events/Watch", 3) +
                       call(3, b"postern.v1.Nothing/There"))
        stream.close()

    def resets_under_its_calls(self):
        stream = self.open()
        stream.sendall(hello(self.token) + call(1, b"postern.v1.Events/Watch", 1000))
        stream.recv(1)
        self.reset(stream)

    def never_reads(self):
        """Until the server has had enough: its answers to our PINGs fill its queue."""
        stream = self.open()
        stream.sendall(hello(self.token))
        pings = frame(number(2, 8)) * 10000
        end = time.monotonic() + 10
        try:
            while time.monotonic() < end:
                stream.sendall(pings)
        except OSError:
            stream.close()
            return
        stream.close()
        raise SystemExit("a peer that never reads was let live for 10 s")

    def run(self, peers):
        kinds = [self.vanishes_mid_frame, self.resets_mid_frame, self.sends_garbage, self.sends_zeros, self.has_a_wrong_token,
                 self.says_nothing, self.vanishes_under_its_calls, self.resets_under_its_calls]
        if self.is_tls:
            kinds += [self.says_nothing_under_tls, self.breaks_off_the_handshake, self.never_ends_the_handshake]
        for i in range(peers):
            kind = self.never_reads if i < FLOODS else kinds[i % len(kinds)]
            try:
                kind()
            except OSError:
                pass  # the server was faster
            self.made[kind.__name__] = self.made.get(kind.__name__, 0) + 1
        for stream in self.held:
            stream.close()


def main():
    url, ca, token_file, peers = sys.argv[1:]
    random.seed(7)
    with open(token_file, encoding="ascii") as file:
        token = file.read().strip().encode()
    churn = Churn(url, ca, token)
    churn.run(int(peers))
    print(" ".join(f"{name}={count}" for name, count in sorted(churn.made.items())))


if __name__ == "__main__":
    main()
