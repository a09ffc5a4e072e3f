/* One control connection: two sockets, the dialogue between them, and its session on the policy
 * server. */
#ifndef POSTERN_FTP_SESSION_H
#define POSTERN_FTP_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "client/inspectors/ftp/dialogue.h"
#include "common/addr.h"

struct ftp_config;
struct gatekeeper;
struct loop;
struct ports;
struct session;
struct session_host;

struct session_counts {
	uint64_t connect_failures;
	uint64_t granted, denied, failed; /* doors asked for */
	uint64_t guarded; /* passive replies, PORT and EPRT refused without asking */
	uint64_t bytes_up, bytes_down;
	struct dialogue_counts dialogue;
};

/* What all sessions share; outlives them. */
struct session_host {
	struct loop *loop;
	const struct ftp_config *config;
	struct gatekeeper *gatekeeper;
	struct ports *ports;
	struct session_counts counts;
	bool transparent; /* false: ordinary sockets, for tests without privileges */
	/* The session has ended and is freed behind this call. */
	void (*on_end)(struct session_host *host, struct session *session);
};

/* Takes `fd`, in success and failure: from then on the session lives until it ends by itself or by
 * session_end(), and tells it by on_end. NULL when it could not begin; then on_end is not called
 * and the client was told. */
struct session *session_new(struct session_host *host, int fd, const struct endpoint *client,
	const struct endpoint *server);
void session_end(struct session *session, const char *why);
const struct endpoint *session_client(const struct session *session);

/* For the owner's list. */
struct session_links {
	struct session *next, **link;
};
struct session_links *session_links(struct session *session);

/* Tells a client that gets no session why, and closes. `line` has CR LF. */
void session_turn_away(int fd, const char *line);

#endif
