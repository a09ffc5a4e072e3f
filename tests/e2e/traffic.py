"""Real packets: sockets of the test's own process that live in the namespaces of the lab.

A socket belongs to the network it was made in, for ever; so a test enters a host's network, makes the socket, and is back. What
is refused is seen by silence, so refusals are tried side by side, QUIET_S in all.
"""
import ctypes
import os
import select
import socket
import time

QUIET_S = 0.3    # a first SYN or datagram crosses the lab in well under a millisecond
PATIENT_S = 5    # for what must arrive
SILENCE_S = 0.7  # of a connection that was cut: TCP sends again after 0.2 and 0.6 s


class WireHere:
    """This very process enters a host's network for a while."""

    def __init__(self, lab, host):
        self.path = f"/var/run/netns/{lab.namespace(host)}"

    def __enter__(self):
        self.back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(self.path)

    def __exit__(self, *_):
        self._setns(self.back)
        os.close(self.back)

    def _enter(self, path):
        fd = os.open(path, os.O_RDONLY)
        self._setns(fd)
        os.close(fd)

    @staticmethod
    def _setns(fd):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def readable(sockets, seconds):
    """Which of them can be read (or have ended) within that time; of any number."""
    poll, by_fd = select.poll(), {s.fileno(): s for s in sockets}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(max(0, seconds * 1000))]


def make_socket(lab, host, address, port, kind, reuse=True):
    """Bound to address and port, in a host's network."""
    with WireHere(lab, host):
        s = socket.socket(family_of(address), kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if reuse else 0)
    s.bind((address, port))
    return s


class Try:
    """One attempt to connect: from where, to where."""

    def __init__(self, host, source, address, port, source_port=0):
        self.host, self.source, self.address, self.port, self.source_port = host, source, address, port, source_port

    def __repr__(self):
        return f"{self.host} {self.source} → {self.address} port {self.port}"


def begin(lab, attempt):
    s = make_socket(lab, attempt.host, attempt.source, attempt.source_port, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((attempt.address, attempt.port))
    return s


def finish(sockets, seconds):
    """Which of the sockets are connected within that time: a list with None for the others, which are closed."""
    waiting, poll, result = {s.fileno(): i for i, s in enumerate(sockets)}, select.poll(), [None] * len(sockets)
    for s in sockets:
        poll.register(s, select.POLLOUT)
    end = time.monotonic() + seconds
    while waiting:
        ready = poll.poll(max(0, (end - time.monotonic()) * 1000))
        if not ready:
            break
        for fd, _ in ready:
            i = waiting.pop(fd)
            poll.unregister(fd)
            if sockets[i].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                result[i] = sockets[i]
    for s, connected in zip(sockets, result):
        if not connected:
            s.close()
    return result


class Pair:
    """The two ends of one TCP connection through the gateway."""

    def __init__(self, opener, acceptor, peer):
        self.opener, self.acceptor, self.peer, self.count = opener, acceptor, peer, 0
        for s in (opener, acceptor):
            s.setblocking(False)

    def _moves(self, a, b, seconds):
        self.count += 1
        token = b"<%d>" % self.count
        try:
            a.send(token)
            got, end = b"", time.monotonic() + seconds
            while token not in got:
                if not readable([b], end - time.monotonic()):
                    return False
                more = b.recv(65536)
                if not more:
                    return False
                got += more
        except OSError:
            return False
        return True

    def passes(self, seconds=PATIENT_S):
        """New bytes arrive, in both directions."""
        return self._moves(self.opener, self.acceptor, seconds) and self._moves(self.acceptor, self.opener, seconds)

    def is_silent(self, seconds=SILENCE_S):
        """See silent()."""
        try:
            silent([self], seconds)
        except AssertionError:
            return False
        return True

    def reset(self):
        self.opener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self):
        self.opener.close()
        self.acceptor.close()


def silent(pairs, seconds=SILENCE_S):
    """Asserts that what both ends of each connection write arrives nowhere within that time, however often TCP sends it again."""
    ends = [s for pair in pairs for s in (pair.opener, pair.acceptor)]
    for s in ends:
        try:
            while s.recv(65536):
                pass
        except OSError:
            pass
        try:
            s.send(b"<after the cut>")
        except OSError:
            pass
    limit = time.monotonic() + seconds
    while ends and (ready := readable(ends, limit - time.monotonic())):
        for s in ready:
            try:
                assert not s.recv(65536), f"a byte passed after the cut: {s}"
            except OSError:
                pass
            ends.remove(s)  # it knows that the connection is over


class Traffic:
    """What a lab can do with packets; a part of e2e.Bench."""

    def listen_at(self, host, address, port):
        """A TCP listener; the same one when asked again."""
        key = (host, address, port)
        if key not in self.listeners:
            s = make_socket(self, host, address, port, socket.SOCK_STREAM)
            s.listen(1024)
            s.setblocking(False)
            self.listeners[key] = s
        return self.listeners[key]

    def close_traffic(self):
        for s in self.listeners.values():
            s.close()
        self.listeners = {}

    @staticmethod
    def drain(s):
        """Forgets connections or datagrams that wait in a socket."""
        try:
            while True:
                if s.type == socket.SOCK_STREAM:
                    s.accept()[0].close()
                else:
                    s.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    def try_all(self, attempts, seconds=QUIET_S):
        """Side by side. The connected sockets, None where there was silence or refusal."""
        return finish([begin(self, a) for a in attempts], seconds)

    def closed(self, *attempts, seconds=QUIET_S, why=""):
        """Asserts that none of the attempts is let through."""
        through = [a for a, s in zip(attempts, self.try_all(attempts, seconds)) if s]
        assert not through, f"let through: {through} {why}"

    def pair(self, attempt, listener, seconds=PATIENT_S, why=""):
        """Asserts that the attempt is let through to the listener, and returns both ends."""
        self.drain(listener)
        opener = self.try_all([attempt], seconds)[0]
        assert opener, f"not let through: {attempt} {why}"
        assert readable([listener], PATIENT_S), f"the connection of {attempt} arrived elsewhere"
        acceptor, peer = listener.accept()
        return Pair(opener, acceptor, peer[:2])

    def udp(self, host, address, port=0):
        return make_socket(self, host, address, port, socket.SOCK_DGRAM, reuse=False)

    def datagram(self, sender, to, receiver, seconds=PATIENT_S):
        """Sends one and returns whom the receiver saw it come from; None when it did not come."""
        self.token += 1
        token = b"<%d>" % self.token
        try:
            sender.sendto(token, to)
        except OSError:
            return None  # an ICMP error for an earlier datagram is an answer too
        end = time.monotonic() + seconds
        while readable([receiver], end - time.monotonic()):
            try:
                data, source = receiver.recvfrom(65536)
            except OSError:
                continue
            if data == token:
                return source[:2]
        return None

    def race(self, attempts, processes=2, seconds=1, during=None):
        """All attempts at the same moment, dealt out to several processes (and so CPUs); how many were let through. `during` is
        called meanwhile. Those let through stay connected until all have tried."""
        gate_out, gate_in = os.pipe()
        pipes, children = [], []
        for n in range(processes):
            out, into = os.pipe()
            pid = os.fork()
            if pid == 0:
                count = 0
                try:
                    os.close(gate_in)
                    sockets = [make_socket(self, a.host, a.source, a.source_port, socket.SOCK_STREAM) for a in attempts[n::processes]]
                    os.write(into, b"r")
                    os.read(gate_out, 1)  # ends when the gate is closed
                    for s, a in zip(sockets, attempts[n::processes]):
                        s.setblocking(False)
                        s.connect_ex((a.address, a.port))
                    count = sum(1 for s in finish(sockets, seconds) if s)
                    os.write(into, b"%d." % count)
                finally:
                    os._exit(0)
            os.close(into)
            pipes.append(out)
            children.append(pid)
        os.close(gate_out)
        for out in pipes:
            os.read(out, 1)
        os.close(gate_in)
        if during:
            during()
        total = 0
        for out, pid in zip(pipes, children):
            text = b""
            while not text.endswith(b"."):
                more = os.read(out, 64)
                assert more, "a racing process died"
                text += more
            total += int(text[:-1])
            os.close(out)
            os.waitpid(pid, 0)
        return total
