#!/usr/bin/python3
"""Sets that come from elsewhere: feeds from an HTTPS server, DNS names from a name server, both in the policy server's own network.

What they answer decides requests and live doors; what they no longer answer changes nothing."""
import json
import os
import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from e2e import REMOTE, REMOTE2, WireHere, main, run
from talk import ACTIVE, POLICY_CHANGED
from test_policy import SITE_RULES, apply, denied, in_force

PORT = 1046
HOST = "10.77.0.1"


class Feeds:
    """An HTTPS server whose answers a test sets: path → (status, headers, body)."""

    def __init__(self, lab, certificate, port):
        self.answers, self.asked, self.port = {}, [], port
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("If-None-Match")))
                status, headers, body = outer.answers.get(self.path, (404, {}, b""))
                if headers.get("ETag") and headers["ETag"] == self.headers.get("If-None-Match"):
                    status, body = 304, b""
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if "Transfer-Encoding" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # whoever had enough

            def log_message(self, *_):
                pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with WireHere(lab, "policy"):
            self.server = ThreadingHTTPServer((HOST, port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def say(self, path, body, status=200, **headers):
        self.answers[path] = (status, headers, body if isinstance(body, bytes) else body.encode())

    def url(self, path):
        return f"https://{HOST}:{self.port}{path}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Names(threading.Thread):
    """A name server: name → (ttl, addresses); what it does not know does not exist."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.names = {}
        with WireHere(lab, "policy"):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((HOST, 53))
        self.start()

    def run(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            at, labels = 12, []
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack(">H", query[at + 1:at + 3])[0]
            question = query[12:at + 5]
            ttl, addresses = self.names.get(".".join(labels).lower(), (0, None))
            family, size = (socket.AF_INET6, 16) if kind == 28 else (socket.AF_INET, 4)
            right = [a for a in addresses or [] if (":" in a) == (kind == 28)] if kind in (1, 28) else []
            flags = 0x8180 | (3 if addresses is None else 0)
            answer = query[:2] + struct.pack(">HHHHH", flags, 1, len(right), 0, 0) + question
            for address in right:
                answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, size) + socket.inet_pton(family, address)
            self.socket.sendto(answer, peer)


def certificate(folder, name, host):
    """A certificate and its key in one file, which is its own CA."""
    path = f"{folder}/{name}.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={host}",
        "-addext", f"subjectAltName=IP:{host}", "-keyout", f"{path}.key", "-out", f"{path}.crt")
    with open(path, "w", encoding="ascii") as out:
        for part in (".key", ".crt"):
            with open(path + part, encoding="ascii") as file:
                out.write(file.read())
    return path


def pin(path):
    key = run("openssl", "pkey", "-in", f"{path}.key", "-pubout", "-outform", "DER", text=False).stdout
    digest = run("openssl", "dgst", "-sha256", "-binary", text=False, input=key).stdout
    return "sha256//" + run("openssl", "base64", "-A", text=False, input=digest).stdout.decode()


def setup(lab):
    good, other = certificate(lab.folder, "good", HOST), certificate(lab.folder, "other", HOST)
    lab.pin = pin(good)
    lab.feeds, lab.wrong = Feeds(lab, good, 8443), Feeds(lab, other, 8444)
    lab.names = Names(lab)
    etc = f"/etc/netns/{lab.namespace('policy')}"  # `ip netns exec` lays it over /etc
    os.makedirs(etc)
    with open(f"{etc}/resolv.conf", "w", encoding="ascii") as file:
        file.write(f"nameserver {HOST}\noptions timeout:1 attempts:1\n")
    lab.restart_server(15, feed_ca_file=f"{good}.crt")


def teardown(lab):
    lab.feeds.close()
    lab.wrong.close()
    lab.names.socket.close()


def document(lab, path, *more, rule="allow", feeds=None):
    extra = "".join(f", {m}" for m in more)
    return f"""
feeds: [{{name: vendors, url: '{(feeds or lab.feeds).url(path)}'{extra}}}]
destination_sets: [{{name: vendors, feeds: [vendors]}}]
protocol_rules: [{{name: all, action: allow}}]
site_and_content_rules:
  - {{name: vendors, action: {rule}, destinations: [vendors]}}
"""


def feed(lab, *words, check=True):
    done = lab.run("policy", "postern", "-o", "json", "feed", *words, check=check)
    return [json.loads(line) for line in done.stdout.splitlines()]


def refresh(lab):
    return feed(lab, "refresh", "vendors", check=False)[0]


# ---- feeds ----

def a_feed_decides(lab):
    """And a change of it is in force at once, for live doors too."""
    before = len(lab.entries("--kind", "feed-changed"))
    lab.feeds.say("/a", "10.77.2.2\n")
    apply(lab, document(lab, "/a"), "--dry-run")
    assert len(lab.entries("--kind", "feed-changed")) == before, "a dry run writes nothing"
    lab.feeds.say("/a", "# vendors\n10.77.2.2 ; the first\r\n\nfd77:2::2/128\n", ETag='"1"')
    apply(lab, document(lab, "/a"))
    grants = [lab.inspector.request(**lab.outbound(f, PORT)) for f in (4, 6)]
    assert all(g.site_rule == "vendors" for g in grants)
    for f in (4, 6):
        denied(lab, SITE_RULES, "", **lab.outbound(f, PORT, remote=REMOTE2[f]))
    before = len(lab.feeds.asked)
    assert refresh(lab)["error"] == "" and lab.feeds.asked[before:] == [("/a", '"1"')], lab.feeds.asked
    assert all(lab.inspector.show(g).state == ACTIVE for g in grants)
    lab.feeds.say("/a", f"{REMOTE2[4]}\n{REMOTE2[6]}\n", ETag='"2"')
    assert refresh(lab)["addresses"] == 2
    for f, grant in zip((4, 6), grants):
        lab.journal.ended(grant, POLICY_CHANGED)
        assert lab.inspector.request(**lab.outbound(f, PORT, remote=REMOTE2[f])).site_rule == "vendors"
    assert lab.entries("--kind", "feed-changed")
    shown = feed(lab, "show", "vendors")
    assert sorted(n for piece in shown for n in piece["networks"]) == sorted([REMOTE2[4], REMOTE2[6]]), shown


def a_source_that_fails_changes_nothing(lab):
    lab.feeds.say("/b", "10.77.2.0/24\nfd77:2::/64\n", ETag='"b"')
    apply(lab, document(lab, "/b"))
    before, held = in_force(lab), len(lab.entries("--kind", "feed-failed"))
    for bad in ((500, {}, b""), (200, {}, b"10.77.2.0/24\nnonsense\n"), (200, {}, b"10.0.0.1/8\n"), (200, {}, b"x" * 300)):
        lab.feeds.answers["/b"] = bad
        state = refresh(lab)
        assert state["error"] and state["addresses"] == 2, (bad, state)
        assert lab.inspector.request(**lab.outbound(4, PORT)).site_rule == "vendors"
        lab.inspector.cancel_all()
    assert "line" in state["error"], state
    assert len(lab.entries("--kind", "feed-failed")) == held + 1, "the first failure is journalled"
    lab.restart_server()
    assert in_force(lab) == before and feed(lab, "list")[0]["addresses"] == 2, "the copy is on disk"
    for f in (4, 6):
        assert lab.inspector.request(**lab.outbound(f, PORT)).site_rule == "vendors"


def a_copy_that_shrank_is_held_back(lab):
    lab.feeds.say("/c", "".join(f"10.77.2.{n}\n" for n in range(2, 20, 2)))
    apply(lab, document(lab, "/c", "max_shrink: 30"))
    grant = lab.inspector.request(**lab.outbound(4, PORT))
    lab.feeds.say("/c", "10.77.2.3\n")
    state = refresh(lab)
    assert state["held"] and state["held_addresses"] == 1 and state["addresses"] == 9, state
    assert lab.entries("--kind", "feed-held") and lab.inspector.show(grant).state == ACTIVE
    assert feed(lab, "show", "vendors", "--held")[0]["networks"] == ["10.77.2.3"]
    lab.restart_server()
    assert feed(lab, "list")[0]["held"]
    feed(lab, "confirm", "vendors")
    lab.journal.ended(grant, POLICY_CHANGED)
    assert not feed(lab, "list")[0]["held"] and feed(lab, "list")[0]["addresses"] == 1


def what_never_answered_blocks(lab):
    """All or nothing: the revision before stays, and the error says where."""
    before = in_force(lab)
    lab.feeds.say("/moved", "", status=302, Location=f"http://{HOST}:8080/a")
    lab.feeds.say("/large", "10.77.2.2\n" * 1000)
    lab.feeds.say("/chunked", b"3e8\r\n" + b"10.77.2.2\n" * 100 + b"\r\n0\r\n\r\n", **{"Transfer-Encoding": "chunked"})
    lab.feeds.say("/good", "10.77.2.2\n")
    for text, words in (
            (document(lab, "/missing"), ["404"]), (document(lab, "/moved"), []),
            (document(lab, "/large", "max_size: 1k"), ["max_size"]), (document(lab, "/chunked", "max_size: 500"), ["max_size"]),
            (document(lab, "/good", feeds=lab.wrong), []), (document(lab, "/good", "pinned_key: 'sha256//" + "A" * 43 + "='"), [])):
        done = apply(lab, text.replace("vendors", "fresh"), check=False, name="bad.yaml")
        assert done.returncode != 0 and "bad.yaml:2:" in done.stderr and "feeds[0].url" in done.stderr, (text, done.stderr)
        assert all(w in done.stderr for w in words), (words, done.stderr)
        assert in_force(lab) == before
    apply(lab, document(lab, "/good", f"pinned_key: '{lab.pin}'").replace("vendors", "fresh"))
    assert lab.inspector.request(**lab.outbound(4, PORT)).site_rule == "fresh"


def json_feeds(lab):
    lab.feeds.say("/j", json.dumps({"data": {"a/b": [{"ip": "10.77.2.2"}, {"ip": "fd77:2::/64"}]}}))
    apply(lab, document(lab, "/j", "format: json", "json_pointer: /data/a~1b", "json_key: ip").replace("vendors", "parsed"))
    for f in (4, 6):
        assert lab.inspector.request(**lab.outbound(f, PORT)).site_rule == "parsed"


# ---- names ----

NAMED = """
destination_sets: [{name: partner, names: [Partner.Example.]}]
protocol_rules: [{name: all, action: allow}]
site_and_content_rules: [{name: partner, action: allow, destinations: [partner]}]
"""


def dns_names_follow_their_answers(lab):
    before = in_force(lab)
    done = apply(lab, NAMED, check=False, name="bad.yaml")
    assert done.returncode != 0 and "bad.yaml:2:" in done.stderr and "partner.example" in done.stderr, done.stderr
    assert in_force(lab) == before
    lab.names.names["partner.example"] = (1, [REMOTE[4], REMOTE[6]])
    apply(lab, NAMED)
    grants = [lab.inspector.request(**lab.outbound(f, PORT)) for f in (4, 6)]
    for f in (4, 6):
        denied(lab, SITE_RULES, "", **lab.outbound(f, PORT, remote=REMOTE2[f]))
    lab.names.names["partner.example"] = (1, [REMOTE2[4], REMOTE2[6]])
    for f, grant in zip((4, 6), grants):  # by itself, once the time to live is over (5 s at least)
        lab.journal.ended(grant, POLICY_CHANGED)
        assert lab.inspector.request(**lab.outbound(f, PORT, remote=REMOTE2[f])).site_rule == "partner"
    del lab.names.names["partner.example"]
    assert feed(lab, "refresh", "partner.example", check=False)[0]["error"]
    lab.restart_server()
    for f in (4, 6):
        assert lab.inspector.request(**lab.outbound(f, PORT + 1, remote=REMOTE2[f])).site_rule == "partner"
    state = next(s for s in feed(lab, "list") if s["kind"] == "name")
    assert state["addresses"] == 2, state


if __name__ == "__main__":
    main([setup, a_feed_decides, a_source_that_fails_changes_nothing, a_copy_that_shrank_is_held_back, what_never_answered_blocks, json_feeds,
          dns_names_follow_their_answers, teardown])
