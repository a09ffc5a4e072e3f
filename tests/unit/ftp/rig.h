/* Control connections over real loopback sockets with a scripted gatekeeper: what the tests of
 * sessions share. */
#ifndef POSTERN_TESTS_FTP_RIG_H
#define POSTERN_TESTS_FTP_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/gatekeeper.h"
#include "client/inspectors/ftp/proxy.h"
#include "common/loop.h"

#define WAIT_US 10000000
#define EPSV_OK "229 ok (|||1046|)\r\n"

struct fake {
	struct gatekeeper base;
	struct loop *loop;
	struct error open_fails, ask_fails; /* status 0: it succeeds */
	bool silent; /* asks are not answered */
	unsigned opens, asks, forgotten, closes, pending;
	bool lose_session_once;
	bool name_no_external;
	char door[ENDPOINT_TEXT_SIZE], session[40], context[160];
	char external[ADDR_TEXT_SIZE]; /* asked for */
	bool inbound;
	uint16_t client_port;
	char cancelled[256];
	struct gatekeeper_request *unanswered[2];
};

/* A client, the proxy and an FTP server. */
struct lab {
	struct fake fake;
	struct ftp_config config;
	struct proxy *proxy;
	int front, back; /* listening: where the client goes, the FTP server */
	struct endpoint back_end;
	int client, server;
	struct endpoint client_end, seen; /* of `client`; whom the server sees */
	char passive[128];
};

void fake_start(struct fake *fake); /* with a loop */
void fake_stop(struct fake *fake); /* once what it owes has come */

void lab_start(struct lab *lab, const char *address);
void lab_stop(struct lab *lab);
/* A client that wants to go to the FTP server and lands at the proxy. */
int new_client(struct lab *lab);
/* The first client, up to the server's greeting. */
void lab_connect(struct lab *lab);
/* Grants the first ask that `silent` kept. */
void answer_late(struct lab *lab);
void wait_sessions(struct lab *lab, size_t count);

/* They run the loop meanwhile. */
void wait_readable(struct lab *lab, int fd);
void expect_text(struct lab *lab, int fd, const char *text);
void expect_line(struct lab *lab, int fd, const char *begin);
void expect_end(struct lab *lab, int fd);
void say(int fd, const char *text);

#endif
