#!/usr/bin/python3
"""Lifetime and renewal (rows 6 and 14) with real packets over IPv4 and IPv6, both ways that a kernel renews: in place, and by replacing.

Every kind of door is renewed: of one flow's key, send-only UDP, with an external address, inbound with and without translation, for
anybody, for several remotes, for a range of ports."""
import os
import socket
import struct
import time

from e2e import CLIENT, EXTERNAL, REMOTE, REMOTE2, Try, main, wait_until
from talk import (ACTIVE, ALLOW_MULTIPLE, ALREADY_ENDED, FAILED_PRECONDITION, LIFETIME, NOT_FOUND, TIMEOUT, UDP, UNUSED_TIMEOUT, USED_UP,
                  WireError, expect_error)
from traffic import QUIET_S, begin, finish

MAX_LIFETIME_S = 20
CLIENT_PORT = 5060
NO_GAP_MS = 1500


def all_kinds(lab):
    """Of both families."""
    return kinds(lab, 4) + kinds(lab, 6)


def kinds(lab, family):
    """Name, fields of the request, and an attempt that it lets through."""
    f, ext = family, EXTERNAL[family]

    def out(port):
        return Try("client1", CLIENT[f], REMOTE[f], port)

    def into(address, port, source=REMOTE):
        return Try("remote1", source[f], address, port)
    several = {"remote": "", "remotes": [REMOTE[f], REMOTE2[f]]}
    for port in (2000, 2001, 2010):
        lab.listen_at("remote1", REMOTE[f], port)
    for port in range(CLIENT_PORT, CLIENT_PORT + 6):
        lab.listen_at("client1", CLIENT[f], port)
    return [("exact", lab.outbound(f, 2000), out(2000)),
            ("snat", lab.outbound(f, 2001, external=ext), out(2001)),
            ("range", lab.outbound(f, 2005, remote_port_last=2014, protocol="ranges"), out(2010)),
            ("inbound", lab.inbound(f, CLIENT_PORT), into(CLIENT[f], CLIENT_PORT)),
            ("dnat", lab.inbound(f, CLIENT_PORT + 1, external=ext, external_port=7000), into(ext, 7000)),
            ("anybody", {**lab.inbound(f, CLIENT_PORT + 2), "remote": ""}, into(CLIENT[f], CLIENT_PORT + 2, REMOTE2)),
            ("anybody-dnat", {**lab.inbound(f, CLIENT_PORT + 3, external=ext, external_port=7001), "remote": ""}, into(ext, 7001, REMOTE2)),
            ("several", {**lab.inbound(f, CLIENT_PORT + 4), **several}, into(CLIENT[f], CLIENT_PORT + 4, REMOTE2)),
            ("several-dnat", {**lab.inbound(f, CLIENT_PORT + 5, external=ext, external_port=7002), **several}, into(ext, 7002, REMOTE2))]


def hammer(lab, attempts, until):
    """A process that makes one connection after the other through each of the doors; a pipe brings what it saw."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "died"
        try:
            made, failed, port = 0, [], 10000
            while time.monotonic() < until:
                port += 1  # a port of its own for each: nothing that is closing can be in the way
                for attempt in attempts:
                    s = finish([begin(lab, Try(attempt.host, attempt.source, attempt.address, attempt.port, port))], 0.5)[0]
                    made += 1
                    if not s:
                        failed.append(repr(attempt))
                        continue
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.close()
            told = f"{made} {len(failed)} {failed[:3]}"
        finally:
            os.write(into, told.encode())
            os._exit(0)
    os.close(into)
    return pid, out


def heard(child):
    pid, out = child
    text = os.read(out, 4096).decode()
    os.close(out)
    os.waitpid(pid, 0)
    return text


def row14_no_gap(lab):
    """Connections through each kind of door, all the time, while each is renewed again and again, long past its first lifetime."""
    for _ in range(3):
        if no_gap(lab, all_kinds(lab)):
            return
    raise AssertionError("the disk of this machine stalls for longer than a lifetime, again and again")


def no_gap(lab, doors):
    """False: renewals were not answered in time, so that doors had to close."""
    grants = [lab.inspector.request(**fields, flags=ALLOW_MULTIPLE, lifetime_ms=NO_GAP_MS) for _, fields, _ in doors]
    until, renewals, slowest, lost = time.monotonic() + 2.2 * NO_GAP_MS / 1000, 0, 0, None
    child = hammer(lab, [attempt for _, _, attempt in doors], until)
    while time.monotonic() < until and not lost:
        began = time.monotonic()
        try:
            lab.inspector.renew_all(grants)
        except WireError as error:
            lost = error
        renewals += 1
        slowest = max(slowest, time.monotonic() - began)
        for listener in lab.listeners.values():
            lab.drain(listener)
    text = heard(child)
    if slowest > NO_GAP_MS / 2000:
        print(f"      once more: a renewal took {slowest:.2f} s")
        lab.inspector.close()
        lab.admin.cancel_all()
        return False
    assert not lost, lost
    made, failed, _ = text.split(" ", 2)
    assert int(made) > 100 and failed == "0", f"{text}; the slowest renewal took {slowest:.3f} s"
    assert renewals >= 5, renewals
    print(f"      {made} connections, {renewals * len(grants)} renewals, the slowest in {slowest * 1000:.0f} ms")
    for grant in grants:
        shown = lab.inspector.show(grant)
        assert shown.state == ACTIVE and shown.renewals == renewals and shown.left_ms > NO_GAP_MS / 4, shown
        lab.inspector.cancel(grant)
    return True


def row14_used_stays_used(lab):
    """I4: of three connections one is made; renewed, two are left; renewed again, one."""
    doors = all_kinds(lab)
    grants = [lab.inspector.request(**fields, max_connections=3, lifetime_ms=8000) for _, fields, _ in doors]
    held = []
    for _ in range(2):
        through = lab.try_all([attempt for _, _, attempt in doors], 2)
        assert all(through), [d[0] for d, s in zip(doors, through) if not s]
        held += through
        lab.inspector.renew_all(grants)
    through = lab.try_all([attempt for _, _, attempt in doors for _ in range(4)])
    for i, (name, _, _) in enumerate(doors):
        assert sum(1 for s in through[4 * i:4 * i + 4] if s) == 1, name
    for s in held + [s for s in through if s]:
        s.close()
    for grant in grants:
        lab.journal.ended(grant, USED_UP)
        lab.journal.until(lambda: lab.journal.uses(grant) == 3, "all are journalled")  # noqa: B023


def row14_exactly_n_while_it_is_renewed(lab):
    """I4: a race, with renewals as fast as they are answered."""
    for family in (4, 6):
        for name, fields, attempt in kinds(lab, family):
            if name not in ("exact", "dnat", "range", "several"):
                continue
            grant = lab.inspector.request(**fields, max_connections=20, lifetime_ms=5000)

            def renewing():
                end = time.monotonic() + 0.4
                while time.monotonic() < end:
                    try:
                        lab.inspector.renew(grant)  # noqa: B023
                    except WireError as error:
                        assert error.detail.reason == ALREADY_ENDED, error
                        break
            assert lab.race([attempt] * 64, seconds=0.4, during=renewing) == 20, name
            lab.journal.ended(grant, USED_UP)


def row14_it_closes_by_itself_at_the_renewed_time(lab):
    """I3: with agent and server dead."""
    doors = all_kinds(lab)
    grants = [lab.inspector.request(**fields, max_connections=50, lifetime_ms=2000) for _, fields, _ in doors]
    began = time.monotonic()
    lab.inspector.renew_all(grants)
    renewed = [lab.inspector.renew(grant, 3000).left_ms / 1000 + time.monotonic() for grant in grants]
    lab.kill("gw1", "postern-agent")
    lab.kill("policy", "posternd")
    wait_until(lambda: time.monotonic() > began + 2.5, "past its first lifetime")
    through = lab.try_all([attempt for _, _, attempt in doors], 0.2)
    assert time.monotonic() > min(renewed) or all(through), f"closed too early: {[d[0] for d, s in zip(doors, through) if not s]}"
    wait_until(lambda: time.monotonic() > max(renewed) + 0.1, "past its renewed one")
    lab.closed(*[attempt for _, _, attempt in doors])
    for s in through:
        if s:
            s.close()
    lab.start("policy", "posternd")
    lab.start("gw1", "postern-agent")
    lab.joined("gw1")
    for grant in grants:
        lab.journal.ended(grant, LIFETIME)
    for grant in grants:
        lab.shut(grant)


def row14_a_renewed_door_over_restarts(lab):
    """I4, I7: the agent is killed between renewal and use, and between use and renewal."""
    doors = all_kinds(lab)
    grants = [lab.inspector.request(**fields, max_connections=2, lifetime_ms=9000) for _, fields, _ in doors]
    lab.inspector.renew_all(grants)
    lab.restart_agent()
    first = lab.try_all([attempt for _, _, attempt in doors], 2)
    assert all(first), [d[0] for d, s in zip(doors, first) if not s]
    for grant in grants:
        lab.journal.wait("established", grant)
    lab.restart_agent()
    for grant in grants:
        assert lab.inspector.renew(grant, 12000).left_ms > 11000
    second = lab.try_all([attempt for _, _, attempt in doors for _ in range(3)])
    for i, (name, _, _) in enumerate(doors):
        assert sum(1 for s in second[3 * i:3 * i + 3] if s) == 1, name
    for grant in grants:
        lab.journal.ended(grant, USED_UP)
    for s in [*first, *second]:
        if s:
            s.close()


def row14_a_given_external_port(lab):
    """One flow at a time has it: so it is used once, after its first lifetime."""
    lab.given += 1
    listeners = {f: lab.listen_at("remote1", REMOTE[f], 2002) for f in (4, 6)}
    grants = [lab.inspector.request(**lab.outbound(f, 2002, external=EXTERNAL[f], external_port=lab.given, lifetime_ms=1000)) for f in (4, 6)]
    began = time.monotonic()
    for grant in grants:
        lab.inspector.renew(grant, 5000)
    wait_until(lambda: time.monotonic() > began + 1.2, "past its first lifetime")
    for family in (4, 6):
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], 2002), listeners[family])
        assert pair.peer == (EXTERNAL[family], lab.given) and pair.passes()
        pair.close()


def row14_send_only_datagrams(lab):
    for family in (4, 6):
        with lab.udp("client1", CLIENT[family]) as one, lab.udp("client1", CLIENT[family]) as two, lab.udp("client1", CLIENT[family]) as three, \
                lab.udp("remote1", REMOTE[family], 2000) as server:
            to = (REMOTE[family], 2000)
            grant = lab.inspector.request(**lab.outbound(family, 2000, transport=UDP, max_connections=2, lifetime_ms=1000))
            lab.inspector.renew(grant, 5000)
            source = lab.datagram(one, to, server)
            assert source and not lab.datagram(server, source, one, QUIET_S), "still send-only"
            lab.inspector.renew(grant, 6000)
            assert lab.datagram(two, to, server)
            assert not lab.datagram(three, to, server, QUIET_S)


# ---- what does not depend on the kernel's way ----

def row14_lifetimes_are_clamped_and_it_is_said(lab):
    for family in (4, 6):
        most = MAX_LIFETIME_S * 1000
        for fields in (lab.outbound(family, 2000), lab.inbound(family, CLIENT_PORT)):
            long = lab.inspector.request(**fields, lifetime_ms=3600 * 1000)
            assert long.lifetime_ms == most and long.lifetime_clamped and long.left_ms <= most, long
            again = lab.inspector.renew(long, 3600 * 1000)
            assert again.lifetime_clamped and most - 2000 < again.left_ms <= most, again
            lab.inspector.cancel(long)
        short = lab.inspector.request(**lab.outbound(family, 2000, lifetime_ms=10000))
        assert not short.lifetime_clamped and short.lifetime_ms == 10000
        assert 8000 < lab.inspector.renew(short, 1000).left_ms <= 10000, "never earlier than it would have"
        same = lab.inspector.renew(short)
        assert 9000 < same.left_ms <= 10000 and same.renewals == 2 and not same.lifetime_clamped, same
        renewed = lab.journal.wait("renewed", short, 2)
        assert renewed[0].actor == "inspector" and renewed[1].lifetime_ms == 10000, renewed
        lab.inspector.cancel(short)


def row6_a_renewed_timeout_ends_unused(lab):
    """Clamped to the server's unused_timeout."""
    grants = [lab.inspector.request(**lab.outbound(family, 2000, flags=TIMEOUT)) for family in (4, 6)]
    wait_until(lambda: lab.inspector.show(grants[0]).left_ms < 1000, "half their time is over")
    for grant in grants:
        renewed = lab.inspector.renew(grant, 3600 * 1000)
        assert renewed.lifetime_clamped and 1500 < renewed.left_ms <= 2000, renewed
    for family, grant in zip((4, 6), grants):
        ended = lab.journal.ended(grant, UNUSED_TIMEOUT)
        assert 2 <= (ended.time_us - lab.journal.of("renewed", grant)[0].time_us) / 1e6 <= 3
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], 2000))


def row14_what_cannot_be_renewed(lab):
    for family in (4, 6):
        grant = lab.inspector.request(**lab.outbound(family, 2000))
        foreign = lab.second.request(**lab.outbound(family, 2001))
        lab.inspector.cancel(grant)
        expect_error(lambda: lab.inspector.renew(grant), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        expect_error(lambda: lab.inspector.renew(foreign), NOT_FOUND)  # noqa: B023
        used = lab.inspector.request(**lab.outbound(family, 2000))
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], 2000), lab.listen_at("remote1", REMOTE[family], 2000))
        lab.journal.ended(used, USED_UP)
        expect_error(lambda: lab.inspector.renew(used), FAILED_PRECONDITION, ALREADY_ENDED)  # noqa: B023
        pair.close()
    expect_error(lambda: lab.inspector.renew("01890000-0000-7000-8000-0000000000aa"), NOT_FOUND)


def row14_a_renewal_survives_the_server(lab):
    """I1: what was answered is on disk; the door ends at the renewed time, not at the first."""
    listeners = {f: lab.listen_at("remote1", REMOTE[f], 2000) for f in (4, 6)}
    grants = [lab.inspector.request(**lab.outbound(family, 2000, lifetime_ms=2000, max_connections=2)) for family in (4, 6)]
    left = [lab.inspector.renew(grant, 15000).left_ms for grant in grants]
    lab.restart_server()
    for grant, before in zip(grants, left):
        assert before - 8000 < lab.inspector.show(grant).left_ms <= before
    wait_until(lambda: lab.inspector.show(grants[1]).left_ms < left[1] - 2200, "past its first lifetime")
    for family in (4, 6):
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], 2000), listeners[family]).close()


def row14_on_the_command_line(lab):
    for family in (4, 6):
        grant = lab.grant(REMOTE[family], 2000, "--lifetime", "5s", "--max-connections", "2")["grant"]
        renewed = lab.json("inspector", "grant", "renew", grant["id"], "--lifetime", "15s")[0]["grant"]
        assert renewed["id"] == grant["id"] and 14000 < renewed["left_ms"] <= 15000, renewed


# ---- the two ways ----

def way(lab):
    gateways = lab.pb["gateways"]
    return lab.admin.call("Gateways/Show", gateways.GatewayShowRequest(name="gw1"), gateways.Gateway).renewal


def by_the_kernels_own_way(lab):
    print(f"      this kernel renews {way(lab)}")
    assert way(lab) == ("in-place" if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 12) else "replace"), os.uname().release


def by_replacing(lab):
    """Forced; doors from before the change keep their uses and their time (I4, I7)."""
    held = {}
    for family in (4, 6):
        for name, fields, attempt in kinds(lab, family):
            grant = lab.inspector.request(**fields, max_connections=2, lifetime_ms=15000)
            s = lab.try_all([attempt], 2)[0]
            assert s, name
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
            lab.journal.wait("established", grant)
            lab.journal.wait("closed", grant)
            held[family, name] = (grant, attempt)
    lab.restart_agent(15, renewal="replace")
    assert way(lab) == "replace"
    for (family, name), (grant, attempt) in held.items():
        assert len([s for s in lab.try_all([attempt] * 3, 0.2) if s]) == 1, (family, name)
        lab.journal.ended(grant, USED_UP)


def setup(lab):
    lab.second, lab.given = lab.admin.add_filter("second"), 6000
    lab.admin.register("ranges", max_ports=100)
    lab.admin.allow("ranges")


WAYS = [row14_no_gap, row14_used_stays_used, row14_exactly_n_while_it_is_renewed, row14_it_closes_by_itself_at_the_renewed_time,
        row14_a_renewed_door_over_restarts, row14_a_given_external_port, row14_send_only_datagrams]

if __name__ == "__main__":
    main([setup, by_the_kernels_own_way, *WAYS, row14_lifetimes_are_clamped_and_it_is_said, row6_a_renewed_timeout_ends_unused,
          row14_what_cannot_be_renewed, row14_a_renewal_survives_the_server, row14_on_the_command_line, by_replacing, *WAYS],
         posternd={"unused_timeout": "2s", "default_lifetime": "10s", "max_lifetime": f"{MAX_LIFETIME_S}s"})
