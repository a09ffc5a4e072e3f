#!/usr/bin/python3
"""The policy document, as an engineer uses it: files, `postern policy`, and real packets through the gateway's doors.

What a document allows is granted, what it forbids is not, and a change is in force at once: for new requests, for live doors, and
for their connections if the document says so. IPv4 and IPv6 alike.
"""
import json
import time
from datetime import datetime, timedelta, timezone

from e2e import CLIENT, OTHER, REMOTE, REMOTE2, Try, main, wait_until
from lab import ROOT
from talk import (ACTIVE, INVALID_ARGUMENT, POLICY_CHANGED, PROTOCOL_RULES, RESOURCE_EXHAUSTED, SITE_RULES, WireError)

PORT = 1046

# The client's first address is staff, its second a guest; the second remote is forbidden ground.
BASE = """
client_sets:
  - name: staff
    addresses: [10.77.1.2, "fd77:1::2"]
  - name: guests
    addresses: ["10.77.1.3-10.77.1.9", "fd77:1::3"]
destination_sets:
  - name: forbidden
    addresses: [10.77.2.3, "fd77:2::3/128"]
protocol_rules:
  - name: ftp for staff
    action: allow
    protocols: [ftp]
    clients: [staff]
site_and_content_rules:
  - name: everywhere
    action: allow
  - name: not there
    action: deny
    destinations: [forbidden]
"""
OPEN = """
protocol_rules: [{name: all, action: allow}]
site_and_content_rules: [{name: everywhere, action: allow}]
"""


def policy(lab, *words, host="policy", check=True, output=None, **options):
    more = ["-o", output] if output else []
    return lab.run(host, "postern", *more, "policy", *words, check=check, **options)


def apply(lab, text, *options, check=True, name="policy.yaml"):
    return policy(lab, "apply", "-f", lab.write(name, text), *options, check=check)


def applied(lab, text, *options):
    """The ApplyReply."""
    path = lab.write("policy.yaml", text)
    return json.loads(policy(lab, "apply", "-f", path, *options, output="json").stdout)


def in_force(lab):
    return next(r for r in (json.loads(line) for line in policy(lab, "history", output="json").stdout.splitlines()) if r["current"])


def number(lab):
    return in_force(lab)["number"]


def denied(lab, reason, rule, **fields):
    try:
        grant = lab.inspector.request(**fields)
    except WireError as error:
        assert error.detail and error.detail.reason == reason and error.detail.rule == rule, error
        assert error.detail.revision == number(lab), error
        return error
    raise AssertionError(f"granted: {grant}")


# ---- what a document decides ----

def a_document_decides(lab):
    revision = applied(lab, BASE)["revision"]["number"]
    for family in (4, 6):
        listener = lab.listen_at("remote1", REMOTE[family], PORT)
        grant = lab.inspector.request(**lab.outbound(family, PORT))
        assert (grant.rule, grant.site_rule, grant.revision) == ("ftp for staff", "everywhere", revision), grant
        lab.pair(Try("client1", CLIENT[family], REMOTE[family], PORT), listener).close()
        denied(lab, PROTOCOL_RULES, "", **lab.outbound(family, PORT, client=OTHER[family]))
        denied(lab, SITE_RULES, "not there", **lab.outbound(family, PORT, remote=REMOTE2[family]))
        lab.closed(Try("client1", CLIENT[family], REMOTE2[family], PORT))
    shown = lab.run("inspector", "postern", "grant", "show", grant.id).stdout
    assert "ftp for staff" in shown and "everywhere" in shown and f"{revision}" in shown, shown


def users_and_sets_of_sets(lab):
    apply(lab, """
user_sets:
  - {name: operators, users: [alice]}
  - {name: engineers, sets: [operators], users: ["bob@example.com"]}
  - {name: banned, users: [mallory]}
client_sets:
  - {name: inner, addresses: ["10.77.1.0/24", "fd77:1::/64"]}
  - {name: everybody, sets: [inner]}
protocol_rules:
  - {name: engineers, action: allow, users: [engineers], clients: [everybody]}
  - {name: banned, action: deny, users: [banned]}
site_and_content_rules: [{name: everywhere, action: allow}]
""")
    for family in (4, 6):
        for user, rule in (("alice", "engineers"), ("bob@example.com", "engineers"), ("carol", None), ("", None)):
            session = lab.inspector.open_session(CLIENT[family], user=user)
            fields = {**lab.outbound(family, PORT), "session": session.id}
            if rule:
                grant = lab.inspector.request(**fields)
                assert (grant.rule, grant.user) == (rule, user), grant
            else:
                denied(lab, PROTOCOL_RULES, "", **fields)
            lab.inspector.close_session(session)
        denied(lab, PROTOCOL_RULES, "", **lab.outbound(family, PORT))


def inbound_doors_for_anybody_need_a_rule_that_covers_all(lab):
    apply(lab, """
protocol_rules: [{name: all, action: allow}]
site_and_content_rules:
  - {name: partners, action: allow, destinations: ["10.77.2.2", "fd77:2::2"], ports: ["5000-5100"]}
""")
    for family in (4, 6):
        assert lab.inspector.request(**lab.inbound(family, 5060)).site_rule == "partners"
        denied(lab, SITE_RULES, "", **lab.inbound(family, 5060, remote=""))
        denied(lab, SITE_RULES, "", **lab.inbound(family, 4999))
        denied(lab, SITE_RULES, "", **lab.inbound(family, 5061, remote="", remotes=[REMOTE[family], REMOTE2[family]]))
    apply(lab, OPEN)
    for family in (4, 6):
        assert lab.inspector.request(**lab.inbound(family, 5062, remote="")).site_rule == "everywhere"


def definitions_bound_what_may_be_named(lab):
    apply(lab, """
protocols:
  - name: video
    transport: udp
    primary_ports: [554]
    secondary_ports: ["6970-6999"]
    secondary_addresses: ["10.77.2.2", "fd77:2::2"]
    max_ports: 2
protocol_rules: [{name: video, action: allow, protocols: [video]}]
site_and_content_rules: [{name: everywhere, action: allow}]
""")
    for family in (4, 6):
        fields = {"protocol": "video", "transport": 17}
        assert lab.inspector.request(**lab.outbound(family, 6970, remote_port_last=6971, **fields)).state == ACTIVE
        for wrong in ({"remote_port": 7000}, {"remote_port": 6999, "remote_port_last": 7000}, {"remote": REMOTE2[family]}):
            try:
                lab.inspector.request(**{**lab.outbound(family, 6980, **fields), **wrong})
                raise AssertionError(wrong)
            except WireError as error:
                assert error.status == INVALID_ARGUMENT and error.detail.field.startswith("remote"), error


def limits_of_a_filter(lab):
    apply(lab, OPEN + "filters: [{filter: inspector, max_grants: 2, max_lifetime: 20s}]\n")
    first = lab.inspector.request(**lab.outbound(4, PORT, lifetime_ms=60000))
    assert first.lifetime_ms == 20000 and first.lifetime_clamped, first
    lab.inspector.request(**lab.outbound(6, PORT))
    try:
        lab.inspector.request(**lab.outbound(4, PORT + 1))
        raise AssertionError("a third one")
    except WireError as error:
        assert error.status == RESOURCE_EXHAUSTED, error
    apply(lab, OPEN)
    lab.inspector.request(**lab.outbound(4, PORT + 1))


# ---- a change is live ----

def doors_that_are_no_longer_allowed_close(lab):
    for family in (4, 6):
        for how in ("cancel", "cut", "keep"):
            apply(lab, OPEN)
            listener = lab.listen_at("remote1", REMOTE[family], PORT)
            grant = lab.inspector.request(**lab.outbound(family, PORT, max_connections=5))
            other = lab.inspector.request(**lab.outbound(family, PORT + 1))
            attempt = Try("client1", CLIENT[family], REMOTE[family], PORT)
            pair = lab.pair(attempt, listener)
            text = f"on_change: {how}\n" + OPEN + f"  - {{name: shut, action: deny, ports: ['{PORT}']}}\n"
            text = text.replace("site_and_content_rules: [{name: everywhere, action: allow}]", "site_and_content_rules:\n  - {name: everywhere, action: allow}")
            effects = applied(lab, text)["effects"]
            assert effects["flows"] == 1 and (effects["ended"], effects["kept"]) == ((0, 1) if how == "keep" else (1, 0)), effects
            assert [g["id"] for g in effects["grants"]] == [grant.id] and effects["grants"][0]["rule"] == "shut", effects
            if how == "keep":
                assert pair.passes()
                lab.pair(attempt, listener).close()
            else:
                lab.journal.ended(grant, POLICY_CHANGED)
                lab.shut(grant)
                assert pair.passes() if how == "cancel" else pair.is_silent()
                lab.closed(attempt)
            assert lab.inspector.show(other).state == ACTIVE
            pair.close()
            lab.inspector.cancel_all()


def a_rule_that_expires_takes_its_doors_along(lab):
    end = datetime.now(timezone.utc) + timedelta(seconds=4)
    apply(lab, f"""
protocol_rules: [{{name: for a moment, action: allow, expires: "{end.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"}}]
site_and_content_rules: [{{name: everywhere, action: allow}}]
""")
    grants = [lab.inspector.request(**lab.outbound(family, PORT, lifetime_ms=600000)) for family in (4, 6)]
    for grant in grants:
        ended = lab.journal.ended(grant, POLICY_CHANGED)
        assert ended.time_us >= end.timestamp() * 1e6, "not before its time"
    denied(lab, PROTOCOL_RULES, "", **lab.outbound(4, PORT))


def schedules_are_asked_at_the_call(lab):
    zone = timezone.utc
    today = datetime.now(zone)
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    now = {days[today.weekday()], days[(today + timedelta(minutes=2)).weekday()]}
    other = [d for d in days if d not in now and d != days[(today - timedelta(minutes=2)).weekday()]]
    apply(lab, f"""
schedules:
  - {{name: today, weekly: ["{','.join(sorted(now))}"], time_zone: Etc/UTC}}
  - {{name: another day, weekly: ["{','.join(other)}"], time_zone: Etc/UTC}}
protocol_rules:
  - {{name: today, action: allow, clients: [10.77.1.2, "fd77:1::2"], schedule: today}}
  - {{name: another day, action: allow, schedule: another day}}
site_and_content_rules: [{{name: everywhere, action: allow}}]
""")
    for family in (4, 6):
        assert lab.inspector.request(**lab.outbound(family, PORT)).rule == "today"
        denied(lab, PROTOCOL_RULES, "", **lab.outbound(family, PORT, client=OTHER[family]))


def staged_rules_are_journalled_and_not_enforced(lab):
    apply(lab, """
protocol_rules: [{name: all, action: allow}]
site_and_content_rules:
  - {name: everywhere, action: allow}
  - {name: soon, action: deny, staged: true, destinations: ["10.77.2.2", "fd77:2::2"]}
""")
    for family in (4, 6):
        grant = lab.inspector.request(**lab.outbound(family, PORT))
        entry = lab.entries("--grant", grant.id, "--kind", "granted")[0]
        assert entry["staged_rule"] == "soon" and entry["site_rule"] == "everywhere", entry
        grant = lab.inspector.request(**lab.outbound(family, PORT, remote=REMOTE2[family]))
        assert not lab.entries("--grant", grant.id, "--kind", "granted")[0]["staged_rule"]


def gateways_say_which_revision_they_obey(lab):
    apply(lab, OPEN)

    def row():
        return next(g for g in lab.json("policy", "gateway", "list") if g["name"] == "gw1")
    wait_until(lambda: row()["revision"] == row()["current_revision"] == number(lab), "gw1 obeys")
    lab.kill("gw1", "postern-agent")
    before = number(lab)
    apply(lab, BASE)
    assert row()["revision"] == before and row()["current_revision"] == before + 1, row()
    assert "behind" in lab.run("policy", "postern", "gateway", "list").stdout
    lab.start("gw1", "postern-agent")
    wait_until(lambda: row()["revision"] == before + 1, "gw1 obeys the new one")


# ---- revisions ----

def revisions_are_kept_and_come_back(lab):
    apply(lab, OPEN, "-m", "all open")
    first = number(lab)
    apply(lab, BASE, "-m", "as it was meant")
    assert number(lab) == first + 1
    again = applied(lab, BASE)
    assert again["unchanged"] and number(lab) == first + 1
    history = policy(lab, "history").stdout
    assert "all open" in history and "as it was meant" in history and "admin" in history, history
    shown = policy(lab, "show").stdout
    assert applied(lab, shown)["unchanged"], "what is shown can be applied"
    difference = policy(lab, "diff", str(first), str(first + 1)).stdout
    assert "ftp for staff" in difference and "forbidden" in difference, difference
    done = apply(lab, OPEN, "--if-revision", str(first), check=False)
    assert done.returncode == 19 and str(first + 1) in done.stderr and number(lab) == first + 1, done.stderr
    policy(lab, "rollback", str(first), "-m", "back")
    assert number(lab) == first + 2 and in_force(lab)["rolled_back_to"] == first
    texts = [[line for line in policy(lab, "show", *which).stdout.splitlines() if not line.startswith("#")] for which in ([str(first)], [])]
    assert texts[0] == texts[1] and texts[0], texts
    lab.restart_server()
    assert number(lab) == first + 2
    lab.inspector.request(**lab.outbound(4, PORT, client=OTHER[4]))
    lab.verify()
    kinds = [e["kind"] for e in lab.entries("--kind", "policy-applied", "--kind", "policy-rolled-back")]
    assert kinds[-1] == "policy-rolled-back", kinds


def an_unconfirmed_revision_goes_by_itself(lab):
    apply(lab, OPEN)
    before = number(lab)
    done = apply(lab, BASE, "--confirm", "10s")
    assert "confirm" in done.stdout, done.stdout
    assert number(lab) == before + 1
    refused = apply(lab, OPEN, check=False)
    assert refused.returncode != 0 and "confirm" in refused.stderr, refused.stderr
    lab.restart_server()
    wait_until(lambda: number(lab) == before + 2, "it is rolled back, also by another server", 20)
    assert in_force(lab)["rolled_back_to"] == before
    lab.inspector.request(**lab.outbound(4, PORT, client=OTHER[4]))
    apply(lab, BASE, "--confirm", "10s")
    policy(lab, "confirm")
    assert not in_force(lab)["confirm_until_us"]
    end = time.time() + 11
    wait_until(lambda: time.time() > end, "its time is over", 15)
    assert number(lab) == before + 3


def a_dry_run_tells_and_changes_nothing(lab):
    apply(lab, OPEN)
    before = number(lab)
    grants = [lab.inspector.request(**lab.outbound(family, PORT)) for family in (4, 6)]
    fine = lab.inspector.request(**lab.outbound(4, PORT, remote=REMOTE2[4]))
    done = apply(lab, OPEN.replace("[{name: everywhere, action: allow}]", "[{name: there, action: allow, destinations: [10.77.2.3]}]"),
                 "--dry-run")
    assert "there" in done.stdout and "everywhere" in done.stdout and "gw1" in done.stdout and "2" in done.stdout, done.stdout
    assert number(lab) == before and len(lab.entries("--kind", "policy-applied")) > 0
    assert all(lab.inspector.show(g).state == ACTIVE for g in [*grants, fine])


def a_failing_test_blocks(lab):
    apply(lab, BASE)
    before = number(lab)
    tests = """
tests:
  - {name: staff reaches the server, client: 10.77.1.2, to: "10.77.2.2:1046", protocol: ftp, expect: allow, rule: ftp for staff}
  - {name: guests do not, client: "fd77:1::3", to: "[fd77:2::2]:1046", protocol: ftp, expect: deny, rule: none}
"""
    apply(lab, BASE + tests)
    assert number(lab) == before + 1
    assert policy(lab, "test").returncode == 0
    wrong = BASE.replace("clients: [staff]", "clients: [guests]") + tests
    done = apply(lab, wrong, check=False, name="wrong.yaml")
    assert done.returncode == 20 and "staff reaches the server" in done.stderr and "wrong.yaml:" in done.stderr, done.stderr
    assert number(lab) == before + 1
    done = policy(lab, "test", "-f", f"{lab.folder}/wrong.yaml", check=False)
    assert done.returncode == 20 and "guests do not" in done.stdout, done.stdout + done.stderr


# ---- asking ----

def explain_says_what_a_request_would_hear(lab):
    apply(lab, BASE)
    for client, to, family, code, words in (
            (CLIENT, REMOTE, 4, 0, ["ftp for staff", "everywhere"]), (OTHER, REMOTE, 6, 10, ["no rule allows"]),
            (CLIENT, REMOTE2, 6, 11, ["not there"])):
        host = f"[{to[family]}]" if family == 6 else to[family]
        done = policy(lab, "explain", "--gateway", "gw1", "--client", client[family], "--to", f"{host}:{PORT}", "--protocol", "ftp", check=False)
        assert done.returncode == code and all(w in done.stdout for w in words), (done.returncode, done.stdout, done.stderr)
        assert str(number(lab)) in done.stdout
        asked = lab.grant(to[family], PORT, client=client[family], check=False)
        assert asked["exit"] == code, asked
        if code == 0:
            lab.inspector.cancel_all()
    done = policy(lab, "explain", "--gateway", "gw1", "--client", OTHER[4], "--to", f"{REMOTE[4]}:{PORT}", "--protocol", "ftp", "--all", check=False)
    assert "clients" in done.stdout and "staff" in done.stdout, done.stdout


def replay_finds_every_changed_verdict(lab):
    apply(lab, OPEN)
    began = datetime.now(timezone.utc)
    for family in (4, 6):
        for client in (CLIENT, OTHER):
            for remote in (REMOTE, REMOTE2):
                lab.inspector.request(**lab.outbound(family, PORT, client=client[family], remote=remote[family]))
    since = f"{(datetime.now(timezone.utc) - began).total_seconds() + 1:.0f}s"
    path = lab.write("candidate.yaml", BASE)
    items = [json.loads(line) for line in policy(lab, "replay", "--since", since, "-f", path, output="json").stdout.splitlines()]
    changed = {(i["entry"]["client"], i["entry"]["remote"]): i["verdict"] for i in items if i["entry"]}
    expected = {(OTHER[f], r[f]) for f in (4, 6) for r in (REMOTE, REMOTE2)} | {(CLIENT[f], REMOTE2[f]) for f in (4, 6)}
    assert expected <= set(changed), (expected, changed)
    assert not {(CLIENT[f], REMOTE[f]) for f in (4, 6)} & set(changed), changed
    assert changed[(CLIENT[4], REMOTE2[4])]["rule"] == "not there"
    assert items[-1]["done"] and items[-1]["changed"] == len([i for i in items if i["entry"]]), items[-1]


# ---- bad input ----

WRONG = [  # text, the value (in it) whose place is named, what the error says
    ("protocol_rules:\n  - name: a\n    action: alow\n", "alow", ["allow"]),
    ("protocol_rulez: []\n", "protocol_rulez", ["protocol_rules"]),
    ("protocol_rules:\n  - {name: a, action: allow}\n  - {name: 'a', action: deny}\n", "'a'", ["protocol_rules[0]"]),
    ("protocol_rules:\n  - {name: a, action: allow, protocols: [fpt]}\n", "fpt", ["did you mean \"ftp\"?"]),
    ("protocol_rules:\n  - {name: a, action: allow, gateways: [gw2]}\n", "gw2", ["did you mean \"gw1\"?"]),
    ("protocol_rules:\n  - {name: a, action: allow, clients: [staf]}\nclient_sets: [{name: staff}]\n", "staf]", ["did you mean \"staff\"?"]),
    ("client_sets:\n  - {name: a, sets: [b]}\n  - {name: b, sets: ['a']}\n", "'a'", ["cycle"]),
    ("client_sets:\n  - name: a\n    addresses: [10.0.0.9-10.0.0.1]\n", "10.0.0.9", ["reversed"]),
    ("client_sets:\n  - name: a\n    addresses: [10.0.0.1/8]\n", "10.0.0.1/8", ["10.0.0.0/8"]),
    ("client_sets:\n  - name: a\n    addresses: [10.0.0.1-fd00::1]\n", "10.0.0.1-", ["IPv6"]),
    ("site_and_content_rules:\n  - {name: a, action: allow, ports: [90-80]}\n", "90-80", ["reversed"]),
    ("schedules:\n  - {name: a, weekly: ['mon 25:00-26:00']}\n", "'mon", ["25:00"]),
    ("schedules:\n  - {name: a, dates: [2026-12-31..2026-01-01]}\n", "2026-12-31", ["reversed"]),
    ("schedules:\n  - {name: a, dates: [2026-12-25], except_dates: [2026-12-25]}\n", "[2026-12-25], e", ["no minute is left"]),
    ("schedules:\n  - {name: a, time_zone: Europe/Berlim}\n", "Europe", ["Europe/Berlim"]),
    ("protocol_rules:\n  - {name: a, action: allow, schedule: nights}\n", "nights", ["nights"]),
    ("protocol_rules:\n  - {name: a, action: allow, expires: soon}\n", "soon", ["2026-12-31"]),
    ("protocol_rules:\n  - {name: a, action: allow, disabled: yes}\n", "yes", ["true or false"]),
    ("protocol_rules:\n  - {name: a, name: b}\n", "name: b", ["twice"]),
    ("client_sets:\n  - &x {name: a}\n  - *x\n", "&x", ["anchors"]),
    ("client_sets: {name: a}\n---\nclient_sets: []\n", "---", ["second document"]),
    ("filters: [{filter: nobody, max_grants: 1}]\n", "nobody", ["postern filter add"]),
    ("filters: [{filter: inspector, max_grants: -1}]\n", "-1", ["from 0"]),
    ("tests: [{client: 10.0.0.300, to: '10.0.0.1:1', protocol: ftp, expect: allow}]\n", "10.0.0.300", ["not an address"]),
    ("feeds: [{name: f, url: 'http://example.com/'}]\n", "'http", ["https"]),
    ("protocols: [{name: x, max_ports: 5000}]\n", "5000", ["1024"]),
]


def place_of(text, value):
    before = text[:text.index(value)]
    return f"bad.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}:"


def bad_documents_change_nothing(lab):
    apply(lab, BASE)
    before = in_force(lab)
    wrong = []
    for text, value, words in WRONG:
        done = apply(lab, text, check=False, name="bad.yaml")
        if done.returncode == 0 or place_of(text, value) not in done.stderr or not all(w in done.stderr for w in words):
            wrong.append((text, place_of(text, value), words, done.stderr))
    assert not wrong, "\n".join(map(str, wrong))
    assert in_force(lab) == before
    for bytes_, words in ((b"client_sets:\n  - name: \xff\xfe\n", ["UTF-8"]), (b"a: &a [x]\n" + b"".join(b"b%d: [*a, *a]\n" % i for i in range(9)), [])):
        path = f"{lab.folder}/bad.yaml"
        with open(path, "wb") as file:
            file.write(bytes_)
        done = policy(lab, "apply", "-f", path, check=False)
        assert done.returncode != 0 and "bad.yaml" in done.stderr and all(w in done.stderr for w in words), done.stderr
        assert in_force(lab) == before


def a_large_document_arrives(lab):
    """More than a frame, and more than a connection may queue: 20,000 rules and as many sets; and comes back as it was."""
    long = "long " * 50
    lines = ["client_sets:"] + [f"  - {{name: set {i}, addresses: [100.{i >> 8}.{i & 255}.0/24, 'fd00:{i:x}::/64']}}" for i in range(20000)]
    lines += ["protocol_rules:", "  - {name: staff, action: allow, clients: [10.77.1.2, 'fd77:1::2']}"]
    lines += [f"  - {{name: rule {i}, action: allow, clients: [set {i}], description: {long}{i}}}" for i in range(20000)]
    lines += ["site_and_content_rules: [{name: everywhere, action: allow}]"]
    began = time.monotonic()
    reply = applied(lab, "\n".join(lines) + "\n")
    print(f"      {reply['revision']['document_size']} bytes in {time.monotonic() - began:.1f} s")
    assert reply["revision"]["rules"] == 20002 and reply["revision"]["document_size"] > 5 << 20, reply["revision"]
    assert applied(lab, policy(lab, "show").stdout)["unchanged"]
    for family in (4, 6):
        assert lab.inspector.request(**lab.outbound(family, PORT)).rule == "staff"
        denied(lab, PROTOCOL_RULES, "", **lab.outbound(family, PORT, client=OTHER[family]))
    lab.restart_server()
    assert lab.inspector.request(**lab.outbound(4, PORT + 1)).rule == "staff"
    apply(lab, OPEN)


def a_directory_is_one_document(lab):
    lab.run("policy", "mkdir", "-p", f"{lab.folder}/policy.d")
    lab.write("policy.d/10-sets.yaml", "client_sets: [{name: staff, addresses: [10.77.1.2, 'fd77:1::2']}]\n")
    lab.write("policy.d/20-rules.yaml", "protocol_rules: [{name: staff, action: allow, clients: [staff]}]\n")
    lab.write("policy.d/30-sites.json", json.dumps({"site_and_content_rules": [{"name": "everywhere", "action": "allow"}]}))
    policy(lab, "apply", "-f", f"{lab.folder}/policy.d")
    for family in (4, 6):
        assert lab.inspector.request(**lab.outbound(family, PORT)).rule == "staff"


def the_worked_example_applies(lab):
    """docs/examples/policy.yaml, which postern-policy(5) explains; its own tests pass."""
    policy(lab, "apply", "-f", f"{ROOT}/docs/examples/policy.yaml")
    done = policy(lab, "test")
    assert "staff" in done.stdout, done.stdout


IPTABLES = """*raw
-A PREROUTING -p tcp -m tcp --dport 2121 -j CT --helper ftp
COMMIT
*filter
:FORWARD DROP [0:0]
:LAN - [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -s 10.77.1.2/32 -j LAN
-A FORWARD -i eth0 -p udp -m udp --dport 69 -j ACCEPT
-A LAN -d 10.77.2.2/32 -p tcp -m tcp --dport 21 -j ACCEPT
COMMIT
"""
NFT = """table inet filter { set staff { type ipv6_addr; elements = { fd77:1::2 } }
  chain forward { type filter hook forward priority 0; policy drop; ip6 saddr @staff ip6 daddr fd77:2::2 tcp dport 21 accept; }; }"""


def an_imported_ruleset_applies(lab):
    """What another program let through before, and nothing else; nft's own listing is read."""
    listing = lab.run("inspector", "sh", "-c", "nft -f - && nft list ruleset; nft flush ruleset", input=NFT).stdout
    for family, rules in ((4, IPTABLES), (6, listing)):
        done = policy(lab, "import", lab.write("rules.txt", rules))
        assert ("line 9 was not translated: tftp" in done.stdout) == (family == 4), done.stdout
        apply(lab, done.stdout)
        for client, remote, code in ((CLIENT, REMOTE, 0), (OTHER, REMOTE, 10), (CLIENT, REMOTE2, 11)):
            to = f"[{remote[family]}]" if family == 6 else remote[family]
            asked = policy(lab, "explain", "--gateway", "gw1", "--client", client[family], "--to", f"{to}:{PORT}", "--protocol", "ftp",
                           check=False)
            assert asked.returncode == code, (asked.stdout, asked.stderr)


def allow_protocol_is_a_revision(lab):
    apply(lab, BASE)
    before = number(lab)
    lab.admin.register("extra")
    lab.admin.allow("extra")
    assert number(lab) == before + 1
    assert lab.inspector.request(**lab.outbound(4, PORT, protocol="extra", client=OTHER[4])).rule == "allow extra"
    assert "allow extra" in policy(lab, "rules").stdout


if __name__ == "__main__":
    main([a_document_decides, users_and_sets_of_sets, inbound_doors_for_anybody_need_a_rule_that_covers_all,
          definitions_bound_what_may_be_named, limits_of_a_filter, doors_that_are_no_longer_allowed_close,
          a_rule_that_expires_takes_its_doors_along, schedules_are_asked_at_the_call, staged_rules_are_journalled_and_not_enforced,
          gateways_say_which_revision_they_obey, revisions_are_kept_and_come_back, an_unconfirmed_revision_goes_by_itself,
          a_dry_run_tells_and_changes_nothing, a_failing_test_blocks, explain_says_what_a_request_would_hear,
          replay_finds_every_changed_verdict, bad_documents_change_nothing, a_large_document_arrives, a_directory_is_one_document,
          the_worked_example_applies, an_imported_ruleset_applies, allow_protocol_is_a_revision])
