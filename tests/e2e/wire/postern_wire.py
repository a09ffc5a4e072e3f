#!/usr/bin/python3
"""A client of the wire in Python: sockets, ssl and the protobuf package only, written from docs/PROTOCOL.md.

It shows that another language can speak the protocol; it is not the C runtime's twin. As a program:

    postern_wire.py [--server URL] [--token-file FILE] [--ca-file FILE] hello
    postern_wire.py ... call  Grants/Request '{"gateway": "gw1", "client": "10.77.1.2", ...}'
    postern_wire.py ... watch Events/Watch '{"cursor": 0}' [--count N]

Server, token and CA default to POSTERN_SERVER, POSTERN_TOKEN_FILE and POSTERN_CA_FILE. Requests and answers are JSON.
"""
import argparse
import importlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
HELLO, WELCOME, CALL, REPLY, ITEM, CREDIT, CANCEL, PING, PONG, GOODBYE = range(1, 11)


def generate(folder):
    """protoc's Python code of every .proto into `folder`; the modules by name."""
    protos = [f"postern/v1/{p}" for p in os.listdir(f"{ROOT}/proto/postern/v1") if p.endswith(".proto")]
    subprocess.run(["protoc", f"--python_out={folder}", f"-I{ROOT}/proto", *protos], check=True, cwd=f"{ROOT}/proto")
    sys.path.insert(0, folder)
    return {os.path.basename(p)[:-6]: importlib.import_module(p[:-6].replace("/", ".") + "_pb2") for p in protos}


def message_class(descriptor):
    """The class of a message by its descriptor, with old and new releases of the protobuf package."""
    from google.protobuf import message_factory
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory().GetPrototype(descriptor)


class WireError(Exception):
    """What a REPLY or GOODBYE said; status 14 (UNAVAILABLE) when the connection broke without a word."""

    def __init__(self, status, message, detail=None):
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.detail = status, message, detail


def open_stream(url, ca=None, timeout=20):
    """The byte stream of a URL: a connected socket, TLS included."""
    scheme, _, rest = url.partition("://")
    if scheme == "ipc":
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(timeout)
        stream.connect(rest)
        return stream
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    stream = socket.create_connection((host, int(port)), timeout=timeout)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if scheme == "tls+tcp":
        stream = ssl.create_default_context(cafile=ca).wrap_socket(stream, server_hostname=host)
    return stream


class Connection:
    """One connection, welcomed. Not for several threads at once."""

    def __init__(self, url, token, pb, ca=None, name="postern_wire.py"):
        self.pb, self.next_call, self.parked = pb, 0, {}
        self.patience = None  # when to give up waiting for a frame (monotonic); None = never
        self.socket = open_stream(url, ca)
        hello = pb["frame"].Hello(versions=[1], token=token, name=name)
        self.send(kind=HELLO, body=hello.SerializeToString())
        frame = self._receive()
        if frame.kind != WELCOME:
            raise WireError(13, f"the first frame is of kind {frame.kind}, not a WELCOME")
        self.welcome = pb["frame"].Welcome.FromString(frame.body)
        if self.welcome.version != 1:
            raise WireError(9, f"the server speaks version {self.welcome.version}")
        self.sent_at = time.monotonic()

    # ---- frames ----

    def send(self, **fields):
        data = self.pb["frame"].Frame(**fields).SerializeToString()
        self.socket.sendall(struct.pack(">I", len(data)) + data)
        self.sent_at = time.monotonic()

    def _exactly(self, size):
        data = bytearray()
        while len(data) < size:
            if self.patience is not None:
                self.socket.settimeout(min(20, max(0.001, self.patience - time.monotonic())))
            try:
                more = self.socket.recv(size - len(data))
            except (socket.timeout, TimeoutError):
                if data:
                    raise
                if self.patience is not None and time.monotonic() >= self.patience:
                    raise WireError(4, "nothing came in time") from None
                self.send(kind=PING)  # between frames: our heartbeat
                continue
            except OSError as error:
                raise WireError(14, f"the connection broke: {error}") from error
            if not more:
                raise WireError(14, "the server closed the connection")
            data += more
        return bytes(data)

    def _receive(self):
        """The next frame that is not about the connection itself."""
        while True:
            size = struct.unpack(">I", self._exactly(4))[0]
            frame = self.pb["frame"].Frame.FromString(self._exactly(size))
            if frame.kind == PING:
                self.send(kind=PONG)
            elif frame.kind == GOODBYE:
                self.close()
                raise WireError(frame.status, frame.message)
            elif frame.kind != PONG:
                return frame

    def next_of(self, call):
        """The next frame of one call; frames of others wait for their turn."""
        while not self.parked.get(call):
            frame = self._receive()
            self.parked.setdefault(frame.call, []).append(frame)
        return self.parked[call].pop(0)

    # ---- calls ----

    def start(self, method, request, deadline_ms=10000, credit=0):
        self.next_call += 1
        self.send(call=self.next_call, kind=CALL, method=f"postern.v1.{method}", deadline_ms=deadline_ms, credit=credit,
                  body=request.SerializeToString())
        return self.next_call

    def finish(self, call, reply_type):
        """The answer to a call that start() began; calls may be finished in any order."""
        frame = self.next_of(call)
        self.parked.pop(call, None)
        if frame.kind != REPLY:
            raise WireError(13, f"a frame of kind {frame.kind} where a REPLY was due")
        if frame.status:
            raise WireError(frame.status, frame.message, frame.detail)
        return reply_type.FromString(frame.body)

    def call(self, method, request, reply_type, deadline_ms=10000):
        return self.finish(self.start(method, request, deadline_ms), reply_type)

    def stream(self, method, request, item_type, window=4):
        """Yields items, one credit given back for each. Closing the generator cancels the call."""
        call = self.start(method, request, deadline_ms=0, credit=window)
        over = False
        try:
            while True:
                frame = self.next_of(call)
                if frame.kind == REPLY:
                    over = True
                    if frame.status:
                        raise WireError(frame.status, frame.message, frame.detail)
                    return
                yield item_type.FromString(frame.body)
                self.send(call=call, kind=CREDIT, credit=1)
        finally:
            if not over and self.socket:
                self.send(call=call, kind=CANCEL)
                while self.next_of(call).kind != REPLY:
                    pass
            self.parked.pop(call, None)

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None


# ---- as a program ----

def find_method(pb, path):
    """Request and reply classes of "Grants/Request"."""
    service_name, _, method_name = path.partition("/")
    for module in pb.values():
        service = module.DESCRIPTOR.services_by_name.get(service_name)
        method = service and service.methods_by_name.get(method_name)
        if method:
            return message_class(method.input_type), message_class(method.output_type)
    raise SystemExit(f"{path}: no such method: write Service/Method")


def connect(options, pb):
    if not options.server or not options.token_file:
        raise SystemExit("give --server and --token-file, or POSTERN_SERVER and POSTERN_TOKEN_FILE")
    with open(options.token_file, encoding="ascii") as file:
        return Connection(options.server, file.read().strip(), pb, options.ca_file)


def parse_options():
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=env("POSTERN_SERVER"))
    parser.add_argument("--token-file", default=env("POSTERN_TOKEN_FILE"))
    parser.add_argument("--ca-file", default=env("POSTERN_CA_FILE"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("hello")
    for verb in ("call", "watch"):
        sub = verbs.add_parser(verb)
        sub.add_argument("method")
        sub.add_argument("request", nargs="?", default="{}")
    verbs.choices["call"].add_argument("--deadline-ms", type=int, default=10000)
    verbs.choices["watch"].add_argument("--count", type=int, default=0)
    return parser.parse_args()


def run(options, pb):
    from google.protobuf import json_format

    def show(message):
        print(json_format.MessageToJson(message, indent=None, preserving_proto_field_name=True), flush=True)

    connection = connect(options, pb)
    if options.verb == "hello":
        show(connection.welcome)
        return
    request_class, reply_class = find_method(pb, options.method)
    request = json_format.Parse(options.request, request_class())
    if options.verb == "call":
        show(connection.call(options.method, request, reply_class, options.deadline_ms))
        return
    items = connection.stream(options.method, request, reply_class)
    for count, item in enumerate(items, 1):
        show(item)
        if count == options.count:
            break
    items.close()


def main():
    options = parse_options()
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(options, generate(folder))
        except WireError as error:
            detail = f" ({' '.join(str(error.detail).split())})" if error.detail else ""
            print(f"status {error}{detail}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
