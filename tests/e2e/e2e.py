"""What the end-to-end tests share: a lab for each file, tests as functions, connections made inside namespaces."""
import ipaddress
import json
import os
import resource
import sys
import tempfile
import time
import traceback
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import Lab, LabError, run, wait_until  # noqa: E402,F401
from talk import Caller, Journal, WireError, generate  # noqa: E402
from traffic import Traffic, Try, WireHere  # noqa: E402,F401

CLIENT = {4: "10.77.1.2", 6: "fd77:1::2"}
OTHER = {4: "10.77.1.3", 6: "fd77:1::3"}
REMOTE = {4: "10.77.2.2", 6: "fd77:2::2"}
REMOTE2 = {4: "10.77.2.3", 6: "fd77:2::3"}
OUTSIDE = {4: "10.77.2.1", 6: "fd77:2::1"}
EXTERNAL = {4: "10.77.2.101", 6: "fd77:2::101"}  # the gateway's second address outside

# Tries to connect from SOURCE to HOST PORT within SECONDS, `count` at a time; prints how many were let through.
CONNECT = """
import socket, sys, threading
source, host, port, seconds, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
passed, held, lock = [0], [], threading.Lock()
def attempt():
    try:
        s = socket.create_connection((host, port), timeout=seconds, source_address=(source, 0))
        with lock:
            passed[0] += 1
            held.append(s)
    except OSError:
        pass
threads = [threading.Thread(target=attempt) for _ in range(count)]
[t.start() for t in threads]
[t.join() for t in threads]
print(passed[0])
"""

# Accepts for ever on PORT, IPv4 and IPv6; says when it listens.
LISTEN = """
import socket, sys
s = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, backlog=512, dualstack_ipv6=True)
print("ready", flush=True)
held = []
while True:
    held.append(s.accept()[0])
"""


def place(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Bench(Lab, Traffic):
    """A lab with a few more hands: those of Traffic for packets, `admin`, `inspector` and `journal` (talk.py) for the server."""

    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        self.children, self.listeners, self.token = [], {}, 0
        self.admin = self.inspector = self.journal = None

    def talk(self, folder):
        """Once the lab is up. `folder` takes the generated code of the wire's messages."""
        self.pb = generate(folder)
        self.admin = Caller.from_file(self, "policy/admin.token")
        self.inspector = Caller.from_file(self, "inspector.token")
        self.journal = Journal(self, self.admin.token)

    def settle(self):
        """After each test: what it left behind is no door for the next one, and what it left dead lives again."""
        for listener in self.listeners.values():
            self.drain(listener)
        try:
            dead = [(h, n) for h, n in (("policy", "posternd"), ("gw1", "postern-agent")) if not self.program(h, n).pid()]
            for host, name in dead:
                self.start(host, name)
            if dead:
                self.joined("gw1")
            self.admin.cancel_all()
        except (WireError, OSError, LabError) as error:
            print(f"      live grants could not be cancelled: {error}")

    def hang_up(self):
        for one in (self.admin, self.inspector, self.journal):
            if one:
                one.close()

    def outbound(self, family, port, **more):
        """The fields of a request: CLIENT may connect to REMOTE's port."""
        return {"client": CLIENT[family], "remote": REMOTE[family], "remote_port": port, **more}

    def inbound(self, family, port, **more):
        """The fields of a request: REMOTE may connect to CLIENT's port, where nothing else is said."""
        return {"direction": 1, "client": CLIENT[family], "client_port": port, "remote": REMOTE[family], **more}

    def table(self):
        return run("ip", "netns", "exec", self.namespace("gw1"), "nft", "list", "table", "inet", "postern").stdout

    def holds(self, grant):
        """Whether the kernel has anything of a grant's door: an element whose value is its id, or an object named by it."""
        as_address = str(ipaddress.IPv6Address(uuid.UUID(grant.id).int))
        text = self.table()
        return as_address in text or grant.id in text or grant.id.replace("-", "") in text

    def shut(self, grant):
        """Waits until nothing is left of a door: it goes a moment after the journal's entry."""
        wait_until(lambda: not self.holds(grant), "nothing is left of the door")

    def rules(self):
        """How many rules our table has: grants are elements, never rules."""
        listing = run("ip", "netns", "exec", self.namespace("gw1"), "nft", "-j", "list", "table", "inet", "postern").stdout
        return sum(1 for item in json.loads(listing)["nftables"] if "rule" in item)

    def restart_agent(self, signo=9, **settings):
        self.restart("gw1", "postern-agent", signo, **settings)
        self.joined("gw1")

    def restart_server(self, signo=9, **settings):
        self.restart("policy", "posternd", signo, **settings)
        self.joined("gw1")

    def connect(self, address, port, source, seconds=1.0, count=1):
        done = self.run("client1", "python3", "-c", CONNECT, source, address, str(port), str(seconds), str(count))
        return int(done.stdout)

    def listen(self, port):
        child = self.popen("remote1", "python3", "-c", LISTEN, str(port))
        assert child.stdout.readline().strip() == "ready"
        self.children.append(child)

    def grant(self, address, port, *options, client=None, host="inspector", check=True):
        words = ["postern", "-o", "json", "grant", "request", "--gateway", "gw1", "--client", client or CLIENT[6 if ":" in address else 4],
                 "--to", place(address, port), "--transport", "tcp", "--protocol", "ftp", *options]
        done = self.run(host, *words, check=False)
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
        if check and done.returncode != 0:
            raise LabError(f"grant request: {done.returncode}: {done.stderr}")
        answer["exit"] = done.returncode
        answer["stderr"] = done.stderr
        return answer

    def entries(self, *options):
        return self.json("policy", "audit", "query", *options)

    def wait_entries(self, count, *options, deadline="15s"):
        """Until the journal has `count` entries that match (an event each)."""
        done = self.run("policy", "postern", "events", "watch", "--cursor", "start", "--count", str(count), "--timeout", deadline, *options,
                        check=False)
        if done.returncode != 0:
            raise LabError(f"fewer than {count} entries {' '.join(options)}: {done.stdout}{done.stderr}")

    def curl(self, url, *options, deadline=15, host="client1"):
        return self.run(host, "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", "-m", str(deadline), *options, url, check=False,
                        timeout=deadline + 10)

    def doors(self):
        """Grant ids of the elements that the kernel holds."""
        listing = run("ip", "netns", "exec", self.namespace("gw1"), "nft", "-j", "list", "table", "inet", "postern").stdout
        found = []
        for item in json.loads(listing)["nftables"]:
            if "map" in item and item["map"]["name"][0] in "co":
                found += item["map"].get("elem", [])
        return found

    def verify(self):
        done = self.run("policy", "postern", "audit", "verify", check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def sanitizer_findings(lab):
    """What a sanitized program wrote into its log before it died, or about leaks when it ended."""
    found = []
    for program in lab.programs():
        with open(program.log, encoding="utf-8", errors="replace") as f:
            text = f.read()
        at = min((text.find(mark) for mark in ("Sanitizer", "runtime error:") if mark in text), default=-1)
        if at >= 0:
            found.append(f"{program.host} {program.name}: {text[max(0, at - 100):at + 4000]}")
    return found


def left_behind(lab):
    """Processes that still name the lab's folder, once it is down."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if f"{lab.folder}/".encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


def main(tests, policy_disk=None, **settings):
    """settings: of the programs, like posternd={"unused_timeout": "2s"}; an underscore for the hyphen of a program's name."""
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        sys.exit(77)
    name = os.path.basename(sys.argv[0])[5:-3][:5]
    chosen = sys.argv[1:]  # names of tests, to run these alone
    tests = [t for t in tests if not chosen or t.__name__ in chosen]
    lab = Bench(name=f"{name}{os.getpid()}")
    lab.policy_disk = policy_disk
    lab.settings = {program.replace("_", "-"): keys for program, keys in settings.items()}
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    generated = tempfile.TemporaryDirectory()
    failed = 0
    before = set(run("ip", "netns", "list").stdout.split())
    try:
        lab.up()
        lab.talk(generated.name)
        for test in tests:
            began = time.monotonic()
            try:
                test(lab)
                print(f"ok    {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:  # whatever it is, the lab is shown and the other tests go on
                failed += 1
                print(f"FAIL  {test.__name__}", flush=True)
                traceback.print_exc()
                for program in lab.programs():
                    print(f"--- {program.host} {program.name}: {program.pid()}\n{program.tail()}", file=sys.stderr)
            lab.settle()
        if not failed:
            lab.verify()
    finally:
        for child in lab.children:
            child.kill()
            child.wait()
        lab.close_traffic()
        lab.hang_up()
        generated.cleanup()
        folder = lab.folder
        lab.end_programs()
        for finding in sanitizer_findings(lab):
            failed += 1
            print(f"FAIL  {finding}", flush=True)
        lab.down()
    try:
        wait_until(lambda: not left_behind(lab), "every process of the lab has ended", 5)
    except LabError as err:
        print(f"FAIL  {err}: {left_behind(lab)}")
        failed += 1
    mine = [n for n in run("ip", "netns", "list").stdout.split() if n.startswith(f"postern-{lab.name}-") and n not in before]
    if mine or os.path.exists(folder):
        print(f"FAIL  left behind: {mine} {folder}")
        failed += 1
    sys.exit(1 if failed else 0)
