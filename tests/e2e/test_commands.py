#!/usr/bin/python3
"""The grant commands as a person or a script types them, seen to do what they say on the wire, over IPv4 and IPv6."""
import json
import uuid

from e2e import CLIENT, EXTERNAL, REMOTE, Try, main, place, wait_until

PORT = 1046
CLIENT_PORT = 5060
DEFINITION = "media"


def ask(lab, verb, *options, check=True, **more):
    """One grant command of the inspector, in JSON."""
    done = lab.run("inspector", "postern", "-o", "json", "grant", verb, *options, check=False, **more)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def human(lab, *words, code=0, **more):
    done = lab.run("inspector", "postern", *words, check=False, **more)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def inbound(family, *more, who=None):
    return ("--gateway", "gw1", "--from", who or REMOTE[family], "--client", place(CLIENT[family], CLIENT_PORT), "--external", EXTERNAL[family],
            "--protocol", "ftp", *more)


def outbound(family, to=f"{PORT}", protocol="ftp"):
    address = f"[{REMOTE[family]}]" if family == 6 else REMOTE[family]
    return ("--gateway", "gw1", "--client", CLIENT[family], "--to", f"{address}:{to}", "--protocol", protocol)


def setup(lab):
    lab.run("policy", "postern", "protocol", "register", DEFINITION, "--transport", "udp", "--max-ports", "16")
    lab.run("policy", "postern", "policy", "allow-protocol", DEFINITION)
    for family in (4, 6):
        lab.listen_at("client1", CLIENT[family], CLIENT_PORT)
        lab.listen_at("remote1", REMOTE[family], PORT)


def inbound_request(lab):
    for family in (4, 6):
        grant = ask(lab, "request", *inbound(family))["grant"]
        assert grant["direction"] == "inbound" and grant["external_port"] != 0, grant
        attempt = Try("remote1", REMOTE[family], EXTERNAL[family], grant["external_port"])
        lab.pair(attempt, lab.listen_at("client1", CLIENT[family], CLIENT_PORT)).close()
        lab.closed(attempt, why="it was for one connection")
        lab.wait_entries(1, "--grant", grant["id"], "--kind", "closed")
        told = lab.run("policy", "postern", "grant", "show", grant["id"]).stdout
        through = f"-> {place(EXTERNAL[family], grant['external_port'])} -> {place(CLIENT[family], CLIENT_PORT)} tcp"
        assert told.count(through) >= 2, f"the door, and the flow in its life: {told}"


def a_range_of_ports(lab):
    for family in (4, 6):
        words = (*outbound(family, f"{PORT}-{PORT + 3}", DEFINITION), "--transport", "udp", "--flag", "bidirectional", "--max-connections", "4")
        grant = ask(lab, "request", *words)["grant"]
        assert (grant["remote_port"], grant["remote_port_last"]) == (PORT, PORT + 3)
        sender = lab.udp("client1", CLIENT[family])
        for port, passes in ((PORT, True), (PORT + 3, True), (PORT + 4, False)):
            receiver = lab.udp("remote1", REMOTE[family], port)
            came = lab.datagram(sender, (REMOTE[family], port), receiver, seconds=5 if passes else 0.3)
            assert bool(came) == passes, port
            receiver.close()
        sender.close()
        assert "--to: " in human(lab, "grant", "request", *outbound(family, f"{PORT}-{PORT + 16}", DEFINITION), "--transport", "udp", code=2)


def external_ports_are_taken_once(lab):
    for family in (4, 6):
        at = ("--external", place(EXTERNAL[family], 7000))
        first = ask(lab, "request", *outbound(family), *at)["grant"]
        refused = ask(lab, "request", *outbound(family, f"{PORT + 1}"), *at, check=False)["error"]
        assert refused["reason"] == "external-taken", refused
        human(lab, "grant", "request", *outbound(family, f"{PORT + 1}"), *at, code=17)
        human(lab, "grant", "cancel", first["id"])
        ask(lab, "request", *outbound(family, f"{PORT + 1}"), *at)


def reserve_and_commit(lab):
    for family in (4, 6):
        grant = ask(lab, "reserve", *inbound(family, who="any"), "--hold", "20s")["grant"]
        assert grant["state"] == "reserved" and 0 < grant["left_ms"] <= 20000, grant
        attempt = Try("remote1", REMOTE[family], EXTERNAL[family], grant["external_port"])
        lab.closed(attempt, why="it is only reserved")
        assert "to commit" in lab.run("policy", "postern", "grant", "list").stdout
        opened = ask(lab, "commit", grant["id"])["grant"]
        assert opened["state"] == "active" and opened["external_port"] == grant["external_port"], opened
        assert ask(lab, "commit", grant["id"])["grant"]["id"] == grant["id"], "a second commit is answered like the first"
        lab.pair(attempt, lab.listen_at("client1", CLIENT[family], CLIENT_PORT)).close()
        unused = ask(lab, "reserve", *inbound(family), "--hold", "200ms")["grant"]
        lab.wait_entries(1, "--grant", unused["id"], "--kind", "ended")
        assert "already ended" in human(lab, "grant", "commit", unused["id"], code=1)


def renewal(lab):
    for family in (4, 6):
        grant = ask(lab, "request", *outbound(family), "--lifetime", "30s")["grant"]
        renewed = ask(lab, "renew", grant["id"], "--lifetime", "10m")["grant"]
        assert 590000 < renewed["left_ms"] <= 600000 and renewed["renewals"] == 1, renewed
        assert ask(lab, "renew", grant["id"])["grant"]["left_ms"] > 580000, "never shorter"
        assert "as much as the server allows" in human(lab, "grant", "renew", grant["id"], "--lifetime", "7d")
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), lab.listen_at("remote1", REMOTE[family], PORT)).close()


def cut(lab):
    for family in (4, 6):
        grant = ask(lab, "request", *outbound(family))["grant"]
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), lab.listen_at("remote1", REMOTE[family], PORT))
        lab.wait_entries(1, "--grant", grant["id"], "--kind", "ended")
        assert "already ended" in human(lab, "grant", "cancel", grant["id"], code=1)
        assert pair.passes()
        assert "connections  cut" in human(lab, "grant", "cancel", grant["id"], "--cut")
        assert pair.is_silent(0.5), "nothing passes after the cut"
        pair.close()


def bundles(lab):
    for family in (4, 6):
        id = str(uuid.uuid4())
        lines = [" ".join(outbound(family)) + "  # the first", "", " ".join(inbound(family)) + " --context 'a b'"]
        answer = ask(lab, "bundle", "--request-id", id, input="\n".join(lines) + "\n")
        grants = [reply["grant"] for reply in answer["grants"]]
        assert answer["bundle"] == id and len(grants) == 2 and all(g["bundle"] == id for g in grants), answer
        assert grants[1]["context"] == "a b" and grants[1]["external_port"] != 0
        again = ask(lab, "bundle", "--request-id", id, "--grant", lines[0], "--grant", lines[2])
        assert [reply["grant"]["id"] for reply in again["grants"]] == [g["id"] for g in grants], "the same grants"
        first = lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), lab.listen_at("remote1", REMOTE[family], PORT))
        second = lab.pair(Try("remote1", REMOTE[family], EXTERNAL[family], grants[1]["external_port"]),
                          lab.listen_at("client1", CLIENT[family], CLIENT_PORT))
        human(lab, "grant", "cancel", "--bundle", id, "--cut")
        assert first.is_silent(0.5) and second.is_silent(0.1)
        first.close(), second.close()


def a_bundle_is_all_or_none(lab):
    """Its error names the line and the option, whoever found it: the command, the server or the gateway."""
    for family in (4, 6):
        foreign = "192.0.2.1" if family == 4 else "2001:db8::1"
        for bad, code, words in ((outbound(family, "x"), 2, "--to: "), (outbound(family, "21"), 2, "--to: 21: "),
                                 ((*outbound(family, f"{PORT + 1}"), "--external", foreign), 1, f"does not own {foreign}")):
            before = lab.doors()
            path = lab.write("bundle.txt", "\n".join([" ".join(outbound(family)), "", " ".join(bad), ""]))
            told = human(lab, "grant", "bundle", path, code=code)
            assert f"{path}:3: " in told and words in told, told
            wait_until(lambda: lab.doors() == before, "nothing of it is open")  # noqa: B023


def sessions_and_gateways(lab):
    for family in (4, 6):
        words = ("session", "open", "--gateway", "gw1", "--client", CLIENT[family], "--primary")
        nobody = f"tcp,{place(CLIENT[family], 40000)},{place(REMOTE[family], PORT)}"
        assert "no such connection" in human(lab, *words, nobody, code=18)
        ask(lab, "request", *outbound(family))
        pair = lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), lab.listen_at("remote1", REMOTE[family], PORT))
        primary = f"tcp,{place(CLIENT[family], pair.peer[1])},{place(REMOTE[family], PORT)}"
        session = json.loads(human(lab, "-o", "json", *words, primary))
        grant = ask(lab, "request", *outbound(family, f"{PORT + 1}"), "--session", session["id"])["grant"]
        pair.close()
        lab.wait_entries(1, "--grant", grant["id"], "--kind", "ended")
        assert lab.json("policy", "grant", "show", grant["id"])[0]["grant"]["reason"] == "session-ended"
    assert lab.json("policy", "gateway", "show", "gw1")[0]["renewal"] in ("in-place", "replace")


if __name__ == "__main__":
    main([setup, inbound_request, a_range_of_ports, external_ports_are_taken_once, reserve_and_commit, renewal, cut, bundles,
          a_bundle_is_all_or_none, sessions_and_gateways])
