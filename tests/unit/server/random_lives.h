/* What the model tests share: random choices that a seed repeats, and a world for each seed. */
#ifndef POSTERN_TESTS_UNIT_SERVER_RANDOM_LIVES_H
#define POSTERN_TESTS_UNIT_SERVER_RANDOM_LIVES_H

#include "tests/unit/server/world_with_agents.h"

static unsigned seed;

static inline unsigned roll(unsigned sides)
{
	return (unsigned)rand_r(&seed) % sides;
}

/* The agents are yet to come. */
static inline void begin_lives(unsigned number, const char *more)
{
	seed = number;
	world_begin_in(&world, "/dev/shm", more);
	agent_init(&gw1, &world, "gw1");
}

/* With the SEED of the environment, or with some. */
static inline void run_seeds(void (*run)(unsigned number))
{
	const char *only = getenv("SEED");
	if (only) {
		run((unsigned)strtoul(only, NULL, 10));
		return;
	}
	for (unsigned number = 1; number <= 12; number++)
		run(number);
}

#endif
