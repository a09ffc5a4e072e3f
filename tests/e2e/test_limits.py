#!/usr/bin/python3
"""Limits: registered protocols (row 9), exactly N connections (13), port ranges (20), allowed addresses (21), scope and quota (22).

With real packets, over IPv4 and IPv6; a refusal grants nothing and names its limit."""
import time

from e2e import CLIENT, EXTERNAL, OTHER, REMOTE, REMOTE2, Try, main, wait_until
from talk import (ACTIVE, ALLOW_MULTIPLE, INVALID_ARGUMENT, OUT_OF_SCOPE, PEER, PEER_NETWORK, PERMISSION_DENIED, QUOTA, RESOURCE_EXHAUSTED, TCP,
                  TIMEOUT, UDP, USED_UP, WireError, refused)
from traffic import QUIET_S

PORT = 1046
CLIENT_PORT = 5060
AWAY = {4: "10.99.0.1", 6: "fd99::1"}  # in nobody's network


def out(family, port=PORT):
    return Try("client1", CLIENT[family], REMOTE[family], port)


def row6_the_default_is_60_seconds(lab):
    for family in (4, 6):
        for fields in (lab.outbound(family, PORT), lab.inbound(family, CLIENT_PORT)):
            grant = lab.inspector.request(**fields, flags=TIMEOUT)
            assert grant.lifetime_ms == 60000 and 59000 < grant.left_ms <= 60000 and not grant.lifetime_clamped, grant
            longer = lab.inspector.request(**{**fields, "client": OTHER[family]}, flags=TIMEOUT, lifetime_ms=90000)
            assert longer.lifetime_ms == 60000 and longer.lifetime_clamped, longer


# ---- row 9 ----

def row9_only_registered_protocols(lab):
    known = lab.admin.register("known")
    lab.admin.allow("known")
    for family in (4, 6):
        for protocol in ("known", known.guid, known.guid.upper()):
            grant = lab.inspector.request(**lab.outbound(family, PORT, protocol=protocol))
            assert grant.protocol == "known"
            lab.inspector.cancel(grant)
        for protocol in ("", "unknown", "01890000-0000-7000-8000-0000000000ee"):
            refused(lab.inspector, INVALID_ARGUMENT, field="protocol", **lab.outbound(family, PORT, protocol=protocol))


def row9_a_filters_own_protocol_is_not_anothers(lab):
    for name, shared in (("private", False), ("public", True)):
        made = lab.second.register(name, shared=shared)
        assert made.owner == "second"
        lab.admin.allow(name)
        for family in (4, 6):
            assert lab.second.request(**lab.outbound(family, 2000, protocol=name)).state == ACTIVE
            if shared:
                assert lab.inspector.request(**lab.outbound(family, 2001, protocol=name)).state == ACTIVE
                continue
            for asked in (name, made.guid):
                refused(lab.inspector, INVALID_ARGUMENT, text="second", field="protocol", **lab.outbound(family, PORT, protocol=asked))
        for grants in (lab.second, lab.inspector):
            grants.cancel_all()


# ---- row 13 ----

def row13_exactly_n_with_racing_clients(lab):
    """I4: 64 clients on 2 CPUs, TCP; some of the racers have the other address and get nothing."""
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        for n in (1, 7, 63):
            grant = lab.inspector.request(**lab.outbound(family, PORT, max_connections=n))
            assert lab.race([out(family)] * 64 + [Try("client1", OTHER[family], REMOTE[family], PORT)] * 8, seconds=0.5) == n
            lab.journal.ended(grant, USED_UP)
            lab.journal.until(lambda: lab.journal.uses(grant) == n, "all are journalled")  # noqa: B023


def row13_exactly_n_datagram_flows(lab):
    for family in (4, 6):
        grant = lab.inspector.request(**lab.outbound(family, PORT, transport=UDP, max_connections=5))
        with lab.udp("remote1", REMOTE[family], PORT) as server:
            senders = [lab.udp("client1", CLIENT[family]) for _ in range(40)]
            for _ in range(3):
                for s in senders:
                    s.sendto(b"x", (REMOTE[family], PORT))
            sources = set()
            server.settimeout(QUIET_S)
            try:
                while True:
                    sources.add(server.recvfrom(100)[1])
            except TimeoutError:
                pass
            assert len(sources) == 5, sources
            for s in senders:
                s.close()
        lab.journal.ended(grant, USED_UP)
        lab.journal.until(lambda: lab.journal.uses(grant) == 5, "all are journalled")  # noqa: B023


def row13_across_an_agent_restart_in_the_middle(lab):
    """I4, I5, I7: the agent is killed while the race runs, and again."""
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.inspector.request(**lab.outbound(family, PORT, max_connections=40))
        through = 0
        for _ in range(2):
            through += lab.race([out(family)] * 16, seconds=1.5, during=lab.restart_agent)
        through += lab.race([out(family)] * 64, seconds=1.5, during=lambda: lab.restart("gw1", "postern-agent", 9))
        assert through == 40, through
        lab.joined("gw1")
        lab.journal.ended(grant, USED_UP)
        lab.journal.until(lambda: lab.journal.uses(grant) >= 40, "all are journalled")  # noqa: B023
        assert lab.journal.uses(grant) == 40
        lab.closed(out(family))


# ---- row 20 ----

def row20_ranges_are_refused_by_default(lab):
    for family in (4, 6):
        refused(lab.inspector, INVALID_ARGUMENT, text="max_ports", field="remote_port_last", **lab.outbound(family, 3000, remote_port_last=3001))
        refused(lab.inspector, INVALID_ARGUMENT, text="100", field="remote_port_last",
                **lab.outbound(family, 3000, remote_port_last=3100, protocol="ranges"))
        refused(lab.inspector, INVALID_ARGUMENT, field="remote_port_last",
                **lab.outbound(family, 3000, remote_port_last=2999, protocol="ranges"))
        lab.closed(out(family, 3000), out(family, 3001))


def row20_a_range_is_one_grant_with_one_budget(lab):
    """I4; and no rule more than before: the cost of a packet does not grow."""
    for family in (4, 6):
        for port in range(2999, 3101):
            lab.listen_at("remote1", REMOTE[family], port)
        rules = lab.rules()
        grant = lab.inspector.request(**lab.outbound(family, 3000, remote_port_last=3099, protocol="ranges", max_connections=12))
        assert grant.state == ACTIVE and grant.remote_port_last == 3099
        assert lab.rules() == rules
        lab.closed(out(family, 2999), out(family, 3100), Try("client1", OTHER[family], REMOTE[family], 3050))
        first = lab.try_all([out(family, 3000), out(family, 3099)], 5)
        assert all(first), "both ends of the range"
        assert lab.race([out(family, port) for port in range(3000, 3100)], seconds=0.5) == 10, "12 in all"
        lab.journal.ended(grant, USED_UP)
        lab.journal.until(lambda: lab.journal.uses(grant) == 12, "all are journalled")  # noqa: B023
        lab.shut(grant)
        for s in first:
            s.close()


def row20_a_range_over_an_agent_restart_and_a_flush(lab):
    """I4, I7."""
    for family in (4, 6):
        grant = lab.inspector.request(**lab.outbound(family, 3000, remote_port_last=3099, protocol="ranges", max_connections=6))
        assert lab.race([out(family, 3000), out(family, 3001)], seconds=5) == 2
        lab.journal.wait("established", grant, 2)
        lab.restart_agent()
        assert lab.race([out(family, 3002), out(family, 3003)], seconds=5) == 2
        lab.journal.wait("established", grant, 4)
        rebuilt = len(lab.journal.of("table-rebuilt"))
        lab.run("gw1", "nft", "flush", "ruleset")
        lab.tproxy("gw1")
        lab.journal.wait("table-rebuilt", count=rebuilt + 1)
        assert lab.race([out(family, port) for port in range(3000, 3050)], seconds=0.5) == 2, "two were left"
        lab.journal.ended(grant, USED_UP)


# ---- row 21 ----

def row21_the_remote_must_be_the_primary_connections_peer(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        lab.inspector.request(**lab.outbound(family, PORT))
        pair = lab.pair(out(family), listener)
        primary = (CLIENT[family], pair.peer[1], REMOTE[family], PORT, TCP)
        session = lab.inspector.open_session(CLIENT[family], primary).id
        bare = lab.inspector.open_session(CLIENT[family]).id
        for protocol, allowed, not_allowed in (("peer", [REMOTE], [REMOTE2, AWAY]), ("network", [REMOTE, REMOTE2], [AWAY]),
                                               ("ftp", [REMOTE, REMOTE2, AWAY], [])):
            for remote in allowed:
                for fields in ({"remote_port": 2000}, {"direction": 1, "client_port": CLIENT_PORT},
                               {"direction": 1, "client_port": CLIENT_PORT, "external": EXTERNAL[family]}):
                    grant = lab.inspector.request(session=session, remote=remote[family], protocol=protocol, **fields)
                    lab.inspector.cancel(grant)
            for remote in not_allowed:
                for fields in ({"remote_port": 2000}, {"direction": 1, "client_port": CLIENT_PORT}):
                    refused(lab.inspector, INVALID_ARGUMENT, text=protocol, field="remote", session=session, remote=remote[family],
                            protocol=protocol, **fields)
        bounce = {"direction": 1, "client_port": CLIENT_PORT, "protocol": "peer"}
        refused(lab.inspector, INVALID_ARGUMENT, field="remotes", session=session, remotes=[REMOTE[family], REMOTE2[family]], **bounce)
        refused(lab.inspector, INVALID_ARGUMENT, field="remote", session=session, **bounce)  # anybody
        for without in ({"session": bare}, {"client": CLIENT[family]}):
            refused(lab.inspector, INVALID_ARGUMENT, text="primary", field="session", remote=REMOTE[family], remote_port=2000, protocol="peer",
                    **without)
        pair.close()


def row21_low_ports(lab):
    for family in (4, 6):
        for port in (1, 22, 1023):
            refused(lab.inspector, INVALID_ARGUMENT, text="low_ports", field="remote_port", **lab.outbound(family, port))
            refused(lab.inspector, INVALID_ARGUMENT, text="low_ports", field="client_port", **lab.inbound(family, port))
            for fields in (lab.outbound(family, port, protocol="low"), lab.inbound(family, port, protocol="low")):
                lab.inspector.cancel(lab.inspector.request(**fields))
        lab.inspector.cancel(lab.inspector.request(**lab.outbound(family, 1024)))


# ---- row 22 ----

def row22_scope_names_its_limit(lab):
    lab.admin.register("other")
    lab.admin.allow("other")
    small = lab.admin.add_filter("small", gateways=["gw1"], clients=["10.77.1.0/30", "fd77:1::2/128"],
                                 destinations=["10.77.2.2/32", "fd77:2::/126"], protocols=["ftp", "peer"])
    outside = {4: REMOTE2, 6: AWAY}
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = small.request(**lab.outbound(family, PORT))
        lab.pair(out(family), listener).close()
        lab.journal.ended(grant, USED_UP)
        other = AWAY if family == 4 else OTHER
        remote, client = outside[family][family], other[family]
        for text, fields in (("gw9", {"gateway": "gw9"}), ("clients", {"client": client}), ("destinations", {"remote": remote}),
                             ("protocols", {"protocol": "other"})):
            for base in (lab.outbound(family, PORT), lab.inbound(family, CLIENT_PORT)):
                refused(small, PERMISSION_DENIED, OUT_OF_SCOPE, text, **{**base, **fields})
        base = {**lab.inbound(family, CLIENT_PORT), "remote": ""}
        refused(small, PERMISSION_DENIED, OUT_OF_SCOPE, "destinations", **base)
        refused(small, PERMISSION_DENIED, OUT_OF_SCOPE, "destinations", **{**base, "remotes": [REMOTE[family], remote]})
        lab.closed(out(family))


def row22_most_live_grants(lab):
    few = lab.admin.add_filter("few", max_grants=3)
    for family in (4, 6):
        grants = [few.request(**lab.outbound(family, 2000)), few.request(**lab.inbound(family, CLIENT_PORT)),
                  few.request(**lab.outbound(family, 2001))]
        refused(few, RESOURCE_EXHAUSTED, QUOTA, "max_grants", **lab.outbound(family, 2002))
        few.cancel(grants.pop())
        grants.append(few.request(**lab.outbound(family, 2002)))
        lab.restart_server()
        refused(few, RESOURCE_EXHAUSTED, QUOTA, "max_grants", **lab.outbound(family, 2003))
        for grant in grants:
            few.cancel(grant)


def row22_grants_a_second(lab):
    """As many at once as a second allows, then at the rate: over some time never more than that. Refused ones cost nothing."""
    for family in (4, 6):
        slow = lab.admin.add_filter(f"slow{family}", grants_per_second=10)
        granted, began = 0, time.monotonic()
        while time.monotonic() < began + 1.0:
            try:
                slow.request(**lab.outbound(family, 2000 + granted, wait=1))
                granted += 1
            except WireError as error:
                assert error.detail.reason == QUOTA and "grants_per_second" in error.message, error
        took = time.monotonic() - began
        assert 10 <= granted <= 10 + 10 * took + 1, (granted, took)
        assert granted >= 15, f"the rate itself: {granted}"
        slow.cancel_all()


def row22_longest_lifetime(lab):
    brief, asked = lab.admin.add_filter("brief", max_lifetime_ms=2000), []
    for family in (4, 6):
        lab.listen_at("remote1", REMOTE[family], PORT)
        asked.append(brief.request(**lab.outbound(family, PORT, lifetime_ms=60000)))
        assert asked[-1].lifetime_ms == 2000 and asked[-1].lifetime_clamped, asked
        within = brief.request(**lab.outbound(family, PORT + 1, lifetime_ms=1500, flags=ALLOW_MULTIPLE))
        assert within.lifetime_ms == 1500 and not within.lifetime_clamped
    for family, grant in zip((4, 6), asked):
        wait_until(lambda: not lab.holds(grant), "the kernel closed it", 4)  # noqa: B023
        lab.closed(out(family))
        ended = lab.journal.wait("ended", grant)[0]
        assert 2 <= (ended.time_us - grant.created_us) / 1e6 <= 3


def setup(lab):
    lab.second = lab.admin.add_filter("second")
    for name, bounds in (("ranges", {"max_ports": 100}), ("low", {"low_ports": True}), ("peer", {"remote_scope": PEER}),
                         ("network", {"remote_scope": PEER_NETWORK})):
        lab.admin.register(name, **bounds)
        lab.admin.allow(name)


if __name__ == "__main__":
    main([setup, row6_the_default_is_60_seconds, row9_only_registered_protocols, row9_a_filters_own_protocol_is_not_anothers,
          row13_exactly_n_with_racing_clients, row13_exactly_n_datagram_flows, row13_across_an_agent_restart_in_the_middle, row20_ranges_are_refused_by_default,
          row20_a_range_is_one_grant_with_one_budget, row20_a_range_over_an_agent_restart_and_a_flush,
          row21_the_remote_must_be_the_primary_connections_peer, row21_low_ports, row22_scope_names_its_limit, row22_most_live_grants,
          row22_grants_a_second, row22_longest_lifetime])
