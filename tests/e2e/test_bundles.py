#!/usr/bin/python3
"""Same key twice (row 15), request ids (16), wait and deadline (17, with a cut link), bundles (19), reserve and commit (24).

With real packets over IPv4 and IPv6."""
import uuid

from e2e import CLIENT, EXTERNAL, REMOTE, Try, main
from talk import (ACTIVE, ALREADY_ENDED, ALREADY_EXISTS, BIDIRECTIONAL, BUNDLE_FAILED, CANCELLED, CANCELLED_BY_FILTER, DEADLINE, DEADLINE_EXCEEDED,
                  DEADLINE_MISSED, DECIDED, EXTERNAL_TAKEN, FAILED_PRECONDITION, GATEWAY_REFUSED, INVALID_ARGUMENT, NO_SUCH_GATEWAY, NOT_FOUND, PENDING,
                  PERMISSION_DENIED, PROTOCOL_RULES, QUOTA, REFUSED_BY_GATEWAY, RESERVATION_TIMEOUT, RESERVED, RESOURCE_EXHAUSTED, UDP,
                  USED_UP, expect_error, refused)
from traffic import silent

PORT = 1046
CLIENT_PORT = 5060
RTP = 16384
NOT_OURS = {4: "10.77.2.222", 6: "fd77:2::222"}
RESERVATION_S = 5


def out(family, port=PORT):
    return Try("client1", CLIENT[family], REMOTE[family], port)


# ---- row 15 ----

def row15_the_second_is_armed_when_the_first_ends(lab):
    """Used up, cancelled, expired; each has its own flows in the journal."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        queue = [lab.inspector.request(wait=DECIDED, **lab.outbound(family, PORT, lifetime_ms=life)) for life in (60000, 60000, 1000, 60000)]
        first, second, third, last = queue
        lab.journal.wait("installed", first)
        assert [lab.inspector.show(g).state for g in queue] == [ACTIVE, PENDING, PENDING, PENDING]
        lab.pair(out(family), listener).close()
        lab.journal.ended(first, USED_UP)
        lab.journal.wait("installed", second)
        lab.inspector.cancel(second)
        if lab.journal.wait("ended", third, deadline_s=5):  # its time ran out while it waited, or at the front
            lab.journal.wait("installed", last)
        lab.pair(out(family), listener).close()
        lab.closed(out(family))
        lab.journal.ended(last, USED_UP)
        assert [lab.journal.uses(g) for g in queue] == [1, 0, 0, 1]


def row15_inbound_and_any_number(lab):
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        attempt = Try("remote1", REMOTE[family], CLIENT[family], CLIENT_PORT)
        queue = [lab.inspector.request(wait=DECIDED, **lab.inbound(family, CLIENT_PORT)) for _ in range(3)]
        for grant in queue:
            lab.journal.wait("installed", grant)
            lab.pair(attempt, listener).close()
            lab.journal.ended(grant, USED_UP)
            assert lab.journal.uses(grant) == 1
        lab.closed(attempt)


# ---- row 16 ----

def row16_the_same_id_is_the_same_grant(lab):
    """I6, also after a server restart, also when it has ended; with other content it is refused."""
    for family in (4, 6):
        for fields, other in ((lab.outbound(family, PORT), {"remote_port": PORT + 1}),
                              (lab.outbound(family, PORT, external=EXTERNAL[family]), {"external": ""}),
                              (lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family]), {"client_port": CLIENT_PORT + 1})):
            request = str(uuid.uuid4())
            first = lab.inspector.request(**fields, request_id=request)
            again = lab.inspector.request(**fields, request_id=request)
            assert (again.id, again.external_port) == (first.id, first.external_port)
            lab.restart_server()
            again = lab.inspector.request(**fields, request_id=request)
            assert (again.id, again.external_port, again.state) == (first.id, first.external_port, ACTIVE), again
            refused(lab.inspector, ALREADY_EXISTS, **{**fields, **other}, request_id=request)
            lab.inspector.cancel(first)
            assert lab.inspector.request(**fields, request_id=request).state == CANCELLED
        assert lab.second.request(**lab.outbound(family, PORT), request_id=request).id != first.id, "of another filter it is another id"


# ---- row 17 ----

def link(lab, up):
    lab.run("policy", "ip", "link", "set", "m-gw1", "up" if up else "down")


def row17_decided_and_installed(lab):
    """I1: decided = on disk; installed = the kernel has acknowledged."""
    for family in (4, 6):
        installed = lab.inspector.request(**lab.outbound(family, PORT))
        assert installed.state == ACTIVE and lab.holds(installed)
        lab.journal.wait("installed", installed)
        lab.program("gw1", "postern-agent").end(19, wait=False)  # it cannot acknowledge while it is stopped
        try:
            decided = lab.inspector.request(wait=DECIDED, **lab.outbound(family, PORT + 1))
            assert decided.state == PENDING and not lab.holds(decided)
            assert lab.journal.wait("granted", decided) and not lab.journal.of("installed", decided)
        finally:
            lab.program("gw1", "postern-agent").end(18, wait=False)
        lab.journal.wait("installed", decided)
        assert lab.holds(decided)


def row17_a_deadline_passes_while_the_link_is_cut(lab):
    """Withdrawn everywhere, and it stays withdrawn when the link heals: single grants, of both directions, and bundles."""
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        link(lab, False)
        try:
            for act in (lambda: lab.inspector.request(300, **lab.outbound(family, PORT)),  # noqa: B023
                        lambda: lab.inspector.request(300, **lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family],  # noqa: B023
                                                                        external_port=7000)),
                        lambda: lab.inspector.bundle([lab.outbound(family, PORT + 1), lab.outbound(family, PORT + 2)],  # noqa: B023
                                                     deadline_ms=300)):
                expect_error(act, DEADLINE_EXCEEDED, DEADLINE)
            withdrawn = [e for e in lab.journal.catch_up() if e.kind == 30][-4:]
            for entry in withdrawn:
                lab.journal.ended(entry.grant, DEADLINE_MISSED)
        finally:
            link(lab, True)
        lab.joined("gw1")
        later = lab.inspector.request(20000, **lab.outbound(family, PORT + 9))  # what was on its way is through when this one is
        assert later.state == ACTIVE
        lab.closed(out(family), Try("remote1", REMOTE[family], EXTERNAL[family], 7000))
        table = lab.table()
        assert str(PORT + 1) not in table and str(PORT + 2) not in table and "7000" not in table, table
        assert len(lab.inspector.live()) == 1
        again = lab.inspector.request(**lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7000))
        assert again.state == ACTIVE, "its external port is free again"
        lab.inspector.cancel_all()


# ---- row 19 ----

def media(lab, family, **more):
    """A call's media: RTP and RTCP, out and in."""
    udp = {"transport": UDP, "protocol": "rtp", "flags": BIDIRECTIONAL, **more}
    return [lab.outbound(family, RTP, **udp), lab.outbound(family, RTP + 1, **udp),
            lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=RTP, **udp),
            lab.inbound(family, CLIENT_PORT + 1, external=EXTERNAL[family], external_port=RTP + 1, **udp)]


def row19_one_call_one_id_one_cancel(lab):
    for family in (4, 6):
        transactions = len(lab.journal.catch_up())
        bundle, grants = lab.inspector.bundle(media(lab, family))
        assert uuid.UUID(bundle) and all(g.bundle == bundle and g.state == ACTIVE for g in grants)
        assert [(g.remote_port, g.client_port) for g in grants] == [(RTP, 0), (RTP + 1, 0), (0, CLIENT_PORT), (0, CLIENT_PORT + 1)]
        for i in (0, 1):
            with lab.udp("client1", CLIENT[family], CLIENT_PORT + i) as client, lab.udp("remote1", REMOTE[family], RTP + i) as remote:
                assert lab.datagram(client, (REMOTE[family], RTP + i), remote), "out"
                if i == 0:
                    continue  # inbound RTP stays unused
                with lab.udp("remote1", REMOTE[family]) as sender:
                    assert lab.datagram(sender, (EXTERNAL[family], RTP + i), client) == sender.getsockname()[:2], "in"
        lab.journal.ended(grants[3], USED_UP)
        lab.inspector.cancel_bundle(bundle)
        lab.journal.ended(grants[2], CANCELLED_BY_FILTER)
        lab.journal.catch_up()
        assert {e.bundle for e in lab.journal.entries[transactions:] if e.kind == 30} == {bundle}
        expect_error(lambda: lab.inspector.cancel_bundle(bundle), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        expect_error(lambda: lab.second.cancel_bundle(bundle), NOT_FOUND)  # noqa: B023
        for grant in grants:
            lab.shut(grant)


def row19_cancel_with_cut(lab):
    for family in (4, 6):
        listeners = [lab.listen_at("remote1", REMOTE[family], PORT + i) for i in (0, 1)]
        bundle, grants = lab.inspector.bundle([lab.outbound(family, PORT + i) for i in (0, 1)])
        pairs = [lab.pair(out(family, PORT + i), listeners[i]) for i in (0, 1)]
        for grant in grants:
            lab.journal.ended(grant, USED_UP)
        lab.inspector.cancel_bundle(bundle, cut=True)
        silent(pairs)
        for pair in pairs:
            pair.close()


def row19_all_or_none(lab):
    """A denied, a wrong, an unaffordable and a refused one among good ones; then nothing is open, and the journal says why."""
    few = lab.admin.add_filter("few", max_grants=2)
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        good = lab.outbound(family, PORT)
        for bad, status, reason in ((lab.outbound(family, 2000, protocol="gopher"), PERMISSION_DENIED, PROTOCOL_RULES),
                                    (lab.outbound(family, 0), INVALID_ARGUMENT, 0),
                                    (lab.outbound(family, 2000, flags=BIDIRECTIONAL), INVALID_ARGUMENT, 0),
                                    (lab.outbound(family, 2000, gateway="gw9"), NOT_FOUND, NO_SUCH_GATEWAY)):
            for members in ([good, bad], [bad, good]):
                before = len(lab.admin.events("granted"))
                expect_error(lambda: lab.inspector.bundle(members), status, reason)  # noqa: B023
                assert len(lab.admin.events("granted")) == before
        expect_error(lambda: few.bundle([lab.outbound(family, 2000 + i) for i in range(3)]), RESOURCE_EXHAUSTED, QUOTA)  # noqa: B023
        assert not few.live()
        for members in ([good, lab.outbound(family, 2000, external=NOT_OURS[family])],
                        [lab.inbound(family, CLIENT_PORT, external=NOT_OURS[family], external_port=7000), good, good | {"remote_port": PORT + 1}]):
            expect_error(lambda: lab.inspector.bundle(members), FAILED_PRECONDITION, GATEWAY_REFUSED, NOT_OURS[family])  # noqa: B023
            ended = [e for e in lab.journal.catch_up() if e.kind == 35][-len(members):]
            assert sorted(e.reason for e in ended) == sorted([REFUSED_BY_GATEWAY] + [BUNDLE_FAILED] * (len(members) - 1)), ended
        lab.closed(out(family))
        assert str(PORT) not in lab.table() and not lab.inspector.live()


def row19_up_to_64(lab):
    for family in (4, 6):
        for port in range(3000, 3064):
            lab.listen_at("remote1", REMOTE[family], port)
        members = [lab.outbound(family, 3000 + i) for i in range(64)]
        expect_error(lambda: lab.inspector.bundle([*members, lab.outbound(family, 3064)]), INVALID_ARGUMENT)  # noqa: B023
        expect_error(lambda: lab.inspector.bundle([]), INVALID_ARGUMENT)
        expect_error(lambda: lab.inspector.bundle([lab.outbound(family, PORT, request_id=str(uuid.uuid4()))]), INVALID_ARGUMENT)  # noqa: B023
        bundle, grants = lab.inspector.bundle(members)
        assert len({g.id for g in grants}) == 64
        sockets = lab.try_all([out(family, 3000 + i) for i in range(64)], 5)
        assert all(sockets)
        for s in sockets:
            s.close()
        for grant in grants:
            lab.journal.ended(grant, USED_UP)


def row19_a_retry_is_the_same_bundle(lab):
    """I6: also after a server restart; chosen ports included."""
    for family in (4, 6):
        members = media(lab, family)[:3]
        members[2] = {**members[2], "external_port": 0}
        name = str(uuid.uuid4())
        bundle, first = lab.inspector.bundle(members, name)
        assert bundle == name
        for restart in (False, True):
            if restart:
                lab.restart_server()
            bundle, again = lab.inspector.bundle(members, name)
            assert bundle == name and [(g.id, g.external_port) for g in again] == [(g.id, g.external_port) for g in first]
        expect_error(lambda: lab.inspector.bundle(members[:2], name), ALREADY_EXISTS)  # noqa: B023
        expect_error(lambda: lab.inspector.bundle([members[1], members[0], members[2]], name), ALREADY_EXISTS)  # noqa: B023
        assert len(lab.inspector.live()) == 3
        lab.inspector.cancel_bundle(name)


# ---- row 24 ----

def row24_reserve_holds_and_commit_opens(lab):
    """No door before; the external port is held; the lifetime begins at the commit. Over restarts of both programs in between."""
    for family in (4, 6):
        out_listener, in_listener = lab.listen_at("remote1", REMOTE[family], PORT), lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        second_listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT + 1)
        into = Try("remote1", REMOTE[family], EXTERNAL[family], 7000)
        outbound = lab.inspector.request(**lab.outbound(family, PORT, lifetime_ms=10000), reserve=True)
        inbound = lab.inspector.request(**lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7000), reserve=True)
        chosen = lab.inspector.request(**lab.inbound(family, CLIENT_PORT + 1, external=EXTERNAL[family]), reserve=True)
        assert chosen.external_port, "chosen already, and told"
        for grant in (outbound, inbound, chosen):
            assert grant.state == RESERVED and not lab.holds(grant), grant
            lab.journal.wait("reserved", grant)
        lab.closed(out(family), into)
        refused(lab.second, FAILED_PRECONDITION, EXTERNAL_TAKEN, **lab.outbound(family, PORT + 1, external=EXTERNAL[family], external_port=7000))
        if family == 6:
            lab.restart_server()
            lab.restart_agent()
            assert lab.inspector.show(inbound).state == RESERVED
        refused(lab.second, FAILED_PRECONDITION, EXTERNAL_TAKEN, **lab.inbound(family, PORT + 1, external=EXTERNAL[family], external_port=7000))
        for grant in (outbound, inbound, chosen):
            committed = lab.inspector.commit(grant)
            assert committed.state == ACTIVE and committed.id == grant.id and lab.inspector.commit(grant).state == ACTIVE, "twice is once"
            assert len(lab.journal.wait("committed", grant)) == 1
        assert 9000 < lab.inspector.show(outbound).left_ms <= 10000
        for attempt, listener in ((out(family), out_listener), (into, in_listener),
                                  (Try("remote1", REMOTE[family], EXTERNAL[family], chosen.external_port), second_listener)):
            pair = lab.pair(attempt, listener)
            assert pair.passes()
            pair.close()


def row24_an_unused_reservation_times_out(lab):
    made = []
    for family in (4, 6):
        place = {"external": EXTERNAL[family], "external_port": 7100}
        made.append((family, 1, lab.inspector.request(**lab.outbound(family, PORT), reserve=True, reservation_ms=1000)))
        made.append((family, RESERVATION_S, lab.inspector.request(**lab.inbound(family, CLIENT_PORT, **place), reserve=True)))
        refused(lab.second, FAILED_PRECONDITION, EXTERNAL_TAKEN, **lab.inbound(family, CLIENT_PORT, **place))
    for family, seconds, grant in made:
        ended = lab.journal.ended(grant, RESERVATION_TIMEOUT)
        assert seconds <= (ended.time_us - grant.created_us) / 1e6 <= seconds + 1
        expect_error(lambda: lab.inspector.commit(grant), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        lab.closed(out(family))
    for family in (4, 6):
        again = lab.second.request(**lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7100))
        assert again.state == ACTIVE, "its port is free"


def row24_it_counts_against_the_quota_and_can_be_cancelled(lab):
    two = lab.admin.add_filter("two", max_grants=2)
    for family in (4, 6):
        reserved = [two.request(**lab.outbound(family, PORT + i), reserve=True) for i in (0, 1)]
        refused(two, RESOURCE_EXHAUSTED, QUOTA, **lab.outbound(family, PORT + 2))
        two.cancel(reserved[0])
        lab.journal.ended(reserved[0], CANCELLED_BY_FILTER)
        expect_error(lambda: two.commit(reserved[0]), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        expect_error(lambda: lab.second.commit(reserved[1]), NOT_FOUND)  # noqa: B023
        plain = two.request(**lab.outbound(family, PORT + 2))
        assert two.commit(plain).state == ACTIVE, "what was never reserved is open as it is"
        assert two.commit(reserved[1]).state == ACTIVE
        for grant in (plain, reserved[1]):
            two.cancel(grant)


def row24_on_the_command_line(lab):
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        remote, place = REMOTE[family], f"[{EXTERNAL[family]}]:7300" if family == 6 else f"{EXTERNAL[family]}:7300"
        client = f"[{CLIENT[family]}]:{CLIENT_PORT}" if family == 6 else f"{CLIENT[family]}:{CLIENT_PORT}"
        grant = lab.json("inspector", "grant", "reserve", "--gateway", "gw1", "--protocol", "ftp", "--inbound", "--client", client, "--from", remote,
                         "--external", place)[0]["grant"]
        assert grant["state"] == "reserved", grant
        lab.closed(Try("remote1", remote, EXTERNAL[family], 7300))
        assert lab.json("inspector", "grant", "commit", grant["id"])[0]["grant"]["state"] == "active"
        lab.pair(Try("remote1", remote, EXTERNAL[family], 7300), listener).close()


def setup(lab):
    lab.second = lab.admin.add_filter("second")
    lab.admin.register("rtp", UDP)
    lab.admin.allow("rtp")
    lab.admin.register("gopher")


if __name__ == "__main__":
    main([setup, row15_the_second_is_armed_when_the_first_ends, row15_inbound_and_any_number, row16_the_same_id_is_the_same_grant,
          row17_decided_and_installed, row17_a_deadline_passes_while_the_link_is_cut, row19_one_call_one_id_one_cancel, row19_cancel_with_cut,
          row19_all_or_none, row19_up_to_64, row19_a_retry_is_the_same_bundle, row24_reserve_holds_and_commit_opens,
          row24_an_unused_reservation_times_out, row24_it_counts_against_the_quota_and_can_be_cancelled, row24_on_the_command_line],
         posternd={"reservation_timeout": f"{RESERVATION_S}s"})
