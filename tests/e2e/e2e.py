"""What the end-to-end tests share: a lab for each file, tests as functions, connections made inside namespaces."""
import ctypes
import json
import os
import subprocess
import sys
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lab"))
from lab import Lab, LabError, run, wait_until  # noqa: E402,F401

CLIENT = {4: "10.77.1.2", 6: "fd77:1::2"}
OTHER = {4: "10.77.1.3", 6: "fd77:1::3"}
REMOTE = {4: "10.77.2.2", 6: "fd77:2::2"}

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


class Bench(Lab):
    """A lab with a few more hands."""

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


class WireHere:
    """This very process enters a host's network for a while."""

    def __init__(self, lab, host):
        self.path = f"/var/run/netns/{lab.namespace(host)}"

    def __enter__(self):
        self.back = os.open("/proc/self/ns/net", os.O_RDONLY)
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


def main(tests, policy_disk=None):
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        sys.exit(77)
    name = os.path.basename(sys.argv[0])[5:-3][:5]
    lab = Bench(name=f"{name}{os.getpid()}")
    lab.children = []
    lab.policy_disk = policy_disk
    failed = 0
    before = set(run("ip", "netns", "list").stdout.split())
    try:
        lab.up()
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
        if not failed:
            lab.verify()
    finally:
        for child in lab.children:
            child.kill()
            child.wait()
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
