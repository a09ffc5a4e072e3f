/* Every allocation of the runtime, of both its sides, fails once, the n-th for n from 1 until none
 * is left to fail, during a whole life: listen, connect, call, stream, close. Nothing may crash,
 * hang or leak (AddressSanitizer), and each call has an outcome. Linked with --wrap. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/failing_allocator.h"
#include "tests/unit/proto/rig.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

TestSuite(allocation, .init = rig_setup, .fini = rig_teardown, .timeout = 110);

static struct answer stream_end;
static unsigned item_count;

static void on_item(void *arg, const ProtobufCMessage *item)
{
	(void)arg;
	(void)item;
	item_count++;
}

/* Steps until the answer is there; every accepted call has one in time, whatever failed. */
static bool outcome(const struct answer *answer)
{
	int64_t until = clock_mono_us() + DEADLINE_US;
	while (!answer->done && clock_mono_us() < until)
		loop_step(loop, 50);
	cr_assert(answer->done, "a call without an outcome");
	return answer->err.status == STATUS_OK;
}

static bool talk(void)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	struct rpc_call_options options = {.deadline_ms = 150, .wait_for_ready = true};
	memset(&stream_end, 0, sizeof stream_end);
	item_count = 0;
	if (ask("gw1", &options, &one, NULL) || !outcome(&one))
		return false;
	request.cursor = 20;
	options.on_item = on_item;
	options.credit = 4;
	if (rpc_client_call(client, &postern__v1__events__descriptor, "Watch", &request.base,
		    &options, on_answer, &stream_end, NULL, &stream_end.err))
		return false;
	return outcome(&stream_end) && item_count == 20;
}

/* True when everything succeeded. */
static bool live_once(void)
{
	struct error err = {0};
	bool ok = rig_try_serve("ipc", &err) && rig_try_dial(&err) && talk();
	rpc_client_free(client);
	rpc_server_free(server);
	client = NULL;
	server = NULL;
	return ok;
}

Test(allocation, a_life_survives_every_failure)
{
	cr_assert_geq(survive_each(live_once), 19);
}
