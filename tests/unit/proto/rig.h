/* A server and a client of the RPC runtime in one process, on one loop: what the tests of proto/rpc
 * share. */
#ifndef POSTERN_TESTS_RIG_H
#define POSTERN_TESTS_RIG_H

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/loop.h"
#include "postern/v1/events.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "postern/v1/sessions.pb-c.h"
#include "proto/rpc/rpc.h"

#define DEADLINE_US 10000000

extern struct loop *loop;
extern struct rpc_server *server;
extern struct rpc_client *client;
extern char folder[64], url[160];

void rig_setup(void);
void rig_teardown(void);

/* "ipc", "tcp", "tls+tcp" (127.0.0.1) or a whole URL. Certificates must have been made for TLS. */
void rig_serve(const char *transport, const struct rpc_limits *limits);
/* The same with another certificate than cert.pem, and clients' certificates asked for or not. */
void rig_serve_as(const char *transport, const struct rpc_limits *limits, const char *cert,
	const char *client_ca);
/* In the folder: ca.pem; cert.pem for localhost and the loopback addresses; elsewhere.pem for
 * another name; person.pem for a client; each with X.key; other.pem, a CA that signed nothing. */
void rig_make_certificates(void);
char *rig_path(const char *name); /* of a file in the folder; valid until the 8th next call */

struct rig_dial {
	const char *token; /* NULL = the right one */
	const char *ca; /* NULL = ca.pem */
	const char *server_name;
	const char *cert; /* of the client, with its key beside it */
	bool once;
	const struct rpc_limits *limits;
};
void rig_dial(const struct rig_dial *how);
/* Where failure is part of the test. */
bool rig_try_serve(const char *transport, struct error *err);
bool rig_try_dial(struct error *err);
void rig_connect(const char *transport); /* certificates, server, client, until it is ready */

/* What on_state told last. */
extern enum rpc_client_state state;
extern struct error state_error;
extern unsigned ready_count;

void step_until(bool (*done)(void));
bool is_ready(void);
bool is_lost(void);
bool is_error(void);
struct rpc_stats rig_stats(void);
bool all_gone(void); /* somebody came, and nobody is left */

/* Gateways.Show answers with its name; "hold" holds the call, "fail" fails it, "large" answers more
 * than a frame. Gateways.Add is forbidden, Sessions has no handlers. Events.Watch sends `cursor`
 * items. */
extern struct rpc_call *held;
extern unsigned held_ended;
extern enum status held_why;
extern uint64_t sent_items;
bool is_held(void);

struct answer {
	bool done;
	struct error err;
	char name[64];
};
extern struct answer one;
extern unsigned answers;
void on_answer(void *arg, const ProtobufCMessage *reply, const struct error *err);
enum status ask(const char *name, const struct rpc_call_options *options, struct answer *answer,
	uint64_t *ret_call);
bool one_done(void);

#endif
