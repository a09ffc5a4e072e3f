/* libpostern: ask a Postern policy server to open doors, for authors of application inspectors.
 *
 * This header is the documentation; libpostern(3) is an index.
 *
 * Model. ISA Server 2000's IFWXSession::AllowFutureConnect: an inspector that sees a client being
 * told "connect to this address and port" asks for permission for that future connection. The
 * server decides, writes the decision to disk, and the gateway's kernel holds exactly that door.
 * All semantics beyond ISA's are marked "ours".
 *
 * Threads. Every function may be called from any thread, also at the same time, unless it says
 * otherwise. The library runs one thread of its own per struct postern. Callbacks run on that
 * thread, one at a time: they must return quickly. They may call every function that is not marked
 * [blocks]; one marked so returns FAILED_PRECONDITION there and does nothing, but for
 * postern_watch_stop and postern_close, which say below what they do.
 *
 * fork. Connect after fork(), or exec.
 *
 * Errors. Functions return a status; 0 is success. Text and facts go into the caller's struct
 * postern_error, which may be NULL. Outputs are untouched on failure. The library never logs, never
 * exits, never changes signal handlers, and blocks all signals in its thread.
 *
 * Ownership. Strings given to the library are copied before a function returns. Structs given to
 * callbacks and their strings are valid during the callback; the struct is NULL on failure, the
 * error never is. Structs with fixed arrays belong to the caller.
 *
 * Addresses are numeric text: "10.77.2.2", "fd77:2::2" (no brackets). Times are microseconds since
 * 1970 UTC. */
#ifndef POSTERN_POSTERN_H
#define POSTERN_POSTERN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define POSTERN_API __attribute__((visibility("default")))
#else
#define POSTERN_API
#endif

/* gRPC's canonical codes. */
enum postern_status {
	POSTERN_OK = 0,
	POSTERN_CANCELLED = 1,
	POSTERN_UNKNOWN = 2,
	POSTERN_INVALID_ARGUMENT = 3, /* postern_error.field names the argument */
	POSTERN_DEADLINE_EXCEEDED = 4, /* and then nothing stays open */
	POSTERN_NOT_FOUND = 5,
	POSTERN_ALREADY_EXISTS = 6, /* request_id was used with different content */
	POSTERN_PERMISSION_DENIED = 7, /* rules or scope: see reason */
	POSTERN_RESOURCE_EXHAUSTED = 8, /* quota or a limit */
	POSTERN_FAILED_PRECONDITION = 9,
	POSTERN_ABORTED = 10,
	POSTERN_OUT_OF_RANGE = 11,
	POSTERN_UNIMPLEMENTED = 12,
	POSTERN_INTERNAL = 13,
	POSTERN_UNAVAILABLE = 14, /* server, gateway or journal not available now: try again */
	POSTERN_DATA_LOSS = 15,
	POSTERN_UNAUTHENTICATED = 16,
};

enum postern_reason {
	POSTERN_REASON_NONE = 0,
	POSTERN_DENIED_PROTOCOL_RULES = 1, /* ISA: the protocol rules refuse */
	POSTERN_DENIED_SITE_AND_CONTENT_RULES = 2, /* ISA: the site-and-content rules refuse */
	POSTERN_OUT_OF_SCOPE = 3, /* this filter may not ask this */
	POSTERN_QUOTA = 4,
	POSTERN_NO_SUCH_GATEWAY = 5,
	POSTERN_GATEWAY_DOWN = 6,
	POSTERN_GATEWAY_REFUSED = 7, /* its kernel refused; text has the cause */
	POSTERN_DEADLINE = 8,
	POSTERN_ALREADY_ENDED = 9,
	POSTERN_JOURNAL_UNAVAILABLE = 10, /* no journal, no permission */
	POSTERN_EXTERNAL_TAKEN = 11, /* another live grant has that external port */
	POSTERN_NO_SUCH_CONNECTION = 12, /* the gateway does not know the primary connection */
	/* 13 to 15 are answers to administrators */
};

struct postern_error {
	enum postern_status status;
	enum postern_reason reason;
	char rule[64]; /* name of the rule that decided; empty: no rule allows */
	char grant[40]; /* id of the journalled grant (denied, failed) */
	char field[96]; /* INVALID_ARGUMENT: name of the argument */
	uint64_t revision; /* of the policy document that decided; 0: none did */
	char text[320]; /* what, where, and what to do instead */
};

enum postern_transport { POSTERN_TCP = 6, POSTERN_UDP = 17 }; /* ISA: FWX_PROTOCOL_TCP, _UDP */

/* Flags of AllowFutureConnect (ISA: FWX_FLAG_ and the same name; same meaning, not the same
 * numbers). */
enum postern_flag {
	POSTERN_ADDRESS_BASED = 1, /* tied to the client's address: outlives the session */
	POSTERN_ALLOW_MULTIPLE = 2, /* not used up by the first connection */
	POSTERN_TIMEOUT =
		4, /* unused after 60 s (server setting) it expires; not with ALLOW_MULTIPLE */
	POSTERN_NO_KERNEL_MODE =
		8, /* through the agent's relay; UNIMPLEMENTED until the relay exists */
	POSTERN_BIDIRECTIONAL = 16, /* UDP only: the remote's datagrams pass too */
};

struct postern; /* a connection to the policy server, kept alive and re-established by the library
		 */

struct postern_options {
	const char *server; /* NULL = $POSTERN_SERVER; "tls+tcp://host:7411",
			       "ipc:///run/postern/posternd.sock" */
	const char *token_file; /* NULL = $POSTERN_TOKEN_FILE; mode 0600 */
	const char *ca_file; /* NULL = $POSTERN_CA_FILE; needed for tls+tcp:// */
	const char *server_name; /* NULL = host of the URL; name checked against the server's
				    certificate */
	const char *name; /* your program and version, for listings */
	uint32_t connect_ms; /* how long postern_connect may take; 0 = 10 s */
	/* Optional: connection lost (status != 0, err says why; again when the cause changes) and
	 * regained (status 0). Calls made meanwhile wait for the connection until their deadline.
	 */
	void (*on_link)(void *arg, enum postern_status status, const struct postern_error *err);
	void *arg;
};

/* [blocks] Connects and authenticates. At once: UNAUTHENTICATED (wrong token), INVALID_ARGUMENT
 * (URL, files), PERMISSION_DENIED (token file that others can read, socket). UNAVAILABLE: no
 * answer, wrong CA or name; tried again until connect_ms is over. */
POSTERN_API enum postern_status postern_connect(const struct postern_options *options,
	struct postern **ret_postern, struct postern_error *err);
/* [blocks] Ends every call in flight with CANCELLED (its callbacks run before this returns), joins
 * the thread, frees. Sessions and grants on the server stay as they are. Not concurrently with
 * other calls on it, but for those of callbacks (CANCELLED from then on). In a callback it returns
 * at once, and the thread does all this behind the callback. Accepts NULL. */
POSTERN_API void postern_close(struct postern *postern);

/* ---- sessions: one client on one gateway (ISA: IFWXSession) ---- */

struct postern_connection { /* the primary connection, optional */
	enum postern_transport transport;
	const char *client;
	uint16_t client_port;
	const char *remote;
	uint16_t remote_port;
};

struct postern_session_request {
	const char *gateway; /* name */
	const char *client; /* address */
	const char *user; /* NULL = none */
	const char *protocol; /* NULL = none */
	/* NULL = none. The gateway must know this connection (else NO_SUCH_CONNECTION), follows it,
	 * and its end ends the session. ISA: the session's own connection. */
	const struct postern_connection *primary;
	uint32_t deadline_ms; /* 0 = 5 s */
};

struct postern_session {
	char id[40];
};

typedef void (*postern_session_cb)(
	void *arg, const struct postern_session *session, const struct postern_error *err);

/* [blocks] */
POSTERN_API enum postern_status postern_session_open(struct postern *postern,
	const struct postern_session_request *request, struct postern_session *ret_session,
	struct postern_error *err);
POSTERN_API enum postern_status postern_session_open_async(struct postern *postern,
	const struct postern_session_request *request, postern_session_cb cb, void *arg,
	struct postern_error *err);
/* [blocks] Ends the session's grants (those that are not ADDRESS_BASED). */
POSTERN_API enum postern_status postern_session_close(
	struct postern *postern, const char *session, struct postern_error *err);
/* Of every function with cb: it is called exactly once if the function returns POSTERN_OK, never
 * inside the function; NULL if the outcome is of no interest. */
POSTERN_API enum postern_status postern_session_close_async(struct postern *postern,
	const char *session, postern_session_cb cb, void *arg, struct postern_error *err);

/* ---- grants (ISA: AllowFutureConnect and the firewall action it returns) ---- */

struct postern_grant_request {
	const char *gateway; /* NULL = the session's */
	const char *session; /* id; NULL = none, then `client` is needed */
	const char *client; /* NULL = the session's */
	const char *remote;
	uint16_t remote_port;
	/* ours; a range from remote_port to this one, as wide as the protocol definition allows (it
	 * allows none by default); 0 = one port */
	uint16_t remote_port_last;
	enum postern_transport transport;
	unsigned flags; /* enum postern_flag */
	const char *protocol; /* name or GUID of a protocol definition */
	/* The address that the flow leaves the gateway with, which must be one of the gateway's
	 * (else GATEWAY_REFUSED); NULL = any. */
	const char *external;
	/* Its source port then, which no other live grant may have (EXTERNAL_TAKEN); needs
	 * `external`; 0 = any. */
	uint16_t external_port;
	int notify; /* deliver this grant's events to postern_watch */
	const void *context; /* 0 to 4096 bytes, returned unchanged in events */
	size_t context_size;
	uint64_t lifetime_ms; /* ours; 0 = server default */
	uint64_t max_connections; /* ours; 0 = one, or unlimited with ALLOW_MULTIPLE; at most 13000
				   */
	const char *
		request_id; /* ours; NULL = the library makes one. A lost connection is retried with
			       the same id until the deadline: never two grants for one call */
	int wait_decided; /* ours; 0 = answer when the kernel holds the door, 1 = when the decision
			     is on disk */
	uint32_t deadline_ms; /* ours; 0 = 5 s */
	uint64_t reservation_ms; /* ours; postern_reserve only: how long it may stay uncommitted; 0
				    = the server's reservation_timeout, which is also the most */
};

struct postern_grant {
	char id[40];
	char request_id[40];
	uint64_t left_ms; /* of a reservation: until it ends uncommitted */
	int lifetime_clamped; /* less than was asked for: the server's, the filter's or TIMEOUT's
				 most */
	/* Inbound: where the remote connects to, the chosen port included; empty = the client's own
	 * address. Outbound: what was asked for. */
	char external[48];
	uint16_t external_port;
	uint64_t decide_us, commit_us, push_us,
		kernel_us; /* stages of this request on the server */
};

typedef void (*postern_grant_cb)(
	void *arg, const struct postern_grant *grant, const struct postern_error *err);

/* [blocks] */
POSTERN_API enum postern_status postern_allow_future_connect(struct postern *postern,
	const struct postern_grant_request *request, struct postern_grant *ret_grant,
	struct postern_error *err);
/* err->status is 0 when granted. */
POSTERN_API enum postern_status postern_allow_future_connect_async(struct postern *postern,
	const struct postern_grant_request *request, postern_grant_cb cb, void *arg,
	struct postern_error *err);

/* ---- the inbound sibling (ISA: BindForClient): remote → external address and port → client ----
 */

struct postern_accept_request {
	const char *gateway, *session, *client; /* as in struct postern_grant_request */
	uint16_t client_port; /* where the client listens */
	enum postern_transport transport;
	/* Who may connect: up to 16 addresses of one family; NULL = anybody. An empty list is
	 * refused, so that nobody is let in by a forgotten count. */
	const char *const *remotes;
	size_t remote_count;
	/* Where they connect to: an address of the gateway and a port, 0 = a free one is chosen
	 * (see struct postern_grant). No two live grants have the same (EXTERNAL_TAKEN). NULL = the
	 * client's own address and port, without translation. */
	const char *external;
	uint16_t external_port;
	/* From here on as in struct postern_grant_request. BIDIRECTIONAL (UDP): the client's
	 * datagrams back to the remote pass too. */
	unsigned flags;
	const char *protocol;
	int notify;
	const void *context;
	size_t context_size;
	uint64_t lifetime_ms, max_connections;
	const char *request_id;
	int wait_decided;
	uint32_t deadline_ms;
	uint64_t reservation_ms;
};

/* [blocks] */
POSTERN_API enum postern_status postern_allow_future_accept(struct postern *postern,
	const struct postern_accept_request *request, struct postern_grant *ret_grant,
	struct postern_error *err);
POSTERN_API enum postern_status postern_allow_future_accept_async(struct postern *postern,
	const struct postern_accept_request *request, postern_grant_cb cb, void *arg,
	struct postern_error *err);

/* ---- bundles (ours): grants of one gateway, all or none ---- */

#define POSTERN_BUNDLE_MAX 64

struct postern_bundle_item { /* exactly one of the two */
	const struct postern_grant_request *connect;
	const struct postern_accept_request *accept;
};

struct postern_bundle {
	char id[40];
	size_t count;
	const struct postern_grant *grants; /* in the order of the request */
};

typedef void (*postern_bundle_cb)(
	void *arg, const struct postern_bundle *bundle, const struct postern_error *err);

/* [blocks] Decided together, opened in one transaction of the kernel, cancelled by one id. 1 to
 * POSTERN_BUNDLE_MAX items; ret_grants (may be NULL) has room for `count`. request_id, wait_decided
 * and deadline_ms of the first item hold for all: its request_id becomes the bundle's id (NULL =
 * the library makes one), with which a lost connection is retried as in
 * postern_allow_future_connect; the other items' are not looked at. What is wrong with one of
 * them begins err->text with "grants[N]" (N from 0), of an argument also err->field. */
POSTERN_API enum postern_status postern_bundle_request(struct postern *postern,
	const struct postern_bundle_item *items, size_t count, char ret_id[40],
	struct postern_grant *ret_grants, struct postern_error *err);
POSTERN_API enum postern_status postern_bundle_request_async(struct postern *postern,
	const struct postern_bundle_item *items, size_t count, postern_bundle_cb cb, void *arg,
	struct postern_error *err);
/* [blocks] Cancels what is live of it; ALREADY_ENDED if nothing is. cut: see postern_cut. */
POSTERN_API enum postern_status postern_bundle_cancel(
	struct postern *postern, const char *bundle, int cut, struct postern_error *err);
POSTERN_API enum postern_status postern_bundle_cancel_async(struct postern *postern,
	const char *bundle, int cut, postern_bundle_cb cb, void *arg, struct postern_error *err);

/* ---- reserving (ours): decision, quota and external port now, the door later ---- */

/* [blocks] As postern_allow_future_connect and _accept, but no door opens until postern_commit; an
 * unused reservation ends by itself after reservation_ms. wait_decided is not looked at. Give one
 * back with postern_cancel. */
POSTERN_API enum postern_status postern_reserve(struct postern *postern,
	const struct postern_bundle_item *item, struct postern_grant *ret_grant,
	struct postern_error *err);
POSTERN_API enum postern_status postern_reserve_async(struct postern *postern,
	const struct postern_bundle_item *item, postern_grant_cb cb, void *arg,
	struct postern_error *err);
/* [blocks] Opens what was reserved, and answers when the kernel holds the door; its lifetime
 * begins. Retried after a lost connection: a second commit is answered like the first. If the
 * deadline (5 s) passes with the outcome unknown, the grant is withdrawn. ALREADY_ENDED when the
 * reservation had ended. */
POSTERN_API enum postern_status postern_commit(struct postern *postern, const char *grant,
	struct postern_grant *ret_grant, struct postern_error *err);
POSTERN_API enum postern_status postern_commit_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err);

/* ---- renewing and ending ---- */

/* [blocks] ours. The grant ends lifetime_ms from now (0 = the lifetime it was granted with), never
 * earlier than it would have, and within the server's maximum (lifetime_clamped then). What was
 * used stays used, and there is no moment at which the door is shut. Retried after a lost
 * connection, which is harmless: the later of two renewals holds. DEADLINE_EXCEEDED: the grant is
 * as it was, or renewed. ALREADY_ENDED when it had ended; FAILED_PRECONDITION while it is
 * only reserved. */
POSTERN_API enum postern_status postern_renew(struct postern *postern, const char *grant,
	uint64_t lifetime_ms, struct postern_grant *ret_grant, struct postern_error *err);
POSTERN_API enum postern_status postern_renew_async(struct postern *postern, const char *grant,
	uint64_t lifetime_ms, postern_grant_cb cb, void *arg, struct postern_error *err);
/* [blocks] Closes the door; a flow that already passed lives on. ALREADY_ENDED if it had ended.
 * This and the next are retried after a lost connection: ALREADY_ENDED may then tell of the first
 * try. */
POSTERN_API enum postern_status postern_cancel(
	struct postern *postern, const char *grant, struct postern_error *err);
POSTERN_API enum postern_status postern_cancel_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err);
/* [blocks] ours. As postern_cancel, and its open flows end too, for good; answered when the
 * gateway has done so. A grant that is used up may be named as long as it has open flows. */
POSTERN_API enum postern_status postern_cut(
	struct postern *postern, const char *grant, struct postern_error *err);
POSTERN_API enum postern_status postern_cut_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err);

/* ---- events ---- */

enum postern_event_kind { /* journal entry kinds, see EntryKind in types.proto; never renumber */
	POSTERN_EVENT_GRANTED = 30,
	POSTERN_EVENT_DENIED = 31,
	POSTERN_EVENT_INSTALLED = 32,
	POSTERN_EVENT_ESTABLISHED = 33,
	POSTERN_EVENT_CLOSED = 34,
	POSTERN_EVENT_ENDED = 35,
	POSTERN_EVENT_USES_RECOVERED = 36,
	POSTERN_EVENT_RESERVED = 37, /* decided, held back until COMMITTED */
	POSTERN_EVENT_COMMITTED = 38,
	POSTERN_EVENT_RENEWED = 39,
	POSTERN_EVENT_CUT = 40, /* its open flows are being ended */
	/* inbound: the port chosen first was in use on the gateway; `external` has the new one */
	POSTERN_EVENT_EXTERNAL_CHANGED = 41,
};

struct postern_event {
	uint64_t sequence; /* place in the journal: the cursor */
	int64_t time_us;
	int kind; /* enum postern_event_kind or a later one: ignore what you do not know */
	const char *gateway, *session, *grant, *client, *remote, *end_reason;
	uint16_t client_port, remote_port;
	enum postern_transport transport;
	const void *context;
	size_t context_size;
	/* CLOSED: IP bytes with headers as conntrack counts them, sent and received by the client,
	 * whoever opened the flow; accounted = 0: ended unseen, figures unknown. */
	int accounted;
	uint64_t packets_sent, bytes_sent, packets_received, bytes_received, duration_us;
	/* The remote opens (AllowFutureAccept). client and remote stay what they are; until a flow
	 * names it, remote is empty if anybody or one of several may connect. */
	int inbound;
	/* The client's end as the outside sees it: of a flow, or of a grant that is GRANTED,
	 * RESERVED, COMMITTED or EXTERNAL_CHANGED; empty: as it is. */
	const char *external;
	uint16_t external_port;
	const char *bundle; /* empty = none */
};

struct postern_watch;

#define POSTERN_FROM_NOW UINT64_MAX

/* Delivers events of this filter's grants with notify, after `cursor` (a sequence already
 * processed, 0 = from the beginning, POSTERN_FROM_NOW), in order, at least once: after a lost
 * connection it resumes behind the last event for which cb returned; discard repeats by sequence.
 * cb runs until postern_watch_stop. Calls made after this are handled by the server after it, so
 * that POSTERN_FROM_NOW misses none of their events. *ret_watch is set before cb first runs. */
POSTERN_API enum postern_status postern_watch_start(struct postern *postern, uint64_t cursor,
	void (*cb)(void *arg, const struct postern_event *event), void *arg,
	struct postern_watch **ret_watch, struct postern_error *err);
/* [blocks] No callback of it runs after it returned; frees it. Does not block in a callback, also
 * its own. Accepts NULL. Stop watches before postern_close. */
POSTERN_API void postern_watch_stop(struct postern_watch *watch);
/* OK while events flow or the connection is being re-established; otherwise why the server refuses
 * the watch (no permission, say). The library goes on trying. */
POSTERN_API enum postern_status postern_watch_status(
	const struct postern_watch *watch, struct postern_error *err);

POSTERN_API const char *postern_status_name(enum postern_status status);
POSTERN_API const char *postern_reason_name(enum postern_reason reason);
POSTERN_API const char *postern_version(void);

#ifdef __cplusplus
}
#endif

#endif
