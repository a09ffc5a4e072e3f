/* A policy server of a few scripted handlers on the real RPC runtime, in a thread of its own, for
 * tests of libpostern and the command line. Grants last 60 s; what is inbound and has an external
 * address without a port gets port 50000; a lifetime over an hour is cut to one. */
#ifndef POSTERN_TESTS_UNIT_CLIENT_FAKE_SERVER_H
#define POSTERN_TESTS_UNIT_CLIENT_FAKE_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "postern/postern.h"

struct fake;

enum fake_request_mode {
	FAKE_GRANT, /* grants; the same request id gets the same grant */
	FAKE_GRANT_THEN_CUT, /* grants (bundles, renews, commits, cancels; takes pieces of a
				document behind the first, applies), but cuts the connection
				instead of answering, `cuts` times */
	FAKE_DENY, /* DENIED_PROTOCOL_RULES by rule "no-ftp", grant "denied-1" */
	FAKE_HOLD, /* never answers */
	FAKE_GATEWAY_DOWN, /* UNAVAILABLE with its reason */
	FAKE_BUSY_ONCE, /* ABORTED: another decision is on its way to the disk; then grants */
	FAKE_UNAVAILABLE_ONCE, /* UNAVAILABLE without reason, then grants */
	FAKE_NONSENSE, /* an answer without a grant */
};

/* The last grant that was asked for, also as part of a bundle. */
struct fake_asked {
	bool inbound, reserve;
	unsigned remote_count; /* of the list */
	char client[48], remote[48], last_remote[48], external[48];
	uint32_t client_port, remote_port, remote_port_last, external_port, flags;
	uint64_t lifetime_ms, max_connections, reservation_ms;
};

/* What revisions and feeds were asked for last. */
struct fake_policy_asked {
	unsigned pieces, uploads, applies, confirms, rollbacks;
	size_t document_size;
	uint64_t if_revision, confirm_ms, confirmed, rolled_back;
	int64_t since_us;
	bool dry_run, all, held;
	char message[64], client[48], to[48], from[48], user[48], at[40], gateway[48], feed[48];
};

struct fake_counts {
	struct fake_policy_asked policy;
	unsigned requests, grants, cancels, withdrawals, opens, closes, watches, held;
	unsigned bundle_requests, bundle_cancels, renews, commits, cuts;
	struct fake_asked asked;
	char last_bundle[40], last_commit[40];
	uint64_t last_renewal_ms;
	unsigned last_bundle_size;
	bool last_wait_decided;
	uint64_t last_watch_cursor;
	bool last_watch_from_now;
	char last_request_id[40], last_withdrawn[40], last_session_user[64];
	uint32_t last_primary_port;
	size_t last_context_size;
};

struct fake *fake_start(void); /* listens */
void fake_stop(struct fake *fake);
/* True on the server's own thread. */
bool fake_is_own_thread(void);
const char *fake_url(const struct fake *fake);
const char *fake_token_file(const struct fake *fake);
const char *fake_bad_token_file(const struct fake *fake);

void fake_set_mode(struct fake *fake, enum fake_request_mode mode, unsigned cuts);
struct fake_counts fake_counts(struct fake *fake);
/* Waits (20 s at most) until the counter that `pick` chooses reaches `least`. Looks again only when
 * a counter changed. */
bool fake_wait(struct fake *fake, unsigned (*pick)(const struct fake_counts *), unsigned least);

/* Closes all connections; new ones are welcome. */
void fake_cut(struct fake *fake);
/* Stops listening and closes all; fake_up listens at the same place again. Grants and journal stay.
 */
void fake_down(struct fake *fake);
void fake_up(struct fake *fake);
/* Adds an entry to the journal (its sequence is returned) and to every watch's stream. */
uint64_t fake_append(struct fake *fake, int kind, const char *grant);
/* Refuses watches with PERMISSION_DENIED until switched off. */
void fake_refuse_watches(struct fake *fake, bool refuse);

/* Options of postern_connect for it. */
struct postern_options fake_options(const struct fake *fake);

#endif
