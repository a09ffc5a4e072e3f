"""The datapath with real packets: a gateway between two clients and a remote, IPv4 and IPv6 alike.

Defends I3 (every door closes by itself), I4 (exactly as many flows as granted) and I7 (a restart disturbs nobody).
usage: test_datapath.py DRIVER [TEST]...
"""
import contextlib
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid

import netns

DRIVER = ""
PREFIX = "postern-e-%d" % os.getpid()
GATEWAY, CLIENT, OTHER, REMOTE = (PREFIX + "-" + n for n in ("g", "c", "o", "r"))
ADDR = {
    4: {CLIENT: "10.88.1.2", OTHER: "10.88.2.2", REMOTE: "10.88.9.2"},
    6: {CLIENT: "fd88:1::2", OTHER: "fd88:2::2", REMOTE: "fd88:9::2"},
}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
SOON = 1.0   # a connection that is allowed is made well within
LONG = 60000


def skip(why):
    print("skipped: " + why)
    sys.exit(77)


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
    netns.sysctl(GATEWAY, {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})


def warm_up():
    """Neighbours have found each other; afterwards a delay means something."""
    for v in (4, 6):
        with serving(v, [7999]):
            for name in (CLIENT, OTHER):
                end = time.monotonic() + 20
                while not connects(v, 7999, name, 0.3):
                    assert time.monotonic() < end, "%s cannot reach the remote over IPv%d" % (name, v)


def remove_lab():
    for name in (GATEWAY, CLIENT, OTHER, REMOTE):
        netns.delete(name)


class Driver:
    """The program that holds the agent's datapath, in the gateway's namespace."""

    def __init__(self, mode="enforce", priority=-10, boot="boot-1"):
        with netns.inside(GATEWAY):
            self.process = subprocess.Popen([DRIVER, mode, str(priority), boot], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()
        answer = []
        for line in self.process.stdout:
            if line == ".\n":
                return answer
            answer.append(line.rstrip("\n"))
        raise AssertionError("the driver ended")

    def apply(self, add=(), remove=()):
        answer = self.ask("apply %d %d" % (len(add), len(remove)), *add, *remove)
        assert answer[0].startswith("applied"), answer
        return {line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in answer[1:]}

    def doors(self):
        answer = self.ask("dump")
        assert answer[0].startswith("dumped"), answer
        doors = {}
        for line in answer[1:]:
            _, grant, client, remote, port, kind, uses, timeout, counter, got = line.split()
            assert got == "got", line
            doors[grant] = {"client": client, "remote": remote, "port": int(port), "kind": kind, "uses": int(uses),
                            "timeout": int(timeout), "counter": int(counter)}
        return doors

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(10) == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def door(v, port, uses=1, kind="tcp", timeout=LONG, client=None, grant=None):
    return "%s %s %s %d %s %d %d" % (grant or uuid.uuid4(), ADDR[v][client or CLIENT], ADDR[v][REMOTE], port, kind, uses,
                                     timeout)


def grant_of(line):
    return line.split()[0]


def clear_gateway():
    for argv in (["nft", "flush", "ruleset"], ["conntrack", "-F"]):
        netns.run(["ip", "netns", "exec", GATEWAY] + argv)


@contextlib.contextmanager
def driver(**options):
    clear_gateway()
    one = Driver(**options)
    try:
        assert one.ask("install") == ["created"]
        yield one
    finally:
        if one.process.poll() is None:
            one.close()


# ---- sockets ----

class Server(threading.Thread):
    """Accepts on many ports of the remote; says hello, echoes, until closed."""

    def __init__(self, v, ports):
        super().__init__(daemon=True)
        self.listeners, self.accepted, self.open = [], {p: 0 for p in ports}, []
        with netns.inside(REMOTE):
            for port in ports:
                s = socket.socket(FAMILY[v], socket.SOCK_STREAM)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((ADDR[v][REMOTE], port))
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
                    conn = by_fd[fd].accept()[0]
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
        end = time.monotonic() + 2
        while self.accepted != wanted and time.monotonic() < end:
            select.select([], [], [], 0.01)
        assert self.accepted == wanted, self.accepted
        return True

    def close(self):
        os.write(self.stop_write, b"x")
        self.join()
        for s in self.listeners + self.open:
            s.close()
        os.close(self.stop_read)
        os.close(self.stop_write)


@contextlib.contextmanager
def serving(v, ports):
    server = Server(v, ports)
    try:
        yield server
    finally:
        server.close()


def start_connect(v, port, name=CLIENT, source=0):
    with netns.inside(name):
        s = socket.socket(FAMILY[v], socket.SOCK_STREAM)
    if source:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((ADDR[v][name], source))
    s.setblocking(False)
    assert s.connect_ex((ADDR[v][REMOTE], port)) in (0, errno.EINPROGRESS)
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


def connects(v, port, name=CLIENT, seconds=SOON):
    s = start_connect(v, port, name)
    # A reset leaves nothing behind on either side that a later connection from the same port could meet.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    try:
        return bool(await_connects([s], seconds))
    finally:
        s.close()


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


# ---- tests: each for IPv4 and IPv6 ----

def test_closed_by_default(v):
    with driver(), serving(v, [8000]):
        assert not connects(v, 8000)


def test_one_use_then_refused(v):
    with driver() as d, serving(v, [8000, 8001]) as server:
        one = door(v, 8000)
        assert d.apply([one]) == {}
        assert not connects(v, 8000, OTHER, 0.3), "another client"
        assert not connects(v, 8001, CLIENT, 0.3), "another port"
        assert connects(v, 8000)
        assert not connects(v, 8000), "used up (I4)"
        assert d.doors()[grant_of(one)]["counter"] == 1
        assert server.has_accepted({8000: 1, 8001: 0})


def test_exactly_n_in_parallel(v):
    """I4: a hundred tries at once, from one and the same instant, through doors for 1, 7 and 100."""
    with driver() as d, serving(v, [8001, 8007, 8100]) as server:
        assert d.apply([door(v, 8001, 1), door(v, 8007, 7), door(v, 8100, 100)]) == {}
        for port, uses in ((8001, 1), (8007, 7), (8100, 100)):
            tries = [start_connect(v, port) for _ in range(100)]
            # longer than the first retransmission (1 s): those that were refused stay so
            assert len(await_connects(tries, 1.6)) == uses
            for s in tries:
                s.close()
        assert server.has_accepted({8001: 1, 8007: 7, 8100: 100})


def test_unlimited(v):
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000, 0)
        assert d.apply([one]) == {}
        tries = [start_connect(v, 8000) for _ in range(200)]
        assert len(await_connects(tries, 3)) == 200
        for s in tries:
            s.close()
        found = d.doors()[grant_of(one)]
        assert found["uses"] == 0 and found["counter"] == 200, found


def test_retransmitted_syn_passes(v):
    """The first SYN-ACK is lost: the SYN comes again and must not meet the limit a second time."""
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000)
        assert d.apply([one]) == {}
        netns.run(["ip", "netns", "exec", REMOTE, "nft", "-f", "-"], """table inet lossy { chain out {
            type filter hook output priority 0;
            tcp flags syn,ack / syn,ack limit rate 1/hour burst 1 packets counter drop; }; }""")
        try:
            began = time.monotonic()
            assert connects(v, 8000, CLIENT, 5)
            assert time.monotonic() - began > 0.8, "the SYN-ACK was not lost"
        finally:
            netns.run(["ip", "netns", "exec", REMOTE, "nft", "delete", "table", "inet", "lossy"])
        assert d.doors()[grant_of(one)]["counter"] == 1


def test_every_shard_is_reached(v):
    """The shard that user space computes is the one where the kernel looks: 200 keys, 64 shards."""
    ports = list(range(20000, 20200))
    with driver() as d, serving(v, ports) as server:
        assert d.apply([door(v, port) for port in ports]) == {}
        tries = [start_connect(v, port) for port in ports]
        assert len(await_connects(tries, 3)) == len(ports)
        for s in tries:
            s.close()
        assert server.has_accepted({port: 1 for port in ports})
        assert all(one["counter"] == 1 for one in d.doors().values())


def test_send_only_udp(v):
    with driver() as d:
        one = door(v, 9000, kind="udp1")
        assert d.apply([one]) == {}
        client, remote = udp(v, CLIENT), udp(v, REMOTE)
        remote.bind((ADDR[v][REMOTE], 9000))
        for i in range(3):
            client.sendto(b"%d" % i, (ADDR[v][REMOTE], 9000))
            data, peer = receives(remote)
            assert data == b"%d" % i
            remote.sendto(b"answer", peer)
        assert receives(client, 0.3) is None, "answers of a send-only door are dropped"
        assert d.doors()[grant_of(one)]["counter"] == 1, "datagrams of one flow are one use"
        second = udp(v, CLIENT)
        second.sendto(b"second", (ADDR[v][REMOTE], 9000))
        assert receives(remote, 0.3) is None, "a second flow is a second use"
        # ICMP errors come back all the same: path MTU discovery needs them
        remote.close()
        client.connect((ADDR[v][REMOTE], 9000))
        refused = False
        for _ in range(10):
            try:
                client.send(b"nobody listens")
                receives(client, 0.2)
            except ConnectionRefusedError:
                refused = True
                break
        assert refused, "port unreachable did not come back"
        client.close()
        second.close()


def test_bidirectional_udp(v):
    with driver() as d:
        assert d.apply([door(v, 9000, kind="udp")]) == {}
        client, remote = udp(v, CLIENT), udp(v, REMOTE)
        remote.bind((ADDR[v][REMOTE], 9000))
        client.sendto(b"question", (ADDR[v][REMOTE], 9000))
        _, peer = receives(remote)
        remote.sendto(b"answer", peer)
        assert receives(client)[0] == b"answer"
        second = udp(v, CLIENT)
        second.sendto(b"second", (ADDR[v][REMOTE], 9000))
        assert receives(remote, 0.3) is None
        for s in (client, remote, second):
            s.close()


def test_expires_with_nobody_alive(v):
    """I3: the agent is killed; the kernel closes the door."""
    with driver() as d, serving(v, [8000, 8001]):
        assert d.apply([door(v, 8000, 0, timeout=1500), door(v, 8001, 0)]) == {}
        d.kill()
        assert connects(v, 8000)
        end = time.monotonic() + 5
        while connects(v, 8000, CLIENT, 0.2):
            assert time.monotonic() < end, "still open long after its time"
        assert connects(v, 8001)
        again = Driver()
        assert again.ask("install") == ["adopted"]
        assert [one["port"] for one in again.doors().values()] == [8001]
        again.close()


def test_restart_keeps_doors_and_flows(v):
    """I7, I4: a used door stays used, an unused one stays open, a live flow keeps flowing."""
    with driver() as d, serving(v, [8000, 8001, 8002]):
        used, fresh, live = door(v, 8000), door(v, 8001, 2), door(v, 8002)
        assert d.apply([used, fresh, live]) == {}
        assert connects(v, 8000)
        flow = start_connect(v, 8002)
        assert await_connects([flow], SOON)
        d.kill()
        assert echo(flow, b"nobody watches" * 100)
        again = Driver()
        assert again.ask("install") == ["adopted"]
        assert echo(flow, b"a new agent" * 100)
        assert {g: (one["uses"], one["counter"]) for g, one in again.doors().items()} == {
            grant_of(used): (1, 1), grant_of(fresh): (2, 0), grant_of(live): (1, 1)}
        assert not connects(v, 8000, CLIENT, 0.3)
        # the same doors again, as after a lost acknowledgement: nothing is armed anew
        assert again.apply([used, fresh, live]) == {}
        assert not connects(v, 8000, CLIENT, 0.3)
        assert connects(v, 8001)
        # another mode and another priority: doors and flows stay
        again.close()
        other = Driver("overlay", -20)
        assert other.ask("install") == ["adopted"]
        assert echo(flow, b"overlay" * 100)
        assert len(other.doors()) == 3
        other.close()
        flow.close()


def test_installing_under_traffic(v):
    """I7: a live flow and new connections meet no moment without rules while they are written anew."""
    with driver() as d, serving(v, [8000, 8001]) as server:
        assert d.apply([door(v, 8000), door(v, 8001, 0)]) == {}
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        stop, failures, made = threading.Event(), [], [0]

        def connect_on():
            while not stop.is_set():
                if not connects(v, 8001, CLIENT, 0.9):  # less than a retransmission
                    failures.append("refused")
                made[0] += 1
        thread = threading.Thread(target=connect_on)
        thread.start()
        try:
            for _ in range(30):
                assert d.ask("install") == ["adopted"]
                assert echo(flow, b"x" * 100000)
        finally:
            stop.set()
            thread.join()
        assert not failures and made[0] > 10, (failures, made)
        assert server.has_accepted({8000: 1, 8001: made[0]})
        flow.close()


def test_established_and_errors_pass_in_enforce_mode(v):
    """Flows that others let in before us go on; what is new does not pass."""
    with serving(v, [8000]):
        clear_gateway()
        netns.run(["ip", "netns", "exec", GATEWAY, "nft", "add table inet t; add chain inet t f "
                   "{ type filter hook forward priority 0; }; add rule inet t f ct state new accept"])
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        d = Driver()
        assert d.ask("install") == ["created"]
        assert echo(flow, b"older than us")
        assert not connects(v, 8000, CLIENT, 0.3)
        d.close()
        flow.close()


def test_overlay_only_marks(v):
    with driver(mode="overlay") as d, serving(v, [8000, 8001]):
        assert connects(v, 8001), "overlay mode drops nothing"
        assert d.ask("problems") == []
        netns.run(["ip", "netns", "exec", GATEWAY, "nft", "-f", "-"], """table inet admin { chain f {
            type filter hook forward priority 0; policy drop;
            ct mark & 0x80000000 != 0 accept; }; }""")
        assert d.ask("problems") == [], "an administrator's chain that heeds our mark is no problem"
        assert not connects(v, 8001, CLIENT, 0.3)
        assert d.apply([door(v, 8000)]) == {}
        assert connects(v, 8000)
        assert not connects(v, 8000, CLIENT, 0.3)


def test_problems_are_found(v):
    family = "ip" if v == 4 else "ip6"
    with driver() as d:
        assert d.ask("problems") == []
        run = ["ip", "netns", "exec", GATEWAY, "nft", "-f", "-"]
        netns.run(run, "table %s a { chain f { type filter hook forward priority 0; policy drop; }; }" % family)
        netns.run(run, "table inet b { chain g { type filter hook forward priority 5; tcp dport 1 drop; }; }")
        netns.run(run, "table inet c { chain g { type filter hook input priority 5; policy drop; }; }")
        found = d.ask("problems")
        assert len(found) == 2, found
        assert "chain f of table %s a drops by policy" % family in found[0], found
        assert "chain g of table inet b has rules that drop" in found[1], found
        assert d.ask("watch 1000") == ["changed others"]


def test_others_hands_are_noticed(v):
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000, 3)
        d.apply([one])
        assert d.ask("watch 0") == ["changed"], "our own transactions are not told"
        nft = ["ip", "netns", "exec", GATEWAY, "nft"]
        assert connects(v, 8000)
        netns.run(nft + ["flush", "chain", "inet", "postern", "forward"])
        assert d.ask("watch 1000") == ["changed table doors"]
        assert d.ask("install") == ["adopted"]
        assert connects(v, 8000)
        assert d.doors()[grant_of(one)]["counter"] == 2, "doors outlive a repair of the rules"
        netns.run(nft + ["flush", "ruleset"])
        assert d.ask("watch 1000")[0].startswith("changed table doors")
        assert d.ask("dump")[0].startswith("error NOT_FOUND")
        assert d.ask("apply 1 0", one)[0].startswith("error NOT_FOUND")
        assert d.ask("install") == ["created"]
        assert not connects(v, 8000, CLIENT, 0.3)
        d.apply([door(v, 8000, 1, grant=grant_of(one))])
        assert connects(v, 8000)
        assert not connects(v, 8000, CLIENT, 0.3)


def test_another_boot_is_not_adopted(v):
    with driver() as d:
        d.apply([door(v, 8000)])
        d.close()
        other = Driver(boot="boot-2")
        assert other.ask("install") == ["replaced"]
        assert other.doors() == {}
        other.close()


def test_one_bad_door_does_not_sink_the_others(v):
    with driver() as d, serving(v, [8000, 8001, 8002]):
        first, second = door(v, 8000), door(v, 8001, 2)
        d.apply([first, second])
        intruder = door(v, 8001)
        uncountable = door(v, 8002, 10 ** 9, timeout=86400000)
        gone = door(v, 8003)
        refused = d.apply([first, intruder, uncountable], [gone])
        assert list(refused) == [grant_of(uncountable)], refused
        assert "so many connections" in refused[grant_of(uncountable)]
        assert set(d.doors()) == {grant_of(first), grant_of(intruder)}, "the key's newest grant holds it"
        assert connects(v, 8001)
        assert not connects(v, 8001, CLIENT, 0.3)
        # removal and addition of one key in one transaction
        again = door(v, 8001)
        assert d.apply([again], [intruder]) == {}
        assert connects(v, 8001)
        assert d.apply([], [again, first, gone]) == {}
        assert d.doors() == {}


def test_large_batches(v):
    with driver() as d:
        many = [door(v, port, 2) for port in range(1, 5001)]
        assert d.apply(many) == {}
        assert len(d.doors()) == 5000
        assert d.apply([], many) == {}
        assert d.doors() == {}


def test_events_tell_of_flows(v):
    """NEW with the grant, the end with the figures; nothing of flows that are not ours."""
    with driver(mode="overlay") as d, serving(v, [8000, 8001]):
        one = door(v, 8000)
        d.apply([one])
        assert connects(v, 8001), "not ours"
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        assert echo(flow, b"x" * 5000)
        events = [line.split() for line in d.ask("events 300")]
        assert events[0][:2] == ["new", grant_of(one)], events
        assert all(":8000" in line[4] for line in events), events
        dumped = [line.split() for line in d.ask("flows")]
        assert len(dumped) == 1 and dumped[0][1] == grant_of(one) and dumped[0][2] == events[0][2], dumped
        flow.close()
        last = [line.split() for line in d.ask("events 500")][-1]
        assert last[0] == "update" and last[6] == "over" and last[2] == events[0][2], last
        entry = [line.split() for line in d.ask("flows")][0]
        assert entry[6] == "over" and entry[7] == "accounted", entry
        sent, received, took = int(entry[9]), int(entry[11]), int(entry[12])
        assert sent > 5000 and received > 5000 and took > 100000, entry
        netns.run(["ip", "netns", "exec", GATEWAY, "conntrack", "-D"] + (["-f", "ipv6"] if v == 6 else []) +
                  ["-p", "tcp", "--dport", "8000"])
        gone = [line.split() for line in d.ask("events 300")]
        assert [line[0] for line in gone] == ["destroy"] and gone[0][7] == "accounted", gone


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]


def main():
    global DRIVER
    DRIVER = os.path.abspath(sys.argv[1])
    if os.geteuid() != 0:
        skip("needs root, for network namespaces")
    try:
        build_lab()
    except (netns.NetnsError, FileNotFoundError) as error:
        remove_lab()
        skip("no network namespaces here: %s" % error)
    failed = 0
    try:
        warm_up()
        with netns.inside(GATEWAY):
            probe = subprocess.run(["nft", "add table inet p; add chain inet p c; add rule inet p c "
                                    "jhash ip saddr mod 2 seed 1 == 0 ct mark set 1; delete table inet p"],
                                   capture_output=True, text=True)
        if probe.returncode != 0:
            skip("the kernel has no nf_tables with jhash: " + probe.stderr.strip())
        for test in TESTS:
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
                    import traceback
                    traceback.print_exc()
                print("%s IPv%d %.1fs: %s" % (test.__name__, v, time.monotonic() - began, result), flush=True)
    finally:
        remove_lab()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
