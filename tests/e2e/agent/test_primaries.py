"""Primary connections of sessions, followed by a whole agent with real packets and without a server.

Each one's end is told, once and at once; one that is not there has ended before its item is acknowledged; over IPv4 and IPv6.
usage: test_primaries.py DRIVER [TEST]...
"""
import socket
import sys
import time

import netns
from agent_lab import agent, connection, connection_through, main, new_id
from lab import ADDR, CLIENT, GATEWAY, at_gateway


# ---- primary connections ----

def primary(v, session, ours=None, client=None, remote=None, kind="tcp"):
    client = client or ours.getsockname()[:2]
    remote = remote or ours.getpeername()[:2]
    return "primary %s %s %s %d %s %d" % (session, kind, client[0], client[1], remote[0], remote[1])


def mark_of(v, port):
    listed = at_gateway("conntrack", "-L", "-f", "ipv%d" % v, "-p", "tcp", "--dport", str(port))
    return int(listed.split("mark=")[1].split()[0])


def test_a_primary_is_followed_to_its_end(v):
    session = new_id()
    with agent(mode="overlay") as a, connection(v, 21) as (ours, theirs):
        at_gateway("conntrack", "-U", "-f", "ipv%d" % v, "-p", "tcp", "--dport", "21", "-m", "5")
        a.snapshot()
        reports, _ = a.item(primary(v, session, ours))
        assert reports == [], reports
        assert mark_of(v, 21) == 0x20000005, "other programs' bits stay: %x" % mark_of(v, 21)
        assert a.reports("primary-ended", 1500) == []
        began = time.monotonic()
        ours.close()
        theirs.close()
        reports = a.wait("primary-ended")
        assert [line[2] for line in reports] == [session], reports
        assert time.monotonic() - began < 0.8, "an event tells, not the slow round"
        assert a.reports("primary-ended", 1500) == [], "once"


def test_a_reset_ends_it_too(v):
    session = new_id()
    with agent(mode="overlay") as a, connection(v, 21) as (ours, theirs):
        a.snapshot(primary(v, session, ours))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ours.close()
        assert [line[2] for line in a.wait("primary-ended", 800)] == [session]
        theirs.close()


def test_one_that_is_not_there_has_ended_before_applied(v):
    session, reversed_one = new_id(), new_id()
    with agent(mode="overlay") as a, connection(v, 21) as (ours, _):
        a.snapshot()
        reports, _ = a.item(primary(v, session, ours, client=(ADDR[v][CLIENT], 1)))
        assert [(line[0], line[2]) for line in reports] == [("primary-ended", session)], reports
        # The remote did not open it.
        reports, _ = a.item(primary(v, reversed_one, client=ours.getpeername()[:2], remote=ours.getsockname()[:2]))
        assert [(line[0], line[2]) for line in reports] == [("primary-ended", reversed_one)], reports


def test_a_primary_is_found_from_both_sides_of_a_translation(v):
    inside, outside = new_id(), new_id()
    with agent(mode="overlay") as a:
        family = "ip" if v == 4 else "ip6"
        at_gateway("nft", "add table %s t; add chain %s t c { type nat hook postrouting priority 100; }; "
                   "add rule %s t c tcp dport 2121 masquerade" % (family, family, family))
        a.snapshot()
        with connection(v, 2121) as (ours, theirs):
            assert theirs.getpeername()[0] == ADDR[v][GATEWAY]
            reports, _ = a.item(primary(v, inside, ours),
                                primary(v, outside, client=theirs.getpeername()[:2], remote=theirs.getsockname()[:2]))
            assert reports == [], reports
        reports = a.wait("primary-ended")
        assert sorted(line[2] for line in reports) == sorted([inside, outside]), reports


def test_a_restart_finds_primaries_again(v):
    lives, ends = new_id(), new_id()
    with agent(mode="overlay") as a, connection(v, 21) as (ours, theirs), connection(v, 22) as (short, its):
        lines = primary(v, lives, ours), primary(v, ends, short)
        a.snapshot(*lines)
        a.kill()
        short.close()
        its.close()
        with agent(keep=True, mode="overlay") as again:
            reports, _ = again.snapshot(*lines)
            assert [line[2] for line in reports if line[0] == "primary-ended"] == [ends], reports
            ours.close()
            theirs.close()
            assert [line[2] for line in again.wait("primary-ended", 800)] == [lives], "an event tells, before the slow round"


def test_the_slow_round_finds_what_gives_no_events(v):
    session = new_id()
    netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 0})
    try:
        with connection(v, 23) as (ours, theirs):
            with agent(keep=True, mode="overlay") as a:
                reports, _ = a.snapshot(primary(v, session, ours))
                assert reports == [], reports
                ours.close()
                theirs.close()
                assert [line[2] for line in a.wait("primary-ended", 5000)] == [session]
    finally:
        netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 1})


def test_a_primary_that_nobody_follows_loses_its_mark(v):
    session = new_id()
    with agent(mode="overlay") as a, connection(v, 21) as (ours, theirs):
        a.snapshot(primary(v, session, ours))
        assert mark_of(v, 21) == 0x20000000
        a.item("unfollow " + session)
        assert mark_of(v, 21) == 0
        ours.close()
        theirs.close()
        assert a.reports("primary-ended", 1200) == []


def test_a_granted_connection_may_be_a_primary(v):
    grant, session = new_id(), new_id()
    with agent() as a, connection_through(v, a, 8020, grant) as (ours, theirs):
        a.item(primary(v, session, ours))
        ours.close()
        theirs.close()
        reports = a.wait("primary-ended")
        if not any(line[0] == "closed" for line in reports):
            reports += a.wait("closed")
        assert [line[1] for line in reports if line[0] == "closed"] == [grant], reports


if __name__ == "__main__":
    sys.exit(main(globals()))
