/* The gate: asks the policy server for doors through libpostern, and answers on the loop. */
#ifndef POSTERN_FTP_GATE_H
#define POSTERN_FTP_GATE_H

#include <stdbool.h>

#include "client/inspectors/ftp/config.h"
#include "common/addr.h"
#include "common/error.h"

struct gate;
struct gate_ask;
struct loop;

/* Connects in the background, for ever; asks that come before fail with UNAVAILABLE. */
enum status gate_start(struct loop *loop, const struct ftp_config *config, struct gate **ret_gate,
	struct error *err);
void gate_stop(struct gate *gate); /* no callback follows; accepts NULL */

/* One control connection. `session` is the id of its session, "" until the first ask opened one;
 * the gate writes it. */
struct gate_session {
	char id[40];
	struct endpoint client, server;
};

/* `refusal` is NULL when the door is open, else one line that says why not. */
typedef void (*gate_cb)(void *arg, const char *refusal);
/* Asks for client -> remote over TCP. NULL: refused at once (cb was not and will not be called;
 * *ret_why says why). */
struct gate_ask *gate_request(struct gate *gate, struct gate_session *session,
	const struct endpoint *remote, gate_cb cb, void *arg, const char **ret_why);
/* The asker goes away; cb will not be called. */
void gate_forget(struct gate_ask *ask);
void gate_close_session(struct gate *gate, const struct gate_session *session);

#endif
