/* What the files of the fake server share. */
#ifndef POSTERN_TESTS_UNIT_CLIENT_FAKE_INTERNAL_H
#define POSTERN_TESTS_UNIT_CLIENT_FAKE_INTERNAL_H

#include <pthread.h>

#include "common/loop.h"
#include "proto/rpc/rpc.h"
#include "tests/unit/client/fake_server.h"

#define GRANTS_MAX 100000

struct fake_grant {
	char request_id[40], id[40], external[48];
	uint32_t external_port;
	bool clamped, inbound, reserved;
};

struct entry {
	int kind;
	char grant[40];
};

struct stream {
	struct stream *next;
	struct fake *fake;
	struct rpc_call *call;
	uint64_t cursor;
	bool told;
};

struct held {
	struct held *next;
	struct fake *fake;
	struct rpc_call *call;
};

struct fake {
	char folder[64], url[128], token_file[128], bad_token_file[128];
	struct loop *loop;
	pthread_t thread;
	struct rpc_server *server;
	/* The server's thread only. */
	struct fake_grant *grants;
	struct entry *entries;
	uint64_t entry_count;
	struct stream *streams;
	struct held *held;
	bool refuse_watches;
	enum fake_request_mode mode;
	unsigned cuts;
	struct fake_counts counts;
	bool stopping;
	/* The counts as they were behind the last step of the loop. */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct fake_counts published;
};

extern struct fake *the_fake; /* handlers get no argument of ours */

/* The handlers of fake_grants.c. */
extern ProtobufCService *const fake_grants_service;
/* Those of fake_policy.c. */
extern ProtobufCService *const fake_policy_service, *const fake_gateways_service;
void fake_policy_reset(void);
/* Those of fake_revisions.c. */
extern ProtobufCService *const fake_revisions_service, *const fake_feeds_service;
void fake_revisions_reset(void);
/* FAKE_GRANT_THEN_CUT: true when this call's connection goes instead of an answer. */
bool fake_is_cut(struct fake *fake, struct rpc_call *call);
/* Closes all connections; on the server's thread. */
void fake_cut_now(struct fake *fake, void *arg);

#endif
