/* The first connection to the policy server, made in the background; from then on libpostern
 * reconnects by itself. */
#ifndef POSTERN_FTP_CONNECTOR_H
#define POSTERN_FTP_CONNECTOR_H

#include <stdbool.h>

#include "common/error.h"
#include "postern/postern.h"

struct connector;
struct ftp_config;
struct loop;

struct connector_options {
	struct loop *loop;
	const struct ftp_config *config; /* read during connector_new() only */
	void *arg;
	void (*on_connected)(void *arg, struct postern *postern); /* on the loop; gives it away */
	/* On other threads, as in struct postern_options; also why it cannot connect yet. */
	void (*on_link)(void *arg, enum postern_status status, const struct postern_error *err);
};

/* Starts a thread that tries for ever. */
enum status connector_new(const struct connector_options *options, struct connector **ret_connector,
	struct error *err);
/* [blocks] Ends the thread, within CONNECTOR_TRY_MS. What was not given away yet is returned, else
 * NULL; on_connected will not be called. */
#define CONNECTOR_TRY_MS 3000
struct postern *connector_stop(struct connector *connector);
/* Stopped, and its loop has nothing of it any more. */
bool connector_is_idle(const struct connector *connector);
void connector_free(struct connector *connector); /* an idle one; accepts NULL */

#endif
