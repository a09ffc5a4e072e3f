"""The datapath against a small model: random sequences of additions, uses, renewals, removals, expiry, restarts in the other way of
renewal and others' hands, over doors of every kind. After each step the kernel holds what the model holds, and has as much left.

Defends I2 (nothing is open that is not wanted), I3 and I4.
usage: test_model.py DRIVER [TEST]...      SEED=n for one sequence, STEPS=n for its length
"""
import os
import random
import sys
import time
import uuid

from lab import (ADDR, CLIENT, EXTERNAL, OTHER, REMOTE, REMOTES, SOON, Driver, any_door, connects, driver, endpoint, main, nft, serving,
                 wait_until)
from test_kinds import RENEWALS

MINUTE, HOUR = 60000, 3600000


class Place:
    """A key, or several, where one grant at a time has a door; the ways that lead through it."""

    def __init__(self, origin, to, ports, nat, ways):
        self.origin, self.to, self.ports, self.nat, self.ways = origin, to, ports, nat, ways
        self.is_wide = isinstance(origin, list) or "-" in ports
        self.grant, self.uses, self.left = None, 0, 0

    def line(self, uses, timeout=MINUTE):
        return any_door(self.origin, self.to, self.ports, uses, "tcp", timeout, self.nat, self.grant)


def places(v):
    client, remote, outside = ADDR[v][CLIENT], ADDR[v][REMOTE], EXTERNAL[v]

    def outbound(ports, nat=""):
        first, _, last = ports.partition("-")
        ways = [((v, port, CLIENT), {}) for port in range(int(first), int(last or first) + 1)]
        return Place(client, remote, ports, nat, ways)

    def inbound(origin, port, sources, external=0):
        target = {"to": outside} if external else {"to": client}
        ways = [((v, external or port, name), dict(target, address=address)) for name, address in sources]
        return Place(origin, client, str(port), "dnat " + endpoint(outside, external) if external else "", ways)
    several = [(REMOTE, address) for address in REMOTES[v][:3]]
    return [outbound("8000"), outbound("8001", "snat " + outside), outbound("8010-8013"), outbound("8014-8016", "snat " + outside),
            inbound("any", 7000, [(REMOTE, None), (OTHER, None)]), inbound(REMOTES[v][:3], 7001, several),
            inbound("any", 7002, several, 2121), inbound(remote, 7003, several[:1], 2122), inbound(REMOTES[v][:3], 7004, several, 2123)]


class World:
    def __init__(self, v, first, chance):
        self.v, self.driver, self.chance = v, first, chance
        self.places = places(v)
        self.done = {}

    def add(self, place):
        if place.grant and (place.is_wide or place.nat):
            return  # only the key of one flow, or of anybody, changes hands
        place.grant, place.uses = str(uuid.uuid4()), self.chance.choice([1, 2, 3])
        place.left = place.uses
        assert self.driver.apply([place.line(place.uses)]) == {}

    def use(self, place):
        (v, port, name), target = self.chance.choice(place.ways)
        wanted = place.left > 0
        passed = connects(v, port, name, SOON if wanted else 0.15, **target)
        assert passed == wanted, "passed" if passed else "refused"
        place.left -= passed

    def trespass(self, place):
        """Past the translation: never, and no use is lost by it."""
        if "dnat" in place.nat:
            (v, _, name), target = self.chance.choice(place.ways)
            assert not connects(v, int(place.ports), name, 0.15, **dict(target, to=place.to)), "passed untranslated"

    def renew(self, place):
        wanted = place.grant is not None
        place.grant = place.grant or str(uuid.uuid4())
        line = place.line(place.uses, self.chance.choice([MINUTE, HOUR]))
        refused = self.driver.apply([], [], [line])
        assert list(refused) == ([] if wanted else [place.grant]), refused
        if not wanted:
            place.grant = None

    def remove(self, place):
        if place.grant:
            assert self.driver.apply([], [place.line(place.uses)]) == {}
            self.forget(place)

    def add_again(self, place):
        """As after a lost acknowledgement."""
        if place.grant:
            assert self.driver.apply([place.line(place.uses)]) == {}

    def expire(self, place):
        if not place.grant:
            return
        assert self.driver.apply([], [], [place.line(place.uses, 200)]) == {}
        end = time.monotonic() + 15
        wait_until(lambda: self.driver.doors().get(place.grant, {"state": "gone"})["state"] != "whole",
                   "the door closes in its time", 15, 0.05)

        def collected():  # what is left of it is taken away once the kernel has collected the elements
            if place.grant not in self.driver.doors():
                return True
            assert self.driver.apply([], [place.line(place.uses)]) == {}
            return False
        wait_until(collected, lambda: "nothing is left of it: %s" % self.driver.doors(), end - time.monotonic(), 0.4)
        self.forget(place)

    def restart(self, place):
        """In this or the other way of renewal; a door that is used up is not carried over."""
        del place
        self.driver.close()
        self.driver = Driver(renewal=self.chance.choice(RENEWALS))
        assert self.driver.ask("install")[0] in ("adopted", "replaced")
        held = self.driver.doors()
        for one in self.places:
            if one.grant and one.grant not in held:
                assert one.left == 0, "a door was lost"
                self.forget(one)
            elif one.grant:
                one.uses = held[one.grant]["uses"]

    def install(self, place):
        del place
        assert self.driver.ask("install") == ["adopted"]

    def deface(self, place):
        """Somebody deletes a part; a repair adds what is incomplete, with the uses that are left."""
        if not place.grant or not (place.is_wide or place.nat):
            return
        names = [("n" if "dnat" in place.nat else "") + name for name in ("wl", "wc", "wg")] if place.is_wide else []
        names += ["y"] if "snat" in place.nat else ["da" if place.origin == "any" else "d"] if place.nat else []
        nft("flush", "map", "inet", "postern", "%s%d" % (self.chance.choice(names), self.v))
        held = self.driver.doors()
        hurt = [one for one in self.places if one.grant and held[one.grant]["state"] != "whole"]
        assert place in hurt
        assert self.driver.apply([one.line(one.left or 1) for one in hurt]) == {}

    def forget(self, place):
        place.grant, place.uses, place.left = None, 0, 0

    def compare(self):
        held = self.driver.doors()
        assert set(held) == {one.grant for one in self.places if one.grant}, held
        for place in self.places:
            one = held.get(place.grant)
            if one:
                assert one["state"] == "whole" and one["uses"] - one["counter"] == place.left, one

    def step(self):
        place = self.chance.choice(self.places)
        what = self.chance.choices([self.add, self.use, self.renew, self.remove, self.add_again, self.expire, self.restart,
                                    self.install, self.deface, self.trespass], [3, 6, 2, 1, 1, 0.3, 0.5, 0.5, 1, 2])[0]
        self.done[what.__name__] = self.done.get(what.__name__, 0) + 1
        try:
            what(place)
            self.compare()
        except AssertionError as error:
            raise AssertionError("%s %s %s: %s" % (what.__name__, place.ports, place.grant, error)) from error


def test_random_sequences(v):
    ports = [8000, 8001] + list(range(8010, 8017))
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else [1, 2, 3]
    for seed in seeds:
        chance = random.Random(seed)
        with driver(renewal=chance.choice(RENEWALS)) as first, serving(v, ports), serving(v, range(7000, 7005), CLIENT):
            world = World(v, first, chance)
            try:
                for _ in range(int(os.environ.get("STEPS", "200"))):
                    world.step()
            except AssertionError as error:
                raise AssertionError("SEED=%d, after %s: %s" % (seed, world.done, error)) from error
            finally:
                if world.driver is not first:
                    world.driver.close()


if __name__ == "__main__":
    sys.exit(main(globals()))
