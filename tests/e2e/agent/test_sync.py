"""A whole agent with real packets and without a server: renewals, doors of every kind, audits, external addresses and cuts.

Defends I2 (what nobody wants is closed), I4 (a renewal arms nothing anew) and I7 (a restart disturbs nobody), over IPv4 and IPv6.
usage: test_sync.py DRIVER [TEST]...
"""
import socket
import sys
import threading
import time

import netns
from agent_lab import STRANGER, agent, connect, connection, connection_through, door, listening, main, new_id, passes
from lab import ADDR, CLIENT, FAMILY, GATEWAY, REMOTE, at_gateway, connects, wait_until


# ---- renewals ----

def renewal(v, how):
    grant = new_id()
    with agent(renewal=how) as a, listening(v, 8000):
        a.snapshot(door(v, grant, 8000, most=2, timeout=3000))
        assert connects(v, 8000)
        a.wait("opened")
        a.item(door(v, grant, 8000, most=2, made=1, timeout=30000))
        held = a.doors()[grant]
        assert 28000 < held["timeout"] <= 30000, held
        assert held["counter"] == 1 and held["state"] == "whole", held
        assert connects(v, 8000), "one use is left"
        assert not connects(v, 8000, seconds=0.5), "the renewal armed it anew"
        a.item(door(v, grant, 8000, most=2, made=1, timeout=2000))
        assert a.doors()[grant]["timeout"] <= 2000, "shorter"


def test_a_renewal_moves_the_time_and_arms_nothing(v):
    renewal(v, "in-place")


def test_a_renewal_by_replacement_too(v):
    renewal(v, "replace")


def expired(v, how):
    """The kernel closed it a moment before the renewal came."""
    grant = new_id()
    with agent(renewal=how) as a, listening(v, 8001):
        a.snapshot(door(v, grant, 8001, most=3, timeout=1000))
        assert connects(v, 8001)
        wait_until(lambda: a.doors().get(grant, {"state": "expired"})["state"] == "expired", "the door has expired", 5)
        assert not connects(v, 8001, seconds=0.5)
        _, refused = a.item(door(v, grant, 8001, most=3, made=0, timeout=20000))
        assert not refused, refused
        assert connects(v, 8001) and connects(v, 8001), "two of three are left"
        assert not connects(v, 8001, seconds=0.5), "the first use was forgotten"


def test_a_door_that_expired_is_added_with_what_is_left(v):
    expired(v, "in-place")


def test_a_door_that_expired_is_made_whole(v):
    expired(v, "replace")


def test_a_snapshot_makes_missed_renewals_good(v):
    longer, shorter, same = new_id(), new_id(), new_id()
    with agent() as a:
        a.snapshot(door(v, longer, 8002, timeout=5000), door(v, shorter, 8003, timeout=60000), door(v, same, 8004, timeout=60000))
        a.snapshot(door(v, longer, 8002, timeout=50000), door(v, shorter, 8003, timeout=5000), door(v, same, 8004, timeout=59500))
        held = a.doors()
        assert held[longer]["timeout"] > 48000, held
        assert held[shorter]["timeout"] <= 5000, held
        assert held[same]["timeout"] > 59000, "half a second is no reason to touch it: %s" % held


# ---- doors of every kind ----

def every_kind(v):
    client, remote, outside = ADDR[v][CLIENT], ADDR[v][REMOTE], ADDR[v][GATEWAY]
    several = ",".join(sorted([remote, STRANGER[v]], key=lambda a: socket.inet_pton(FAMILY[v], a)))
    return {kind: "door %s %s 3 0 60000 %s" % (new_id(), what, nat) for kind, what, nat in [
        ("exact", "%s %s 7000 0 tcp" % (client, remote), ""),
        ("send-only", "%s %s 7001 0 udp1" % (client, remote), ""),
        ("range", "%s %s 7010 7019 tcp" % (client, remote), ""),
        ("from an address", "%s %s 7002 0 tcp" % (client, remote), "snat %s 0" % outside),
        ("from an address and port", "%s %s 7003 0 tcp" % (client, remote), "snat %s 4003" % outside),
        ("a range from an address", "%s %s 7020 7029 udp" % (client, remote), "snat %s 0" % outside),
        ("inbound", "%s %s 6000 0 tcp" % (remote, client), ""),
        ("inbound from anybody", "- %s 6001 0 udp" % client, ""),
        ("inbound from several", "%s %s 6002 0 tcp" % (several, client), ""),
        ("inbound, translated", "%s %s 6003 0 tcp" % (remote, client), "dnat %s 61003" % outside),
        ("anybody, translated", "- %s 6004 0 tcp" % client, "dnat %s 61004" % outside),
        ("several, translated", "%s %s 6005 0 udp1" % (several, client), "dnat %s 61005" % outside),
    ]}


def snapshots(v, how):
    doors = every_kind(v)
    count = len(doors)
    with agent(renewal=how) as a:
        assert a.renewal == how
        _, refused = a.snapshot(*doors.values())
        assert not refused, refused
        assert a.last_repair()["added"] == count, a.last_repair()
        assert [one["state"] for one in a.doors().values()] == ["whole"] * count, a.doors()
        a.snapshot(*doors.values())
        assert a.last_repair() == {"kept": count, "added": 0, "renewed": 0, "removed": 0, "refused": 0}, a.last_repair()
        a.kill()
        with agent(keep=True, renewal=how) as again:
            again.snapshot(*[line.replace(" 60000 ", " 30000 ") for line in doors.values()])
            assert again.last_repair() == {"kept": 0, "added": 0, "renewed": count, "removed": 0, "refused": 0}, \
                again.last_repair()
            held = again.doors()
            assert all(28000 < one["timeout"] <= 30000 for one in held.values()), held
            for kind, line in doors.items():
                again.item("removed " + line.split()[1])
                assert line.split()[1] not in again.doors(), kind
            again.snapshot()
            assert again.last_repair() == {"kept": 0, "added": 0, "renewed": 0, "removed": 0, "refused": 0}, again.last_repair()


def test_what_is_as_wanted_is_left_alone(v):
    snapshots(v, "in-place")


def test_what_is_as_wanted_is_left_alone_by_replacement(v):
    snapshots(v, "replace")


def test_another_door_of_the_same_grant_has_what_is_left(v):
    grant = new_id()
    with agent() as a, listening(v, 8005), listening(v, 8006):
        a.snapshot(door(v, grant, 8005, most=2))
        assert connects(v, 8005)
        a.item(door(v, grant, 8006, most=2))
        assert not connects(v, 8005, seconds=0.5)
        assert connects(v, 8006)
        assert not connects(v, 8006, seconds=0.5), "the use of the first one was forgotten"


def test_a_translated_flow_is_told_with_both_tuples(v):
    grant = new_id()
    with agent() as a, listening(v, 8008) as listener:
        a.snapshot(door(v, grant, 8008, nat="snat %s 4008" % ADDR[v][GATEWAY]))
        ours = connect(v, 8008)
        theirs, peer = listener.accept()
        assert peer[:2] == (ADDR[v][GATEWAY], 4008), peer
        told = [line for line in a.wait("opened") if line[0] == "opened"][0]
        ours.close()
        theirs.close()
        ended = [line for line in a.wait("closed") if line[0] == "closed"][0]
        for line in (told, ended):
            client, remote, reply_from, reply_to = line[5:9]
            brackets = "[%s]:%d" if v == 6 else "%s:%d"
            assert remote == reply_from == brackets % (ADDR[v][REMOTE], 8008), line
            assert client.startswith((brackets % (ADDR[v][CLIENT], 0))[:-1]), line
            assert reply_to == brackets % (ADDR[v][GATEWAY], 4008), line


def test_audits_find_the_uses_of_every_kind_of_door(v):
    several = ",".join(sorted([ADDR[v][REMOTE], STRANGER[v]], key=lambda a: socket.inet_pton(FAMILY[v], a)))
    exact, wide, anybody, translated = (new_id() for _ in range(4))
    client, remote = ADDR[v][CLIENT], ADDR[v][REMOTE]
    with agent() as a, listening(v, 7015), listening(v, 6004, CLIENT), listening(v, 6005, CLIENT):
        a.snapshot("door %s %s %s 7015 0 tcp 3 0 60000" % (exact, client, remote),
                   "door %s %s %s 7016 7019 tcp 3 0 60000" % (wide, client, remote),
                   "door %s - %s 6004 0 tcp 3 0 60000" % (anybody, client),
                   "door %s %s %s 6005 0 tcp 0 0 60000 dnat %s 61005" % (translated, several, client, ADDR[v][GATEWAY]))
        netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 0})
        try:
            with listening(v, 7017), listening(v, 7018):
                connect(v, 7015).close()
                connect(v, 7017).close()
                connect(v, 7018).close()
            connect(v, 6004, at=REMOTE, to=client).close()
            for _ in range(3):
                connect(v, 61005, at=REMOTE, to=ADDR[v][GATEWAY]).close()
        finally:
            netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 1})
        missed = {}
        end = time.monotonic() + 8
        while len(missed) < 4 and time.monotonic() < end:
            missed.update({line[1]: int(line[4]) for line in a.wait("missed", 8000) if line[0] == "missed"})
        assert missed == {exact: 1, wide: 2, anybody: 1, translated: 3}, missed


def test_audits_take_away_what_expired_doors_leave(v):
    for how in ("in-place", "replace"):
        with agent(renewal=how) as a:
            a.snapshot(*[line.replace(" 60000 ", " 300 ") for line in every_kind(v).values()])

            def swept():
                a.reports("missed", 300)  # lets the agent run
                return not a.doors()
            wait_until(swept, lambda: "nothing is left of expired doors, %s: %s" % (how, a.doors()), 10)
            left = at_gateway("nft", "list", "table", "inet", "postern")
            for kind, line in every_kind(v).items():
                assert line.split()[3] not in left, "%s: %s" % (kind, left)


# ---- others' hands ----

def test_a_counter_that_somebody_deletes_is_made_again(v):
    grant = new_id()
    with agent() as a, listening(v, 8015):
        a.snapshot("door %s %s %s 8010 8019 tcp 2 0 60000" % (grant, ADDR[v][CLIENT], ADDR[v][REMOTE]))
        assert connects(v, 8015)
        a.wait("opened")
        assert a.reports("missed", 1500) == [], "the next audit is far away"
        at_gateway("nft", "flush map inet postern wc%d; delete counter inet postern g%s" % (v, grant))
        assert a.doors()[grant]["state"] == "incomplete", a.doors()

        def repaired():
            a.reports("missed", 100)  # lets the agent run
            return a.doors()[grant]["state"] == "whole"
        wait_until(repaired, lambda: "the door is whole again: %s" % a.doors(), 5)
        assert connects(v, 8015)
        assert not connects(v, 8015, seconds=0.5), "never more than granted"


# ---- external addresses ----

def test_external_addresses_must_be_the_gateways(v):
    foreign, own, taken = new_id(), new_id(), new_id()
    with agent() as a:
        with netns.inside(GATEWAY):
            program = socket.create_server((ADDR[v][GATEWAY], 61000), family=FAMILY[v])
        with program:
            a.snapshot()
            _, refused = a.item(door(v, foreign, 8005, nat="snat %s 0" % STRANGER[v]),
                                door(v, own, 8006, nat="snat %s 0" % ADDR[v][GATEWAY]),
                                door(v, taken, 8007, nat="dnat %s 61000" % ADDR[v][GATEWAY]))
            assert own not in refused, refused
            kind, why = refused[foreign]
            assert kind == "else" and why.startswith("gateway does not own %s: it has " % STRANGER[v]), refused
            assert ADDR[v][GATEWAY] in why.replace(",", "").split(), refused
            kind, why = refused[taken]
            assert kind == "taken" and "61000" in why, refused
        _, refused = a.item(door(v, taken, 8007, nat="dnat %s 61000" % ADDR[v][GATEWAY]))
        assert not refused, refused


def test_a_door_that_expired_is_not_renewed_over_a_program(v):
    """The port was the door's as long as it was open; now a program of the gateway has it."""
    grant, outside = new_id(), "dnat %s 61001" % ADDR[v][GATEWAY]
    with agent() as a:
        a.snapshot(door(v, grant, 8005, timeout=1000, nat=outside))
        wait_until(lambda: a.doors().get(grant, {"state": "expired"})["state"] == "expired", "the door has expired", 5)
        with netns.inside(GATEWAY):
            program = socket.create_server((ADDR[v][GATEWAY], 61001), family=FAMILY[v])
        with program:
            _, refused = a.item(door(v, grant, 8005, timeout=20000, nat=outside))
            kind, why = refused[grant]
            assert kind == "taken" and "61001" in why, refused


# ---- cuts ----

def test_a_cut_ends_flows_before_it_is_acknowledged(v):
    grant, other = new_id(), new_id()
    with agent() as a, connection_through(v, a, 8010, grant) as (ours, theirs), \
            connection_through(v, a, 8011, other) as (others, theirs_too):
        assert passes(ours, theirs) and passes(theirs, ours)
        reports, _ = a.item("removed " + grant, "cut " + grant)
        kinds = [line[0] for line in reports if line[1] == grant]
        assert "closed" in kinds, "the end is told before APPLIED: %s" % reports
        assert not passes(ours, theirs, 0.5), "it resumed in its midst"
        assert not passes(theirs, ours, 0.5)
        assert passes(others, theirs_too), "another grant's flow"


def test_a_cut_of_what_events_have_not_told_of(v):
    grant = new_id()
    with agent() as a, connection_through(v, a, 8012, grant, most=0) as (ours, theirs):
        # The agent's loop does not run between commands: it has not seen this flow.
        reports, _ = a.item("removed " + grant, "cut " + grant)
        kinds = [line[0] for line in reports]
        assert kinds == ["opened", "closed"], reports
        assert not passes(ours, theirs, 0.5)


def test_a_cut_of_what_no_event_ever_told_of(v):
    """Nor does any book know its grant: conntrack is asked. It gives no events of what began while they were off."""
    grant = new_id()
    with agent() as a:
        a.snapshot(door(v, grant, 8016))
        a.kill()
        with agent(keep=True) as again:
            netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 0})
            try:
                with connection(v, 8016) as (ours, theirs):
                    netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 1})
                    reports, _ = again.snapshot("cut " + grant)
                    assert [line[:2] for line in reports] == [["opened", grant]], reports
                    assert not passes(ours, theirs, 0.5)
            finally:
                netns.sysctl(GATEWAY, {"net.netfilter.nf_conntrack_events": 1})


def test_a_cut_after_a_restart_of_a_grant_that_ended(v):
    grant = new_id()
    with agent() as a:
        a.snapshot(door(v, grant, 8013))
        with connection(v, 8013) as (ours, theirs):
            a.kill()
            with agent(keep=True) as again:
                reports, _ = again.snapshot("cut " + grant)
                assert [line[0] for line in reports][-1:] == ["closed"], reports
                assert not passes(ours, theirs, 0.5)


def test_nobody_slips_through_a_cut(v):
    """Clients race through an open door while it is removed and cut: none of them is left."""
    grant = new_id()
    with agent() as a, listening(v, 8014) as listener:
        listener.setblocking(False)
        a.snapshot(door(v, grant, 8014, most=0))
        with netns.inside(CLIENT):
            racing = [socket.socket(FAMILY[v], socket.SOCK_STREAM) for _ in range(400)]
        stop, amid = threading.Event(), threading.Event()

        def race():
            for i, one in enumerate(racing):
                if stop.is_set():
                    return
                if i == 40:
                    amid.set()
                one.setblocking(False)
                one.connect_ex((ADDR[v][REMOTE], 8014))
        thread = threading.Thread(target=race)
        thread.start()
        try:
            assert amid.wait(5)
            reports, _ = a.item("removed " + grant, "cut " + grant)
            opened, closed = ([line[:2] for line in reports].count([kind, grant]) for kind in ("opened", "closed"))
            assert opened == closed >= 40, reports
            left = at_gateway("conntrack", "-L", "-f", "ipv%d" % v, "--mark", "0x80000000/0x80000000")
            assert "dport=8014" not in left, left
        finally:
            stop.set()
            thread.join()
            for one in racing:
                one.close()


def test_a_cut_of_nothing_is_acknowledged(v):
    with agent() as a:
        a.snapshot()
        reports, _ = a.item("cut " + new_id())
        assert reports == [], reports


if __name__ == "__main__":
    sys.exit(main(globals()))
