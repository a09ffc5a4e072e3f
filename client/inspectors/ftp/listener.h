/* The sockets to which the gateway's tproxy rules send control connections. */
#ifndef POSTERN_FTP_LISTENER_H
#define POSTERN_FTP_LISTENER_H

#include "client/inspectors/ftp/session.h"

struct listeners;

enum status listeners_start(struct ftp *ftp, struct listeners **ret_listeners, struct error *err);
void listeners_stop(struct listeners *listeners); /* accepts NULL */

#endif
