/* What one control connection asks of the policy server: a session, and in it doors; and which of
 * the doors to its client may still be open. */
#ifndef POSTERN_FTP_DOORS_H
#define POSTERN_FTP_DOORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inspectors/ftp/gatekeeper.h"
#include "common/addr.h"
#include "common/error.h"
#include "common/loop.h"

#define DOORS_LABEL_SIZE (2 * ENDPOINT_TEXT_SIZE + 4)
#define DOORS_TRACKED                                                                              \
	4 /* a client that pipelines more PORTs leaves the oldest to its time limit                \
	   */

struct doors;

enum door_kind { DOOR_TO_SERVER, DOOR_TO_CLIENT };
#define DOOR_KINDS 2

struct door_wish {
	const char *command; /* for the events' context: "PASV", "EPRT" */
	struct endpoint to; /* the server's or the client's end of the data connection */
};

struct door_hold {
	struct doors *doors;
	bool active;
	struct door_wish wish;
	struct gatekeeper_request *asking;
	char session[GATEKEEPER_ID_SIZE]; /* in which it asks */
	int64_t until_us;
	bool tried_again;
	struct loop_timer timer;
};

struct doors_options {
	struct loop *loop;
	struct gatekeeper *gatekeeper;
	struct endpoint client, server; /* of the control connection */
	struct addr external; /* ADDR_NONE = no translation */
	void *arg;
	/* The answer to doors_ask(), never inside it; NULL: no door, see `err`. Must not end the
	 * doors. */
	void (*on_verdict)(void *arg, enum door_kind kind, const struct gatekeeper_answer *answer,
		const struct error *err);
	/* Behind all verdicts of one event; may end the doors. */
	void (*on_settled)(void *arg);
};

struct doors {
	struct doors_options options;
	char label[DOORS_LABEL_SIZE]; /* "client>server" */
	char id[GATEKEEPER_ID_SIZE]; /* of the session; "" = none yet */
	struct gatekeeper_request *opening;
	struct door_hold holds[DOOR_KINDS];
	char to_client[DOORS_TRACKED][GATEKEEPER_ID_SIZE]; /* grants, oldest first */
	unsigned to_client_count;
};

void doors_init(struct doors *doors, const struct doors_options *options);
/* Gives back what was asked for or granted; grants end with their session. No verdict follows. */
void doors_fini(struct doors *doors);
/* Opens the session ahead of the first door; a failure is logged and tried again for a door. */
void doors_open(struct doors *doors, uint32_t deadline_ms);
/* One at a time of each kind. On failure there will be no verdict. */
enum status doors_ask(struct doors *doors, enum door_kind kind, const struct door_wish *wish,
	uint32_t deadline_ms, struct error *err);
const char *doors_session(const struct doors *doors); /* "-" without one */

/* ---- doors to the client that were granted, oldest first ---- */

/* Nobody will use them any more, but for the newest `keep`. */
void doors_cancel_older(struct doors *doors, unsigned keep);
/* They were used, but for the newest `keep`. */
void doors_forget_older(struct doors *doors, unsigned keep);
/* Nobody will use the one behind which `newer` were granted. */
void doors_cancel_one(struct doors *doors, unsigned newer);

#endif
