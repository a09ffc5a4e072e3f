#!/usr/bin/python3
"""The door itself: that client, that address and port, exactly as many connections as granted (I4), closed by itself (I3)."""
import json
import time

from e2e import CLIENT, OTHER, REMOTE, main, run, wait_until

PORT = 1046


def only_that_client_that_address_that_port_and_once(lab):
    lab.listen(PORT)
    lab.listen(PORT + 1)
    for family in (4, 6):
        remote, client = REMOTE[family], CLIENT[family]
        assert lab.connect(remote, PORT, client) == 0, "closed before the grant"
        grant = lab.grant(remote, PORT, "--notify")["grant"]
        assert grant["state"] == "active" and 0 < grant["left_ms"], grant
        assert lab.connect(remote, PORT, OTHER[family]) == 0, "not for another client"
        assert lab.connect(remote, PORT + 1, client) == 0, "not to another port"
        assert lab.connect(remote, PORT, client) == 1, "open for what was granted"
        assert lab.connect(remote, PORT, client) == 0, "and closed again"
        lab.wait_entries(1, "--kind", "ended", "--grant", grant["id"])
        assert lab.json("policy", "grant", "show", grant["id"])[0]["grant"]["state"] == "used"


def the_inspector_hears_of_it_with_its_context(lab):
    lab.grant(REMOTE[4], PORT, "--notify", "--context", "call 17")
    lab.grant(REMOTE[4], PORT + 1)
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    assert lab.connect(REMOTE[4], PORT + 1, CLIENT[4]) == 1
    lab.wait_entries(4, "--kind", "established")
    done = lab.run("inspector", "postern", "-o", "json", "events", "watch", "--cursor", "start", "--kind", "established", "--count", "3",
                   "--timeout", "5s")
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert seen[-1]["context"] == "call 17", seen
    done = lab.run("inspector", "postern", "events", "watch", "--cursor", "start", "--kind", "established", "--count", "4", "--timeout", "1s",
                   check=False)
    assert done.returncode == 15, "the one without notify is not delivered"


def exactly_n_with_racing_clients(lab):
    grant = lab.grant(REMOTE[4], PORT, "--max-connections", "7")["grant"]
    assert lab.connect(REMOTE[4], PORT, CLIENT[4], seconds=2, count=64) == 7
    lab.wait_entries(7, "--kind", "established", "--grant", grant["id"])
    assert len(lab.entries("--kind", "established", "--grant", grant["id"])) == 7


def a_retransmitted_syn_is_not_a_second_use(lab):
    grant = lab.grant(REMOTE[4], PORT)["grant"]
    rules = ("table ip lose { chain out { type filter hook output priority 0; "
             "tcp sport 1046 tcp flags & (syn | ack) == (syn | ack) limit rate 1/week burst 2 packets drop; }; }")
    lab.run("remote1", "nft", rules)
    try:
        assert lab.connect(REMOTE[4], PORT, CLIENT[4], seconds=12) == 1, "the first SYN-ACKs were lost, the connection was made"
    finally:
        lab.run("remote1", "nft", "delete", "table", "ip", "lose")
    assert len(lab.entries("--kind", "established", "--grant", grant["id"])) == 1


def cancel_closes_and_says_so_twice(lab):
    grant = lab.grant(REMOTE[4], PORT)["grant"]
    lab.run("inspector", "postern", "grant", "cancel", grant["id"])
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0
    done = lab.run("inspector", "postern", "grant", "cancel", grant["id"], check=False)
    assert done.returncode == 1 and "already ended" in done.stderr, done.stderr


def a_session_takes_its_grants_along(lab):
    session = lab.json("inspector", "session", "open", "--gateway", "gw1", "--client", CLIENT[4])[0]["id"]
    tied = lab.grant(REMOTE[4], PORT, "--session", session)["grant"]
    free = lab.grant(REMOTE[4], PORT + 1, "--session", session, "--flag", "address-based")["grant"]
    lab.run("inspector", "postern", "session", "close", session)
    assert lab.json("policy", "grant", "show", tied["id"])[0]["grant"]["reason"] == "session-ended"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0
    assert lab.connect(REMOTE[4], PORT + 1, CLIENT[4]) == 1, "address-based outlives the session"
    assert free["state"] == "active"


def the_same_request_id_is_the_same_grant(lab):
    request = "01890000-0000-7000-8000-0000000000aa"
    first = lab.grant(REMOTE[4], PORT, "--request-id", request)["grant"]["id"]
    assert lab.grant(REMOTE[4], PORT, "--request-id", request)["grant"]["id"] == first
    other = lab.grant(REMOTE[4], PORT + 1, "--request-id", request, check=False)
    assert other["exit"] == 1 and other["error"]["status"] == "already-exists", other
    lab.kill("policy", "posternd")
    lab.start("policy", "posternd")
    lab.joined("gw1")
    assert lab.grant(REMOTE[4], PORT, "--request-id", request)["grant"]["id"] == first, "also after a restart (I6)"
    lab.run("inspector", "postern", "grant", "cancel", first)


def doors_close_with_agent_and_server_dead(lab):
    lab.grant(REMOTE[4], PORT, "--flag", "timeout", "--lifetime", "2s")
    began = time.monotonic()
    lab.kill("gw1", "postern-agent")
    lab.kill("policy", "posternd")
    assert len(lab.doors()) == 1
    wait_until(lambda: not lab.doors(), "the kernel closed the door", 6)
    assert time.monotonic() - began > 1.5, "not earlier than asked"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0
    lab.start("policy", "posternd")
    lab.start("gw1", "postern-agent")
    lab.joined("gw1")
    wait_until(lambda: lab.entries("--kind", "ended")[-1]["reason"] == "unused-timeout", "the journal says so")


def another_program_flushes_our_table(lab):
    grant = lab.grant(REMOTE[4], PORT, "--max-connections", "2")["grant"]
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1
    lab.wait_entries(1, "--kind", "established", "--grant", grant["id"])
    run("ip", "netns", "exec", lab.namespace("gw1"), "nft", "flush", "ruleset")
    lab.wait_entries(1, "--kind", "table-rebuilt")
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 1, "the door is back"
    assert lab.connect(REMOTE[4], PORT, CLIENT[4]) == 0, "with the uses it had left (I4)"


if __name__ == "__main__":
    main([only_that_client_that_address_that_port_and_once, the_inspector_hears_of_it_with_its_context, exactly_n_with_racing_clients,
          a_retransmitted_syn_is_not_a_second_use, cancel_closes_and_says_so_twice, a_session_takes_its_grants_along,
          the_same_request_id_is_the_same_grant, doors_close_with_agent_and_server_dead, another_program_flushes_our_table])
