/* Sessions: one client on one gateway, as a filter sees it. Its end ends the grants tied to it.
 *
 *                       ┌─ PRIMARY_ENDED, deadline, nobody waits: never was
 *   session_open ──▶ ASKING ──agent follows the primary──▶ OPENING ──on disk──▶ OPEN
 *        └────── without a primary connection ─────────────▲                     │
 *                                                                                ▼
 *       GONE ◀──grants gone, agent told── CLOSED ◀──on disk── CLOSING ◀── closed, idle, primary
 * ended
 *
 * The disk may refuse OPENING (never was) and CLOSING (still open). */
#ifndef POSTERN_SERVER_CORE_SESSION_H
#define POSTERN_SERVER_CORE_SESSION_H

#include "server/core/core.h"
#include "server/fleet/wanted.h"
#include "server/store/record.h"

struct session;

/* Carries a caller over the journal; owned by the caller until `done`, which may free it. */
typedef void (*session_cb)(void *arg, const struct session *session, const struct error *err);
struct session_waiter {
	session_cb done;
	void *arg;
	struct session *session; /* NULL = does not wait */
};

enum session_stage {
	SESSION_ASKING, /* its gateway's agent */
	SESSION_OPENING,
	SESSION_OPEN,
	SESSION_CLOSING,
	SESSION_CLOSED, /* on disk; its grants end */
	SESSION_GONE, /* or never was; only the agent has yet to forget its primary */
};

struct session {
	struct table_node by_id;
	struct core *core;
	struct session_record record;
	enum session_stage stage;
	struct principal *filter; /* whose quota it counts against, NULL = nobody's */
	struct gateway *gateway;
	struct wanted watch; /* of its primary connection */
	struct grant *grants; /* tied to it and not yet gone */
	uint64_t live_grants;
	struct loop_timer clock;
	int64_t active_us;
	int64_t deadline_us; /* while asking */
	int64_t primary_ended_us; /* 0 = as far as is known it lives */
	struct session_waiter *waiter; /* of its opening or its end */
	char closer[RECORD_NAME_SIZE]; /* who closes it, empty = the server */
	bool abandoned; /* nobody will ever know its id */
};

/* STATUS_OK: `waiter->done` follows, with the session open. `deadline_us` as in struct grant_ask.
 */
enum status session_open(struct core *core, const struct session_record *record,
	int64_t deadline_us, struct session_waiter *waiter, struct error *err);
/* `waiter` (NULL = nobody) hears when its grants are gone too. */
enum status session_close(struct session *session, const char *actor, struct session_waiter *waiter,
	struct error *err);
/* Nobody waits any more. A session that is not open yet will not be, or is closed again at once:
 * its id reached nobody. */
void session_forget_waiter(struct session_waiter *waiter);
/* Open ones only. */
struct session *session_find(const struct core *core, const struct id *id);
void session_touch(struct session *session);

/* What the gateway's agent says: it follows the primary connection; it has forgotten it. */
void session_watched(struct session *session);
void session_unwatched(struct session *session); /* may free it */
/* Conntrack has no primary connection of this session, or not any more. */
void session_primary_ended(struct gateway *gateway, const struct id *id);

void session_add_grant(struct session *session, struct grant *grant);
void session_grant_ended(struct session *session);
void session_remove_grant(struct grant *grant); /* it is gone */

void sessions_init(struct core *core);
bool session_load(struct core *core, const struct session_record *record);
void sessions_fini(struct core *core);

#endif
