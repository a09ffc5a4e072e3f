/* What most tests of the whole server begin and end with: a world, the agent of gw1 at work, and
 * that of gw2, which the test may start. */
#ifndef POSTERN_TESTS_UNIT_SERVER_WORLD_WITH_AGENTS_H
#define POSTERN_TESTS_UNIT_SERVER_WORLD_WITH_AGENTS_H

#include "tests/unit/server/grant_calls.h"

static struct world world;
static struct fake_agent gw1, gw2;
static struct result result;
static char id[ID_TEXT_SIZE]; /* of the grant that the test is about */

static inline void begin_without_agents(const char *more)
{
	world_begin(&world, more);
	agent_init(&gw1, &world, "gw1");
	agent_init(&gw2, &world, "gw2");
}

/* `more` lines of configuration. */
static inline void begin(const char *more)
{
	begin_without_agents(more);
	agent_start(&gw1, NULL, 0);
}

static inline void end(void)
{
	expect_intact(&world);
	agent_disconnect(&gw1);
	agent_disconnect(&gw2);
	world_end(&world);
}

/* The server is another process, and the agent of gw1 has come back to it. */
static inline void restart(void)
{
	restart_world(&world, &gw1);
	agent_start(&gw1, NULL, 0);
}

/* The agent of gw1 is gone, and the server knows; once in a test. */
static inline void lose_agent(void)
{
	agent_disconnect(&gw1);
	WAIT_UNTIL(&world, COUNT(&world, GATEWAY_LOST, NULL) == 1);
}

/* A grant without a session: `id`. */
static inline void get(uint64_t lifetime_ms, unsigned flags)
{
	Postern__V1__GrantRequest request = grant_request();
	request.lifetime_ms = lifetime_ms;
	request.flags = flags;
	get_grant(&world, &request, id);
	agent_settle(&gw1);
}

#endif
