/* link: postern_objects */
/* The server's answer to a bundle, and each grant of it as the answer to a request: what reaches
 * the application is whole, or an error; nothing is cut to fit. */
#include "client/lib/grant_message.h"
#include "tests/fuzz/message.h"

static void check_grant(const struct postern_grant *grant, const Postern__V1__GrantReply *reply)
{
	check(grant->id[0] != '\0' && strcmp(grant->id, reply->grant->id) == 0);
	check(strcmp(grant->request_id, reply->grant->request_id) == 0);
	check(strcmp(grant->external, reply->grant->external) == 0);
	check(grant->external_port == reply->grant->external_port);
	check(grant->left_ms == reply->grant->left_ms);
}

static void check_bundle(const Postern__V1__BundleReply *reply, size_t expected)
{
	struct postern_grant grants[POSTERN_BUNDLE_MAX];
	struct postern_bundle bundle = {0};
	struct error err;
	enum status status = bundle_message_read(reply, expected, &bundle, grants, &err);
	if (status) {
		check_refusal(status, &err);
		return;
	}
	check(bundle.id[0] != '\0' && strcmp(bundle.id, reply->bundle) == 0);
	check(bundle.count == reply->n_grants && (!expected || bundle.count == expected));
	check(bundle.grants == grants && bundle.count <= POSTERN_BUNDLE_MAX);
	for (size_t i = 0; i < bundle.count; i++)
		check_grant(&grants[i], reply->grants[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__bundle_reply__descriptor, data, size);
	const Postern__V1__BundleReply *reply = (const Postern__V1__BundleReply *)message;
	if (!message)
		return 0;
	check_bundle(reply, 0);
	check_bundle(reply, 2);
	for (size_t i = 0; i < reply->n_grants; i++) {
		struct postern_grant grant;
		struct error err;
		enum status status = grant_message_read(reply->grants[i], &grant, &err);
		if (status)
			check_refusal(status, &err);
		else
			check_grant(&grant, reply->grants[i]);
	}
	message_free(message);
	return 0;
}
