"""Talking to the server from a test's own process, by the wire: quick, and with every field as it is.

A Caller asks as one principal; a Journal follows the administrator's stream of entries, so that a test waits for what happens
instead of for time to pass.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "wire"))
from postern_wire import Connection, WireError, generate  # noqa: E402,F401
from traffic import readable  # noqa: E402

TCP, UDP = 6, 17
OUTBOUND, INBOUND = 0, 1
ADDRESS_BASED, ALLOW_MULTIPLE, TIMEOUT, NO_KERNEL_MODE, BIDIRECTIONAL = 1, 2, 4, 8, 16
PENDING, ACTIVE, USED, EXPIRED, CANCELLED, FAILED, DENIED, RESERVED = range(1, 9)
INSTALLED, DECIDED = 0, 1
PEER, PEER_NETWORK = 1, 2  # remote scopes
# Statuses and reasons that tests expect by name.
INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = range(3, 10)
UNIMPLEMENTED, UNAVAILABLE = 12, 14
(PROTOCOL_RULES, SITE_RULES, OUT_OF_SCOPE, QUOTA, NO_SUCH_GATEWAY, GATEWAY_DOWN, GATEWAY_REFUSED, DEADLINE, ALREADY_ENDED,
 JOURNAL_UNAVAILABLE, EXTERNAL_TAKEN, NO_SUCH_CONNECTION) = range(1, 13)
(USED_UP, UNUSED_TIMEOUT, LIFETIME, CANCELLED_BY_FILTER, SESSION_ENDED, REVOKED_BY_OPERATOR, POLICY_CHANGED, REFUSED_BY_GATEWAY,
 DEADLINE_MISSED, _, _, RESERVATION_TIMEOUT, BUNDLE_FAILED) = range(1, 14)
STALE_S = 10  # a connection that was silent for longer is made anew: the server closes idle ones


class Caller:
    """One principal on the server's local socket. Connects when needed, so a restart of the server costs nothing."""

    def __init__(self, lab, token):
        self.lab, self.pb, self.token, self.connection = lab, lab.pb, token, None

    @classmethod
    def from_file(cls, lab, name):
        with open(f"{lab.folder}/{name}", encoding="ascii") as file:
            return cls(lab, file.read().strip())

    def _connected(self):
        c = self.connection
        # What there is to read between two calls is the end of the connection, or a goodbye before it.
        if c and (c.socket is None or time.monotonic() - c.sent_at > STALE_S or readable([c.socket], 0)):
            c.close()
            c = None
        if not c:
            c = Connection(f"ipc://{self.lab.folder}/policy/posternd.sock", self.token, self.pb)
        self.connection = c
        return c

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def call(self, method, request, reply, deadline_ms=10000):
        try:
            return self._connected().call(method, request, reply, deadline_ms)
        except WireError as error:
            if error.status == UNAVAILABLE:
                self.close()
            raise
        except OSError as error:
            self.close()
            raise WireError(UNAVAILABLE, f"the connection broke: {error}") from error

    # ---- grants ----

    def message(self, fields):
        return self.pb["grants"].GrantRequest(**{"gateway": "gw1", "protocol": "ftp", "transport": TCP, **fields})

    def request(self, deadline_ms=10000, **fields):
        return self.call("Grants/Request", self.message(fields), self.pb["grants"].GrantReply, deadline_ms).grant

    def bundle(self, members, bundle="", wait=INSTALLED, deadline_ms=10000):
        """members: the fields of each. Returns the id and the grants."""
        grants = self.pb["grants"]
        reply = self.call("Grants/RequestBundle", grants.BundleRequest(bundle=bundle, wait=wait, grants=[self.message(m) for m in members]),
                          grants.BundleReply, deadline_ms)
        return reply.bundle, [g.grant for g in reply.grants]

    def cancel_bundle(self, bundle, cut=False):
        grants = self.pb["grants"]
        return self.call("Grants/CancelBundle", grants.BundleCancelRequest(bundle=bundle, cut=cut), grants.BundleReply)

    def renew(self, grant, lifetime_ms=0):
        grants = self.pb["grants"]
        return self.call("Grants/Renew", grants.GrantRenewRequest(id=id_of(grant), lifetime_ms=lifetime_ms), grants.GrantReply).grant

    def renew_all(self, made):
        """Of all at the same moment: the server commits them together."""
        grants, connection = self.pb["grants"], self._connected()
        calls = [connection.start("Grants/Renew", grants.GrantRenewRequest(id=id_of(g))) for g in made]
        return [connection.finish(call, grants.GrantReply).grant for call in calls]

    def commit(self, grant, wait=INSTALLED):
        grants = self.pb["grants"]
        return self.call("Grants/Commit", grants.GrantCommitRequest(id=id_of(grant), wait=wait), grants.GrantReply).grant

    def cancel(self, grant, cut=False, deadline_ms=10000):
        grants = self.pb["grants"]
        return self.call("Grants/Cancel", grants.GrantCancelRequest(id=id_of(grant), cut=cut), grants.GrantReply, deadline_ms).grant

    def show(self, grant):
        grants = self.pb["grants"]
        return self.call("Grants/Show", grants.GrantShowRequest(id=id_of(grant)), grants.GrantReply).grant

    def live(self):
        """Its live grants; an administrator's: everybody's."""
        grants = self.pb["grants"]
        return [r.grant for r in self._connected().stream("Grants/List", grants.GrantListRequest(limit=100000), grants.GrantReply)]

    def cancel_all(self):
        for grant in self.live():
            try:
                self.cancel(grant)
            except WireError as error:
                if not (error.detail and error.detail.reason == ALREADY_ENDED):
                    raise

    # ---- sessions ----

    def open_session(self, client, primary=None, **fields):
        """primary: (client, client port, remote, remote port, transport)."""
        sessions = self.pb["sessions"]
        request = sessions.SessionOpenRequest(gateway="gw1", client=client, **fields)
        if primary:
            flow = request.primary
            flow.client, flow.client_port, flow.remote, flow.remote_port, flow.transport = primary
        return self.call("Sessions/Open", request, sessions.Session)

    def close_session(self, session):
        sessions = self.pb["sessions"]
        return self.call("Sessions/Close", sessions.SessionCloseRequest(id=id_of(session)), sessions.Session)

    # ---- policy ----

    def register(self, name, transport=TCP, **fields):
        policy = self.pb["policy"]
        return self.call("Policy/RegisterProtocol", policy.Protocol(name=name, transport=transport, **fields), policy.Protocol)

    def allow(self, protocol, deny=False):
        policy = self.pb["policy"]
        return self.call("Policy/AllowProtocol", policy.AllowProtocolRequest(protocol=protocol, deny=deny), policy.Rule)

    def add_filter(self, name, **scope):
        """A new filter, as a Caller."""
        policy = self.pb["policy"]
        reply = self.call("Policy/AddPrincipal", policy.Principal(name=name, role="filter", **scope), policy.AddPrincipalReply)
        return Caller(self.lab, reply.token)

    # ---- events, as this principal sees them ----

    def events(self, kind=None):
        """All entries up to now that are for this principal."""
        events, found = self.pb["events"], []
        request = events.WatchRequest(kinds=[kind_number(self.pb, kind)] if kind else [])
        watch = self._connected().stream("Events/Watch", request, events.EventBatch)
        for batch in watch:
            found += batch.entries
            if batch.caught_up:
                break
        watch.close()
        return found


def id_of(thing):
    """Of a grant or session, or of what is an id already."""
    return getattr(thing, "id", thing)


def kind_number(pb, name):
    return pb["types"].EntryKind.Value("ENTRY_KIND_" + name.upper().replace("-", "_"))


class Journal:
    """The journal as it grows, read by the administrator; entries stay in `entries`."""

    def __init__(self, lab, token):
        self.lab, self.pb, self.token = lab, lab.pb, token
        self.entries, self.cursor, self.connection, self.watch = [], 0, None, None
        self.index = {}  # the same entries, by kind, and by kind and grant

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = self.watch = None

    def _open(self):
        events = self.pb["events"]
        self.connection = Connection(f"ipc://{self.lab.folder}/policy/posternd.sock", self.token, self.pb)
        self.watch = self.connection.stream("Events/Watch", events.WatchRequest(cursor=self.cursor), events.EventBatch)

    def pump(self, until):
        """Takes in one batch, if one comes before `until` (monotonic). True when the journal is caught up with."""
        try:
            if not self.connection:
                self._open()
            self.connection.patience = until
            batch = next(self.watch)
        except (WireError, OSError) as error:
            if isinstance(error, WireError) and error.status == DEADLINE_EXCEEDED:
                self.close()  # the stream's generator has ended with the exception
                return True
            self.close()
            if time.monotonic() > until:
                raise
            readable([], 0.02)  # the server is being started
            return False
        self.entries += batch.entries
        for entry in batch.entries:
            self.index.setdefault((entry.kind, None), []).append(entry)
            self.index.setdefault((entry.kind, entry.grant), []).append(entry)
        self.cursor = batch.cursor
        return batch.caught_up

    def until(self, condition, what, deadline_s=15):
        """What condition() returns once it is true; looked at whenever the journal has grown."""
        end = time.monotonic() + deadline_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() >= end:
                raise AssertionError(f"not within {deadline_s} s: {what}")
            self.pump(end)

    def of(self, kind, grant=None):
        """Entries of one kind, of one grant (or its id), among those read so far."""
        return self.index.get((kind_number(self.pb, kind), id_of(grant)), [])

    def wait(self, kind, grant=None, count=1, deadline_s=15):
        return self.until(lambda: len(self.of(kind, grant)) >= count and self.of(kind, grant), f"{count} entries {kind} of {id_of(grant)}",
                          deadline_s)

    def ended(self, grant, reason, deadline_s=15):
        """Waits for the end of a grant, which must have that reason."""
        entry = self.wait("ended", grant, deadline_s=deadline_s)[0]
        assert entry.reason == reason, entry
        return entry

    def uses(self, grant):
        """Flows journalled so far, seen and recovered."""
        return len(self.of("established", grant)) + sum(e.count for e in self.of("uses-recovered", grant))

    def catch_up(self):
        """Everything that is on disk by now."""
        self.close()
        while not self.pump(time.monotonic() + 15):
            pass
        return self.entries


def expect_error(act, status, reason=0, text="", field=""):
    """Asserts that act() fails so. Returns the error."""
    try:
        answer = act()
    except WireError as error:
        assert error.status == status, f"status {status} expected: {error}: {error.detail}"
        detail = error.detail
        assert (detail.reason if detail else 0) == reason, f"reason {reason} expected: {error}: {detail}"
        assert text in error.message, f"{text!r} expected: {error.message}"
        assert not field or detail.field == field, f"field {field} expected: {error}: {detail}"
        return error
    raise AssertionError(f"status {status} expected: {answer}")


def refused(caller, status, reason=0, text="", field="", **fields):
    """Asserts that a request is refused so, and that nothing was granted by it. Returns the error."""
    before = len(caller.lab.admin.events("granted"))
    error = expect_error(lambda: caller.request(**fields), status, reason, text, field)
    assert len(caller.lab.admin.events("granted")) == before, "nothing was granted"
    return error
