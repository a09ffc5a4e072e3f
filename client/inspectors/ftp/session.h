/* One control connection: relayed line by line, with passive replies held back until their door is
 * open. */
#ifndef POSTERN_FTP_SESSION_H
#define POSTERN_FTP_SESSION_H

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/gate.h"
#include "common/loop.h"

struct ftp;
struct session;

struct ftp {
	struct loop *loop;
	const struct ftp_config *config;
	struct gate *gate;
	struct session *sessions;
	size_t session_count;
	bool transparent; /* connect upstream from the client's address (false in tests without
			     CAP_NET_ADMIN) */
};

/* Takes the accepted descriptor; `server` is where the client wanted to go. */
void session_start(
	struct ftp *ftp, int fd, const struct endpoint *client, const struct endpoint *server);
void sessions_end(struct ftp *ftp);

#endif
