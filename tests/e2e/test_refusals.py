#!/usr/bin/python3
"""What is wrong is said clearly, with the documented exit code, and changes nothing."""
import os

from e2e import CLIENT, REMOTE, main, run, wait_until

PORT = 1046


def fails(lab, code, text, *words, host="inspector", **environment):
    before = lab.json("policy", "audit", "query", "--kind", "granted")
    done = lab.run(host, "env", *[f"{k}={v}" for k, v in environment.items()], "postern", *words, check=False)
    assert done.returncode == code, (done.returncode, code, done.stdout, done.stderr)
    assert text in done.stderr, done.stderr
    assert lab.json("policy", "audit", "query", "--kind", "granted") == before, "nothing was granted"


def request(*more, to=f"{REMOTE[4]}:{PORT}", gateway="gw1", client=CLIENT[4]):
    return ("grant", "request", "--gateway", gateway, "--client", client, "--to", to, "--transport", "tcp", "--protocol", "ftp", *more)


def who_are_you(lab):
    token = lab.write("wrong.token", "pst_filter_" + "A" * 43 + "\n", 0o600)
    fails(lab, 16, "not known", *request(), POSTERN_TOKEN_FILE=token)
    empty = lab.write("empty.token", "\n", 0o600)
    fails(lab, 16, "empty", *request(), POSTERN_TOKEN_FILE=empty)
    readable = lab.write("readable.token", "pst_filter_x\n", 0o644)
    fails(lab, 16, "read", *request(), POSTERN_TOKEN_FILE=readable)
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{lab.folder}/x.key", "-out",
        f"{lab.folder}/x.pem", "-days", "2", "-subj", "/CN=other")
    fails(lab, 1, "certificate", *request(), POSTERN_CA_FILE=f"{lab.folder}/x.pem")
    fails(lab, 1, "not for role filter", "gateway", "list")


def what_do_you_want(lab):
    fails(lab, 1, "unknown", *request(gateway="gw9"))
    fails(lab, 2, "--to: ", *request(to="[fd77:2::2]:80"))
    fails(lab, 2, "--to", *request(to="10.77.2.2"))
    fails(lab, 2, "--flag: ", *request("--flag", "bidirectional"))
    fails(lab, 2, "TIMEOUT", *request("--flag", "timeout", "--flag", "allow-multiple"))
    fails(lab, 2, "did you mean", *request("--flag", "timeuot"))
    fails(lab, 1, "NO_KERNEL_MODE", *request("--flag", "no-kernel-mode"))
    fails(lab, 2, "not registered", "grant", "request", "--gateway", "gw1", "--client", CLIENT[4], "--to", f"{REMOTE[4]}:1", "--protocol", "gopher")
    fails(lab, 2, "did you mean 'request'", "grant", "requets")


def denied_by_which_rules(lab):
    lab.run("policy", "postern", "protocol", "register", "tftp", "--transport", "udp")
    fails(lab, 10, "protocol rules", "grant", "request", "--gateway", "gw1", "--client", CLIENT[4], "--to", f"{REMOTE[4]}:{PORT}", "--protocol", "tftp")
    denied = lab.json("policy", "audit", "query", "--kind", "denied")
    assert len(denied) == 1 and denied[0]["protocol"] == "tftp"
    assert lab.json("policy", "grant", "show", denied[0]["grant"])[0]["grant"]["state"] == "denied"
    lab.run("policy", "postern", "policy", "allow-protocol", "tftp", "--deny")
    fails(lab, 10, 'rule "deny tftp"', "grant", "request", "--gateway", "gw1", "--client", CLIENT[4], "--to", f"{REMOTE[4]}:{PORT}", "--protocol",
          "tftp")


def scope_and_quota(lab):
    lab.run("policy", "postern", "gateway", "add", "gw2", "--out", f"{lab.folder}/gw2.token")
    lab.run("policy", "postern", "filter", "add", "small", "--gateway", "gw1", "--max-grants", "1", "--out", f"{lab.folder}/small.token")
    small = {"POSTERN_TOKEN_FILE": f"{lab.folder}/small.token"}
    fails(lab, 12, "scope", *request(gateway="gw2"), **small)
    fails(lab, 14, "not connected", *request(gateway="gw2"))
    lab.run("inspector", "env", f"POSTERN_TOKEN_FILE={small['POSTERN_TOKEN_FILE']}", "postern", *request(to=f"{REMOTE[4]}:2000"))
    fails(lab, 13, "max_grants", *request(to=f"{REMOTE[4]}:2001"), **small)


def a_deadline_leaves_nothing_open(lab):
    # The agent cannot answer while it is stopped: the door is withdrawn, and stays so when it goes on.
    lab.program("gw1", "postern-agent").end(19, wait=False)
    try:
        done = lab.run("inspector", "postern", *request("--deadline", "500ms", to=f"{REMOTE[4]}:3000"), check=False)
        assert done.returncode == 15, done
    finally:
        lab.program("gw1", "postern-agent").end(18, wait=False)
    lab.run("inspector", "postern", *request(to=f"{REMOTE[4]}:3001"))
    assert not [g for g in lab.json("policy", "grant", "list") if g["grant"]["remote_port"] == 3000]
    assert "3000" not in run("ip", "netns", "exec", lab.namespace("gw1"), "nft", "list", "table", "inet", "postern").stdout
    assert lab.entries("--kind", "ended")[-1]["reason"] == "deadline-missed"


PEER = """
import socket, ssl, struct, sys
kind, ca = sys.argv[1], sys.argv[2]
s = socket.create_connection(("10.77.0.1", 7411), timeout=15)
if kind != "plain":
    context = ssl.create_default_context(cafile=ca)
    s = context.wrap_socket(s, server_hostname="10.77.0.1")
s.sendall({"plain": b"GET / HTTP/1.0\\r\\n\\r\\n" * 3, "garbage": b"\\x00\\x00\\x00\\x08garbage!", "huge": struct.pack(">I", 1 << 30)}[kind])
try:
    while s.recv(4096):
        pass
except OSError:
    pass
print("closed")
"""


def strangers_on_the_port(lab):
    pid = lab.program("policy", "posternd").pid()
    count = lambda: len(os.listdir(f"/proc/{pid}/fd"))  # noqa: E731
    before = count()
    for kind in ("plain", "garbage", "huge"):
        for _ in range(20):
            done = lab.run("inspector", "python3", "-c", PEER, kind, f"{lab.folder}/policy/ca.pem")
            assert done.stdout.strip() == "closed"
    wait_until(lambda: count() <= before, "no descriptor is left over")
    lab.run("inspector", "postern", "version")
    assert lab.program("policy", "posternd").pid() == pid


def the_agent_has_one_capability(lab):
    for name in ("postern-agent", "postern-ftp"):
        with open(f"/proc/{lab.program('gw1', name).pid()}/status", encoding="ascii") as f:
            status = {key: value.strip() for key, _, value in (line.partition(":") for line in f)}
        assert int(status["CapEff"], 16) == 0x1000 and int(status["CapBnd"], 16) & ~0x1000 == 0 and status["NoNewPrivs"] == "1", (name, status)


if __name__ == "__main__":
    main([who_are_you, what_do_you_want, denied_by_which_rules, scope_and_quota, a_deadline_leaves_nothing_open, strangers_on_the_port,
          the_agent_has_one_capability])
