/* link: postern_server postern_agent_lib */
/* A filter's request for one grant: refused with a reason, or one that every later step can take as
 * it is. */
#include "tests/fuzz/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__grant_request__descriptor, data, size);
	const Postern__V1__GrantRequest *input = (const Postern__V1__GrantRequest *)message;
	struct grant_ask ask = {0};
	struct error err;
	if (!message)
		return 0;
	enum status status = grant_ask_from_wire(input, &ask, &err);
	if (status) {
		check_refusal(status, &err);
	} else {
		check(!ask.reserve || ask.until == UNTIL_DECIDED);
		check_request(&ask, input);
	}
	message_free(message);
	return 0;
}
