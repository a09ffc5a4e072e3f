"""Exactly that door: what leads inside by an external address is used by flows that came for that address, and by no others.

While such a door is open, whoever may use it could also try the client's own address and port, or the external port of another
door: neither may pass, nor use the door up. Defends I4 (the flows that were granted).
usage: test_translated.py DRIVER [TEST]...
"""
import re
import sys

from lab import (ADDR, CLIENT, EXTERNAL, REMOTE, REMOTES, SOON, Driver, any_door, connects, driver, endpoint, grant_of,
                 main, nft, receives, serving, udp)
from test_kinds import each_renewal, loadable

KINDS = ("exact", "several", "anybody")
OUTSIDE_PORTS = {"exact": 2121, "several": 2122, "anybody": 2123}
# What stands beside the table in overlay mode: the administrator accepts by our mark and drops the rest.
SITE = """table inet site {
    chain forward { type filter hook forward priority 0; policy drop; ct mark & 0x80000000 != 0 accept; }
}"""


def origin(v, kind):
    return {"exact": REMOTES[v][1], "several": REMOTES[v][1:3], "anybody": "any"}[kind]


def inbound(v, kind, uses, transport="tcp", port=7000, timeout=60000):
    return any_door(origin(v, kind), ADDR[v][CLIENT], port, uses, transport, timeout,
                    "dnat " + endpoint(EXTERNAL[v], OUTSIDE_PORTS[kind]))


def direct(v, port=7000):
    return connects(v, port, REMOTE, 0.25, ADDR[v][CLIENT], REMOTES[v][1])


def by_the_outside(v, kind, seconds=SOON):
    return connects(v, OUTSIDE_PORTS[kind], REMOTE, seconds, EXTERNAL[v], REMOTES[v][1])


def used(d, line):
    one = d.doors()[grant_of(line)]
    assert one["state"] == "whole" and one["nat"] == "dnat", one
    return one["counter"]


def renewed(line, timeout):
    words = line.split()
    words[6] = str(timeout)
    return " ".join(words)


def check_kind(v, d, kind, again):
    """`again`: makes another agent, which adopts the table."""
    one = inbound(v, kind, 3)
    assert d.apply([one]) == {}
    assert not direct(v), kind
    assert used(d, one) == 0, "what was refused is no use"
    assert by_the_outside(v, kind) and used(d, one) == 1, kind
    assert d.apply([], [], [renewed(one, 3600000)]) == {}
    assert not direct(v), "renewed: " + kind
    assert by_the_outside(v, kind) and used(d, one) == 2, kind
    other = again()
    assert other.ask("install") == ["adopted"]
    assert not direct(v), "adopted: " + kind
    assert used(other, one) == 2 and by_the_outside(v, kind) and used(other, one) == 3, kind
    assert not by_the_outside(v, kind, 0.3) and not direct(v), "used up: " + kind
    other.close()
    assert d.apply([], [one]) == {} and d.doors() == {}
    assert "elements" not in nft("list", "table", "inet", "postern")


@each_renewal
def test_only_what_was_translated(v, renewal):
    with driver(renewal=renewal) as d, serving(v, [7000], CLIENT) as server:
        for kind in KINDS:
            check_kind(v, d, kind, lambda: Driver(renewal=renewal))
        assert server.has_accepted({7000: 9})


def test_only_what_was_translated_overlay(v):
    with driver(mode="overlay") as d, serving(v, [7000], CLIENT) as server:
        nft("-f", "-", text=SITE)
        for kind in KINDS:
            check_kind(v, d, kind, lambda: Driver(mode="overlay"))
        assert server.has_accepted({7000: 9})


@each_renewal
def test_datagrams(v, renewal):
    for transport in ("udp", "udp1"):
        with driver(renewal=renewal) as d:
            for kind in KINDS:
                one = inbound(v, kind, 1, transport)
                assert d.apply([one]) == {}
                sender, listener = udp(v, REMOTE), udp(v, CLIENT)
                sender.bind((REMOTES[v][1], 0))
                listener.bind((ADDR[v][CLIENT], 7000))
                sender.sendto(b"direct", (ADDR[v][CLIENT], 7000))
                assert receives(listener, 0.3) is None and used(d, one) == 0, kind
                sender.sendto(b"translated", (EXTERNAL[v], OUTSIDE_PORTS[kind]))
                got = receives(listener)
                assert got and got[0] == b"translated" and used(d, one) == 1, kind
                listener.sendto(b"answer", got[1])
                assert (receives(sender, 0.3) is None) == (transport == "udp1"), kind
                assert d.apply([], [one]) == {}
                sender.close()
                listener.close()


@each_renewal
def test_each_flow_by_its_own_door(v, renewal):
    """Doors to one port of the client, by three external ports and without any: each flow uses the one it came for."""
    with driver(renewal=renewal) as d, serving(v, [7000], CLIENT):
        doors = {kind: inbound(v, kind, 2) for kind in KINDS}
        plain = any_door(REMOTES[v][1], ADDR[v][CLIENT], 7000, 2)
        assert d.apply(list(doors.values())) == {}
        assert not direct(v)
        assert d.apply([plain]) == {}
        held = d.doors()
        assert len(held) == 4 and all(one["state"] == "whole" for one in held.values()), held
        ways = [(doors[kind], lambda kind=kind: by_the_outside(v, kind, 0.5)) for kind in KINDS] + [(plain, lambda: direct(v))]
        for turn in (1, 2):
            for n, (line, try_it) in enumerate(ways):
                assert try_it(), line
                held = d.doors()
                assert [held[grant_of(one)]["counter"] for one, _ in ways] == [turn] * (n + 1) + [turn - 1] * (3 - n)
        assert not any(try_it() for _, try_it in ways), "none helps another out"


def test_a_sites_own_translation_is_no_key(v):
    """The administrator leads another external port to the same client and port: what comes by that has no door."""
    word = "ip" if v == 4 else "ip6"
    with driver() as d, serving(v, [7000], CLIENT):
        nft("-f", "-", text="""table %s site {
            chain pre { type nat hook prerouting priority dstnat; %s daddr %s tcp dport 9999 dnat to %s; }
        }""" % (word, word, EXTERNAL[v], endpoint(ADDR[v][CLIENT], 7000)))
        for kind in KINDS:
            one = inbound(v, kind, 1)
            assert d.apply([one]) == {}
            assert not connects(v, 9999, REMOTE, 0.3, EXTERNAL[v], REMOTES[v][1]) and used(d, one) == 0, kind
            assert by_the_outside(v, kind), kind
            assert d.apply([], [one]) == {}
        # a door without an external address is for whatever the gateway leads there
        plain = any_door(REMOTES[v][1], ADDR[v][CLIENT], 7000)
        assert d.apply([plain]) == {}
        assert connects(v, 9999, REMOTE, SOON, EXTERNAL[v], REMOTES[v][1])


@each_renewal
def test_what_somebody_deletes(v, renewal):
    """Half a door is told as such, made whole, and taken away, whichever half is left."""
    client, outside = ADDR[v][CLIENT], EXTERNAL[v]
    with driver(renewal=renewal) as d, serving(v, [7000], CLIENT):
        several, anybody, exact = (inbound(v, kind, 4) for kind in ("several", "anybody", "exact"))
        keys = {"nwg": (several, "%s . %s . tcp . 7000 . 2122" % (REMOTES[v][1], client)),
                "nwl": (several, "%s . %s . tcp . 7000 . 2122" % (REMOTES[v][2], client)),
                "nwc": (several, "%s . %s . tcp . 7000 . 2122" % (REMOTES[v][1], client)),
                "d": (several, "%s . %s . tcp . 2122" % (REMOTES[v][1], outside)),
                "da": (anybody, "%s . tcp . 2123" % outside)}
        for target, (line, key) in keys.items():
            assert d.apply([several, anybody]) == {}
            nft("delete", "element", "inet", "postern", "%s%d" % (target, v), "{ %s }" % key)
            states = {grant: one["state"] for grant, one in d.doors().items()}
            assert states.pop(grant_of(line)) == "incomplete" and list(states.values()) == ["whole"], target
            assert not direct(v), target
            assert d.apply([line]) == {}
            assert used(d, line) == 0, target
        assert by_the_outside(v, "several") and by_the_outside(v, "anybody")
        # what admits is gone: so is the door, and its translation with the next look
        assert d.apply([exact]) == {}
        nft("flush", "map", "inet", "postern", "nc%d" % v)
        assert set(d.doors()) == {grant_of(several), grant_of(anybody)}
        assert "2121" not in nft("list", "map", "inet", "postern", "d%d" % v)
        # nothing tells any more where the rest of it is: it can be taken away all the same
        for target in ("nwl", "nwc"):
            nft("flush", "map", "inet", "postern", "%s%d" % (target, v))
        for objects in ("limit", "counter"):
            nft("delete", objects, "inet", "postern", "g" + grant_of(several))
        assert d.doors()[grant_of(several)]["state"] == "incomplete"
        d.ask("remove-held")
        assert d.doors() == {}
        left = nft("list", "table", "inet", "postern")
        assert re.search("limit g|counter g|212[23]", left) is None, re.findall("map .*{|.*212[23].*", left)


def schema_2(text):
    """As it was when all doors lay in the same maps: the translated ones' keys lose the external port."""
    text = loadable(text).replace("schema 3 in-place", "schema 2 in-place")
    text = re.sub(r"\n[^\n]*jump n[46]\n", "\n", text)
    text = re.sub(r"\tchain n[46] {.*?\n\t}\n", "", text, flags=re.S)
    for name in re.findall(r"map n(\w+) {", text):
        old = name + "_00" if re.fullmatch("[co][46]", name) else name
        text = re.sub(r"\tmap %s {.*?\n\t}\n" % old, "", text, flags=re.S)
        text = text.replace("map n%s {" % name, "map %s {" % old)
    text = text.replace(" . inet_service . inet_service :", " . inet_service :")
    return re.sub(r" \. 7000 \. 212[123]\b", " . 7000", text)


def test_a_table_of_schema_2_is_carried_over(v):
    with driver(renewal="in-place") as d, serving(v, [7000], CLIENT):
        doors = {kind: inbound(v, kind, 3) for kind in KINDS}
        assert d.apply(list(doors.values())) == {}
        assert all(by_the_outside(v, kind) for kind in KINDS)
        text = schema_2(nft("list", "table", "inet", "postern"))
        assert "map n" not in text and text.count(grant_of(doors["exact"])) == 1 and text.count("@") > 4
        nft("flush", "ruleset")
        nft("-f", "-", text=text)
        assert d.ask("install") == ["replaced"]
        held = d.doors()
        assert {kind: (held[grant_of(line)]["uses"], held[grant_of(line)]["state"]) for kind, line in doors.items()} == {
            kind: (2, "whole") for kind in KINDS}, held
        assert not direct(v)
        assert all(by_the_outside(v, kind) and used(d, line) == 1 for kind, line in doors.items())


if __name__ == "__main__":
    sys.exit(main(globals()))
