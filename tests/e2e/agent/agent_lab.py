"""A whole agent without its server (sync_driver.c), in a gateway between a client and a remote; for test_sync.py and test_primaries.py."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid

import netns

DRIVER = ""
PREFIX = "postern-s-%d" % os.getpid()
GATEWAY, CLIENT, REMOTE = (PREFIX + "-" + n for n in ("g", "c", "r"))
ADDR = {4: {CLIENT: "10.88.1.2", REMOTE: "10.88.9.2", GATEWAY: "10.88.9.1"},
        6: {CLIENT: "fd88:1::2", REMOTE: "fd88:9::2", GATEWAY: "fd88:9::1"}}
STRANGER = {4: "10.88.9.200", 6: "fd88:9::200"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
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
    for name in (GATEWAY, CLIENT, REMOTE):
        netns.add(name)
    cable(CLIENT, 1)
    cable(REMOTE, 9)
    netns.ip(GATEWAY, ["link set lo up"])
    # What bind() alone would believe.
    netns.sysctl(GATEWAY, {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1, "net.ipv4.ip_nonlocal_bind": 1,
                           "net.ipv6.ip_nonlocal_bind": 1})


def remove_lab():
    for name in (GATEWAY, CLIENT, REMOTE):
        netns.delete(name)


def at_gateway(*argv):
    return netns.run(["ip", "netns", "exec", GATEWAY] + list(argv))


# ---- the agent ----

class Agent:
    def __init__(self, **options):
        self.file = tempfile.NamedTemporaryFile("w", prefix="postern-sync-", suffix=".conf")
        self.file.write("server = ipc:///nonexistent/posternd.sock\ntoken_file = /nonexistent\n")
        self.file.write("".join("%s = %s\n" % pair for pair in options.items()))
        self.file.flush()
        self.log = tempfile.NamedTemporaryFile("r", prefix="postern-sync-", suffix=".log")
        with netns.inside(GATEWAY), open(self.log.name, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([DRIVER, self.file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            text=True, bufsize=1)
        self.sequence = 0
        self.killed = False
        self.renewal = self.ask("renewal")[0]  # it has started: connections are tracked

    def ask(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()
        answer = []
        for line in self.process.stdout:
            if line == ".\n":
                return answer
            answer.append(line.rstrip("\n"))
        raise AssertionError("the agent ended")

    def item(self, *lines, kind="delta"):
        """Applies an item; the reports up to its APPLIED, the refusals apart."""
        self.sequence += 1
        answer = self.ask(*lines, "apply %d %s" % (self.sequence, kind))
        assert answer[0].startswith("applied"), answer
        reports = self.reports("applied", 3000)
        refused = {line.split(" ", 3)[1]: line.split(" ", 3)[2:] for line in reports if line.startswith("refused")}
        reports = [line.split() for line in reports if not line.startswith("refused")]
        assert reports and reports[-1][0] == "applied" and int(reports[-1][3]) == self.sequence, reports
        return reports[:-1], refused

    def snapshot(self, *lines):
        return self.item(*lines, kind="snapshot")

    def reports(self, kind, wait_ms):
        return self.ask("reports %s %d" % (kind, wait_ms))

    def wait(self, kind, wait_ms=5000):
        """All reports up to the first of this kind."""
        reports = [line.split() for line in self.reports(kind, wait_ms)]
        assert any(line[0] == kind for line in reports), "no %s in %s" % (kind, reports)
        return reports

    def doors(self):
        doors = {}
        for line in self.ask("doors"):
            _, grant, uses, counter, timeout, state = line.split()
            doors[grant] = {"uses": int(uses), "counter": int(counter), "timeout": int(timeout), "state": state}
        return doors

    def last_repair(self):
        """What the agent says of it: {"kept": 1, "added": 0, ...}."""
        with open(self.log.name, encoding="utf-8") as log:
            line = [line for line in log if " doors wanted, " in line][-1]
        words = line.split("held: ")[1].replace(",", "").split()
        return {words[i + 1]: int(words[i]) for i in range(0, len(words), 2)}

    def close(self):
        if self.killed:
            return
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(10) == 0
        self.file.close()

    def kill(self):
        if self.killed:
            return
        self.killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()
        self.file.close()


@contextlib.contextmanager
def agent(keep=False, **options):
    if not keep:
        at_gateway("nft", "flush", "ruleset")
        at_gateway("conntrack", "-F")
    one = Agent(**options)
    try:
        yield one
        one.close()
    except BaseException:
        one.kill()
        raise


def new_id():
    return str(uuid.uuid4())


def door(v, grant, port, most=1, made=0, timeout=LONG, kind="tcp", nat=""):
    return "door %s %s %s %d 0 %s %d %d %d %s" % (grant, ADDR[v][CLIENT], ADDR[v][REMOTE], port, kind, most, made, timeout, nat)


# ---- traffic ----

@contextlib.contextmanager
def serving(v, port, where=None):
    where = where or REMOTE
    with netns.inside(where):
        listener = socket.create_server((ADDR[v][where], port), family=FAMILY[v], backlog=64)
    try:
        yield listener
    finally:
        listener.close()


def connect(v, port, timeout=3.0, at=None, to=None):
    with netns.inside(at or CLIENT):
        one = socket.socket(FAMILY[v], socket.SOCK_STREAM)
    one.settimeout(timeout)
    try:
        one.connect((to or ADDR[v][REMOTE], port))
    except OSError:
        one.close()
        raise
    return one


def connects(v, port, timeout=3.0):
    try:
        connect(v, port, timeout).close()
        return True
    except OSError:
        return False


@contextlib.contextmanager
def connection(v, port):
    """A client's and a remote's end of one connection."""
    with serving(v, port) as listener:
        ours = connect(v, port)
        theirs, _ = listener.accept()
        try:
            yield ours, theirs
        finally:
            ours.close()
            theirs.close()


def warm_up():
    for v in (4, 6):
        end = time.monotonic() + 20
        with serving(v, 7999):
            while not connects(v, 7999, 0.3):
                assert time.monotonic() < end, "the client cannot reach the remote over IPv%d" % v


def passes(sender, receiver, wait=1.0):
    sender.send(b"x")
    receiver.settimeout(wait)
    try:
        return receiver.recv(10) != b""
    except TimeoutError:
        return False


@contextlib.contextmanager
def connection_through(v, a, port, grant, most=1):
    a.item(door(v, grant, port, most=most), kind="snapshot" if a.sequence == 0 else "delta")
    with connection(v, port) as pair:
        yield pair


def main(names):
    """Runs those functions of a test program whose names begin with test_; `names` are its globals()."""
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
