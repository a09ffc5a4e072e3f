/* The command line's way to the server: connect, ask and wait, on one thread that runs the loop
 * until the answer. */
#ifndef POSTERN_CLI_CLIENT_H
#define POSTERN_CLI_CLIENT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct client;
struct rpc_welcome;

struct client_config { /* the strings must outlive the client */
	const char *url;
	const char *token_file;
	const char *ca_file; /* NULL = none */
	const char *server_name; /* NULL = host of the URL */
};

/* Every item of a stream, or the one reply; false ends a stream early (the call then succeeds). */
typedef bool (*client_message_cb)(void *arg, const ProtobufCMessage *message);

struct client_call {
	const ProtobufCServiceDescriptor *service;
	const char *method;
	const ProtobufCMessage *request;
	bool stream;
	int64_t deadline_us; /* clock_mono_us(); CLOCK_NEVER = none */
	client_message_cb on_message;
	void *arg;
};

enum status client_new(
	const struct client_config *config, struct client **ret_client, struct error *err);
void client_free(struct client *client); /* accepts NULL */

/* One try, of at most 10 s. DEADLINE_EXCEEDED when `deadline_us` cut it short. */
enum status client_connect(struct client *client, int64_t deadline_us, struct error *err);
/* Tries with growing pauses until it holds, the deadline passes (UNAVAILABLE, with the last cause),
 * or trying again is in vain (a token that the server does not know). */
enum status client_reconnect(struct client *client, int64_t deadline_us, struct error *err);
/* NULL before the first connection. */
const struct rpc_welcome *client_welcome(const struct client *client);

enum status client_call(struct client *client, const struct client_call *call, struct error *err);
/* Did client_call fail because the connection was lost, so that asking again makes sense? */
bool client_was_lost(const struct client *client, const struct error *err);

#endif
