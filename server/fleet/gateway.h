/* Gateways: who they are, whether their agent is connected, and what it must be told. */
#ifndef POSTERN_SERVER_FLEET_GATEWAY_H
#define POSTERN_SERVER_FLEET_GATEWAY_H

#include "server/core/core.h"
#include "server/fleet/flow.h"
#include "server/fleet/inbox.h"
#include "server/fleet/sync.h"
#include "server/grants/external.h"
#include "server/grants/line.h"
#include "server/store/record.h"

/* What the agents service gives a gateway to speak through. */
struct agent_link {
	void *arg;
	/* Room for one more item? */
	bool (*ready)(void *arg);
	/* False: it could not be sent, and the stream is to be ended. */
	bool (*send)(void *arg, const struct sync_item *item);
	/* Ends the stream and the agent's connection; the link is not used afterwards. */
	void (*end)(void *arg, const char *why);
};

struct gateway {
	struct table_node by_name;
	struct core *core;
	struct gateway *next;
	struct gateway_record record; /* as on disk, or a fact on its way there */
	uint64_t connection; /* of the agent that joined last, 0 = none */
	bool joined; /* and its join is on disk */
	char mode[16], agent[64], kernel[64], renewal[16], addresses[1024], problems[1024];
	int64_t lost_us;
	int64_t down_since_us; /* monotonic, while there is no link */
	struct agent_link *link; /* Sync stream, NULL = none */
	struct sync sync;
	struct lines lines;
	struct externals externals;
	struct loop_task pump;
	struct grant *live; /* newest first */
	uint64_t live_grants;
	uint64_t doomed; /* of these: the policy forbids them, and their end waits for a decision */
	uint64_t obeys; /* revision that its kernel obeys, as the agent reported; 0 = not known */
	struct flows flows;
	struct inbox inbox;
};

void gateways_init(struct core *core);
void gateways_fini(struct core *core);
struct gateway *gateway_find(const struct core *core, const char *name);
struct gateway *gateway_load(struct core *core, const struct gateway_record *record);
/* Its doors can be opened: joined, and its Sync stream runs. */
bool gateway_is_up(const struct gateway *gateway);

/* The connection becomes the gateway's; an older one is told to go. */
void gateway_joining(struct gateway *gateway, uint64_t connection);
/* Its Sync stream begins. */
void gateway_attach(struct gateway *gateway, struct agent_link *link);
/* The connection, or its stream, has ended. */
void gateway_lost(struct gateway *gateway, const char *why);

/* Whose they are. */
struct grant *grant_of_door(struct wanted *door);
struct grant *grant_of_cut(struct wanted *cut);
struct session *session_of_watch(struct wanted *watch);

void gateway_arm(struct gateway *gateway, struct wanted *door);
/* True: the door is out. False: grant_door_gone() follows. */
bool gateway_disarm(struct gateway *gateway, struct wanted *door);
/* The agent is told of it again: its time has changed. */
void gateway_retell(struct gateway *gateway, struct wanted *door);
/* The flows of this grant are to be cut; grant_cut_done() follows, when the agent is there. */
void gateway_cut(struct gateway *gateway, struct wanted *cut);
/* The same for a session's primary connection: session_watched(), session_unwatched() follow. */
void gateway_watch(struct gateway *gateway, struct wanted *watch);
bool gateway_unwatch(struct gateway *gateway, struct wanted *watch);
/* Its doors obey this revision of the policy document: the agent is told, and says when. */
void gateway_obey(struct gateway *gateway, uint64_t revision);
/* The agent has done all that item demanded which named this revision. */
void gateway_obeys(struct gateway *gateway, uint64_t revision);
/* Sends what waits, as far as the link takes it. */
void gateway_pump(struct gateway *gateway);
/* Items up to `sequence` are in the kernel. */
void gateway_applied(
	struct gateway *gateway, uint64_t sequence, uint64_t kernel_us, struct facts *facts);

#endif
