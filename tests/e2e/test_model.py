#!/usr/bin/python3
"""Random sequences of requests (of all kinds), uses, cancels, cuts, renewals, expiries, session ends, reservations, bundles, retries,
agent restarts and server restarts, on the real kernel with real packets, against a small model of the issue's table.

SEED=N repeats a sequence, STEPS=N makes it longer or shorter; a failure prints both and every step so far. Each call and each
connection that is tried is a step. After each step the journal must say what the model says: who is armed, how often each grant
was used (I4, I5), which ended and why; now and then the kernel's table is compared too (I2)."""
import os
import random
import select
import socket
import struct
import time
import uuid

from e2e import CLIENT, EXTERNAL, OTHER, REMOTE, REMOTE2, Try, main
from talk import (ADDRESS_BASED, ALLOW_MULTIPLE, ALREADY_ENDED, ALREADY_EXISTS, BIDIRECTIONAL, CANCELLED_BY_FILTER, DECIDED, EXTERNAL_TAKEN,
                  FAILED_PRECONDITION, LIFETIME, RESERVATION_TIMEOUT, SESSION_ENDED, TIMEOUT, UDP, UNUSED_TIMEOUT, USED_UP, expect_error)
from traffic import begin, readable

QUIET_S = 0.1          # what a refused connection of a batch waits for
SHORT_S, UNUSED_S, RESERVATION_S, LONG_S = 1.5, 1.5, 1.5, 600.0
UDP_FORGOTTEN_S = 20   # conntrack keeps a datagram's flow for 30 s
NEAR_S = 0.5           # that near to its end a grant is left alone
LATE_S = 1.0           # a door may close this much later than its time, never earlier
SLACK_S = 1.0          # until the journal says so, on a busy machine
OUT_PORT, IN_PORT, RANGE = 2000, 5000, 10
LONGEST_S = 75         # whatever STEPS says
RESERVE = 0.15         # how many of the requests reserve


class Slot:
    """A place where grants are asked for: those with one key queue up in `line`; the first is armed."""

    def __init__(self, name, family, fields, tries, wrong, exclusive=False, fixed_port=0):
        self.name, self.family, self.fields, self.tries, self.wrong = f"{name}/{family}", family, fields, tries, wrong
        self.exclusive = exclusive    # a second one is refused: the external port is taken
        self.fixed_port, self.line, self.reserved = fixed_port, [], []
        self.udp = fields.get("transport") == UDP

    def __repr__(self):
        return self.name


def slots(lab, f):
    """One family's. `tries(grant)` gives attempts that the grant lets through; `wrong` ones that it never does."""
    client, remote, ext = CLIENT[f], REMOTE[f], EXTERNAL[f]

    def out(port, source=client):
        return Try("client1", source, remote, port)

    def into(address, port, source=remote):
        return Try("remote1", source, address, port)
    several = {"remote": "", "remotes": [remote, REMOTE2[f]]}
    return [
        Slot("exact", f, lab.outbound(f, OUT_PORT), lambda g: [out(OUT_PORT)], [out(OUT_PORT, OTHER[f])]),
        Slot("exact2", f, lab.outbound(f, OUT_PORT + 1), lambda g: [out(OUT_PORT + 1)], [out(OUT_PORT + 1, OTHER[f])]),
        Slot("snat", f, lab.outbound(f, OUT_PORT + 2, external=ext), lambda g: [out(OUT_PORT + 2)], [out(OUT_PORT + 2, OTHER[f])]),
        Slot("udp", f, lab.outbound(f, OUT_PORT + 3, transport=UDP, flags=BIDIRECTIONAL), lambda g: [out(OUT_PORT + 3)],
             [out(OUT_PORT + 3, OTHER[f])]),
        Slot("range", f, lab.outbound(f, OUT_PORT + 10, remote_port_last=OUT_PORT + 9 + RANGE, protocol="ranges"),
             lambda g: [out(OUT_PORT + 10 + i) for i in range(RANGE)], [out(OUT_PORT + 10 + RANGE), out(OUT_PORT + 12, OTHER[f])],
             exclusive=None),
        Slot("inbound", f, lab.inbound(f, IN_PORT), lambda g: [into(client, IN_PORT)], [into(client, IN_PORT, REMOTE2[f])]),
        Slot("dnat", f, lab.inbound(f, IN_PORT + 1, external=ext, external_port=7001), lambda g: [into(ext, 7001)],
             [into(ext, 7001, REMOTE2[f]), into(ext, 7002), into(client, IN_PORT + 1)], exclusive=True),
        Slot("chosen", f, lab.inbound(f, IN_PORT + 2, external=ext), lambda g: [into(ext, g.external_port)],
             [into(client, IN_PORT + 2)]),
        Slot("anybody", f, {**lab.inbound(f, IN_PORT + 3), "remote": ""},
             lambda g: [into(client, IN_PORT + 3), into(client, IN_PORT + 3, REMOTE2[f])], [into(client, IN_PORT + 9)]),
        Slot("several", f, {**lab.inbound(f, IN_PORT + 4, external=ext, external_port=7004), **several},
             lambda g: [into(ext, 7004), into(ext, 7004, REMOTE2[f])], [into(ext, 7005), into(client, IN_PORT + 4)], exclusive=True),
    ]


class Grant:
    """What the model knows of one."""

    def __init__(self, slot, reply, most, tied, sent, answered, lifetime_s, reason):
        self.slot, self.id, self.external_port, self.most, self.tied = slot, reply.id, reply.external_port, most, tied
        self.uses, self.flows, self.ended, self.lifetime_s, self.reason = 0, [], None, lifetime_s, reason
        self.early, self.late = sent + lifetime_s, answered + lifetime_s + LATE_S

    def left(self):
        return 1 << 30 if self.most == 0 else self.most - self.uses

    def __repr__(self):
        return f"{self.id[-6:]}@{self.slot}"


class Flow:
    def __init__(self, opener, to):
        self.opener, self.acceptor, self.to, self.since = opener, None, to, time.monotonic()


class World:
    """Model and reality, side by side."""

    def __init__(self, lab, seed):
        self.lab, self.chance, self.log, self.steps = lab, random.Random(seed), [], 0
        self.slots = slots(lab, 4) + slots(lab, 6)
        self.grants, self.sessions, self.calls = [], {4: None, 6: None}, 0
        for f in (4, 6):
            for port in [OUT_PORT + i for i in (0, 1, 2)] + [OUT_PORT + 10 + i for i in range(RANGE + 1)]:
                lab.listen_at("remote1", REMOTE[f], port)
            for i in (0, 1, 2, 3, 4, 9):
                lab.listen_at("client1", CLIENT[f], IN_PORT + i)
        self.udp = {f: lab.udp("remote1", REMOTE[f], OUT_PORT + 3) for f in (4, 6)}

    def say(self, text):
        self.steps += 1
        self.log.append(f"{self.steps}: {text}")

    def live(self):
        return [g for s in self.slots for g in s.line]

    def end(self, grant, reason):
        """In the model; the journal must agree by the end of the step."""
        grant.ended = reason
        for group in (grant.slot.line, grant.slot.reserved):
            if grant in group:
                group.remove(grant)

    # ---- what must be true after every step ----

    def settle(self):
        """Waits until the journal says what the model says."""
        journal = self.lab.journal

        def agrees():
            for grant in self.grants:
                if journal.uses(grant) > grant.uses:
                    raise AssertionError(f"{grant}: {journal.uses(grant)} uses are journalled, {grant.uses} were made")
                ended = journal.of("ended", grant)
                if ended and grant.ended is None:
                    assert time.monotonic() >= grant.early, f"{grant} ended by itself: {ended}"
                    self.say(f"expired: {grant}")
                    self.end(grant, grant.reason)
                if journal.uses(grant) < grant.uses or bool(ended) != bool(grant.ended):
                    return False
            return all(journal.of("installed", s.line[0]) for s in self.slots if s.line)
        try:
            journal.until(agrees, "the journal agrees", 10)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.differences()}") from error
        for grant in [g for g in self.grants if g.ended]:
            entries = journal.of("ended", grant)
            assert len(entries) == 1 and entries[0].reason == grant.ended, (grant, grant.ended, entries)
            if not grant.flows:
                self.grants.remove(grant)

    def differences(self):
        """For people, when they do not agree."""
        journal, found = self.lab.journal, []
        for g in self.grants:
            ended = journal.of("ended", g)
            if journal.uses(g) != g.uses or bool(ended) != bool(g.ended):
                found.append(f"{g}: {g.uses} uses were made, {journal.uses(g)} are journalled; ended {g.ended}, journal {bool(ended)}")
        return found + [f"{s.line[0]}: is armed, not installed" for s in self.slots if s.line and not journal.of("installed", s.line[0])]

    def let_expire(self):
        """Grants whose time has come: waited for, one after the other."""
        while due := [g for g in [*self.live(), *[g for s in self.slots for g in s.reserved]] if time.monotonic() > g.early - 0.05]:
            grant = min(due, key=lambda g: g.early)
            self.say(f"expires: {grant}")
            self.lab.journal.wait("ended", grant, deadline_s=max(0.1, grant.late + SLACK_S - time.monotonic()))
            assert time.monotonic() >= grant.early, f"{grant} ended {grant.early - time.monotonic():.3f} s too early"
            self.end(grant, grant.reason)

    @staticmethod
    def is_safe(grant):
        """Not so near its end that what is asked of it now might come too late."""
        return time.monotonic() < grant.early - NEAR_S

    def compare_table(self):
        """I2, and that every armed grant is there."""
        self.settle()
        end = time.monotonic() + 5
        while True:
            wrong = [(g, "missing") for s in self.slots for g in s.line[:1] if not self.lab.holds(g)]
            wrong += [(g, "left over") for g in self.grants if g.ended and self.lab.holds(g)]
            if not wrong:
                return
            assert time.monotonic() < end, f"the kernel's table: {wrong}"
            readable([], 0.02)

    # ---- steps ----

    def fields(self, slot):
        """A random wish for a slot: the request's fields, and what the model needs to know."""
        chance, fields = self.chance, dict(slot.fields)
        flags, most = fields.get("flags", 0), chance.choice((1, 1, 2, 3, 0))
        lifetime, reason = LONG_S, LIFETIME
        if chance.random() < 0.04:
            lifetime = SHORT_S
        if most == 1 and chance.random() < 0.04:
            flags, lifetime, reason = flags | TIMEOUT, UNUSED_S, UNUSED_TIMEOUT
        if most == 0:
            flags |= ALLOW_MULTIPLE
        elif most > 1:
            fields["max_connections"] = most
        tied = None
        if chance.random() < 0.3:
            tied = self.session(slot.family)
            fields["session"] = tied
            if chance.random() < 0.3:
                flags, tied = flags | ADDRESS_BASED, None
        if reason == LIFETIME:
            fields["lifetime_ms"] = int(lifetime * 1000)
        return {**fields, "flags": flags}, most, tied, lifetime, reason

    def session(self, family):
        if not self.sessions[family]:
            self.sessions[family] = self.lab.inspector.open_session(CLIENT[family]).id
        return self.sessions[family]

    def is_taken(self, slot):
        return slot.exclusive and (slot.line or slot.reserved)

    def request(self):
        slot = self.chance.choice(self.slots)
        if len(slot.line) > 3 or (slot.exclusive is None and (slot.line or slot.reserved)):
            return
        fields, most, tied, lifetime, reason = self.fields(slot)
        fields["request_id"] = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        reserve = self.chance.random() < RESERVE
        if reserve:
            fields.update(reserve=True, reservation_ms=int(RESERVATION_S * 1000))
        waits = DECIDED if slot.line else self.chance.choice((0, DECIDED))
        self.say(f"request {slot}: {most or 'any number'}, {lifetime} s, tied {bool(tied)}, flags {fields['flags']}, reserve {reserve}, {waits}")
        if self.is_taken(slot):
            expect_error(lambda: self.lab.inspector.request(wait=waits, **fields), FAILED_PRECONDITION, EXTERNAL_TAKEN)
            return
        sent = time.monotonic()
        reply = self.lab.inspector.request(wait=waits, **fields)
        if reserve:
            grant = Grant(slot, reply, most, tied, sent, time.monotonic(), RESERVATION_S, RESERVATION_TIMEOUT)
            grant.after_commit = (lifetime, reason)
            slot.reserved.append(grant)
        else:
            grant = Grant(slot, reply, most, tied, sent, time.monotonic(), lifetime, reason)
            slot.line.append(grant)
        self.grants.append(grant)
        self.log.append(f"      = {grant}")
        if self.chance.random() < 0.2:
            self.say(f"the same request again: {grant}")
            assert self.lab.inspector.request(wait=DECIDED, **fields).id == reply.id, "I6"
            other = {**fields, "context": b"another"}
            expect_error(lambda: self.lab.inspector.request(wait=DECIDED, **other), ALREADY_EXISTS)

    def bundle(self):
        """Of several free slots; or with one that is taken, and then of none."""
        chosen = self.chance.sample([s for s in self.slots if not s.line and not s.reserved] or self.slots[:0],
                                    min(3, len([s for s in self.slots if not s.line and not s.reserved])))
        if not chosen:
            return
        taken = [s for s in self.slots if self.is_taken(s)]
        bad = self.chance.choice(taken) if taken and self.chance.random() < 0.3 else None
        wishes = [self.fields(s) for s in chosen]
        members = [w[0] for w in wishes] + ([dict(bad.fields)] if bad else [])
        self.say(f"bundle {chosen}" + (f" and {bad}, which is taken" if bad else ""))
        if bad:
            expect_error(lambda: self.lab.inspector.bundle(members), FAILED_PRECONDITION, EXTERNAL_TAKEN)
            return
        sent, name = time.monotonic(), str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        _, replies = self.lab.inspector.bundle(members, name)
        answered = time.monotonic()
        for slot, reply, (_, most, tied, lifetime, reason) in zip(chosen, replies, wishes):
            slot.line.append(Grant(slot, reply, most, tied, sent, answered, lifetime, reason))
            self.grants.append(slot.line[-1])
        self.log.append(f"      = {self.grants[-len(chosen):]}")
        if self.chance.random() < 0.3:
            assert [r.id for r in self.lab.inspector.bundle(members, name)[1]] == [r.id for r in replies], "I6"

    def commit(self):
        reserved = [g for s in self.slots for g in s.reserved if self.is_safe(g)]
        if not reserved:
            return
        grant = self.chance.choice(reserved)
        self.say(f"commit {grant}")
        sent = time.monotonic()
        self.lab.inspector.commit(grant, wait=DECIDED)
        lifetime, grant.reason = grant.after_commit
        grant.lifetime_s = lifetime
        grant.early, grant.late = sent + lifetime, time.monotonic() + lifetime + LATE_S
        grant.slot.reserved.remove(grant)
        grant.slot.line.append(grant)

    def pick(self, group):
        return self.chance.choice(group) if group else None

    def cancel(self):
        grant = self.pick([g for g in self.live() + [g for s in self.slots for g in s.reserved] if self.is_safe(g)])
        if not grant:
            return
        self.say(f"cancel {grant}")
        self.lab.inspector.cancel(grant)
        self.end(grant, CANCELLED_BY_FILTER)
        if self.chance.random() < 0.2:
            expect_error(lambda: self.lab.inspector.cancel(grant), FAILED_PRECONDITION, ALREADY_ENDED)

    def cut(self):
        grant = self.pick([g for g in self.grants if g.flows and (g.ended or self.is_safe(g))])
        if not grant:
            return
        if grant.slot.udp and time.monotonic() > max(f.since for f in grant.flows) + UDP_FORGOTTEN_S:
            return  # conntrack has forgotten the flow, or may any moment
        self.say(f"cut {grant}, {len(grant.flows)} flows, {grant.ended or 'live'}")
        self.lab.inspector.cancel(grant, cut=True)
        if grant.ended is None:
            self.end(grant, CANCELLED_BY_FILTER)
        flows, grant.flows = grant.flows, []
        for flow in flows:
            self.speak(flow, b"after the cut", both=not grant.slot.udp)
        # Of UDP, the same 5-tuple may use the next grant of the line: that is another flow, and not tried.
        ends = [s for flow in flows if flow.acceptor for s in (flow.opener, flow.acceptor)]
        limit = time.monotonic() + QUIET_S
        while ends and (ready := readable(ends, limit - time.monotonic())):
            for s in ready:
                ends.remove(s)
                try:
                    assert b"cut" not in s.recv(100), f"{grant}: a byte passed after the cut"
                except OSError:
                    pass
        self.close(flows)

    @staticmethod
    def speak(flow, data, both):
        for s in (flow.opener, flow.acceptor) if both and flow.acceptor else ():
            try:
                s.send(data)
            except OSError:
                pass

    def renew(self):
        grant = self.pick([g for g in self.live() if g.lifetime_s == LONG_S])
        if not grant:
            return
        lifetime = self.chance.choice((LONG_S, 0, LONG_S / 2))
        self.say(f"renew {grant}: {lifetime} s")
        renewed = self.lab.inspector.renew(grant, int(lifetime * 1000))
        assert renewed.left_ms >= (grant.early - time.monotonic()) * 1000 - 50, "never earlier"

    def renew_ended(self):
        grant = self.pick([g for g in self.grants if g.ended])
        if grant:
            self.say(f"renew {grant}, which has ended")
            expect_error(lambda: self.lab.inspector.renew(grant), FAILED_PRECONDITION, ALREADY_ENDED)

    def end_session(self):
        family = self.chance.choice((4, 6))
        session = self.sessions[family]
        if not session:
            return
        tied = [g for g in self.grants if g.tied == session and not g.ended]
        if not all(map(self.is_safe, tied)):
            return
        self.say(f"session of IPv{family} ends, with {tied}")
        self.lab.inspector.close_session(session)
        self.sessions[family] = None
        for grant in tied:
            self.end(grant, SESSION_ENDED)

    def restart_agent(self):
        self.say("the agent is killed and started")
        self.lab.restart_agent()

    def restart_server(self):
        self.say("the server is killed and started")
        self.lab.restart_server()

    def close(self, flows):
        for flow in flows:
            for s in (flow.opener, flow.acceptor):
                if s and s.type == socket.SOCK_STREAM:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if s:
                    s.close()

    def close_flows(self):
        open_flows = [g for g in self.grants if len(g.flows) > 0]
        grant = self.pick(open_flows)
        if grant:
            self.say(f"flows of {grant} end")
            self.close(grant.flows)
            grant.flows = []

    # ---- use ----

    def use(self):
        """A batch of attempts at many slots at the same moment."""
        plan = []  # (slot, grant or None, attempt)
        for slot in self.chance.sample(self.slots, 8):
            grant = slot.line[0] if slot.line else None
            if grant and not self.is_safe(grant):
                continue
            if not grant:
                if self.chance.random() < 0.3 and slot.name.split("/")[0] != "chosen":
                    plan.append((slot, None, self.chance.choice(slot.tries(None))))
                continue
            # With another one waiting, an attempt too many might find that one armed already.
            count = self.chance.randint(1, 4) if len(slot.line) == 1 else min(grant.left(), 2)
            plan += [(slot, grant, self.chance.choice(slot.tries(grant))) for _ in range(count)]
            if slot.wrong and self.chance.random() < 0.3:
                plan.append((slot, None, self.chance.choice(slot.wrong)))
        if plan:
            self.attempt(plan)

    def attempt(self, plan):
        expected = {}
        for _, grant, _ in plan:
            if grant:
                expected[grant] = min(expected.get(grant, 0) + 1, grant.left())
        for slot, grant, attempt in plan:
            self.say(f"try {attempt} at {slot}: {grant or 'nobody'}")
        flows = []
        for slot, grant, attempt in plan:
            self.calls += 1
            port = 10000 + self.calls % 20000  # of its own: conntrack remembers flows, and the same ports would be the same flow
            if slot.udp:
                s = self.lab.udp(attempt.host, attempt.source, port)
                s.sendto(struct.pack(">Q", self.calls), (attempt.address, attempt.port))
            else:
                s = begin(self.lab, Try(attempt.host, attempt.source, attempt.address, attempt.port, port))
            flow = Flow(s, (attempt.address, attempt.port))
            flow.number, flow.slot, flow.grant, flow.through = self.calls, slot, grant, False
            flows.append(flow)
        self.watch(flows, sum(expected.values()))
        self.judge(flows, expected)

    def watch(self, flows, due):
        """Until all that may pass has passed and, where some may not, for QUIET_S more."""
        began = time.monotonic()
        waiting = {f.opener.fileno(): f for f in flows if not f.slot.udp}
        numbers = {f.number: f for f in flows if f.slot.udp}
        poll, passed = select.poll(), 0
        for fd in waiting:
            poll.register(fd, select.POLLOUT)
        for s in self.udp.values():
            poll.register(s, select.POLLIN)
        servers = {s.fileno(): s for s in self.udp.values()}
        limit = began + 5
        while passed < len(flows):
            if passed >= due:
                limit = min(limit, max(began, time.monotonic()) + QUIET_S) if limit == began + 5 else limit
            ready = poll.poll(max(0, (limit - time.monotonic()) * 1000))
            if not ready:
                break
            for fd, _ in ready:
                if fd in servers:
                    number = struct.unpack(">Q", servers[fd].recv(100))[0]
                    flow = numbers.get(number)
                else:
                    flow = waiting.pop(fd)
                    poll.unregister(fd)
                    if flow.opener.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0:
                        continue
                if flow:
                    flow.through = True
                    passed += 1

    def judge(self, flows, expected):
        through = {}
        for flow in flows:
            assert not flow.through or flow.grant, f"{flow.to} at {flow.slot} was let through without a grant"
            if flow.through:
                through[flow.grant] = through.get(flow.grant, 0) + 1
        for grant, count in expected.items():
            assert through.get(grant, 0) == count, f"{grant}: {through.get(grant, 0)} flows passed, {count} expected of {grant.left()} left"
            grant.uses += count
            if grant.left() == 0:
                self.end(grant, USED_UP)
        kept = []
        for flow in flows:
            if flow.through and self.chance.random() < 0.3:
                flow.grant.flows.append(flow)
                kept.append(flow)
        self.match(kept)
        self.close([f for f in flows if f not in kept])
        for listener in self.lab.listeners.values():
            self.lab.drain(listener)

    def match(self, kept):
        """Finds the other ends of the flows that are kept: the opener's first bytes name it. UDP has none of its own."""
        numbers = {f.number: f for f in kept if not f.slot.udp}
        for number, flow in numbers.items():
            flow.opener.send(struct.pack(">Q", number))
        end, accepted = time.monotonic() + 5, []
        while numbers:
            ready = readable([*self.lab.listeners.values(), *accepted], end - time.monotonic())
            assert ready, f"connections arrived nowhere: {[f.to for f in numbers.values()]}"
            for s in ready:
                if s in accepted:
                    accepted.remove(s)
                    try:
                        data = s.recv(8)
                    except OSError:
                        data = b""
                    flow = numbers.pop(struct.unpack(">Q", data)[0], None) if len(data) == 8 else None
                    if flow:
                        flow.acceptor = s
                        s.setblocking(False)
                    else:
                        s.close()
                else:
                    try:
                        accepted.append(s.accept()[0])
                    except BlockingIOError:
                        pass
        for s in accepted:
            s.close()

    def flows_live(self):
        """A flow that was let through passes bytes, whatever became of its grant."""
        flow = self.pick([f for g in self.grants for f in g.flows if f.acceptor])
        if flow:
            self.say(f"bytes on {flow.to}")
            for a, b in ((flow.opener, flow.acceptor), (flow.acceptor, flow.opener)):
                a.send(b"still here")
                assert readable([b], 5) and b.recv(100), f"the flow to {flow.to} is dead"


WEIGHTS = {"request": 30, "bundle": 3, "commit": 4, "use": 22, "cancel": 6, "cut": 3, "renew": 8, "renew_ended": 1, "end_session": 3,
           "close_flows": 6, "flows_live": 5, "restart_agent": 0.5, "restart_server": 0.5, "compare_table": 1}


def random_sequences(lab):
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    most = int(os.environ.get("STEPS", 3000))
    print(f"seed {seed}", flush=True)
    world, began = World(lab, seed), time.monotonic()
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    try:
        while world.steps < most and time.monotonic() < began + LONGEST_S:
            world.let_expire()
            getattr(world, world.chance.choices(names, weights)[0])()
            world.settle()
        world.compare_table()
    except BaseException:
        print(f"--- SEED={seed} STEPS={most}: the sequence:")
        print("\n".join(world.log), flush=True)
        raise
    finally:
        world.close([f for g in world.grants for f in g.flows])
    flows = {}
    for e in lab.journal.of("established"):
        twin = flows.setdefault((e.grant, e.flow.id, e.flow.client_port, e.flow.remote_port), e)
        assert twin is e, f"journalled twice (I5): {twin} {e}"
    print(f"{world.steps} steps in {time.monotonic() - began:.0f} s, {len(flows)} flows, {len(lab.journal.of('granted'))} grants", flush=True)


def setup(lab):
    lab.admin.register("ranges", max_ports=100)
    lab.admin.allow("ranges")


if __name__ == "__main__":
    main([setup, random_sequences], posternd={"unused_timeout": f"{int(UNUSED_S * 1000)}ms", "session_idle_limit": "10m"})
