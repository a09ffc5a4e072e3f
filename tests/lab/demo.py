#!/usr/bin/python3
"""`./dev demo`: the main job, on real traffic, for a person to read. Leaves nothing behind."""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import Lab, LabError  # noqa: E402

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def paint(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def title(text):
    print(f"\n{paint('1', text)}")


def note(text):
    print(f"  {paint('2', text)}")


def curl(lab, url):
    print(f"  client1$ curl {url}")
    done = lab.run("client1", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download} bytes in %{time_total} s", "--connect-timeout", "2",
                   "-m", "5", url, check=False)
    if done.returncode == 0:
        print(f"  {paint('32', 'passed ')} {done.stdout}")
    else:
        print(f"  {paint('31', 'blocked')} {done.stderr.strip()}")
    return done.returncode


def story(lab, gateway="gw1"):
    names = {"granted": "the server decided, and wrote it to disk", "installed": "the gateway's kernel holds the door",
             "established": "the client's connection went through it", "ended": "the door is used up and gone",
             "closed": "the connection ended"}
    grants = [e["grant"] for e in lab.json("policy", "audit", "query", "--kind", "established")]
    if not grants:
        raise LabError("the journal knows of no connection")
    entries = lab.json("policy", "audit", "query", "--grant", grants[-1])
    began = entries[0]["time_us"]
    for entry in entries:
        when = (entry["time_us"] - began) / 1000
        extra = ""
        flow = entry.get("flow")
        if entry["kind"] == "granted":
            extra = f"{entry['client']} may connect to {entry['remote']} port {entry['remote_port']}, once"
        elif entry["kind"] == "closed" and flow:
            extra = f"{flow['bytes_received']} bytes received, {flow['bytes_sent']} sent, {flow['duration_us'] / 1000:.1f} ms"
        print(f"  {when:9.1f} ms  {paint('36', entry['kind'].ljust(12))} {names.get(entry['kind'], '')}{': ' if extra else ''}{extra}")


def main():
    lab = Lab(name=f"demo{os.getpid()}")
    url4, url6 = "ftp://10.77.2.2/small.bin", "ftp://[fd77:2::2]/small.bin"
    print(paint("1", "Postern: one door, for one client, for one connection, written down before it opens"))
    note("client1 ── gw1 (drops everything) ── remote1 (vsftpd);  posternd and an agent decide and open")
    lab.up()
    try:
        title("1. Without the inspector: the gateway drops everything")
        lab.tproxy("gw1", on=False)
        first = curl(lab, url4)
        title("2. The same command with the inspector in the path of the control connection")
        lab.tproxy("gw1")
        second = curl(lab, url4)
        title("3. And over IPv6")
        third = curl(lab, url6)
        title("4. The life of that door, from the journal")
        lab.run("policy", "postern", "events", "watch", "--cursor", "start", "--kind", "closed", "--count", "2", "--timeout", "10s")
        story(lab)
        title("5. Can the journal be trusted?")
        done = lab.run("policy", "postern", "audit", "verify")
        print("\n".join(f"  {line}" for line in done.stdout.splitlines()))
    finally:
        lab.down()
    if first == 0 or second != 0 or third != 0:
        raise LabError("this is not what the demonstration was to show")
    print(f"\n{paint('2', 'Nothing is left behind. A laboratory to play in: ./dev lab up')}")


if __name__ == "__main__":
    started = time.monotonic()
    try:
        main()
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
