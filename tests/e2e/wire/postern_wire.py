"""A client of the wire in Python: sockets, ssl and the protobuf package only, written from docs/PROTOCOL.md.

It shows that another language can speak the protocol; it is not the C runtime's twin.
"""
import importlib
import os
import socket
import ssl
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
HELLO, WELCOME, CALL, REPLY, ITEM, CREDIT, CANCEL, PING, PONG, GOODBYE = range(1, 11)


def generate(folder):
    """protoc's Python code of every .proto into `folder`; the modules by name."""
    protos = [f"postern/v1/{p}" for p in os.listdir(f"{ROOT}/proto/postern/v1") if p.endswith(".proto")]
    subprocess.run(["protoc", f"--python_out={folder}", f"-I{ROOT}/proto", *protos], check=True, cwd=f"{ROOT}/proto")
    sys.path.insert(0, folder)
    return {os.path.basename(p)[:-6]: importlib.import_module(p[:-6].replace("/", ".") + "_pb2") for p in protos}


class WireError(Exception):
    def __init__(self, status, message, detail=None):
        super().__init__(f"{status}: {message}")
        self.status, self.detail = status, detail


class Connection:
    def __init__(self, url, token, pb, ca=None):
        self.pb, self.next_call = pb, 0
        scheme, _, rest = url.partition("://")
        if scheme == "ipc":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            host = host.strip("[]")
            self.socket = socket.create_connection((host, int(port)))
            if scheme == "tls+tcp":
                self.socket = ssl.create_default_context(cafile=ca).wrap_socket(self.socket, server_hostname=host)
        self.socket.settimeout(20)
        hello = pb["frame"].Hello(versions=[1], token=token, name="postern_wire.py")
        self.send(kind=HELLO, body=hello.SerializeToString())
        frame = self.receive()
        self.welcome = pb["frame"].Welcome.FromString(frame.body)

    def send(self, **fields):
        data = self.pb["frame"].Frame(**fields).SerializeToString()
        self.socket.sendall(struct.pack(">I", len(data)) + data)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise WireError(14, "the server closed the connection")
            data += more
        return data

    def receive(self):
        while True:
            frame = self.pb["frame"].Frame.FromString(self._exactly(struct.unpack(">I", self._exactly(4))[0]))
            if frame.kind == PING:
                self.send(kind=PONG)
            elif frame.kind == GOODBYE:
                raise WireError(frame.status, frame.message)
            elif frame.kind != PONG:
                return frame

    def start(self, method, request, deadline_ms=10000, credit=0):
        self.next_call += 1
        self.send(call=self.next_call, kind=CALL, method=f"postern.v1.{method}", deadline_ms=deadline_ms, credit=credit,
                  body=request.SerializeToString())
        return self.next_call

    def call(self, method, request, reply_type):
        number = self.start(method, request)
        frame = self.receive()
        assert frame.call == number and frame.kind == REPLY
        if frame.status:
            raise WireError(frame.status, frame.message, frame.detail)
        return reply_type.FromString(frame.body)

    def stream(self, method, request, item_type, window=4):
        """Yields items, one credit given back for each."""
        number = self.start(method, request, deadline_ms=0, credit=window)
        while True:
            frame = self.receive()
            assert frame.call == number
            if frame.kind == REPLY:
                if frame.status:
                    raise WireError(frame.status, frame.message, frame.detail)
                return
            yield item_type.FromString(frame.body)
            self.send(call=number, kind=CREDIT, credit=1)

    def close(self):
        self.socket.close()
