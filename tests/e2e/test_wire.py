#!/usr/bin/python3
"""The wire from another language (docs/PROTOCOL.md), and thousands of peers that behave badly: nothing is left of them."""
import json
import os
import sys
import tempfile

from e2e import CLIENT, REMOTE, WireHere, main, wait_until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire"))
from postern_wire import Connection, WireError, generate  # noqa: E402

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire", "postern_wire.py")
CHURN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire", "churn.py")


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


def many_calls_on_one_connection(lab):
    """Many in flight, finished in the other order; a stream beside them."""
    with tempfile.TemporaryDirectory() as folder:
        pb = generate(folder)
        with open(f"{lab.folder}/policy/admin.token", encoding="ascii") as f:
            token = f.read().strip()
        connection = Connection(f"ipc://{lab.folder}/policy/posternd.sock", token, pb)
        gateways, events = pb["gateways"], pb["events"]
        watch = connection.stream("Events/Watch", events.WatchRequest(cursor=0), events.EventBatch, window=1)
        first = next(watch)
        calls = [connection.start("Gateways/Show", gateways.GatewayShowRequest(name="gw1")) for _ in range(200)]
        for number in reversed(calls):
            assert connection.finish(number, gateways.Gateway).name == "gw1"
        assert first.entries and first.cursor == first.entries[-1].sequence
        watch.close()
        assert connection.call("Gateways/Show", gateways.GatewayShowRequest(name="gw1"), gateways.Gateway).connected
        connection.close()


def the_program_speaks_it(lab):
    def say(*words):
        return lab.run("inspector", "/usr/bin/python3", PROGRAM, *words, check=False)
    done = say("hello")
    assert json.loads(done.stdout)["role"] == "filter", done.stderr
    done = say("watch", "Grants/List", "{}", "--count", "1000")
    assert done.returncode == 0, done.stderr
    done = say("call", "Gateways/Add", '{"name": "gw9"}')
    assert done.returncode == 1 and done.stderr.startswith("status 7"), done.stderr


def thousands_of_bad_peers_leave_nothing(lab):
    for url, peers in (("tls+tcp://10.77.0.1:7411", 500), ("tcp://127.0.0.1:7412", 2000),
                       (f"ipc://{lab.folder}/policy/posternd.sock", 2000)):
        host = "inspector" if url.startswith("tls") else "policy"

        def churn(count):
            lab.run(host, "/usr/bin/python3", CHURN, url, f"{lab.folder}/policy/ca.pem",  # noqa: B023
                    f"{lab.folder}/policy/admin.token", str(count), timeout=120)
        # A first round fills caches and pools; the second must not grow anything.
        churn(peers // 2)
        wait_until(lambda: server_state(lab)[0] < 60, "descriptors are given back", 20)
        files, memory = server_state(lab)
        churn(peers)
        wait_until(lambda: server_state(lab)[0] <= files, "no descriptor is left over", 20)  # noqa: B023
        grown = server_state(lab)[1] - memory
        assert grown < 8192, f"memory grew by {grown} KiB"
        lab.run("inspector", "postern", "grant", "list")


if __name__ == "__main__":
    main([python_speaks_it, many_calls_on_one_connection, the_program_speaks_it, thousands_of_bad_peers_leave_nothing])
