/* What the files of libpostern share: the connection, calls on it, and errors. Nothing of this is
 * exported. */
#ifndef POSTERN_CLIENT_LIB_INTERNAL_H
#define POSTERN_CLIENT_LIB_INTERNAL_H

#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <stdbool.h>

#include "common/error.h"
#include "common/loop.h"
#include "postern/postern.h"

struct call;
struct rpc_client;

#define DEFAULT_DEADLINE_MS 5000

enum link_state { LINK_STARTING, LINK_READY, LINK_FAILED };

struct postern {
	/* Set before the thread starts, then constant. */
	struct loop *loop;
	pthread_t thread;
	char *server, *token, *ca_file, *server_name, *name;
	void (*on_link)(void *arg, enum postern_status status, const struct postern_error *err);
	void *arg;

	pthread_mutex_t lock; /* of the next five */
	pthread_cond_t changed;
	enum link_state link; /* outcome of the first connection */
	struct error link_error;
	bool closing; /* nothing new is accepted */
	bool frees_self; /* closed by a callback: the thread cleans up */
	struct loop_task stop_task;

	/* The library thread's own. */
	struct rpc_client *client;
	enum postern_status link_status; /* as last told to on_link */
	bool ending; /* everything is being cancelled */
	struct call *calls; /* all, from begin to finish */
	struct call *waiting, **waiting_end;
	size_t in_flight, max_in_flight;
	struct postern_watch *watches;
};

/* True in callbacks: there a function that waits would wait for itself. */
bool postern_on_own_thread(const struct postern *postern);
/* Posts unless the connection is being closed (CANCELLED). Any thread. */
enum status postern_post(
	struct postern *postern, struct loop_task *task, loop_cb cb, void *arg, struct error *err);

/* ---- errors ---- */

void error_publish(const struct error *err, struct postern_error *ret_err);
/* Copies to the caller's struct (may be NULL) and returns the status. */
enum postern_status error_give(const struct error *err, struct postern_error *ret_err);

/* ---- calls ---- */

/* The generated structs have no const; nothing is written through them. */
static inline char *text_or_empty(const char *text)
{
	return text ? (char *)(uintptr_t)text : (char *)(uintptr_t) "";
}

/* Runs on the library thread, exactly once per accepted call. `reply` is NULL on failure; *err is
 * never NULL. */
typedef void (*call_done_cb)(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err);

/* What the server may hold for a call whose answer was lost, and what `undo_id` names. */
enum call_undo { UNDO_NOTHING, UNDO_REQUEST, UNDO_BUNDLE, UNDO_GRANT };

struct call_spec {
	const ProtobufCServiceDescriptor *service;
	const char *method;
	const ProtobufCMessage *request; /* copied */
	uint32_t deadline_ms; /* 0 = DEFAULT_DEADLINE_MS */
	bool repeats; /* after a lost connection: the server takes two of it for one */
	enum call_undo undo; /* withdrawn when the deadline passes after a loss */
	const char *undo_id; /* copied; shorter than 40 */
	size_t grant_count; /* bundles: as many must be answered; 0 = any number */
	call_done_cb done;
	postern_grant_cb on_grant; /* what `done` calls; may be NULL */
	postern_session_cb on_session;
	postern_bundle_cb on_bundle;
	void *arg;
};

enum status call_start(struct postern *postern, const struct call_spec *spec, struct error *err);
const struct call_spec *call_spec_of(const struct call *call);
/* Starts waiting calls, oldest first: there is a connection again, or its limit allows more. */
void calls_resume(struct postern *postern);
/* Ends every call that the RPC client does not know (any more) with CANCELLED. */
void calls_end(struct postern *postern);

/* For the blocking functions: an asynchronous call whose callback is waiter_done_*(), then
 * waiter_wait(). */
struct waiter {
	struct postern *postern;
	pthread_cond_t cond;
	bool done;
	enum postern_status status;
	struct postern_error *ret_err; /* the caller's, may be NULL */
	struct postern_grant *ret_grant; /* the caller's, may be NULL */
	struct postern_session *ret_session; /* the caller's, may be NULL */
	char *ret_bundle; /* the caller's, char[40], may be NULL */
	struct postern_grant *ret_grants; /* the caller's, as many as were asked for, may be NULL */
};

/* FAILED_PRECONDITION when called in a callback; `instead` names the function to use there. */
enum postern_status waiter_init(struct waiter *waiter, struct postern *postern, const char *instead,
	struct postern_error *err);
/* Waits unless `started` says that the call was not accepted; returns the outcome. Ends the waiter.
 */
enum postern_status waiter_wait(struct waiter *waiter, enum postern_status started);
void waiter_done_grant(
	void *arg, const struct postern_grant *grant, const struct postern_error *err);
void waiter_done_session(
	void *arg, const struct postern_session *session, const struct postern_error *err);
void waiter_done_bundle(
	void *arg, const struct postern_bundle *bundle, const struct postern_error *err);

/* ---- watches ---- */

/* Opens again what the lost connection ended. */
void watches_resume(struct postern *postern);
/* Disarms and frees what the application did not stop. After rpc_client_close. */
void watches_end(struct postern *postern);

#endif
