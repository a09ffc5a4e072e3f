/* What postern-ftp asks of the policy server: sessions and doors. Implemented on libpostern
 * (permission.c) and, scripted, by tests.
 *
 * Loop thread only. A callback runs exactly once per request, never inside the function that made
 * it, unless the request was forgotten: then it never runs, and what the server may still grant is
 * given back (sessions closed, doors cancelled). The request is gone when its callback begins. */
#ifndef POSTERN_FTP_GATEKEEPER_H
#define POSTERN_FTP_GATEKEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"

#define GATEKEEPER_ID_SIZE 40

struct gatekeeper;
struct gatekeeper_request;

struct gatekeeper_answer {
	const char *id; /* of the session or the grant */
	struct endpoint external; /* an inbound door's, when one was asked for */
};

/* `answer` is valid during the callback; NULL when err->status says no. */
typedef void (*gatekeeper_cb)(
	void *arg, const struct gatekeeper_answer *answer, const struct error *err);

struct gatekeeper_door {
	const char *session;
	bool inbound; /* the remote connects to the client, from any port of its address */
	struct endpoint remote; /* inbound: port 0 */
	uint16_t client_port; /* inbound: where the client listens */
	/* The gateway's address that stands for the client's; ADDR_NONE: no translation. */
	struct addr external;
	const char *context; /* text, comes back in events */
	uint32_t deadline_ms;
};

struct gatekeeper_ops {
	/* NULL and `err` filled when the request could not be made. */
	struct gatekeeper_request *(*open)(struct gatekeeper *gatekeeper,
		const struct endpoint *client, const struct endpoint *server, uint32_t deadline_ms,
		gatekeeper_cb cb, void *arg, struct error *err);
	struct gatekeeper_request *(*ask)(struct gatekeeper *gatekeeper,
		const struct gatekeeper_door *door, gatekeeper_cb cb, void *arg, struct error *err);
	void (*forget)(struct gatekeeper *gatekeeper, struct gatekeeper_request *request);
	/* Closes the door of a grant, if nobody went through; what did go through lives on. */
	void (*cancel)(struct gatekeeper *gatekeeper, const char *grant);
	void (*close)(struct gatekeeper *gatekeeper, const char *session);
};

/* First member of every implementation. */
struct gatekeeper {
	const struct gatekeeper_ops *ops;
};

#endif
