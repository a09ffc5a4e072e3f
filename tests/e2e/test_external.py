#!/usr/bin/python3
"""External addresses, outbound (row 2), and AllowFutureAccept, the inbound sibling (row 23), with real packets over IPv4 and IPv6."""
import socket

from e2e import CLIENT, EXTERNAL, OTHER, OUTSIDE, REMOTE, REMOTE2, Try, main
from talk import (ACTIVE, ADDRESS_BASED, ALLOW_MULTIPLE, BIDIRECTIONAL, EXTERNAL_TAKEN, FAILED_PRECONDITION, GATEWAY_REFUSED, INVALID_ARGUMENT,
                  SESSION_ENDED, TIMEOUT, UDP, UNUSED_TIMEOUT, USED_UP, expect_error, refused)
from traffic import QUIET_S, make_socket

PORT = 1046         # of the remote
CLIENT_PORT = 5060  # where a client listens
NOT_OURS = {4: "10.77.2.222", 6: "fd77:2::222"}


def out(family, source_port=0):
    return Try("client1", CLIENT[family], REMOTE[family], PORT, source_port)


def into(family, address, port, source=REMOTE):
    return Try("remote1", source[family], address, port)


# ---- row 2 ----

def row2_the_flow_leaves_from_the_requested_address(lab):
    """Any port when none is given; NULL = any, which without translation is the client's own."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        plain = lab.inspector.request(**lab.outbound(family, PORT))
        pair = lab.pair(out(family), listener)
        assert pair.peer[0] == CLIENT[family], pair.peer
        pair.close()
        lab.journal.ended(plain, USED_UP)
        for external in (EXTERNAL[family], OUTSIDE[family]):
            grant = lab.inspector.request(**lab.outbound(family, PORT, external=external))
            assert grant.external == external and grant.external_port == 0
            lab.closed(Try("client1", OTHER[family], REMOTE[family], PORT))
            pair = lab.pair(out(family), listener)
            assert pair.peer[0] == external, pair.peer
            assert pair.passes()
            lab.closed(out(family), why="exactly one flow")
            lab.journal.ended(grant, USED_UP)
            pair.close()
            flow = lab.journal.wait("closed", grant)[0].flow
            assert (flow.client, flow.remote, flow.remote_port) == (CLIENT[family], REMOTE[family], PORT), flow
            assert (flow.external, flow.external_port) == pair.peer and flow.accounted and flow.bytes_sent > 40, flow


def row2_the_flow_leaves_from_the_requested_port(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        for port in (6000, 20):
            grant = lab.inspector.request(**lab.outbound(family, PORT, external=EXTERNAL[family], external_port=port, protocol="low"))
            pair = lab.pair(out(family, 5000), listener)
            assert pair.peer == (EXTERNAL[family], port), pair.peer
            assert pair.passes()
            flow = lab.journal.wait("established", grant)[0].flow
            assert (flow.client_port, flow.external, flow.external_port) == (5000, EXTERNAL[family], port), flow
            pair.reset()
            lab.journal.wait("closed", grant)


def row2_udp_leaves_from_the_requested_address_and_port(lab):
    for family in (4, 6):
        with lab.udp("client1", CLIENT[family]) as client, lab.udp("remote1", REMOTE[family], PORT) as server:
            lab.inspector.request(**lab.outbound(family, PORT, transport=UDP, external=EXTERNAL[family], external_port=6100, flags=BIDIRECTIONAL))
            to = (REMOTE[family], PORT)
            assert lab.datagram(client, to, server) == (EXTERNAL[family], 6100)
            assert lab.datagram(server, (EXTERNAL[family], 6100), client), "and answers find the way back"


def row2_what_is_wrong_is_said(lab):
    for family in (4, 6):
        fields = lab.outbound(family, PORT)
        error = expect_error(lambda: lab.inspector.request(**fields, external=NOT_OURS[family]), FAILED_PRECONDITION,  # noqa: B023
                             GATEWAY_REFUSED, NOT_OURS[family])
        assert EXTERNAL[family] in error.message, f"names the addresses that it has: {error.message}"
        refused(lab.inspector, INVALID_ARGUMENT, field="external", **fields, external_port=6000)
        refused(lab.inspector, INVALID_ARGUMENT, field="external", **fields, external=EXTERNAL[10 - family])
        refused(lab.inspector, INVALID_ARGUMENT, field="external", **fields, external="nonsense")
        refused(lab.inspector, INVALID_ARGUMENT, field="external_port", **fields, external=EXTERNAL[family], external_port=65536)
        lab.closed(out(family))


def row2_two_grants_cannot_take_one_external_port(lab):
    """Of the same address and transport, whichever direction; the other grant is named to its own filter only."""
    for family in (4, 6):
        place = {"external": EXTERNAL[family], "external_port": 6200}
        first = lab.inspector.request(**lab.outbound(family, PORT, **place))
        for fields in (lab.outbound(family, PORT + 1, **place), lab.inbound(family, CLIENT_PORT, **place)):
            error = refused(lab.inspector, FAILED_PRECONDITION, EXTERNAL_TAKEN, "6200", **fields)
            assert error.detail.grant == first.id, error.detail
            error = refused(lab.second, FAILED_PRECONDITION, EXTERNAL_TAKEN, "6200", **fields)
            assert first.id not in error.message and first.id not in str(error.detail), error.message
        udp = lab.inspector.request(**lab.outbound(family, PORT, transport=UDP, **place))
        elsewhere = lab.inspector.request(**lab.outbound(family, PORT + 2, **{**place, "external": OUTSIDE[family]}))
        lab.inspector.cancel(first)
        second = lab.second.request(**lab.outbound(family, PORT + 1, **place))
        assert second.state == ACTIVE, "free again"
        lab.second.cancel(second)
        for grant in (udp, elsewhere):
            lab.inspector.cancel(grant)


# ---- row 23 ----

def row23_remote_to_external_to_client(lab):
    """DNAT; only that remote, only that address and port; one flow by default."""
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        grant = lab.inspector.request(**lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7000))
        assert (grant.state, grant.external, grant.external_port) == (ACTIVE, EXTERNAL[family], 7000), grant
        lab.closed(into(family, EXTERNAL[family], 7000, REMOTE2), into(family, EXTERNAL[family], 7001), into(family, OUTSIDE[family], 7000))
        pair = lab.pair(into(family, EXTERNAL[family], 7000), listener)
        assert pair.peer[0] == REMOTE[family] and pair.passes()
        lab.closed(into(family, EXTERNAL[family], 7000), why="one flow")
        lab.journal.ended(grant, USED_UP)
        lab.shut(grant)
        pair.close()
        flow = lab.journal.wait("closed", grant)[0].flow
        assert (flow.client, flow.client_port, flow.remote, flow.remote_port) == (CLIENT[family], CLIENT_PORT, *pair.peer), flow
        assert (flow.external, flow.external_port) == (EXTERNAL[family], 7000) and flow.accounted and flow.bytes_sent > 40, flow
        assert lab.journal.of("granted", grant)[0].direction == 1


def row23_without_an_external_address(lab):
    """No translation: the remote connects to the client itself."""
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        lab.closed(into(family, CLIENT[family], CLIENT_PORT))
        grant = lab.inspector.request(**lab.inbound(family, CLIENT_PORT))
        assert not grant.external
        lab.closed(into(family, CLIENT[family], CLIENT_PORT, REMOTE2), into(family, CLIENT[family], CLIENT_PORT + 1))
        pair = lab.pair(into(family, CLIENT[family], CLIENT_PORT), listener)
        lab.closed(into(family, CLIENT[family], CLIENT_PORT))
        assert pair.passes()
        lab.journal.ended(grant, USED_UP)
        pair.close()


def row23_a_free_port_is_chosen(lab):
    """I1: it is on disk before the door opens, and the same after both programs were killed."""
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT + 19)
        grants = [lab.inspector.request(**lab.inbound(family, CLIENT_PORT + i, external=EXTERNAL[family])) for i in range(20)]
        ports = {g.external_port for g in grants}
        assert len(ports) == 20 and all(ports), ports
        last = grants[-1]
        assert lab.journal.wait("granted", last)[0].external_port == last.external_port
        for grant in grants[:-1]:
            lab.inspector.cancel(grant)
        if family == 6:
            lab.restart_server()
            lab.restart_agent()
        assert lab.inspector.show(last).external_port == last.external_port
        pair = lab.pair(into(family, EXTERNAL[family], last.external_port), listener)
        assert pair.passes()
        pair.close()
        lab.closed(into(family, EXTERNAL[family], last.external_port))


def row23_anybody_may_connect(lab):
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        for external, address, port in ((EXTERNAL[family], EXTERNAL[family], 7100), ("", CLIENT[family], CLIENT_PORT)):
            grant = lab.inspector.request(**lab.inbound(family, CLIENT_PORT, remote="", external=external, external_port=7100 if external else 0,
                                                        max_connections=2))
            for source in (REMOTE, REMOTE2):
                pair = lab.pair(into(family, address, port, source), listener)
                assert pair.peer[0] == source[family] and pair.passes()
                pair.close()
            lab.closed(into(family, address, port), into(family, address, port, REMOTE2), why="two and no more")
            lab.journal.ended(grant, USED_UP)
            assert sorted(e.flow.remote for e in lab.journal.of("established", grant)) == sorted([REMOTE[family], REMOTE2[family]])


def row23_several_remotes_share_one_budget(lab):
    """I4."""
    for family in (4, 6):
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        several = {"remote": "", "remotes": [REMOTE[family], REMOTE2[family]]}
        for external, address, port in ((EXTERNAL[family], EXTERNAL[family], 7200), ("", CLIENT[family], CLIENT_PORT)):
            rules = lab.rules()
            grant = lab.inspector.request(**{**lab.inbound(family, CLIENT_PORT, external=external, external_port=7200 if external else 0,
                                                           max_connections=7), **several})
            assert sorted(grant.remotes) == sorted(several["remotes"]) and lab.rules() == rules
            lab.closed(into(family, address, port, THIRD))
            both = [into(family, address, port, source) for source in (REMOTE, REMOTE2)] * 32
            assert lab.race(both) == 7
            lab.journal.ended(grant, USED_UP)
            lab.journal.until(lambda: lab.journal.uses(grant) == 7, "all are journalled")  # noqa: B023
            lab.shut(grant)


def row23_several_remotes_over_an_agent_restart(lab):
    """I4, I7."""
    for family in (4, 6):
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        fields = lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family], external_port=7250, max_connections=3)
        grant = lab.inspector.request(**{**fields, "remote": "", "remotes": [REMOTE[family], REMOTE2[family]]})
        lab.pair(into(family, EXTERNAL[family], 7250), lab.listen_at("client1", CLIENT[family], CLIENT_PORT)).close()
        lab.restart_agent()
        both = [into(family, EXTERNAL[family], 7250, source) for source in (REMOTE, REMOTE2)] * 4
        assert lab.race(both) == 2, "two of three were left"
        lab.journal.ended(grant, USED_UP)
        assert lab.journal.uses(grant) == 3


def row23_udp_and_its_answers(lab):
    for family in (4, 6):
        for flags in (0, BIDIRECTIONAL):
            with lab.udp("client1", CLIENT[family], CLIENT_PORT) as client, lab.udp("remote1", REMOTE[family]) as remote, \
                    lab.udp("remote1", REMOTE2[family]) as stranger:
                port = 7300 + flags
                lab.inspector.request(**lab.inbound(family, CLIENT_PORT, transport=UDP, flags=flags, external=EXTERNAL[family], external_port=port))
                assert not lab.datagram(stranger, (EXTERNAL[family], port), client, QUIET_S)
                source = lab.datagram(remote, (EXTERNAL[family], port), client)
                assert source == remote.getsockname()[:2], source
                answer = lab.datagram(client, source, remote, 2 if flags else QUIET_S)
                assert answer == ((EXTERNAL[family], port) if flags else None), (family, flags, answer)
                assert lab.datagram(remote, (EXTERNAL[family], port), client)


def row23_all_flags(lab):
    """As outbound: the session's end, ADDRESS_BASED, ALLOW_MULTIPLE, TIMEOUT, and the illegal pairs."""
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT + 1)
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT + 2)
        session = lab.inspector.open_session(CLIENT[family])
        tied, based, many, short = [
            lab.inspector.request(**lab.inbound(family, CLIENT_PORT + i, external=EXTERNAL[family], external_port=7400 + i, session=session.id,
                                                flags=flags))
            for i, flags in enumerate((0, ADDRESS_BASED, ADDRESS_BASED | ALLOW_MULTIPLE, ADDRESS_BASED | TIMEOUT))]
        lab.inspector.close_session(session)
        lab.journal.ended(tied, SESSION_ENDED)
        lab.closed(into(family, EXTERNAL[family], 7400))
        lab.pair(into(family, EXTERNAL[family], 7401), listener).close()
        lab.journal.ended(based, USED_UP)
        sockets = lab.try_all([into(family, EXTERNAL[family], 7402)] * 200, 5)
        assert all(sockets)
        for s in sockets:
            s.close()
        lab.journal.until(lambda: lab.journal.uses(many) == 200, "each is journalled")  # noqa: B023
        ended = lab.journal.ended(short, UNUSED_TIMEOUT)
        assert 2 <= (ended.time_us - short.created_us) / 1e6 <= 3
        lab.closed(into(family, EXTERNAL[family], 7403))
        lab.inspector.cancel(many)
        lab.shut(many)
        lab.closed(into(family, EXTERNAL[family], 7402))
        refused(lab.inspector, INVALID_ARGUMENT, field="flags", **lab.inbound(family, CLIENT_PORT, flags=TIMEOUT | ALLOW_MULTIPLE))
        refused(lab.inspector, INVALID_ARGUMENT, field="flags", **lab.inbound(family, CLIENT_PORT, flags=BIDIRECTIONAL))


def row23_what_is_wrong_is_said(lab):
    for family in (4, 6):
        fields = lab.inbound(family, CLIENT_PORT)
        error = expect_error(lambda: lab.inspector.request(**fields, external=NOT_OURS[family], external_port=7500),  # noqa: B023
                             FAILED_PRECONDITION, GATEWAY_REFUSED, NOT_OURS[family])
        assert EXTERNAL[family] in error.message, error.message
        expect_error(lambda: lab.inspector.request(**fields, external=NOT_OURS[family]), FAILED_PRECONDITION, GATEWAY_REFUSED)  # noqa: B023
        refused(lab.inspector, INVALID_ARGUMENT, field="client_port", **{**fields, "client_port": 0})
        refused(lab.inspector, INVALID_ARGUMENT, field="external", **fields, external_port=7500)
        refused(lab.inspector, INVALID_ARGUMENT, **{**fields, "remote": REMOTE[10 - family]})
        refused(lab.inspector, INVALID_ARGUMENT, field="remotes", **{**fields, "remote": "", "remotes": [f"10.9.9.{i}" for i in range(1, 18)]})


def row23_a_program_of_the_gateway_listens_on_the_port(lab):
    """A given port is refused; a chosen one is another one."""
    for family in (4, 6):
        for transport, kind in ((6, socket.SOCK_STREAM), (UDP, socket.SOCK_DGRAM)):
            with make_socket(lab, "gw1", EXTERNAL[family], 7600, kind, reuse=False) as busy:
                if kind == socket.SOCK_STREAM:
                    busy.listen(1)
                fields = lab.inbound(family, CLIENT_PORT, transport=transport, external=EXTERNAL[family])
                expect_error(lambda: lab.inspector.request(**fields, external_port=7600), FAILED_PRECONDITION,  # noqa: B023
                             GATEWAY_REFUSED, "7600")
            again = lab.inspector.request(**fields, external_port=7600)
            assert again.state == ACTIVE, "free when the program is gone"
            lab.inspector.cancel(again)


def row23_a_chosen_port_is_not_a_programs(lab):
    """All ports of the range but one are taken by programs of the gateway."""
    lab.restart_agent(external_ports="41000-41003")
    for family in (4, 6):
        listener = lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        busy = [make_socket(lab, "gw1", EXTERNAL[family], port, socket.SOCK_STREAM, reuse=False) for port in (41000, 41001, 41003)]
        for s in busy:
            s.listen(1)
        grant = lab.inspector.request(**lab.inbound(family, CLIENT_PORT, external=EXTERNAL[family]))
        assert grant.external_port == 41002, grant
        pair = lab.pair(into(family, EXTERNAL[family], 41002), listener)
        assert pair.passes()
        pair.close()
        lab.journal.ended(grant, USED_UP)
        for s in busy:
            s.close()
    lab.restart_agent(external_ports=None)


THIRD = {4: "10.77.2.4", 6: "fd77:2::4"}  # an address of the remote that no grant of these tests names


def setup(lab):
    lab.second = lab.admin.add_filter("second")
    lab.admin.register("low", low_ports=True)
    lab.admin.allow("low")
    for family, mask in ((4, 24), (6, 64)):
        lab.run("remote1", "ip", "addr", "add", f"{THIRD[family]}/{mask}", "dev", "eth0", *(["nodad"] if family == 6 else []))


if __name__ == "__main__":
    main([setup, row2_the_flow_leaves_from_the_requested_address, row2_the_flow_leaves_from_the_requested_port,
          row2_udp_leaves_from_the_requested_address_and_port, row2_what_is_wrong_is_said, row2_two_grants_cannot_take_one_external_port,
          row23_remote_to_external_to_client, row23_without_an_external_address, row23_a_free_port_is_chosen, row23_anybody_may_connect,
          row23_several_remotes_share_one_budget, row23_several_remotes_over_an_agent_restart, row23_udp_and_its_answers, row23_all_flags,
          row23_what_is_wrong_is_said, row23_a_program_of_the_gateway_listens_on_the_port, row23_a_chosen_port_is_not_a_programs],
         posternd={"unused_timeout": "2s"})
