"""A gateway between two clients and a remote, in namespaces of its own; a program there, asked line by line over a pipe, above all
the one that holds the agent's datapath; and sockets on either side. The tests of this folder are its users: `main(globals())` runs
each for IPv4 and IPv6. Those of a whole agent have agent_lab.py besides.
"""
import contextlib
import errno
import ipaddress
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import uuid

import netns

PROGRAM = ""
PREFIX = "postern-e-%d" % os.getpid()
GATEWAY, CLIENT, OTHER, REMOTE = (PREFIX + "-" + n for n in ("g", "c", "o", "r"))
ADDR = {
    4: {CLIENT: "10.88.1.2", OTHER: "10.88.2.2", REMOTE: "10.88.9.2", GATEWAY: "10.88.9.1"},
    6: {CLIENT: "fd88:1::2", OTHER: "fd88:2::2", REMOTE: "fd88:9::2", GATEWAY: "fd88:9::1"},
}
# More addresses of the remote, and one of the gateway's on that side.
REMOTES = {4: ["10.88.9.%d" % n for n in range(2, 7)], 6: ["fd88:9::%d" % n for n in range(2, 7)]}
EXTERNAL = {4: "10.88.9.101", 6: "fd88:9::101"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
SOON = 1.0   # a connection that is allowed is made well within
LONG = 60000


def skip(why):
    print("skipped: " + why)
    sys.exit(77)


def pause(seconds):
    """Between two looks at a condition that sends no event: an nftables element's expiry sends none, nor does the kernel's
    collection of expired elements, about every second and only when no transaction comes between."""
    select.select([], [], [], seconds)


def wait_until(condition, what, deadline_s, pause_s=0.02):
    """`what` was waited for: a text, or what makes it once it is too late."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not within %g s: %s" % (deadline_s, what() if callable(what) else what))
        pause(pause_s)


# ---- the laboratory ----

def cable(name, net):
    near, far = "eth-" + name[-1], "eth0"
    netns.veth(GATEWAY, near, name, far)
    netns.ip(GATEWAY, ["addr add 10.88.%d.1/24 dev %s" % (net, near), "addr add fd88:%d::1/64 dev %s nodad" % (net, near),
                       "link set %s up" % near])
    netns.ip(name, ["addr add 10.88.%d.2/24 dev %s" % (net, far), "addr add fd88:%d::2/64 dev %s nodad" % (net, far),
                    "link set %s up" % far, "link set lo up", "route add default via 10.88.%d.1" % net])
    netns.ip(name, ["route add default via fd88:%d::1" % net], "6")


def build_lab():
    for name in (GATEWAY, CLIENT, OTHER, REMOTE):
        netns.add(name)
    cable(CLIENT, 1)
    cable(OTHER, 2)
    cable(REMOTE, 9)
    for v, bits in ((4, 24), (6, 64)):
        how = (" nodad" if v == 6 else "") + " preferred_lft 0"  # not the source of what names none
        netns.ip(REMOTE, ["addr add %s/%d dev eth0%s" % (address, bits, how) for address in REMOTES[v][1:]])
        netns.ip(GATEWAY, ["addr add %s/%d dev eth-r%s" % (EXTERNAL[v], bits, how)])
    netns.ip(GATEWAY, ["link set lo up"])
    netns.sysctl(GATEWAY, {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})


def warm_up():
    """Neighbours have found each other; afterwards a delay means something."""
    for v in (4, 6):
        with serving(v, [7999]):
            for name in (CLIENT, OTHER):
                wait_until(lambda: connects(v, 7999, name, 0.3), "%s reaches the remote over IPv%d" % (name, v), 20)


def remove_lab():
    for name in (GATEWAY, CLIENT, OTHER, REMOTE):
        netns.delete(name)


class Program:
    """A program in the gateway's namespace that is asked line by line; a line "." ends each of its answers."""

    def __init__(self, *arguments, log=None):
        with netns.inside(GATEWAY):
            self.process = subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            text=True, bufsize=1)

    def ask(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()
        answer = []
        for line in self.process.stdout:
            if line == ".\n":
                return answer
            answer.append(line.rstrip("\n"))
        raise AssertionError("the program ended")

    def hang_up(self):
        """False: it was ended before."""
        if self.process.stdin.closed:
            return False
        self.process.stdin.close()
        self.process.stdout.close()
        return True

    def close(self):
        if self.hang_up():
            assert self.process.wait(10) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.hang_up()


class Driver(Program):
    """The program that holds the agent's datapath."""

    def __init__(self, mode="enforce", priority=-10, boot="boot-1", renewal="auto"):
        super().__init__(mode, str(priority), boot, renewal)

    def apply(self, add=(), remove=(), renew=()):
        answer = self.ask("apply %d %d %d" % (len(add), len(remove), len(renew)), *add, *remove, *renew)
        assert answer[0].startswith("applied"), answer
        return {line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in answer[1:]}

    def doors(self):
        answer = self.ask("dump")
        assert answer[0].startswith("dumped"), answer
        doors = {}
        for line in answer[1:]:
            _, grant, client, remote, ports, kind, uses, timeout, nat, outside, counter, state, got = line.split()
            assert got == "got" or state != "whole", line
            first, last = ports.split("-")
            doors[grant] = {"client": client, "remote": remote, "port": int(first), "last": int(last), "kind": kind,
                            "uses": int(uses), "timeout": int(timeout), "counter": int(counter), "nat": nat,
                            "outside": outside, "state": state}
        return doors


def door(v, port, uses=1, kind="tcp", timeout=LONG, client=None, grant=None):
    return "%s %s %s %d %s %d %d" % (grant or uuid.uuid4(), ADDR[v][client or CLIENT], ADDR[v][REMOTE], port, kind, uses,
                                     timeout)


def any_door(origin, to, ports, uses=1, kind="tcp", timeout=LONG, nat="", grant=None):
    """`origin`: an address, a list of them, or "any"; `ports`: one or "first-last"; `nat`: "snat OUTSIDE", "dnat OUTSIDE"."""
    if isinstance(origin, list):
        origin = ",".join(sorted(origin, key=ipaddress.ip_address))
    return "%s %s %s %s %s %d %d %s" % (grant or uuid.uuid4(), origin, to, ports, kind, uses, timeout, nat)


def endpoint(address, port):
    return "[%s]:%d" % (address, port) if ":" in address else "%s:%d" % (address, port)


def grant_of(line):
    return line.split()[0]


def at_gateway(*argv, text=None):
    return netns.run(["ip", "netns", "exec", GATEWAY, *argv], text)


def nft(*argv, text=None):
    """The gateway's nft."""
    return at_gateway("nft", *argv, text=text)


def clear_gateway():
    nft("flush", "ruleset")
    at_gateway("conntrack", "-F")


@contextlib.contextmanager
def driver(**options):
    clear_gateway()
    one = Driver(**options)
    try:
        assert one.ask("install") == ["created"]
        yield one
    finally:
        one.close()


# ---- sockets ----

class Server(threading.Thread):
    """Accepts on many ports of the remote, or of another host; echoes, until closed."""

    def __init__(self, v, ports, name=REMOTE):
        super().__init__(daemon=True)
        self.listeners, self.accepted, self.open, self.peers = [], {p: 0 for p in ports}, [], []
        with netns.inside(name):
            for port in ports:
                s = socket.socket(FAMILY[v], socket.SOCK_STREAM)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((ADDR[v][name], port))
                s.listen(4096)
                s.setblocking(False)
                self.listeners.append(s)
        self.stop_read, self.stop_write = os.pipe()
        self.start()

    def run(self):
        poll = select.epoll()
        for s in self.listeners:
            poll.register(s, select.EPOLLIN)
        poll.register(self.stop_read, select.EPOLLIN)
        by_fd = {s.fileno(): s for s in self.listeners}
        conns = {}
        while True:
            for fd, _ in poll.poll():
                if fd == self.stop_read:
                    poll.close()
                    return
                if fd in by_fd:
                    conn, peer = by_fd[fd].accept()
                    self.peers.append(peer[:2])
                    self.accepted[by_fd[fd].getsockname()[1]] += 1
                    conns[conn.fileno()] = conn
                    self.open.append(conn)
                    poll.register(conn, select.EPOLLIN)
                    continue
                try:
                    data = conns[fd].recv(65536)
                except OSError:
                    data = b""
                if data:
                    conns[fd].sendall(data)
                else:
                    poll.unregister(fd)
                    conns.pop(fd).close()

    def has_accepted(self, wanted):
        wait_until(lambda: self.accepted == wanted, lambda: "accepted %s of %s" % (self.accepted, wanted), 2, 0.01)
        return True

    def close(self):
        os.write(self.stop_write, b"x")
        self.join()
        for s in self.listeners + self.open:
            s.close()
        os.close(self.stop_read)
        os.close(self.stop_write)


@contextlib.contextmanager
def serving(v, ports, name=REMOTE):
    server = Server(v, ports, name)
    try:
        yield server
    finally:
        server.close()


def start_connect(v, port, name=CLIENT, source=0, to=None, address=None):
    """To a port of the remote, or of `to`; from a port or an address when given."""
    with netns.inside(name):
        s = socket.socket(FAMILY[v], socket.SOCK_STREAM)
    if source or address:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address or ADDR[v][name], source))
    s.setblocking(False)
    assert s.connect_ex((to or ADDR[v][REMOTE], port)) in (0, errno.EINPROGRESS)
    return s


def await_connects(sockets, seconds):
    """The sockets that are connected within the time; every socket stays open."""
    poll = select.poll()
    by_fd = {s.fileno(): s for s in sockets}
    for fd in by_fd:
        poll.register(fd, select.POLLOUT)
    done, end = [], time.monotonic() + seconds
    while by_fd and time.monotonic() < end:
        for fd, _ in poll.poll(max(0, (end - time.monotonic()) * 1000)):
            poll.unregister(fd)
            s = by_fd.pop(fd)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                done.append(s)
    return done


def connects(v, port, name=CLIENT, seconds=SOON, to=None, address=None):
    s = start_connect(v, port, name, 0, to, address)
    # A reset leaves nothing behind on either side that a later connection from the same port could meet.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    try:
        return bool(await_connects([s], seconds))
    finally:
        s.close()


def syn_repeats(name):
    """How many SYNs this host has had to send again."""
    with netns.inside(name), open("/proc/thread-self/net/netstat") as counters:
        names, values = [line.split() for line in counters if line.startswith("TcpExt:")]
    return int(values[names.index("TCPSynRetrans")])


def echo(s, data):
    s.setblocking(True)
    s.settimeout(5)
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = s.recv(65536)
        assert piece, "connection closed"
        got += piece
    return got == data


def udp(v, name):
    with netns.inside(name):
        s = socket.socket(FAMILY[v], socket.SOCK_DGRAM)
    s.settimeout(SOON)
    return s


def receives(s, seconds=SOON):
    s.settimeout(seconds)
    try:
        return s.recvfrom(2048)
    except socket.timeout:
        return None


def main(names, sysctls=()):
    """Runs those functions of a test program whose names begin with test_; `names` are its globals(). `sysctls`: the gateway's."""
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv[1])
    if os.geteuid() != 0:
        skip("needs root, for network namespaces")
    try:
        build_lab()
    except (netns.NetnsError, FileNotFoundError) as error:
        remove_lab()
        skip("no network namespaces here: %s" % error)
    failed = 0
    try:
        netns.sysctl(GATEWAY, dict(sysctls))
        warm_up()
        with netns.inside(GATEWAY):
            probe = subprocess.run(["nft", "add table inet p; add chain inet p c; add rule inet p c "
                                    "jhash ip saddr mod 2 seed 1 == 0 ct mark set 1; delete table inet p"],
                                   capture_output=True, text=True)
        if probe.returncode != 0:
            skip("the kernel has no nf_tables with jhash: " + probe.stderr.strip())
        for test in [value for name, value in names.items() if name.startswith("test_")]:
            for v in (4, 6):
                if len(sys.argv) > 2 and test.__name__ not in sys.argv[2:]:
                    continue
                began = time.monotonic()
                try:
                    test(v)
                    result = "ok"
                except Exception as error:  # one failure must not hide the others
                    failed += 1
                    result = "FAILED: %s: %s" % (type(error).__name__, error)
                    traceback.print_exc()
                print("%s IPv%d %.1fs: %s" % (test.__name__, v, time.monotonic() - began, result), flush=True)
    finally:
        remove_lab()
    return 1 if failed else 0
