"""A whole agent without its server (sync_driver.c) in the gateway of lab.py; for test_sync.py and test_primaries.py."""
import contextlib
import socket
import tempfile
import uuid

import lab
import netns
from lab import ADDR, CLIENT, FAMILY, LONG, REMOTE, Program, clear_gateway

STRANGER = {4: "10.88.9.200", 6: "fd88:9::200"}


# ---- the agent ----

class Agent(Program):
    def __init__(self, **options):
        self.file = tempfile.NamedTemporaryFile("w", prefix="postern-sync-", suffix=".conf")
        self.file.write("server = ipc:///nonexistent/posternd.sock\ntoken_file = /nonexistent\n")
        self.file.write("".join("%s = %s\n" % pair for pair in options.items()))
        self.file.flush()
        self.log = tempfile.NamedTemporaryFile("r", prefix="postern-sync-", suffix=".log")
        with open(self.log.name, "w", encoding="utf-8") as log:
            super().__init__(self.file.name, log=log)
        self.sequence = 0
        self.renewal = self.ask("renewal")[0]  # it has started: connections are tracked

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


@contextlib.contextmanager
def agent(keep=False, **options):
    if not keep:
        clear_gateway()
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
def listening(v, port, where=None):
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


@contextlib.contextmanager
def connection(v, port):
    """A client's and a remote's end of one connection."""
    with listening(v, port) as listener:
        ours = connect(v, port)
        theirs, _ = listener.accept()
        try:
            yield ours, theirs
        finally:
            ours.close()
            theirs.close()


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
    # What bind() alone would believe.
    return lab.main(names, {"net.ipv4.ip_nonlocal_bind": 1, "net.ipv6.ip_nonlocal_bind": 1})
