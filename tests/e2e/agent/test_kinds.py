"""Doors of every kind with real packets: for anybody, for several, ranges of ports, translations, one-way, incomplete, carried over.

Defends I3 (every door closes by itself) and I4 (exactly as many flows as granted, one budget over all keys of a door).
usage: test_kinds.py DRIVER [TEST]...
"""
import re
import socket
import sys
import threading

import netns
from lab import (ADDR, CLIENT, EXTERNAL, FAMILY, GATEWAY, OTHER, REMOTE, REMOTES, SOON, Driver, any_door, await_connects, connects,
                 driver, echo, endpoint, grant_of, main, nft, receives, serving, start_connect, udp)

RENEWALS = ("in-place", "replace")


def each_renewal(test):
    """Once with each way of renewal: the table has another shape."""
    def run(v):
        for renewal in RENEWALS:
            test(v, renewal)
    run.__name__ = test.__name__
    return run


def race(tries):
    """Starts them all at once from several threads; the sockets."""
    sockets, gate, share = [], threading.Barrier(8), (len(tries) + 7) // 8

    def start(mine):
        gate.wait()
        for one in mine:
            sockets.append(start_connect(*one[0], **one[1]))
    threads = [threading.Thread(target=start, args=(tries[i * share:(i + 1) * share],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sockets) == len(tries)
    return sockets


def admitted(tries, seconds=1.6):
    """How many of them all at once; longer than the first retransmission, so that those that were refused stay so."""
    sockets = race(tries)
    passed = [s for s in await_connects(sockets, seconds) if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0]
    for s in sockets:
        s.close()
    return len(passed)


def family_word(v):
    return "ip" if v == 4 else "ip6"


@each_renewal
def test_anybody(v, renewal):
    with driver(renewal=renewal) as d, serving(v, [7000, 7001], CLIENT) as server:
        one = any_door("any", ADDR[v][CLIENT], 7000, 7)
        assert d.apply([one]) == {}
        assert not connects(v, 7001, REMOTE, 0.3, ADDR[v][CLIENT])
        tries = [((v, 7000, name), {"to": ADDR[v][CLIENT]}) for name in (OTHER, REMOTE) * 32]
        assert admitted(tries) == 7
        assert server.has_accepted({7000: 7, 7001: 0})
        held = d.doors()[grant_of(one)]
        assert (held["client"], held["counter"], held["uses"], held["state"]) == ("any", 7, 7, "whole"), held
        assert d.apply([one]) == {}, "in place already"
        assert not connects(v, 7000, REMOTE, 0.3, ADDR[v][CLIENT]), "never armed anew"
        # an exact door is asked first, and has a budget of its own
        exact = any_door(ADDR[v][OTHER], ADDR[v][CLIENT], 7000)
        assert d.apply([exact]) == {}
        assert connects(v, 7000, OTHER, SOON, ADDR[v][CLIENT])
        assert not connects(v, 7000, OTHER, 0.3, ADDR[v][CLIENT])
        # another grant takes the key over
        another = any_door("any", ADDR[v][CLIENT], 7000)
        assert d.apply([another]) == {}
        assert connects(v, 7000, REMOTE, SOON, ADDR[v][CLIENT])
        assert not connects(v, 7000, REMOTE, 0.3, ADDR[v][CLIENT])
        assert d.apply([], [another, exact]) == {}
        assert d.doors() == {}


@each_renewal
def test_several_share_one_budget(v, renewal):
    with driver(renewal=renewal) as d, serving(v, [7000], CLIENT) as server:
        several = REMOTES[v][:3] + [ADDR[v][OTHER]]
        one = any_door(several, ADDR[v][CLIENT], 7000, 7)
        assert d.apply([one]) == {}
        assert not connects(v, 7000, REMOTE, 0.3, ADDR[v][CLIENT], REMOTES[v][4]), "not one of them"
        tries = [((v, 7000, REMOTE), {"to": ADDR[v][CLIENT], "address": REMOTES[v][i % 3]}) for i in range(48)]
        tries += [((v, 7000, OTHER), {"to": ADDR[v][CLIENT]})] * 16
        assert admitted(tries) == 7
        assert server.has_accepted({7000: 7})
        held = d.doors()[grant_of(one)]
        assert held["client"] == one.split()[1] and held["last"] == 0, held
        assert (held["counter"], held["uses"], held["state"]) == (7, 7, "whole"), held
        assert d.apply([one]) == {}, "in place already"
        assert not connects(v, 7000, OTHER, 0.3, ADDR[v][CLIENT]), "never armed anew"
        assert d.apply([], [one]) == {}
        assert d.doors() == {}
        assert "limit" not in nft("list", "limits", "inet") and "packets" not in nft("list", "counters", "inet")


@each_renewal
def test_range_has_one_budget(v, renewal):
    ports = list(range(8000, 8010))
    with driver(renewal=renewal) as d, serving(v, ports + [8010]) as server:
        one = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8000-8009", 7)
        assert d.apply([one]) == {}
        assert not connects(v, 8010, CLIENT, 0.3)
        assert not connects(v, 8000, OTHER, 0.3)
        assert admitted([((v, ports[i % 10]), {}) for i in range(64)]) == 7
        assert sum(server.accepted.values()) == 7
        held = d.doors()[grant_of(one)]
        assert (held["client"], held["port"], held["last"]) == (ADDR[v][CLIENT], 8000, 8009), held
        assert (held["counter"], held["uses"], held["state"]) == (7, 7, "whole"), held
        unlimited = any_door(ADDR[v][OTHER], ADDR[v][REMOTE], "8000-8009", 0)
        assert d.apply([unlimited], [one]) == {}
        assert set(d.doors()) == {grant_of(unlimited)}
        tries = [start_connect(v, ports[i % 10], OTHER) for i in range(100)]
        assert len(await_connects(tries, 3)) == 100
        for s in tries:
            s.close()
        assert d.doors()[grant_of(unlimited)]["counter"] == 100


def test_wide_doors_do_not_overlap(v):
    with driver() as d, serving(v, [8005]):
        first = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8000-8009", 2)
        second = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8005-8014", 2)
        third = any_door(ADDR[v][OTHER], ADDR[v][REMOTE], "8005-8014", 2)
        assert d.apply([first]) == {}
        refused = d.apply([second, third])
        assert list(refused) == [grant_of(second)] and "overlap" in refused[grant_of(second)], refused
        assert {g: one["state"] for g, one in d.doors().items()} == {grant_of(first): "whole", grant_of(third): "whole"}
        assert d.apply([second], [first]) == {}, "its keys are free in the same transaction"
        assert connects(v, 8005)


def test_source_address(v):
    outside = EXTERNAL[v]
    with driver() as d, serving(v, [8000, 8001, 8002, 8003]) as server:
        doors = [any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 0, nat="snat " + outside),
                 any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8001, 0, nat="snat " + endpoint(outside, 2121)),
                 any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8002-8003", 0, nat="snat " + outside)]
        assert d.apply(doors) == {}
        for port in (8000, 8001, 8002, 8003):
            flow = start_connect(v, port)
            assert await_connects([flow], SOON), port
            assert echo(flow, b"both ways" * 1000)
            flow.close()
        assert server.has_accepted({port: 1 for port in (8000, 8001, 8002, 8003)})
        assert [peer[0] for peer in server.peers] == [outside] * 4, server.peers
        assert server.peers[1][1] == 2121
        held = d.doors()
        assert [held[grant_of(one)]["outside"] for one in doors] == [
            endpoint(outside, 0), endpoint(outside, 2121), endpoint(outside, 0)]
        assert all(one["state"] == "whole" and one["nat"] == "snat" for one in held.values()), held
        # UDP too, and what is removed translates nobody any more
        one = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 9000, 0, "udp", nat="snat " + endpoint(outside, 5060))
        assert d.apply([one], doors) == {}
        client, remote = udp(v, CLIENT), udp(v, REMOTE)
        remote.bind((ADDR[v][REMOTE], 9000))
        client.sendto(b"question", (ADDR[v][REMOTE], 9000))
        data, peer = receives(remote)
        assert (data, peer[:2]) == (b"question", (outside, 5060))
        remote.sendto(b"answer", peer)
        assert receives(client)[0] == b"answer"
        plain = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 0)
        assert d.apply([plain], [one]) == {}
        assert connects(v, 8000)
        assert server.has_accepted({8000: 2, 8001: 1, 8002: 1, 8003: 1}) and server.peers[-1][0] == ADDR[v][CLIENT]
        client.close()
        remote.close()


def translated_door(v, kind, uses):
    origins = {"exact": REMOTES[v][1], "several": REMOTES[v][1:3], "anybody": "any"}
    return any_door(origins[kind], ADDR[v][CLIENT], 7000, uses, nat="dnat " + endpoint(EXTERNAL[v], 2121))


def test_inbound_by_an_external_address(v):
    outside = EXTERNAL[v]
    with driver() as d, serving(v, [7000], CLIENT) as server:
        for kind in ("exact", "several", "anybody"):
            one = translated_door(v, kind, 2)
            accepted = server.accepted[7000]
            assert d.apply([one]) == {}
            flow = start_connect(v, 2121, REMOTE, to=outside, address=REMOTES[v][1])
            assert await_connects([flow], SOON), kind
            assert echo(flow, b"both ways" * 1000)
            assert server.has_accepted({7000: accepted + 1}) and server.peers[-1][0] == REMOTES[v][1]
            if kind != "anybody":
                assert not connects(v, 2121, REMOTE, 0.3, outside, REMOTES[v][4]), kind
            held = d.doors()[grant_of(one)]
            assert (held["nat"], held["outside"], held["state"]) == ("dnat", endpoint(outside, 2121), "whole"), held
            assert held["client"] == one.split()[1], held
            last = REMOTES[v][1 if kind == "exact" else 2]
            assert connects(v, 2121, REMOTE, SOON, outside, last), kind
            assert not connects(v, 2121, REMOTE, 0.3, outside, last), "used up"
            assert d.apply([], [one]) == {}
            assert d.doors() == {}
            assert not connects(v, 2121, REMOTE, 0.3, outside, REMOTES[v][1])
            assert echo(flow, b"a flow outlives its door")
            flow.close()


def test_external_ports_are_exclusive(v):
    """Two grants that lead one external address to two clients: the second is refused, the first goes on."""
    with driver() as d, serving(v, [7000], CLIENT):
        first = translated_door(v, "anybody", 0)
        second = any_door("any", ADDR[v][OTHER], 7000, 0, nat="dnat " + endpoint(EXTERNAL[v], 2121))
        assert d.apply([first]) == {}
        assert list(d.apply([second])) == [grant_of(second)]
        assert connects(v, 2121, REMOTE, SOON, EXTERNAL[v])
        assert set(d.doors()) == {grant_of(first)}


def test_a_sites_own_translations_go_on(v):
    """Flows that are not ours, and doors without an external address, meet the administrator's nat rules as before."""
    outside, word = EXTERNAL[v], family_word(v)
    with driver(mode="overlay") as d, serving(v, [8000, 8001, 8002]) as server, serving(v, [7000], CLIENT) as inside:
        nft("-f", "-", text="""table %s site {
            chain post { type nat hook postrouting priority srcnat; oifname "eth-r" masquerade; }
            chain pre { type nat hook prerouting priority dstnat; %s daddr %s tcp dport 9999 dnat to %s; }
        }""" % (word, word, outside, endpoint(ADDR[v][CLIENT], 7000)))
        doors = [any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8001, 0),
                 any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8002, 0, nat="snat " + outside),
                 any_door("any", ADDR[v][CLIENT], 7000, 0, nat="dnat " + endpoint(outside, 2121))]
        assert d.apply(doors) == {}
        for port in (8000, 8001, 8002):
            assert connects(v, port)
        gateway = re.sub("[0-9]+$", "1", ADDR[v][REMOTE])
        assert server.has_accepted({8000: 1, 8001: 1, 8002: 1})
        assert [peer[0] for peer in server.peers] == [gateway, gateway, outside], server.peers
        assert connects(v, 9999, REMOTE, SOON, outside) and connects(v, 2121, REMOTE, SOON, outside)
        assert inside.has_accepted({7000: 2})


def test_one_way_datagrams(v):
    """Each direction and each kind: the first passes, answers do not."""
    outside = EXTERNAL[v]
    cases = [(any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "9000-9009", 1, "udp1"), CLIENT, (ADDR[v][REMOTE], 9005), REMOTE, 9005),
             (any_door(ADDR[v][REMOTE], ADDR[v][CLIENT], 9100, 1, "udp1"), REMOTE, (ADDR[v][CLIENT], 9100), CLIENT, 9100),
             (any_door("any", ADDR[v][CLIENT], 9100, 1, "udp1", nat="dnat " + endpoint(outside, 5004)), REMOTE, (outside, 5004),
              CLIENT, 9100),
             (any_door([ADDR[v][REMOTE], ADDR[v][OTHER]], ADDR[v][CLIENT], 9100, 1, "udp1"), OTHER, (ADDR[v][CLIENT], 9100), CLIENT,
              9100)]
    with driver() as d:
        for one, opener, target, receiver, port in cases:
            assert d.apply([one]) == {}
            sender, listener, second = udp(v, opener), udp(v, receiver), udp(v, opener)
            listener.bind((ADDR[v][receiver], port))
            for i in range(3):
                sender.sendto(b"%d" % i, target)
                got = receives(listener)
                assert got and got[0] == b"%d" % i, one
                listener.sendto(b"answer", got[1])
            assert receives(sender, 0.3) is None, "answers of a send-only door are dropped: " + one
            second.sendto(b"second", target)
            assert receives(listener, 0.3) is None, "a second flow is a second use: " + one
            held = d.doors()[grant_of(one)]
            assert (held["kind"], held["counter"], held["state"]) == ("udp1", 1, "whole"), held
            assert d.apply([], [one]) == {} and d.doors() == {}
            both = re.sub("udp1", "udp", one)
            assert d.apply([both]) == {}
            sender.close()
            sender = udp(v, opener)
            sender.sendto(b"question", target)
            got = receives(listener)
            assert got and got[0] == b"question", both
            listener.sendto(b"answer", got[1])
            answer = receives(sender)
            assert answer and answer[0] == b"answer", both
            assert d.apply([], [both]) == {}
            for s in (sender, listener, second):
                s.close()


def test_a_flow_begins_with_a_syn(v):
    """What was cut cannot go on mid-stream, and no stray segment uses a door up."""
    with driver() as d, serving(v, [8000]):
        one = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 2)
        assert d.apply([one]) == {}
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        assert echo(flow, b"before")
        netns.run(["ip", "netns", "exec", GATEWAY, "conntrack", "-D", "-f", "ipv%d" % v, "-p", "tcp", "--dport", "8000"])
        flow.setblocking(True)
        flow.settimeout(1.5)
        flow.sendall(b"after")
        try:
            got = flow.recv(100)
        except socket.timeout:
            got = b""
        assert got == b"", "the flow went on after it was cut"
        assert d.doors()[grant_of(one)]["counter"] == 1, "a segment in midstream is no use"
        assert connects(v, 8000)
        assert not connects(v, 8000, CLIENT, 0.3)
        flow.close()


def all_kinds(v):
    outside = EXTERNAL[v]
    client, remote = ADDR[v][CLIENT], ADDR[v][REMOTE]
    return [any_door(client, remote, 8000, 3), any_door(client, remote, 8000, 0, "udp"), any_door(client, remote, 8001, 1, "udp1"),
            any_door(client, remote, 8002, 3, nat="snat " + outside),
            any_door(client, remote, 8003, 3, nat="snat " + endpoint(outside, 4000)),
            any_door(client, remote, "8010-8019", 3), any_door(client, remote, "8010-8019", 0, "udp1", nat="snat " + outside),
            any_door(client, remote, "8020-8021", 3, "udp", nat="snat " + endpoint(outside, 4001)),
            any_door(REMOTES[v], client, 7000, 3), any_door(REMOTES[v], client, 7000, 3, "udp1"),
            any_door(REMOTES[v], client, 7001, 3, nat="dnat " + endpoint(outside, 2121)),
            any_door("any", client, 7002, 3), any_door("any", client, 7002, 0, "udp1"),
            any_door("any", client, 7003, 3, nat="dnat " + endpoint(outside, 2122)),
            any_door(remote, client, 7004, 3, nat="dnat " + endpoint(outside, 2123))]


def loadable(text):
    """All of it but the rules that nft 1.0.6 prints and cannot parse: `ct label set KEY map @name` is a mismatch of types to it."""
    assert text.count("ct label set") > 2 * 2 * 64
    return re.sub(r"\n[^\n]*ct label set[^\n]*", "", text)


def without_times(text):
    return re.sub(r" (timeout|expires) [0-9a-z]+", "", text)


def tell(doors):
    """What must be the same of them, whatever their table looks like."""
    return {grant: {key: value for key, value in one.items() if key != "timeout"} for grant, one in doors.items()}


@each_renewal
def test_the_ruleset_can_be_listed_and_loaded(v, renewal):
    kinds = all_kinds(v)
    with driver(renewal=renewal) as d, serving(v, [8000, 8015]), serving(v, [7000], CLIENT):
        assert d.ask("renewal") == [renewal]
        assert d.apply(kinds) == {}
        assert connects(v, 8000) and connects(v, 8015) and connects(v, 7000, REMOTE, SOON, ADDR[v][CLIENT])
        held = d.doors()
        assert len(held) == len(kinds) and all(one["state"] == "whole" for one in held.values()), held
        for line in kinds:
            grant, origin, to, ports, kind, uses, _, *nat = line.split()
            first, _, last = ports.partition("-")
            one = held[grant]
            assert (one["client"], one["remote"], one["port"], one["last"], one["kind"], one["uses"]) == (
                origin, to, int(first), int(last or 0), kind, int(uses)), (line, one)
            assert one["nat"] == (nat[0] if nat else "-"), (line, one)
            assert 50000 < one["timeout"] <= 60000, (line, one)
        text = loadable(nft("list", "ruleset"))
        nft("flush", "ruleset")
        nft("-f", "-", text=text)
        assert without_times(nft("list", "ruleset")) == without_times(text)
        assert d.ask("install") == ["adopted"]
        again = d.doors()
        assert tell(again) == tell(held)
        assert all(one["timeout"] <= 60000 for one in again.values()), again
        assert connects(v, 8000) and connects(v, 8015) and connects(v, 7000, REMOTE, SOON, ADDR[v][CLIENT])
        # what the reloaded table holds can be taken away again, by what the dump says
        assert d.ask("remove-held") == ["removed %d" % len(kinds)]
        assert d.doors() == {}
        assert "elements" not in nft("list", "table", "inet", "postern")
        assert re.search(r"limit g|counter g", nft("list", "table", "inet", "postern")) is None


def left(doors):
    """As `tell`, in uses that are left."""
    return {grant: dict(one, uses=one["uses"] and one["uses"] - one["counter"], counter=0) for grant, one in tell(doors).items()}


def test_another_way_of_renewal_carries_doors_over(v):
    kinds = all_kinds(v)
    with driver(renewal="in-place") as d, serving(v, [8000, 8015]), serving(v, [7000, 7002], CLIENT):
        assert d.apply(kinds) == {}
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        assert connects(v, 8015) and connects(v, 7002, REMOTE, SOON, ADDR[v][CLIENT])
        before = d.doors()
        d.close()
        for renewal in ("replace", "in-place"):
            other = Driver(renewal=renewal)
            assert other.ask("install") == ["replaced"]
            after = other.doors()
            assert left(after) == left(before)
            assert echo(flow, b"live flows go on")
            assert connects(v, 8015)
            before = other.doors()
            other.close()
            assert Driver(renewal=renewal).ask("install") == ["adopted"]
        other = Driver(renewal="in-place")
        assert other.ask("install") == ["adopted"]
        assert not connects(v, 8015, CLIENT, 0.3), "three uses in three tables"
        assert connects(v, 7000, REMOTE, SOON, ADDR[v][CLIENT])
        other.close()
        flow.close()


def test_a_table_of_schema_1_is_carried_over(v):
    """Its doors lived in c4, o4, c6 and o6 alone."""
    with driver(renewal="in-place") as d, serving(v, [8000, 8001]):
        used, fresh = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 3), any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8001, 1, "udp1")
        assert d.apply([used, fresh]) == {}
        assert connects(v, 8000)
        text = loadable(nft("list", "table", "inet", "postern")).replace("schema 3 in-place", "schema 1")
        text = re.sub(r"\t(map (?!c[46]_|o[46]_)\w+|chain p\w+) {.*?\n\t}\n", "", text, flags=re.S)
        assert "@" not in text and "map a4" not in text and "map c4_00" in text
        nft("flush", "ruleset")
        nft("-f", "-", text=text)
        assert d.ask("install") == ["replaced"]
        held = d.doors()
        assert {g: (one["uses"], one["counter"], one["kind"]) for g, one in held.items()} == {
            grant_of(used): (2, 0, "tcp"), grant_of(fresh): (1, 0, "udp1")}
        assert admitted([((v, 8000), {}) for _ in range(16)]) == 2


@each_renewal
def test_what_somebody_deletes_is_made_whole(v, renewal):
    """Half a door is recognised; adding the whole one repairs it, and what it has admitted stays counted."""
    client, remote, outside = ADDR[v][CLIENT], ADDR[v][REMOTE], EXTERNAL[v]
    with driver(renewal=renewal) as d, serving(v, [8000, 8015]) as server:
        wide = any_door(client, remote, "8010-8019", 4, nat="snat " + outside)
        exact = any_door(client, remote, 8000, 4, nat="snat " + outside)
        assert d.apply([wide, exact]) == {}
        assert connects(v, 8015) and connects(v, 8000)

        def states():
            return {grant: (one["state"], one["counter"]) for grant, one in d.doors().items()}
        whole = {grant_of(wide): ("whole", 1), grant_of(exact): ("whole", 1)}
        key = "%s . %s . tcp . 8015" % (client, remote)
        for target in ("wg", "wl", "wc", "y"):
            nft("delete", "element", "inet", "postern", "%s%d" % (target, v), "{ %s }" % key)
            assert states() == dict(whole, **{grant_of(wide): ("incomplete", 1)}), target
            assert d.apply([wide]) == {}
            assert states() == whole, target
        nft("delete", "element", "inet", "postern", "y%d" % v, "{ %s . %s . tcp . 8000 }" % (client, remote))
        assert states() == dict(whole, **{grant_of(exact): ("incomplete", 1)})
        assert d.apply([exact]) == {}
        assert states() == whole
        for target in ("wg", "wl", "wc"):
            nft("flush", "map", "inet", "postern", "%s%d" % (target, v))
        assert states() == dict(whole, **{grant_of(wide): ("expired", 1)}), "its objects remain, and nobody is admitted"
        assert not connects(v, 8015, CLIENT, 0.3)
        assert d.apply([wide]) == {}
        assert states() == whole
        assert admitted([((v, 8010 + i % 10 if i % 2 else 8015), {}) for i in range(1)]) == 1
        assert admitted([((v, 8015), {}) for _ in range(32)]) == 2, "four in all, for all that was done to it"
        assert all(peer[0] == outside for peer in server.peers), server.peers
        # translations without a door do not outlive the next look: they would take an address from the gateway
        nft("flush", "ruleset")
        assert d.ask("install") == ["created"]
        inbound = translated_door(v, "anybody", 1)
        assert d.apply([inbound]) == {}
        nft("flush", "map", "inet", "postern", "na%d" % v)
        assert d.doors() == {}
        assert "2121" not in nft("list", "map", "inet", "postern", "da%d" % v)
        # half a door that nobody wants goes too
        assert d.apply([wide]) == {}
        nft("delete", "element", "inet", "postern", "wg%d" % v, "{ %s }" % key)
        assert d.ask("remove-held") == ["removed 1"] and d.doors() == {}
        assert re.search(r"limit g|counter g|8015", nft("list", "table", "inet", "postern")) is None


@each_renewal
def test_objects_that_somebody_deletes_are_made_again(v, renewal):
    """A door without its counter, or without its limit, is half a door, which admits nobody; made whole, never more than granted."""
    client, remote = ADDR[v][CLIENT], ADDR[v][REMOTE]
    with driver(renewal=renewal) as d, serving(v, [8015]):
        wide = any_door(client, remote, "8010-8019", 4)
        rest = any_door(client, remote, "8010-8019", 3, grant=grant_of(wide))
        # A limit that is left counts the try that finds no counter; one that is made again has what is said to be left.
        for objects, target, again, counted, left in (("counter", "wc", wide, 0, 2), ("limit", "wl", rest, 1, 3)):
            assert d.apply([wide]) == {}
            assert connects(v, 8015)
            nft("flush", "map", "inet", "postern", "%s%d" % (target, v))
            assert d.ask("watch 1000") == ["changed doors"]
            nft("delete", objects, "inet", "postern", "g" + grant_of(wide))
            assert d.ask("watch 1000") == ["changed doors"]
            assert d.doors()[grant_of(wide)]["state"] == "incomplete", objects
            assert not connects(v, 8015, CLIENT, 0.3), objects
            assert d.apply([again]) == {}
            one = d.doors()[grant_of(wide)]
            assert (one["state"], one["counter"]) == ("whole", counted), one
            assert admitted([((v, 8015), {}) for _ in range(16)]) == left, objects
            assert d.doors()[grant_of(wide)]["counter"] == counted + left
            assert d.apply([], [wide]) == {} and d.doors() == {}


@each_renewal
def test_before_linux_6_3(v, renewal):
    """A deletion fails there if there is nothing to delete: doors of every kind come, go and are renewed all the same."""
    kinds = all_kinds(v)
    with driver(renewal=renewal) as d, serving(v, [8000, 8015]):
        d.ask("before-6.3")
        assert d.apply([], kinds) == {}, "none of them is there"
        assert d.apply(kinds) == {}
        assert connects(v, 8000) and connects(v, 8015)
        held = d.doors()
        assert len(held) == len(kinds) and all(one["state"] == "whole" for one in held.values()), held
        assert d.apply([], [], kinds) == {}
        assert tell(d.doors()) == tell(held)
        another = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000)
        assert d.apply([another]) == {} and grant_of(kinds[0]) not in d.doors()
        assert d.apply([kinds[0]], [another]) == {}
        assert d.apply([], kinds + [another]) == {}
        assert d.doors() == {}
        assert re.search(r"limit g|counter g|elements", nft("list", "table", "inet", "postern")) is None
        assert not connects(v, 8015, CLIENT, 0.3)


def test_objects_are_ours_too(v):
    with driver() as d:
        one = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8000-8001")
        d.apply([one])
        assert d.ask("watch 0") == ["changed"], "our own transactions are not told"
        nft("add", "counter", "inet", "postern", "mine")
        assert d.ask("watch 1000") == ["changed doors"]
        nft("reset", "counters")
        nft("add", "table", "inet", "theirs")
        assert d.ask("watch 1000")[0].endswith("others")
        nft("add", "counter", "inet", "theirs", "c")
        assert d.ask("watch 300") == ["changed"], "others' objects are nobody's problem"
        nft("flush", "map", "inet", "postern", "wg%d" % v)
        assert d.ask("watch 1000") == ["changed doors"]
        assert [one["state"] for one in d.doors().values()] == ["incomplete"], "a stranger's object is no door"


def test_wide_ranges_in_bulk(v):
    with driver() as d, serving(v, [9023]):
        bulk = [any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "8000-9023", 5, kind) for kind in ("tcp", "udp", "udp1")]
        bulk += [any_door(ADDR[v][OTHER], ADDR[v][REMOTE], "%d-%d" % (first, first + 63), 5, nat="snat " + EXTERNAL[v])
                 for first in range(10000, 16400, 64)]
        assert d.apply(bulk) == {}
        held = d.doors()
        assert len(held) == len(bulk) and all(one["state"] == "whole" for one in held.values())
        assert connects(v, 9023)
        assert d.apply([], bulk) == {}
        assert d.doors() == {}
        too_wide = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], "1000-60000", 5)
        assert "too many ports" in d.apply([too_wide])[grant_of(too_wide)]


if __name__ == "__main__":
    sys.exit(main(globals()))
