/* The listening sockets and all sessions: limits, counters, and the way in and out. */
#ifndef POSTERN_FTP_PROXY_H
#define POSTERN_FTP_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inspectors/ftp/session.h"
#include "common/error.h"

struct proxy;

struct proxy_options {
	struct loop *loop;
	const struct ftp_config *config; /* outlives the proxy; may change between events */
	bool transparent; /* false: ordinary sockets, for tests without privileges */
};

struct proxy_counts {
	size_t sessions; /* now */
	uint64_t accepted;
	uint64_t turned_away; /* limits, and connections that no tproxy rule brought */
	struct session_counts session;
};

/* Binds config->listen; nothing is accepted before proxy_start. */
enum status proxy_new(
	const struct proxy_options *options, struct proxy **ret_proxy, struct error *err);
void proxy_start(struct proxy *proxy, struct gatekeeper *gatekeeper);
/* Ends every session and listens no more. Idempotent. */
void proxy_close(struct proxy *proxy);
void proxy_free(struct proxy *proxy); /* closes; accepts NULL */
/* Takes an accepted connection, as the listening sockets do. */
void proxy_adopt(
	struct proxy *proxy, int fd, const struct endpoint *client, const struct endpoint *server);
struct proxy_counts proxy_counts(const struct proxy *proxy);

#endif
