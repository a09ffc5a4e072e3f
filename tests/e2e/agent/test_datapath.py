"""The datapath with real packets: doors of one flow's key, restarts, others' hands, events.

Defends I3 (every door closes by itself), I4 (exactly as many flows as granted) and I7 (a restart disturbs nobody).
usage: test_datapath.py DRIVER [TEST]...
"""
import sys
import threading
import time

import netns
from lab import (ADDR, CLIENT, GATEWAY, OTHER, REMOTE, SOON, Driver, await_connects, clear_gateway, connects, door, driver, echo,
                 grant_of, main, receives, serving, start_connect, syn_repeats, udp, wait_until)


# ---- tests: each for IPv4 and IPv6 ----

def test_closed_by_default(v):
    with driver(), serving(v, [8000]):
        assert not connects(v, 8000)


def test_one_use_then_refused(v):
    with driver() as d, serving(v, [8000, 8001]) as server:
        one = door(v, 8000)
        assert d.apply([one]) == {}
        assert not connects(v, 8000, OTHER, 0.3), "another client"
        assert not connects(v, 8001, CLIENT, 0.3), "another port"
        assert connects(v, 8000)
        assert not connects(v, 8000), "used up (I4)"
        assert d.doors()[grant_of(one)]["counter"] == 1
        assert server.has_accepted({8000: 1, 8001: 0})


def test_exactly_n_in_parallel(v):
    """I4: a hundred tries at once, from one and the same instant, through doors for 1, 7 and 100."""
    with driver() as d, serving(v, [8001, 8007, 8100]) as server:
        assert d.apply([door(v, 8001, 1), door(v, 8007, 7), door(v, 8100, 100)]) == {}
        for port, uses in ((8001, 1), (8007, 7), (8100, 100)):
            tries = [start_connect(v, port) for _ in range(100)]
            # longer than the first retransmission (1 s): those that were refused stay so
            assert len(await_connects(tries, 1.6)) == uses
            for s in tries:
                s.close()
        assert server.has_accepted({8001: 1, 8007: 7, 8100: 100})


def test_unlimited(v):
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000, 0)
        assert d.apply([one]) == {}
        tries = [start_connect(v, 8000) for _ in range(200)]
        assert len(await_connects(tries, 3)) == 200
        for s in tries:
            s.close()
        found = d.doors()[grant_of(one)]
        assert found["uses"] == 0 and found["counter"] == 200, found


def test_as_many_as_can_be_counted(v):
    """The largest limit that is taken admits: the kernel's arithmetic does not overflow unseen."""
    with driver() as d, serving(v, [8000, 8001]):
        assert d.apply([door(v, 8000, 15250), door(v, 8001, 106000, timeout=86400000)]) == {}
        too_many = door(v, 8002, 15251, timeout=7 * 86400000)
        assert "cannot count so many" in d.apply([too_many])[grant_of(too_many)]
        assert connects(v, 8000) and connects(v, 8001)


def test_retransmitted_syn_passes(v):
    """The first SYN-ACK is lost: the SYN comes again and must not meet the limit a second time."""
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000)
        assert d.apply([one]) == {}
        netns.run(["ip", "netns", "exec", REMOTE, "nft", "-f", "-"], """table inet lossy { chain out {
            type filter hook output priority 0;
            tcp flags syn,ack / syn,ack limit rate 1/hour burst 1 packets counter drop; }; }""")
        try:
            began = time.monotonic()
            assert connects(v, 8000, CLIENT, 5)
            assert time.monotonic() - began > 0.8, "the SYN-ACK was not lost"
        finally:
            netns.run(["ip", "netns", "exec", REMOTE, "nft", "delete", "table", "inet", "lossy"])
        assert d.doors()[grant_of(one)]["counter"] == 1


def test_every_shard_is_reached(v):
    """The shard that user space computes is the one where the kernel looks: 200 keys, 64 shards."""
    ports = list(range(20000, 20200))
    with driver() as d, serving(v, ports) as server:
        assert d.apply([door(v, port) for port in ports]) == {}
        tries = [start_connect(v, port) for port in ports]
        assert len(await_connects(tries, 3)) == len(ports)
        for s in tries:
            s.close()
        assert server.has_accepted({port: 1 for port in ports})
        assert all(one["counter"] == 1 for one in d.doors().values())


def test_send_only_udp(v):
    with driver() as d:
        one = door(v, 9000, kind="udp1")
        assert d.apply([one]) == {}
        client, remote = udp(v, CLIENT), udp(v, REMOTE)
        remote.bind((ADDR[v][REMOTE], 9000))
        for i in range(3):
            client.sendto(b"%d" % i, (ADDR[v][REMOTE], 9000))
            data, peer = receives(remote)
            assert data == b"%d" % i
            remote.sendto(b"answer", peer)
        assert receives(client, 0.3) is None, "answers of a send-only door are dropped"
        assert d.doors()[grant_of(one)]["counter"] == 1, "datagrams of one flow are one use"
        second = udp(v, CLIENT)
        second.sendto(b"second", (ADDR[v][REMOTE], 9000))
        assert receives(remote, 0.3) is None, "a second flow is a second use"
        # ICMP errors come back all the same: path MTU discovery needs them
        remote.close()
        client.connect((ADDR[v][REMOTE], 9000))
        refused = False
        for _ in range(10):
            try:
                client.send(b"nobody listens")
                receives(client, 0.2)
            except ConnectionRefusedError:
                refused = True
                break
        assert refused, "port unreachable did not come back"
        client.close()
        second.close()


def test_bidirectional_udp(v):
    with driver() as d:
        assert d.apply([door(v, 9000, kind="udp")]) == {}
        client, remote = udp(v, CLIENT), udp(v, REMOTE)
        remote.bind((ADDR[v][REMOTE], 9000))
        client.sendto(b"question", (ADDR[v][REMOTE], 9000))
        _, peer = receives(remote)
        remote.sendto(b"answer", peer)
        assert receives(client)[0] == b"answer"
        second = udp(v, CLIENT)
        second.sendto(b"second", (ADDR[v][REMOTE], 9000))
        assert receives(remote, 0.3) is None
        for s in (client, remote, second):
            s.close()


def test_expires_with_nobody_alive(v):
    """I3: the agent is killed; the kernel closes the door."""
    with driver() as d, serving(v, [8000, 8001]):
        assert d.apply([door(v, 8000, 0, timeout=1500), door(v, 8001, 0)]) == {}
        d.kill()
        assert connects(v, 8000)
        wait_until(lambda: not connects(v, 8000, CLIENT, 0.2), "the door closes in its time", 5)
        assert connects(v, 8001)
        again = Driver()
        assert again.ask("install") == ["adopted"]
        assert [one["port"] for one in again.doors().values()] == [8001]
        again.close()


def test_restart_keeps_doors_and_flows(v):
    """I7, I4: a used door stays used, an unused one stays open, a live flow keeps flowing."""
    with driver() as d, serving(v, [8000, 8001, 8002]):
        used, fresh, live = door(v, 8000), door(v, 8001, 2), door(v, 8002)
        assert d.apply([used, fresh, live]) == {}
        assert connects(v, 8000)
        flow = start_connect(v, 8002)
        assert await_connects([flow], SOON)
        d.kill()
        assert echo(flow, b"nobody watches" * 100)
        again = Driver()
        assert again.ask("install") == ["adopted"]
        assert echo(flow, b"a new agent" * 100)
        assert {g: (one["uses"], one["counter"]) for g, one in again.doors().items()} == {
            grant_of(used): (1, 1), grant_of(fresh): (2, 0), grant_of(live): (1, 1)}
        assert not connects(v, 8000, CLIENT, 0.3)
        # the same doors again, as after a lost acknowledgement: nothing is armed anew
        assert again.apply([used, fresh, live]) == {}
        assert not connects(v, 8000, CLIENT, 0.3)
        assert connects(v, 8001)
        # another mode and another priority: doors and flows stay
        again.close()
        other = Driver("overlay", -20)
        assert other.ask("install") == ["adopted"]
        assert echo(flow, b"overlay" * 100)
        assert len(other.doors()) == 3
        other.close()
        flow.close()


def test_installing_under_traffic(v):
    """I7: a live flow and new connections meet no moment without rules while they are written anew."""
    with driver() as d, serving(v, [8000, 8001]) as server:
        assert d.apply([door(v, 8000), door(v, 8001, 0)]) == {}
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        stop, made, failures = threading.Event(), [0], []
        repeated = syn_repeats(CLIENT)

        def connect_on():
            try:
                while not stop.is_set():
                    assert connects(v, 8001, CLIENT, 10), "refused"
                    made[0] += 1
                    server.has_accepted({8000: 1, 8001: made[0]})  # else its full queue drops one some day
            except AssertionError as error:
                failures.append(error)
        thread = threading.Thread(target=connect_on)
        thread.start()
        try:
            installs = 0
            while not failures and (installs < 30 or made[0] < 30):
                assert d.ask("install") == ["adopted"]
                assert echo(flow, b"x" * 100000)
                installs += 1
        finally:
            stop.set()
            thread.join()
        assert not failures, failures
        assert syn_repeats(CLIENT) == repeated, "a SYN was dropped, and sent again"
        flow.close()


def test_established_and_errors_pass_in_enforce_mode(v):
    """Flows that others let in before us go on; what is new does not pass."""
    with serving(v, [8000]):
        clear_gateway()
        netns.run(["ip", "netns", "exec", GATEWAY, "nft", "add table inet t; add chain inet t f "
                   "{ type filter hook forward priority 0; }; add rule inet t f ct state new accept"])
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        d = Driver()
        assert d.ask("install") == ["created"]
        assert echo(flow, b"older than us")
        assert not connects(v, 8000, CLIENT, 0.3)
        d.close()
        flow.close()


def test_overlay_only_marks(v):
    with driver(mode="overlay") as d, serving(v, [8000, 8001]):
        assert connects(v, 8001), "overlay mode drops nothing"
        assert d.ask("problems") == []
        netns.run(["ip", "netns", "exec", GATEWAY, "nft", "-f", "-"], """table inet admin { chain f {
            type filter hook forward priority 0; policy drop;
            ct mark & 0x80000000 != 0 accept; }; }""")
        assert d.ask("problems") == [], "an administrator's chain that heeds our mark is no problem"
        assert not connects(v, 8001, CLIENT, 0.3)
        assert d.apply([door(v, 8000)]) == {}
        assert connects(v, 8000)
        assert not connects(v, 8000, CLIENT, 0.3)


def test_problems_are_found(v):
    family = "ip" if v == 4 else "ip6"
    with driver() as d:
        assert d.ask("problems") == []
        run = ["ip", "netns", "exec", GATEWAY, "nft", "-f", "-"]
        netns.run(run, "table %s a { chain f { type filter hook forward priority 0; policy drop; }; }" % family)
        netns.run(run, "table inet b { chain g { type filter hook forward priority 5; tcp dport 1 drop; }; }")
        netns.run(run, "table inet c { chain g { type filter hook input priority 5; policy drop; }; }")
        found = d.ask("problems")
        assert len(found) == 2, found
        assert "chain f of table %s a drops by policy" % family in found[0], found
        assert "chain g of table inet b has rules that drop" in found[1], found
        assert d.ask("watch 1000") == ["changed others"]


def test_others_hands_are_noticed(v):
    with driver() as d, serving(v, [8000]):
        one = door(v, 8000, 3)
        d.apply([one])
        assert d.ask("watch 0") == ["changed"], "our own transactions are not told"
        nft = ["ip", "netns", "exec", GATEWAY, "nft"]
        assert connects(v, 8000)
        netns.run(nft + ["flush", "chain", "inet", "postern", "forward"])
        assert d.ask("watch 1000") == ["changed table doors"]
        assert d.ask("install") == ["adopted"]
        assert connects(v, 8000)
        assert d.doors()[grant_of(one)]["counter"] == 2, "doors outlive a repair of the rules"
        netns.run(nft + ["flush", "ruleset"])
        assert d.ask("watch 1000")[0].startswith("changed table doors")
        assert d.ask("dump")[0].startswith("error NOT_FOUND")
        assert d.ask("apply 1 0 0", one)[0].startswith("error NOT_FOUND")
        assert d.ask("install") == ["created"]
        assert not connects(v, 8000, CLIENT, 0.3)
        d.apply([door(v, 8000, 1, grant=grant_of(one))])
        assert connects(v, 8000)
        assert not connects(v, 8000, CLIENT, 0.3)


def test_another_boot_is_not_adopted(v):
    with driver() as d:
        d.apply([door(v, 8000)])
        d.close()
        other = Driver(boot="boot-2")
        assert other.ask("install") == ["replaced"]
        assert other.doors() == {}
        other.close()


def test_one_bad_door_does_not_sink_the_others(v):
    with driver() as d, serving(v, [8000, 8001, 8002]):
        first, second = door(v, 8000), door(v, 8001, 2)
        d.apply([first, second])
        intruder = door(v, 8001)
        uncountable = door(v, 8002, 10 ** 9, timeout=86400000)
        gone = door(v, 8003)
        refused = d.apply([first, intruder, uncountable], [gone])
        assert list(refused) == [grant_of(uncountable)], refused
        assert "so many connections" in refused[grant_of(uncountable)]
        assert set(d.doors()) == {grant_of(first), grant_of(intruder)}, "the key's newest grant holds it"
        assert connects(v, 8001)
        assert not connects(v, 8001, CLIENT, 0.3)
        # removal and addition of one key in one transaction
        again = door(v, 8001)
        assert d.apply([again], [intruder]) == {}
        assert connects(v, 8001)
        assert d.apply([], [again, first, gone]) == {}
        assert d.doors() == {}


def test_large_batches(v):
    with driver() as d:
        many = [door(v, port, 2) for port in range(1, 5001)]
        assert d.apply(many) == {}
        assert len(d.doors()) == 5000
        assert d.apply([], many) == {}
        assert d.doors() == {}


def test_events_tell_of_flows(v):
    """NEW with the grant, the end with the figures; nothing of flows that are not ours."""
    with driver(mode="overlay") as d, serving(v, [8000, 8001]):
        one = door(v, 8000)
        d.apply([one])
        assert connects(v, 8001), "not ours"
        flow = start_connect(v, 8000)
        assert await_connects([flow], SOON)
        assert echo(flow, b"x" * 5000)
        events = [line.split() for line in d.ask("events 300")]
        assert events[0][:2] == ["new", grant_of(one)], events
        assert all(":8000" in line[4] for line in events), events
        dumped = [line.split() for line in d.ask("flows")]
        assert len(dumped) == 1 and dumped[0][1] == grant_of(one) and dumped[0][2] == events[0][2], dumped
        flow.close()
        last = [line.split() for line in d.ask("events 500")][-1]
        assert last[0] == "update" and last[6] == "over" and last[2] == events[0][2], last
        entry = [line.split() for line in d.ask("flows")][0]
        assert entry[6] == "over" and entry[7] == "accounted", entry
        sent, received, took = int(entry[9]), int(entry[11]), int(entry[12])
        assert sent > 5000 and received > 5000 and took > 100000, entry
        netns.run(["ip", "netns", "exec", GATEWAY, "conntrack", "-D"] + (["-f", "ipv6"] if v == 6 else []) +
                  ["-p", "tcp", "--dport", "8000"])
        gone = [line.split() for line in d.ask("events 300")]
        assert [line[0] for line in gone] == ["destroy"] and gone[0][7] == "accounted", gone


if __name__ == "__main__":
    sys.exit(main(globals()))
