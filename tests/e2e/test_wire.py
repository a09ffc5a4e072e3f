#!/usr/bin/python3
"""The wire from another language (docs/PROTOCOL.md), and thousands of peers that behave badly: nothing is left of them."""
import os
import sys
import tempfile

from e2e import CLIENT, REMOTE, WireHere, main, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire"))
from postern_wire import Connection, WireError, generate  # noqa: E402

# Vanishing mid-frame, garbage, a TLS handshake never finished, never reading: PEERS of them over each transport.
CHURN = """
import random, socket, ssl, struct, sys
url, ca, peers = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(7)
context = ssl.create_default_context(cafile=ca)
held = []
for i in range(peers):
    try:
        if url.startswith("/"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(url)
        elif url == "tcp":
            s = socket.create_connection(("127.0.0.1", 7412), timeout=10)
        else:
            s = socket.create_connection(("10.77.0.1", 7411), timeout=10)
            kind = i % 8
            if kind == 1:
                s.sendall(bytes.fromhex("16030100c8010000c4"))      # a ClientHello that breaks off
                s.close()
                continue
            if kind == 2:
                held.append(s)                                        # connects and says nothing
                if len(held) > 50:
                    held.pop(0).close()
                continue
            if kind in (0, 4):
                s = context.wrap_socket(s, server_hostname="10.77.0.1")
        s.settimeout(10)
        what = i % 5
        if what == 0:
            s.sendall(struct.pack(">I", 500) + b"half a frame")
        elif what == 1:
            s.sendall(random.randbytes(200))
        elif what == 2:
            s.sendall(struct.pack(">I", 14) + b"\\x10\\x01\\x4a\\x0a\\x0a\\x01\\x01\\x12\\x05wrong")
        elif what == 3:
            s.sendall(b"\\0" * 64)
        s.close()
    except OSError:
        pass
[s.close() for s in held]
print("done")
"""


def server_state(lab):
    pid = lab.program("policy", "posternd").pid()
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{pid}/fd")), rss


def python_speaks_it(lab):
    with tempfile.TemporaryDirectory() as folder, WireHere(lab, "inspector"):
        pb = generate(folder)
        with open(f"{lab.folder}/inspector.token", encoding="ascii") as f:
            token = f.read().strip()
        ca = f"{lab.folder}/policy/ca.pem"
        connection = Connection("tls+tcp://10.77.0.1:7411", token, pb, ca)
        assert connection.welcome.principal == "inspector" and connection.welcome.role == "filter"
        grants = pb["grants"]
        reply = connection.call("Grants/Request", grants.GrantRequest(gateway="gw1", client=CLIENT[6], remote=REMOTE[6], remote_port=1046,
                                                                      transport=6, protocol="ftp", notify=True, context=b"\x00\xff"),
                                grants.GrantReply)
        assert reply.grant.state == 2 and reply.timing.commit_us > 0
        watch = connection.stream("Events/Watch", pb["events"].WatchRequest(cursor=0), pb["events"].EventBatch)
        seen = next(batch for batch in watch if batch.entries)
        assert seen.entries[0].grant == reply.grant.id and seen.entries[0].context == b"\x00\xff"
        connection.close()
        local = Connection(f"ipc://{lab.folder}/policy/posternd.sock", token, pb)
        try:
            local.call("Grants/Cancel", grants.GrantCancelRequest(id="nonsense"), grants.GrantReply)
            raise AssertionError("must be refused")
        except WireError as error:
            assert error.status == 3 and error.detail.field == "id"
        cancelled = local.call("Grants/Cancel", grants.GrantCancelRequest(id=reply.grant.id), grants.GrantReply)
        assert cancelled.grant.state == 5
        local.close()
        try:
            Connection("tls+tcp://10.77.0.1:7411", "pst_filter_wrong", pb, ca)
            raise AssertionError("must be refused")
        except WireError as error:
            assert error.status == 16


def thousands_of_bad_peers_leave_nothing(lab):
    for target, peers in (("tls", 1000), ("tcp", 3000), (f"{lab.folder}/policy/posternd.sock", 3000)):
        host = "inspector" if target == "tls" else "policy"
        # A first round fills caches and pools; the second must not grow anything.
        lab.run(host, "python3", "-c", CHURN, target, f"{lab.folder}/policy/ca.pem", str(peers // 2), timeout=120)
        wait_until(lambda: server_state(lab)[0] < 60, "descriptors are given back", 20)
        files, memory = server_state(lab)
        lab.run(host, "python3", "-c", CHURN, target, f"{lab.folder}/policy/ca.pem", str(peers), timeout=120)
        wait_until(lambda: server_state(lab)[0] <= files, "no descriptor is left over", 20)  # noqa: B023
        grown = server_state(lab)[1] - memory
        assert grown < 8192, f"memory grew by {grown} KiB"
        lab.run("inspector", "postern", "grant", "list")


if __name__ == "__main__":
    main([python_speaks_it, thousands_of_bad_peers_leave_nothing])
