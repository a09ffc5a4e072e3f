#!/usr/bin/python3
"""The returned action (row 11): cancelling closes the door, cutting ends the flow too, with real packets over IPv4 and IPv6."""
import time

from e2e import CLIENT, EXTERNAL, REMOTE, REMOTE2, Try, main, wait_until
from talk import (ACTIVE, ALREADY_ENDED, ALLOW_MULTIPLE, BIDIRECTIONAL, CANCELLED, CANCELLED_BY_FILTER, DEADLINE_EXCEEDED, FAILED_PRECONDITION,
                  NOT_FOUND, PENDING, UNAVAILABLE,
                  UDP, USED, USED_UP, WireError, expect_error)
from traffic import QUIET_S, silent

PORT = 1046
CLIENT_PORT = 5060


def out(family):
    return Try("client1", CLIENT[family], REMOTE[family], PORT)


def row11_cancel_before_use_closes_the_door(lab):
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        for fields, attempt in ((lab.outbound(family, PORT), out(family)),
                                (lab.outbound(family, PORT, external=EXTERNAL[family]), out(family)),
                                (lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7000),
                                 Try("remote1", REMOTE[family], EXTERNAL[family], 7000))):
            grant = lab.inspector.request(**fields)
            assert lab.holds(grant)
            cancelled = lab.inspector.cancel(grant)
            assert cancelled.state == CANCELLED and cancelled.reason == CANCELLED_BY_FILTER
            lab.journal.ended(grant, CANCELLED_BY_FILTER)
            lab.shut(grant)
            lab.closed(attempt)


def row11_cancel_twice_is_already_ended(lab):
    for family in (4, 6):
        grant = lab.inspector.request(**lab.outbound(family, PORT))
        lab.inspector.cancel(grant)
        for cut in (False, True):
            expect_error(lambda: lab.inspector.cancel(grant, cut=cut), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
    expect_error(lambda: lab.inspector.cancel("01890000-0000-7000-8000-0000000000aa"), NOT_FOUND)
    foreign = lab.second.request(**lab.outbound(4, PORT))
    for cut in (False, True):
        expect_error(lambda: lab.inspector.cancel(foreign, cut=cut), NOT_FOUND)  # noqa: B023
    lab.second.cancel(foreign)


def row11_cancel_after_use_leaves_the_flow(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.inspector.request(**lab.outbound(family, PORT, flags=ALLOW_MULTIPLE))
        pair = lab.pair(out(family), listener)
        lab.inspector.cancel(grant)
        lab.shut(grant)
        lab.closed(out(family))
        assert pair.passes(), "the flow lives on"
        pair.close()
        assert lab.journal.wait("closed", grant)[0].flow.accounted


def cut_all(lab, made):
    """made: grants, each with the flow that it let through and an attempt like it. One call each, and at once nothing passes any
    more, in either direction, though both ends send and send again."""
    for grant, pair, _ in made:
        assert pair.passes()
        began = time.monotonic()
        lab.inspector.cancel(grant, cut=True)
        took = time.monotonic() - began
        assert not pair.passes(0.02), "a byte passed after the answer"
        assert took < 1, f"the cut took {took * 1000:.0f} ms"
    silent([pair for _, pair, _ in made])
    lab.closed(*[again for _, _, again in made])
    for grant, pair, _ in made:
        assert len(lab.journal.wait("cut", grant)) == 1
        closed = lab.journal.wait("closed", grant)[0]
        assert closed.flow.accounted and closed.flow.bytes_sent > 40, closed
        expect_error(lambda: lab.inspector.cancel(grant, cut=True), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        pair.close()


def row11_cut_ends_an_outbound_flow(lab):
    """Of a grant that is used up, of one that is live, with and without an external address."""
    made = []
    for family in (4, 6):
        for i, more in enumerate(({}, {"max_connections": 5}, {"external": EXTERNAL[family]},
                                  {"external": EXTERNAL[family], "external_port": 6000})):
            attempt = Try("client1", CLIENT[family], REMOTE[family], PORT + i)
            grant = lab.inspector.request(**lab.outbound(family, PORT + i, **more))
            made.append((grant, lab.pair(attempt, lab.listen_at("remote1", REMOTE[family], PORT + i)), attempt))
            lab.journal.wait("established", grant)
            if i != 1:
                lab.journal.ended(grant, USED_UP)
    cut_all(lab, made)
    for grant, _, _ in made:
        assert lab.inspector.show(grant).state == (CANCELLED if grant.max_connections == 5 else USED)


def row11_cut_ends_an_inbound_flow(lab):
    made = []
    for family in (4, 6):
        for i, (more, place) in enumerate((({"external": EXTERNAL[family], "external_port": 7000}, (EXTERNAL[family], 7000)),
                                           ({}, (CLIENT[family], CLIENT_PORT + 1)), ({"remote": ""}, (CLIENT[family], CLIENT_PORT + 2)),
                                           ({"remote": "", "remotes": [REMOTE[family], REMOTE2[family]]}, (CLIENT[family], CLIENT_PORT + 3)))):
            grant = lab.inspector.request(**{**lab.inbound(family, CLIENT_PORT + i, max_connections=2), **more})
            attempt = Try("remote1", REMOTE[family], *place)
            made.append((grant, lab.pair(attempt, lab.listen_at("client1", CLIENT[family], CLIENT_PORT + i)), attempt))
            lab.journal.wait("established", grant)
    cut_all(lab, made)


def row11_what_was_cut_cannot_use_another_grant(lab):
    """Of the same key: it is armed when the first ends, and waits for a new connection."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        first = lab.inspector.request(**lab.outbound(family, PORT, max_connections=5))
        second = lab.inspector.request(wait=1, **lab.outbound(family, PORT))
        assert second.state == PENDING
        pair = lab.pair(out(family), listener)
        lab.journal.wait("established", first)
        assert pair.passes()
        lab.inspector.cancel(first, cut=True)
        silent([pair])
        lab.journal.wait("installed", second)
        assert lab.inspector.show(second).connections == 0 and lab.inspector.show(second).state == ACTIVE
        pair.close()
        lab.pair(out(family), listener, why="the second grant is whole").close()
        lab.journal.ended(second, USED_UP)


def row11_cut_leaves_other_flows_alone(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        other_listener = lab.listen_at("remote1", REMOTE[family], PORT + 1)
        cut = lab.inspector.request(**lab.outbound(family, PORT, max_connections=5))
        kept = lab.inspector.request(**lab.outbound(family, PORT + 1))
        pairs = [lab.pair(out(family), listener) for _ in range(3)]
        other = lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT + 1), other_listener)
        lab.journal.wait("established", cut, 3)
        lab.inspector.cancel(cut, cut=True)
        silent(pairs)
        assert other.passes()
        assert lab.inspector.show(kept).state == USED
        assert len(lab.journal.wait("closed", cut, 3)) == 3
        for pair in [*pairs, other]:
            pair.close()


def row11_cut_ends_a_udp_flow(lab):
    for family in (4, 6):
        with lab.udp("client1", CLIENT[family]) as client, lab.udp("remote1", REMOTE[family], PORT) as server:
            grant = lab.inspector.request(**lab.outbound(family, PORT, transport=UDP, flags=BIDIRECTIONAL))
            source = lab.datagram(client, (REMOTE[family], PORT), server)
            assert lab.datagram(server, source, client)
            lab.journal.ended(grant, USED_UP)
            lab.inspector.cancel(grant, cut=True)
            assert not lab.datagram(client, (REMOTE[family], PORT), server, QUIET_S)
            assert not lab.datagram(server, source, client, QUIET_S)
            lab.journal.wait("closed", grant)


def row11_a_cut_outlives_the_agent(lab):
    """Ordered while the agent is dead, it is done when it is back (I2)."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.inspector.request(**lab.outbound(family, PORT, max_connections=5))
        pair = lab.pair(out(family), listener)
        lab.journal.wait("established", grant)
        lab.kill("gw1", "postern-agent")
        wait_until(lambda: not lab.json("policy", "gateway", "show", "gw1")[0]["connected"], "the server knows that it is gone")
        try:
            lab.inspector.cancel(grant, cut=True, deadline_ms=300)
            raise AssertionError("nobody can have confirmed it")
        except WireError as error:  # the order stands all the same
            assert error.status in (DEADLINE_EXCEEDED, UNAVAILABLE), error
        assert lab.inspector.show(grant).state == CANCELLED
        if family == 6:
            lab.kill("policy", "posternd")
            lab.start("policy", "posternd")
        lab.start("gw1", "postern-agent")
        lab.joined("gw1")
        lab.journal.wait("closed", grant)
        silent([pair])
        lab.closed(out(family))
        pair.close()


def row11_on_the_command_line(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.grant(REMOTE[family], PORT, "--max-connections", "3")["grant"]
        pair = lab.pair(out(family), listener)
        lab.journal.wait("established", grant["id"])
        lab.run("inspector", "postern", "grant", "cancel", "--cut", grant["id"])
        silent([pair])
        pair.close()
        done = lab.run("inspector", "postern", "grant", "cancel", grant["id"], check=False)
        assert done.returncode == 1 and "already ended" in done.stderr, done.stderr


def setup(lab):
    lab.second = lab.admin.add_filter("second")


if __name__ == "__main__":
    main([setup, row11_cancel_before_use_closes_the_door, row11_cancel_twice_is_already_ended, row11_cancel_after_use_leaves_the_flow,
          row11_cut_ends_an_outbound_flow, row11_cut_ends_an_inbound_flow, row11_what_was_cut_cannot_use_another_grant,
          row11_cut_leaves_other_flows_alone, row11_cut_ends_a_udp_flow, row11_a_cut_outlives_the_agent, row11_on_the_command_line])
