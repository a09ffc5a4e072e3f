#!/usr/bin/python3
"""AllowFutureConnect's flags and arguments with real packets, over IPv4 and IPv6: rows 1, 3 to 8, 10 and 12 of the table."""
import os
import subprocess
import time

from e2e import CLIENT, OTHER, REMOTE, REMOTE2, Try, main, wait_until
from talk import (ACTIVE, ADDRESS_BASED, ALLOW_MULTIPLE, BIDIRECTIONAL, DENIED, EXPIRED, INVALID_ARGUMENT, NO_KERNEL_MODE,
                  PERMISSION_DENIED, PROTOCOL_RULES, SESSION_ENDED, SITE_RULES, TIMEOUT, UDP, UNIMPLEMENTED, UNUSED_TIMEOUT, USED,
                  USED_UP, refused)
from traffic import QUIET_S

PORT = 1046
UNUSED_S = 2.0  # unused_timeout in this lab


def row1_only_that_client_address_port_and_transport(lab):
    """I4: and once."""
    for family in (4, 6):
        client, remote = CLIENT[family], REMOTE[family]
        listener = lab.listen_at("remote1", remote, PORT)
        lab.listen_at("remote1", remote, PORT + 1)
        lab.listen_at("remote1", REMOTE2[family], PORT)
        right = Try("client1", client, remote, PORT)
        wrong = [Try("client1", OTHER[family], remote, PORT), Try("client1", client, REMOTE2[family], PORT),
                 Try("client1", client, remote, PORT + 1)]
        lab.closed(right, *wrong, why="before the grant")
        grant = lab.inspector.request(**lab.outbound(family, PORT))
        assert grant.state == ACTIVE and lab.holds(grant)
        lab.closed(*wrong)
        with lab.udp("remote1", remote, PORT) as receiver, lab.udp("client1", client) as sender:
            assert not lab.datagram(sender, (remote, PORT), receiver, QUIET_S), "a door for TCP is none for UDP"
        lab.pair(right, listener).close()
        lab.closed(right, why="once")
        lab.journal.ended(grant, USED_UP)
        assert lab.inspector.show(grant).state == USED


def row1_only_that_client_address_port_and_transport_udp(lab):
    for family in (4, 6):
        client, remote = CLIENT[family], REMOTE[family]
        with lab.udp("client1", client) as sender, lab.udp("client1", OTHER[family]) as other, lab.udp("client1", client) as second, \
                lab.udp("remote1", remote, PORT) as receiver, lab.udp("remote1", REMOTE2[family], PORT) as receiver2:
            assert not lab.datagram(sender, (remote, PORT), receiver, QUIET_S), "before the grant"
            grant = lab.inspector.request(**lab.outbound(family, PORT, transport=UDP))
            assert not lab.datagram(other, (remote, PORT), receiver, QUIET_S), "not for another client"
            assert not lab.datagram(sender, (REMOTE2[family], PORT), receiver2, QUIET_S), "not to another address"
            lab.listen_at("remote1", remote, PORT)
            lab.closed(Try("client1", client, remote, PORT), why="a door for UDP is none for TCP")
            assert lab.datagram(sender, (remote, PORT), receiver) == sender.getsockname()[:2]
            assert lab.datagram(sender, (remote, PORT), receiver), "a second datagram of the same flow is no second use"
            assert not lab.datagram(second, (remote, PORT), receiver, QUIET_S), "a second flow is one"
            lab.journal.ended(grant, USED_UP)
            assert lab.journal.uses(grant) == 1


def row3_without_flags_it_ends_with_the_session(lab):
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        session = lab.inspector.open_session(CLIENT[family])
        used = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT)
        unused = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT + 1)
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener)
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT), why="exactly one flow")
        lab.journal.ended(used, USED_UP)
        lab.inspector.close_session(session)
        lab.journal.ended(unused, SESSION_ENDED)
        lab.shut(unused)
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT + 1))
        assert pair.passes(), "the flow that was admitted lives on"
        pair.close()


def row4_address_based_survives_the_session(lab):
    """And a second inspector's session of the same client address uses it."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        session = lab.inspector.open_session(CLIENT[family])
        grant = lab.inspector.request(session=session.id, remote=REMOTE[family], remote_port=PORT, flags=ADDRESS_BASED, max_connections=2)
        lab.inspector.close_session(session)
        other = lab.second.open_session(CLIENT[family])
        assert lab.inspector.show(grant).state == ACTIVE
        lab.closed(Try("client1", OTHER[family], REMOTE[family], PORT), why="of that client address only")
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener).close()
        lab.second.close_session(other)
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener, why="the second session's end is no end of it either").close()
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT))
        lab.journal.ended(grant, USED_UP)


def row5_a_thousand_flows_through_allow_multiple(lab):
    """I5: each is journalled, by its event or by the kernel's counter."""
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.inspector.request(**lab.outbound(family, PORT, flags=ALLOW_MULTIPLE))
        for _ in range(4):
            sockets = lab.try_all([Try("client1", CLIENT[family], REMOTE[family], PORT)] * 250, 10)
            assert all(sockets)
            for s in sockets:
                s.close()
            lab.drain(listener)
        lab.journal.until(lambda: lab.journal.uses(grant) >= 1000, "a thousand uses are journalled")  # noqa: B023
        assert lab.journal.uses(grant) == 1000
        assert lab.inspector.show(grant).state == ACTIVE
        lab.inspector.cancel(grant)
        lab.shut(grant)
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT))


def row6_timeout_not_earlier_at_most_a_second_late(lab):
    """Doors of the same moment, each tried at another one: a try that is let through uses its door."""
    early, late, doors, pairs = [0.0, 0.3, 0.6, 0.8, 0.9, 0.95], 1.5, [], []
    for i, part in enumerate([*early, late]):
        for family in (4, 6):
            lab.listen_at("remote1", REMOTE[family], 3000 + i)
            began = time.monotonic()
            grant = lab.inspector.request(**lab.outbound(family, 3000 + i, flags=TIMEOUT))
            assert grant.lifetime_ms == UNUSED_S * 1000
            doors.append((began + part * UNUSED_S, began + UNUSED_S, grant, Try("client1", CLIENT[family], REMOTE[family], 3000 + i)))
    for when, over, grant, attempt in sorted(doors, key=lambda d: d[0]):
        wait_until(lambda: time.monotonic() >= when, "its moment")  # noqa: B023
        if when < over:
            if time.monotonic() < over - 0.05:  # else this machine was too slow for the question
                pairs.append(lab.pair(attempt, lab.listen_at("remote1", attempt.address, attempt.port), 0.5, "before its time"))
            continue
        lab.closed(attempt, why="a second after its time")
        ended = lab.journal.ended(grant, UNUSED_TIMEOUT)
        lived = (ended.time_us - grant.created_us) / 1e6
        assert UNUSED_S <= lived <= UNUSED_S + 1, f"it lived for {lived} s"
        assert lab.inspector.show(grant).state == EXPIRED and not lab.holds(grant)
    assert len(pairs) >= 6
    for pair in pairs:
        assert pair.passes(), "used in time, the flow lives on"
        pair.close()


def row6_timeout_with_allow_multiple_is_refused(lab):
    for family in (4, 6):
        refused(lab.inspector, INVALID_ARGUMENT, text="TIMEOUT", field="flags", **lab.outbound(family, PORT, flags=TIMEOUT | ALLOW_MULTIPLE))


def row7_answers_pass_with_bidirectional_only(lab):
    for family in (4, 6):
        remote = REMOTE[family]
        for flags in (0, BIDIRECTIONAL):
            with lab.udp("client1", CLIENT[family]) as client, lab.udp("remote1", remote, PORT) as server:
                lab.inspector.request(**lab.outbound(family, PORT, transport=UDP, flags=flags))
                source = lab.datagram(client, (remote, PORT), server)
                assert source, "to the remote it passes"
                answer = lab.datagram(server, source, client, 2 if flags else QUIET_S)
                assert bool(answer) == bool(flags), (family, flags, answer)
                assert lab.datagram(client, (remote, PORT), server), "an answer, dropped or not, changes nothing for the client"
        refused(lab.inspector, INVALID_ARGUMENT, text="BIDIRECTIONAL", field="flags", **lab.outbound(family, PORT, flags=BIDIRECTIONAL))


def row7_a_tftp_download(lab):
    """tftp-hpa: the request goes to port 69, the answer comes from a new port: an outbound door and a BIDIRECTIONAL one for the answer."""
    folder = f"{lab.folder}/tftp"
    os.makedirs(folder)
    with open(f"{folder}/file", "wb") as f:
        f.write(os.urandom(300000))
    os.chmod(folder, 0o755)
    os.chmod(f"{folder}/file", 0o644)
    lab.children.append(lab.popen("remote1", "/usr/sbin/in.tftpd", "--foreground", "--address", ":69", "--user", "root", "--secure", folder))
    wait_until(lambda: ":69 " in lab.run("remote1", "ss", "-Hlun").stdout, "in.tftpd listens")
    for family in (4, 6):
        got = f"{folder}/got{family}"

        def get(port):
            return ["tftp", f"-{family}", "-m", "octet", "-R", f"{port}:{port}", REMOTE[family], "-c", "get", "file", got]  # noqa: B023
        tied = {"transport": UDP, "protocol": "tftp"}
        lab.inspector.request(**lab.outbound(family, 69, **tied))
        child = lab.popen("client1", *get(7001))
        try:
            child.communicate(timeout=1)
            raise AssertionError("the answer comes from another port: it must not pass by the first door")
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
        lab.inspector.request(**lab.outbound(family, 69, **tied))
        answer = lab.inspector.request(**lab.inbound(family, 7000, flags=BIDIRECTIONAL, **tied))
        lab.run("client1", *get(7000), timeout=20)
        with open(f"{folder}/file", "rb") as a, open(got, "rb") as b:
            assert a.read() == b.read()
        flow = lab.journal.wait("established", answer)[0].flow
        assert flow.client_port == 7000 and flow.remote == REMOTE[family] and flow.remote_port != 69, flow


def row8_no_kernel_mode_is_refused_not_ignored(lab):
    for family in (4, 6):
        refused(lab.inspector, UNIMPLEMENTED, text="NO_KERNEL_MODE", **lab.outbound(family, PORT, flags=NO_KERNEL_MODE))
        refused(lab.inspector, UNIMPLEMENTED, text="NO_KERNEL_MODE", **lab.inbound(family, PORT, flags=NO_KERNEL_MODE))


def row10_the_context_comes_back_unchanged(lab):
    for family in (4, 6):
        contexts = [b"", b"\0", bytes(range(256)), os.urandom(4096)]
        silent = 4000 + len(contexts)
        grants = []
        for i, context in enumerate(contexts + [b"not to be told"]):
            lab.listen_at("remote1", REMOTE[family], 4000 + i)
            grants.append(lab.inspector.request(**lab.outbound(family, 4000 + i, context=context, notify=4000 + i != silent)))
        foreign = lab.second.request(**lab.outbound(family, 4100, notify=True, context=b"of the other filter"))
        lab.listen_at("remote1", REMOTE[family], 4100)
        ports = [*range(4000, silent + 1), 4100]
        for s in lab.try_all([Try("client1", CLIENT[family], REMOTE[family], port) for port in ports], 5):
            s.close()
        for grant in [*grants, foreign]:
            lab.journal.wait("established", grant)
        mine = {e.grant: e.context for e in lab.inspector.events("established")}
        for grant, context in zip(grants, contexts):
            assert mine[grant.id] == context, (len(context), mine[grant.id][:40])
        assert grants[-1].id not in mine, "no notify, no event to the filter"
        assert foreign.id not in mine, "nor one of another filter's"
        assert [e.context for e in lab.second.events("established") if e.grant == foreign.id] == [b"of the other filter"]
        refused(lab.inspector, INVALID_ARGUMENT, field="context", **lab.outbound(family, PORT, context=b"x" * 4097))


def denied(lab, reason, **fields):
    """Like refused(), of a denial: journalled as a grant in that state, in which the rule is named."""
    detail = refused(lab.inspector, PERMISSION_DENIED, reason, **fields).detail
    entry = lab.journal.wait("denied", detail.grant)[0]
    assert entry.rule == detail.rule and lab.inspector.show(detail.grant).state == DENIED
    return detail


def row12_the_two_refusals_are_told_apart(lab):
    lab.admin.register("gopher")
    for family in (4, 6):
        for fields in (lab.outbound(family, PORT, protocol="gopher"), lab.inbound(family, PORT, protocol="gopher")):
            assert denied(lab, PROTOCOL_RULES, text="protocol rule", **fields).rule == "", "no rule allows"
    lab.admin.allow("gopher", deny=True)
    for family in (4, 6):
        assert denied(lab, PROTOCOL_RULES, text="deny gopher", **lab.outbound(family, PORT, protocol="gopher")).rule == "deny gopher"
    shown = lab.run("policy", "postern", "policy", "show").stdout
    text = lab.write("no-sites.yaml", shown + "- {name: no sites today, action: deny}\n")  # its last list: the site-and-content rules
    lab.run("policy", "postern", "policy", "apply", "-f", text)
    for family in (4, 6):
        for fields in (lab.outbound(family, PORT), lab.inbound(family, PORT)):
            assert denied(lab, SITE_RULES, text="no sites today", **fields).rule == "no sites today"
        assert denied(lab, PROTOCOL_RULES, **lab.outbound(family, PORT, protocol="gopher")).rule == "deny gopher", "asked first"
        lab.closed(Try("client1", CLIENT[family], REMOTE[family], PORT))
    before = lab.json("policy", "policy", "history")[1]["number"]
    lab.run("policy", "postern", "policy", "rollback", str(before))
    assert lab.inspector.request(**lab.outbound(4, PORT)).state == ACTIVE


def setup(lab):
    lab.second = lab.admin.add_filter("second")
    lab.admin.register("tftp", UDP, low_ports=True)
    lab.admin.allow("tftp")


if __name__ == "__main__":
    main([setup, row1_only_that_client_address_port_and_transport, row1_only_that_client_address_port_and_transport_udp,
          row3_without_flags_it_ends_with_the_session, row4_address_based_survives_the_session,
          row5_a_thousand_flows_through_allow_multiple, row6_timeout_not_earlier_at_most_a_second_late,
          row6_timeout_with_allow_multiple_is_refused, row7_answers_pass_with_bidirectional_only, row7_a_tftp_download,
          row8_no_kernel_mode_is_refused_not_ignored, row10_the_context_comes_back_unchanged, row12_the_two_refusals_are_told_apart],
         posternd={"unused_timeout": "2s"})
