/* Sessions: one client on one gateway, as a filter sees it. Its end ends the grants tied to it. */
#ifndef POSTERN_SERVER_CORE_SESSION_H
#define POSTERN_SERVER_CORE_SESSION_H

#include "server/core/core.h"
#include "server/store/record.h"

struct session;

/* Carries a caller over the journal; owned by the caller until `done`, which may free it. */
typedef void (*session_cb)(void *arg, const struct session *session, const struct error *err);
struct session_waiter {
	session_cb done;
	void *arg;
};

struct session {
	struct table_node by_id;
	struct core *core;
	struct session_record record;
	struct principal *filter; /* whose quota it counts against, NULL = nobody's */
	struct grant *grants; /* tied to it and not yet gone */
	uint64_t live_grants;
	struct loop_timer idle;
	int64_t active_us;
	struct session_waiter *waiter; /* of its opening or its end */
	char closer[RECORD_NAME_SIZE]; /* who closes it, empty = the server */
	bool committed, closing,
		closed; /* closing: the decision is under way; closed: it is on disk */
};

/* STATUS_OK: `waiter->done` follows. */
enum status session_open(struct core *core, const struct session_record *record,
	struct session_waiter *waiter, struct error *err);
/* `waiter` (NULL = nobody) hears when its grants are gone too. */
enum status session_close(struct session *session, const char *actor, struct session_waiter *waiter,
	struct error *err);
/* Nobody waits any more. */
void session_forget_waiter(struct session *session, struct session_waiter *waiter);
/* Open ones only. */
struct session *session_find(const struct core *core, const struct id *id);
void session_touch(struct session *session);

void session_add_grant(struct session *session, struct grant *grant);
void session_grant_ended(struct session *session);
void session_remove_grant(struct grant *grant); /* it is gone */

void sessions_init(struct core *core);
bool session_load(struct core *core, const struct session_record *record);
void sessions_fini(struct core *core);

#endif
