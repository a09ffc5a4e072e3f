#!/usr/bin/python3
"""Sessions (row 18, and a second inspector for row 4): tied to a primary connection that the agent follows, or ended by close or idleness.

A primary connection is a real one through the gateway, over IPv4 and IPv6."""
import time

from e2e import CLIENT, EXTERNAL, OTHER, REMOTE, REMOTE2, Try, main, wait_until
from talk import (ACTIVE, ADDRESS_BASED, BIDIRECTIONAL, FAILED_PRECONDITION, INVALID_ARGUMENT, NO_SUCH_CONNECTION, NOT_FOUND,
                  SESSION_ENDED, TCP, UDP, expect_error)

CONTROL = 2021  # where the primary connections go
PORT = 1046
LINGER_S = 1.5


def primary(lab, family, caller=None, **more):
    """A primary connection, its tuple, and the session that is tied to it."""
    listener = lab.listen_at("remote1", REMOTE[family], CONTROL)
    lab.inspector.request(**lab.outbound(family, CONTROL))
    pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], CONTROL), listener)
    flow = (CLIENT[family], pair.opener.getsockname()[1], REMOTE[family], CONTROL, TCP)
    return pair, flow, (caller or lab.inspector).open_session(CLIENT[family], flow, **more)


def closed_entry(lab, session, deadline_s=15):
    return lab.journal.until(lambda: [e for e in lab.journal.of("session-closed") if e.session == session.id], "the session is closed",
                             deadline_s)[0]


def is_open(lab, session):
    return not [e for e in lab.journal.of("session-closed") if e.session == session.id]


def goes_with_it(lab, family, session, end, linger_s=0.0):
    """What end() ends takes the session's grants along; ADDRESS_BASED ones stay."""
    lab.listen_at("remote1", REMOTE[family], PORT)
    lab.listen_at("client1", CLIENT[family], PORT)
    tied = [lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT),
            lab.inspector.request(session=session.id, remote=REMOTE[family], direction=1, client_port=PORT, external=EXTERNAL[family],
                                  external_port=7000)]
    based = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT + 1, flags=ADDRESS_BASED)
    end()
    entry = closed_entry(lab, session)
    for grant in tied:
        ended = lab.journal.ended(grant, SESSION_ENDED)
        assert ended.time_us >= entry.time_us - 1e6 * linger_s - 1000
        lab.shut(grant)
    lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT), Try("remote1", REMOTE[family], EXTERNAL[family], 7000))
    assert lab.inspector.show(based).state == ACTIVE
    lab.inspector.cancel(based)
    expect_error(lambda: lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT), INVALID_ARGUMENT,
                 field="session")
    return entry


def row18_the_primary_must_exist(lab):
    """Proof that the inspector speaks of a real client: anything that conntrack does not have is refused, and no session is left."""
    for family in (4, 6):
        pair, flow, session = primary(lab, family)
        assert session.primary.client_port == flow[1] and session.closed_us == 0
        lab.journal.catch_up()
        opened = len(lab.journal.of("session-opened"))
        client, client_port, remote, remote_port, transport = flow
        for wrong in ((client, client_port ^ 1, remote, remote_port, transport), (client, client_port, remote, remote_port + 1, transport),
                      (client, client_port, REMOTE2[family], remote_port, transport), (client, client_port, remote, remote_port, UDP)):
            expect_error(lambda: lab.inspector.open_session(CLIENT[family], wrong), FAILED_PRECONDITION, NO_SUCH_CONNECTION)  # noqa: B023
        other = (OTHER[family], client_port, remote, remote_port, transport)
        expect_error(lambda: lab.inspector.open_session(CLIENT[family], other), INVALID_ARGUMENT)  # noqa: B023
        expect_error(lambda: lab.inspector.open_session(OTHER[family], other), FAILED_PRECONDITION, NO_SUCH_CONNECTION)  # noqa: B023
        lab.journal.catch_up()
        assert len(lab.journal.of("session-opened")) == opened, "no session is left of a refusal"
        pair.reset()
        closed_entry(lab, session)


def row18_ended_by_fin(lab):
    for family in (4, 6):
        pair, _, session = primary(lab, family)
        assert pair.passes() and is_open(lab, session)
        goes_with_it(lab, family, session, pair.close)


def row18_ended_by_rst(lab):
    for family in (4, 6):
        pair, _, session = primary(lab, family)
        goes_with_it(lab, family, session, pair.reset)


def row18_half_closed_is_not_ended(lab):
    for family in (4, 6):
        pair, _, session = primary(lab, family)
        tied = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT)
        pair.opener.shutdown(1)
        pair.acceptor.send(b"still here")
        wait_until(lambda: pair.opener.recv(100), "the other direction still works")  # noqa: B023
        assert lab.inspector.show(tied).state == ACTIVE
        pair.close()
        lab.journal.ended(tied, SESSION_ENDED)


def row18_ended_by_idleness(lab):
    """Both ends are silent (here: dead) until conntrack forgets the connection."""
    timeouts = {"net.netfilter.nf_conntrack_tcp_timeout_established": 1, "net.netfilter.nf_conntrack_udp_timeout": 1,
                "net.netfilter.nf_conntrack_udp_timeout_stream": 1}
    before = {key: lab.run("gw1", "sysctl", "-n", key).stdout.strip() for key in timeouts}
    try:
        for family in (4, 6):
            lab.run("gw1", "sysctl", "-qw", *[f"{k}={v}" for k, v in before.items()])
            pair, _, session = primary(lab, family)
            lab.run("gw1", "sysctl", "-qw", *[f"{k}={v}" for k, v in timeouts.items()])
            goes_with_it(lab, family, session, pair.passes)  # the last bytes: from here on the new limit holds
            pair.close()
    finally:
        lab.run("gw1", "sysctl", "-qw", *[f"{k}={v}" for k, v in before.items()])


def row18_a_udp_primary(lab):
    for family in (4, 6):
        with lab.udp("client1", CLIENT[family]) as client, lab.udp("remote1", REMOTE[family], CONTROL) as server:
            lab.inspector.request(**lab.outbound(family, CONTROL, transport=UDP, flags=BIDIRECTIONAL))
            assert lab.datagram(client, (REMOTE[family], CONTROL), server)
            flow = (CLIENT[family], client.getsockname()[1], REMOTE[family], CONTROL, UDP)
            session = lab.inspector.open_session(CLIENT[family], flow)
            source = ["-s", CLIENT[family], "-d", REMOTE[family], "-p", "udp", "--dport", str(CONTROL)]
            goes_with_it(lab, family, session, lambda: lab.run("gw1", "conntrack", "-D", "-f", f"ipv{family}", *source))  # noqa: B023


def restarts_meanwhile(lab, host, program):
    """Ended while the program is dead: seen when it is back. Still there: followed on."""
    for family in (4, 6):
        for ends_meanwhile in (True, False):
            pair, _, session = primary(lab, family)
            tied = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT)
            lab.kill(host, program)
            if ends_meanwhile:
                pair.reset()
            lab.start(host, program)
            lab.joined("gw1")
            if not ends_meanwhile:
                assert lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT + 1).state == ACTIVE
                assert is_open(lab, session) and pair.passes()
                pair.reset()
            closed_entry(lab, session)
            lab.journal.ended(tied, SESSION_ENDED)


def row18_the_agent_restarts_meanwhile(lab):
    restarts_meanwhile(lab, "gw1", "postern-agent")


def row18_the_server_restarts_meanwhile(lab):
    restarts_meanwhile(lab, "policy", "posternd")


def row4_two_inspectors_on_one_primary(lab):
    """Each has a session of its own; what one closes is its own; the end of the connection ends both. ADDRESS_BASED is for both."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        pair, flow, mine = primary(lab, family)
        theirs = lab.second.open_session(CLIENT[family], flow)
        assert mine.id != theirs.id
        based = lab.inspector.request(session=mine.id, remote=REMOTE[family], remote_port=PORT, flags=ADDRESS_BASED, max_connections=2)
        tied = lab.second.request(session=theirs.id, remote=REMOTE[family], remote_port=PORT + 1)
        expect_error(lambda: lab.second.request(session=mine.id, remote=REMOTE[family], remote_port=PORT), INVALID_ARGUMENT)  # noqa: B023
        lab.inspector.close_session(mine)
        assert lab.second.show(tied).state == ACTIVE and lab.inspector.show(based).state == ACTIVE
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener).close()
        pair.close()
        lab.journal.ended(tied, SESSION_ENDED)
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener, why="it outlives the connection too").close()


def row18_without_a_primary_closed_or_idle(lab):
    made = []
    for family in (4, 6):
        session = lab.inspector.open_session(CLIENT[family])
        goes_with_it(lab, family, session, lambda: lab.inspector.close_session(session))  # noqa: B023
        idle = lab.inspector.open_session(CLIENT[family], idle_limit_ms=1000)
        busy = lab.inspector.open_session(CLIENT[family], idle_limit_ms=1000)
        tied = lab.inspector.request(session=busy.id, remote=REMOTE[family], remote_port=PORT, lifetime_ms=2000)
        made.append((idle, busy, tied))
    for idle, busy, tied in made:
        entry = closed_entry(lab, idle, 5)
        assert 1 <= (entry.time_us - idle.opened_us) / 1e6 <= 2.5
        entry = closed_entry(lab, busy, 8)
        assert (entry.time_us - busy.opened_us) / 1e6 >= 2, "a session with a live grant is not idle"
        assert lab.journal.wait("ended", tied)[0].reason != SESSION_ENDED


def row18_after_a_linger(lab):
    """The server's setting: the grants stay open that long, not shorter; and it holds over a server restart."""
    lab.restart_server(15, session_linger=f"{int(LINGER_S * 1000)}ms")
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        pair, _, session = primary(lab, family)
        tied = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT, max_connections=3)
        ended_at = time.time()
        pair.reset()
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener, why="it lingers").close()
        entry = closed_entry(lab, session)
        lingered = entry.time_us / 1e6 - ended_at
        assert LINGER_S <= lingered <= LINGER_S + 2, lingered
        lab.journal.ended(tied, SESSION_ENDED)
        lab.shut(tied)
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT))
        pair, _, session = primary(lab, family)
        pair.reset()
        lab.restart_server()
        closed_entry(lab, session)


def row18_on_the_command_line(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], CONTROL)
        lab.inspector.request(**lab.outbound(family, CONTROL))
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], CONTROL), listener)
        session = lab.json("inspector", "session", "open", "--gateway", "gw1", "--client", CLIENT[family])[0]
        lab.run("inspector", "postern", "session", "close", session["id"])
        expect_error(lambda: lab.inspector.close_session(session["id"]), NOT_FOUND)  # noqa: B023
        pair.close()


def setup(lab):
    lab.second = lab.admin.add_filter("second")


if __name__ == "__main__":
    main([setup, row18_the_primary_must_exist, row18_ended_by_fin, row18_ended_by_rst, row18_half_closed_is_not_ended,
          row18_ended_by_idleness, row18_a_udp_primary, row18_the_agent_restarts_meanwhile, row18_the_server_restarts_meanwhile,
          row4_two_inspectors_on_one_primary, row18_without_a_primary_closed_or_idle, row18_on_the_command_line,
          row18_after_a_linger])
