/* link: postern_server postern_agent_lib */
/* A filter's request for several grants: refused as a whole, naming the grant, or each of them is
 * as good as one that was asked for alone. */
#include "server/core/bundle.h"
#include "tests/fuzz/request.h"

static void check_members(struct grant_ask *asks, const Postern__V1__BundleRequest *input)
{
	check(input->n_grants >= 1 && input->n_grants <= BUNDLE_MAX);
	for (size_t i = 0; i < input->n_grants; i++) {
		check(id_is_zero(&asks[i].record.request_id) && !asks[i].reserve);
		check(asks[i].until == asks[0].until && asks[i].is_admin);
		check_request(&asks[i], input->grants[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__bundle_request__descriptor, data, size);
	const Postern__V1__BundleRequest *input = (const Postern__V1__BundleRequest *)message;
	const struct grant_ask asker = {.is_admin = true};
	struct error err;
	if (!message)
		return 0;
	struct grant_ask *asks = bundle_asks_from_wire(input, &asker, &err);
	if (asks) {
		check_members(asks, input);
	} else {
		check_refusal(err.status, &err);
		check(strncmp(err.field, "grants", 6) == 0);
	}
	free(asks);
	message_free(message);
	return 0;
}
