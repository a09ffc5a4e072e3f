/* The gatekeeper on libpostern: connects in the background, asks, and tells of connections made. */
#ifndef POSTERN_FTP_PERMISSION_H
#define POSTERN_FTP_PERMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct ftp_config;
struct gatekeeper;
struct loop;
struct permission;

/* A data connection through a door of ours, made or ended. */
struct permission_event {
	bool closed;
	bool accounted; /* closed: the figures are known */
	char session[40], grant[40], client[56], remote[56]; /* addresses with ports */
	uint64_t bytes_sent, bytes_received, duration_us;
};

struct permission_options {
	struct loop *loop;
	const struct ftp_config *config; /* read during permission_new() only */
	void *arg;
	/* On the loop. */
	void (*on_event)(void *arg, const struct permission_event *event);
	void (*on_link)(void *arg, const struct error *err); /* status 0: connected */
};

struct permission_counts {
	uint64_t events_dropped, closes_dropped;
};

/* Starts a thread that connects, for ever; until then sessions wait to be opened. */
enum status permission_new(const struct permission_options *options,
	struct permission **ret_permission, struct error *err);
/* [blocks] Runs the loop until what was asked for has ended, wait_ms at most; then leaves. No
 * callback follows. Accepts NULL. */
void permission_free(struct permission *permission, uint32_t wait_ms);
struct gatekeeper *permission_gatekeeper(struct permission *permission);
struct permission_counts permission_counts(const struct permission *permission);

#endif
