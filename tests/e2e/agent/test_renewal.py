"""Renewal with real packets, in both ways: a door's time is moved with no moment without it, and nothing is armed anew.

Defends I3 (every door closes by itself, also after it was renewed) and I4 (exactly as many flows as granted, whatever is renewed).
usage: test_renewal.py DRIVER [TEST]...
"""
import contextlib
import sys
import threading
import time

from lab import (ADDR, CLIENT, EXTERNAL, OTHER, REMOTE, REMOTES, SOON, Driver, any_door, connects, driver, endpoint, grant_of, main,
                 nft, serving, wait_until)
from test_kinds import RENEWALS, admitted, each_renewal

HOUR = 3600000


def kinds(v, uses, timeout):
    """Each kind of door with the connection that passes through it: (line, arguments of start_connect)."""
    client, remote = ADDR[v][CLIENT], ADDR[v][REMOTE]
    outside = endpoint(EXTERNAL[v], 2121)
    return {
        "exact": (any_door(client, remote, 8000, uses, timeout=timeout), ((v, 8000, CLIENT), {})),
        "anybody": (any_door("any", client, 7000, uses, timeout=timeout), ((v, 7000, OTHER), {"to": client})),
        "several": (any_door(REMOTES[v][:3], client, 7001, uses, timeout=timeout),
                    ((v, 7001, REMOTE), {"to": client, "address": REMOTES[v][2]})),
        "range": (any_door(client, remote, "8010-8013", uses, timeout=timeout), ((v, 8012, CLIENT), {})),
        "source": (any_door(client, remote, 8001, uses, timeout=timeout, nat="snat " + EXTERNAL[v]), ((v, 8001, CLIENT), {})),
        "inbound": (any_door("any", client, 7002, uses, timeout=timeout, nat="dnat " + outside),
                    ((v, 2121, REMOTE), {"to": EXTERNAL[v]})),
    }


@contextlib.contextmanager
def listening(v):
    with serving(v, [8000, 8001, 8012]), serving(v, [7000, 7001, 7002], CLIENT):
        yield


def passes(way, seconds=SOON):
    (v, port, name), rest = way
    return connects(v, port, name, seconds, **rest)


def later(line, timeout, uses=None):
    words = line.split()
    words[6] = str(timeout)
    if uses is not None:
        words[5] = str(uses)
    return " ".join(words)


class Renewing(threading.Thread):
    """Renews doors without a pause, each time for a little longer or shorter, until stopped."""

    def __init__(self, d, lines, timeout):
        super().__init__()
        self.d, self.lines, self.timeout = d, lines, timeout
        self.stopping, self.rounds, self.refused = threading.Event(), 0, {}

    def run(self):
        while not self.stopping.is_set():
            self.rounds += 1
            self.refused.update(self.d.apply([], [], [later(line, self.timeout + self.rounds % 1000) for line in self.lines]))

    def stop(self):
        self.stopping.set()
        self.join()


@contextlib.contextmanager
def renewing(d, lines, timeout):
    thread = Renewing(d, lines, timeout)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
    assert thread.refused == {} and thread.rounds > 5, (thread.refused, thread.rounds)


@each_renewal
def test_time_is_moved(v, renewal):
    with driver(renewal=renewal) as d, listening(v):
        doors = kinds(v, 5, 60000)
        lines = [line for line, _ in doors.values()]
        assert d.apply(lines) == {}
        for _, way in doors.values():
            assert passes(way)
        assert d.apply([], [], [later(line, HOUR) for line in lines]) == {}
        held = d.doors()
        for line in lines:
            one = held[grant_of(line)]
            assert HOUR - 10000 < one["timeout"] <= HOUR and one["state"] == "whole", one
            assert (one["uses"], one["counter"]) == (5, 1), "what was used stays used"
        assert d.apply([], [], [later(line, 60000) for line in lines]) == {}
        assert all(one["timeout"] <= 60000 and one["state"] == "whole" for one in d.doors().values()), "and back again"
        for name, (line, way) in doors.items():
            assert [passes(way, SOON if i < 4 else 0.3) for i in range(5)] == [True] * 4 + [False], name
            assert d.apply([], [], [later(line, HOUR)]) == {}
            assert not passes(way, 0.3), "a used up door stays used up: " + name


@each_renewal
def test_renewed_doors_close_in_time(v, renewal):
    """I3: with the agent dead, at the time that the last renewal gave."""
    with driver(renewal=renewal) as d, listening(v):
        doors = kinds(v, 0, 60000)
        assert d.apply([line for line, _ in doors.values()]) == {}
        began = time.monotonic()
        assert d.apply([], [], [later(line, 1500) for line, _ in doors.values()]) == {}
        d.kill()
        open_doors = dict(doors)

        def closed():
            for name, (_, way) in list(open_doors.items()):
                at = time.monotonic() - began
                if not passes(way, 0.2):
                    assert at > 1.0, "%s closed after %.2f s" % (name, at)
                    del open_doors[name]
            return not open_doors
        wait_until(closed, lambda: "closed, and still open: %s" % list(open_doors), began + 6 - time.monotonic())
        again = Driver(renewal=renewal)
        assert again.ask("install") == ["adopted"]
        assert all(one["state"] == "expired" for one in again.doors().values()), again.doors()

        def cleared():  # elements that have expired hold their object until the kernel has collected them
            again.ask("remove-held")
            return not again.doors()
        wait_until(cleared, lambda: "nothing is left of them: %s" % again.doors(), 10, 0.3)
        assert "8012" not in nft("list", "table", "inet", "postern")
        again.close()


@each_renewal
def test_translations_are_renewed_with_their_doors(v, renewal):
    """A flow of a renewed door is translated when the time that the door had at first is over."""
    client, remote, outside = ADDR[v][CLIENT], ADDR[v][REMOTE], EXTERNAL[v]
    with driver(renewal=renewal) as d, listening(v), serving(v, [8002]) as server:
        ways = {"snat " + outside: 8002, "snat " + endpoint(outside, 4003): 8003}
        lines = [any_door(client, remote, port, 5, timeout=1000, nat=nat) for nat, port in ways.items()]
        lines += [any_door(client, remote, "8004-8005", 5, timeout=1000, nat="snat " + outside),
                  any_door("any", client, 7003, 5, timeout=1000, nat="dnat " + endpoint(outside, 2121)),
                  any_door(remote, client, 7004, 5, timeout=1000, nat="dnat " + endpoint(outside, 2122)),
                  any_door(REMOTES[v][:3], client, 7005, 5, timeout=1000, nat="dnat " + endpoint(outside, 2123))]
        left = any_door(client, remote, 8006, 5, timeout=1000)
        assert d.apply(lines + [left]) == {}
        assert d.apply([], [], [later(line, HOUR) for line in lines]) == {}
        wait_until(lambda: d.doors().get(grant_of(left), {"state": "gone"})["state"] != "whole", "their first time is over", 5)
        held = d.doors()
        assert [held[grant_of(line)]["state"] for line in lines] == ["whole"] * len(lines), held
        assert passes(((v, 8002, CLIENT), {})) and server.has_accepted({8002: 1})
        assert server.peers[0][0] == outside, server.peers


@each_renewal
def test_no_gap(v, renewal):
    """A try at any moment of continuous renewals passes, well before a SYN would be sent again."""
    with driver(renewal=renewal) as d, listening(v):
        doors = kinds(v, 15000, 800)
        lines = [line for line, _ in doors.values()]
        assert d.apply(lines) == {}
        made = {name: 0 for name in doors}
        with renewing(d, lines, 800):
            end = time.monotonic() + 3
            while time.monotonic() < end:
                for name, (_, way) in doors.items():
                    assert passes(way, 0.7), "%s refused after %s" % (name, made)
                    made[name] += 1
        held = d.doors()
        assert {name: held[grant_of(line)]["counter"] for name, (line, _) in doors.items()} == made
        assert min(made.values()) > 20, made


@each_renewal
def test_never_more_than_granted(v, renewal):
    """64 at once, again and again, while every door is renewed without a pause."""
    with driver(renewal=renewal) as d, listening(v):
        doors = kinds(v, 7, 60000)
        lines = [line for line, _ in doors.values()]
        assert d.apply(lines) == {}
        with renewing(d, lines, 60000):
            for name, (_, way) in doors.items():
                assert admitted([way] * 64) == 7, name
                assert admitted([way] * 64, 0.4) == 0, name


@each_renewal
def test_what_is_gone_is_not_made_again(v, renewal):
    with driver(renewal=renewal) as d, listening(v):
        doors = {name: one for name, one in kinds(v, 5, 60000).items()}
        lines = [line for line, _ in doors.values()]
        other = any_door(ADDR[v][OTHER], ADDR[v][REMOTE], 8000, 5)
        assert d.apply([other]) == {}
        refused = d.apply([], [], lines + [later(other, HOUR)])
        assert set(refused) == {grant_of(line) for line in lines}, refused
        assert all("not there any more" in cause for cause in refused.values()), refused
        for name, (_, way) in doors.items():
            assert not passes(way, 0.3), name
        assert set(d.doors()) == {grant_of(other)}
        assert d.doors()[grant_of(other)]["timeout"] > HOUR - 10000, "its neighbours were renewed"
        # another grant under the key of one flow: its time is not touched
        line, way = doors["exact"]
        usurper = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 5)
        assert d.apply([usurper]) == {}
        assert set(d.apply([], [], [later(line, HOUR)])) == {grant_of(line)}
        assert d.doors()[grant_of(usurper)]["timeout"] <= 60000 and passes(way)


@each_renewal
def test_too_many_to_be_counted_for_longer(v, renewal):
    with driver(renewal=renewal) as d:
        many, unlimited = any_door(ADDR[v][CLIENT], ADDR[v][REMOTE], 8000, 100000), any_door("any", ADDR[v][REMOTE], 8001, 0)
        assert d.apply([many, unlimited]) == {}
        refused = d.apply([], [], [later(many, HOUR), later(unlimited, HOUR)])
        assert list(refused) == [grant_of(many)] and "cannot count" in refused[grant_of(many)], refused
        held = d.doors()
        assert held[grant_of(many)]["timeout"] <= 60000 < held[grant_of(unlimited)]["timeout"]


def test_this_kernel_is_asked(v):
    """auto is one of the two, and leaves nothing behind."""
    with driver() as d:
        assert d.ask("renewal")[0] in RENEWALS
        assert "probe" not in nft("list", "tables")


if __name__ == "__main__":
    sys.exit(main(globals()))
