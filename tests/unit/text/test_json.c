#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/json.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "postern/v1/types.pb-c.h"

static char *print(const ProtobufCMessage *message, const struct json_extra *extra)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	cr_assert(json_print(out, message, extra));
	fclose(out);
	cr_assert_eq(strlen(text), size);
	cr_assert_eq(strchr(text, '\n'), text + size - 1, "one line");
	return text;
}

static void check_has(const ProtobufCMessage *message, const char *part)
{
	char *text = print(message, NULL);

	cr_assert_not_null(strstr(text, part), "%s is not in %s", part, text);
	free(text);
}

/* Scripts rely on every key. */
Test(json, all_keys_of_an_entry_are_always_there)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	char *text = print(&entry.base, NULL);

	cr_assert_str_eq(text,
		"{\"sequence\":0,\"time_us\":0,\"kind\":null,\"actor\":\"\",\"gateway\":\"\","
		"\"session\":\"\",\"grant\":\"\","
		"\"filter\":\"\",\"client\":\"\",\"remote\":\"\",\"remote_port\":0,\"transport\":"
		"null,\"protocol\":\"\",\"flags\":[],"
		"\"lifetime_ms\":0,\"max_connections\":0,\"reason\":null,\"rule\":\"\",\"flow\":"
		"null,\"count\":0,\"detail\":\"\","
		"\"notify\":false,\"context\":\"\",\"external\":\"\",\"external_port\":0,\"request_"
		"id\":\"\",\"direction\":\"outbound\",\"client_port\":0,\"remotes\":[],"
		"\"hash\":\"\",\"remote_port_last\":0,\"bundle\":\"\",\"revision\":0,\"user\":\"\","
		"\"site_rule\":\"\",\"staged_rule\":\"\",\"document_hash\":\"\"}\n");
	free(text);
}

Test(json, kinds_of_values)
{
	Postern__V1__Entry entry = POSTERN__V1__ENTRY__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;
	uint8_t hash[] = {0x00, 0xab, 0xff};

	entry.sequence = INT64_MAX;
	entry.time_us = -5;
	entry.kind = POSTERN__V1__ENTRY_KIND__ENTRY_KIND_ESTABLISHED;
	entry.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	entry.reason = (Postern__V1__EndReason)77;
	entry.flags = 1 | 4 | 64;
	entry.notify = true;
	entry.hash.data = hash;
	entry.hash.len = sizeof(hash);
	flow.bytes_sent = 1ULL << 53;
	entry.flow = &flow;
	check_has(&entry.base, "\"sequence\":9223372036854775807,");
	check_has(&entry.base, "\"time_us\":-5,");
	check_has(&entry.base, "\"kind\":\"established\"");
	check_has(&entry.base, "\"transport\":\"udp\"");
	check_has(&entry.base, "\"reason\":77,");
	check_has(&entry.base, "\"flags\":[\"address-based\",\"timeout\",64]");
	check_has(&entry.base, "\"notify\":true");
	check_has(&entry.base, "\"hash\":\"00abff\"");
	check_has(&entry.base, "\"bytes_sent\":9007199254740992,");
	entry.sequence = UINT64_MAX;
	check_has(&entry.base, "\"sequence\":1.8446744073709552e19,");
}

Test(json, a_grants_new_fields)
{
	Postern__V1__Grant grant = POSTERN__V1__GRANT__INIT;
	char *remotes[] = {(char *)"10.77.2.2", (char *)"10.77.2.3"};

	grant.state = POSTERN__V1__GRANT_STATE__GRANT_STATE_RESERVED;
	grant.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	grant.client_port = 2000;
	grant.remotes = remotes;
	grant.n_remotes = 2;
	grant.lifetime_clamped = true;
	grant.renewals = 3;
	check_has(&grant.base, "\"state\":\"reserved\"");
	check_has(&grant.base,
		"\"direction\":\"inbound\",\"client_port\":2000,\"remotes\":[\"10.77.2.2\","
		"\"10.77.2.3\"],\"remote_port_last\":0,\"bundle\":\"\",\"lifetime_clamped\":true,"
		"\"renewals\":3,\"revision\":0,\"user\":\"\",\"site_rule\":\"\"}");
}

Test(json, context_is_text_or_base64)
{
	Postern__V1__Grant grant = POSTERN__V1__GRANT__INIT;

	grant.context.data = (uint8_t *)"h\xc3\xa4 \"\n";
	grant.context.len = 6;
	check_has(&grant.base, "\"context\":\"h\xc3\xa4 \\\"\\n\",\"lifetime_ms\"");
	grant.context.data = (uint8_t *)"\xff\xfe\xfd";
	grant.context.len = 3;
	check_has(&grant.base, "\"context\":null,\"context_base64\":\"//79\",");
	grant.context.data = (uint8_t *)"a\0b";
	check_has(&grant.base, "\"context\":\"a\\u0000b\",");
}

Test(json, broken_text_of_a_peer_stays_json)
{
	Postern__V1__Grant grant = POSTERN__V1__GRANT__INIT;

	grant.filter = (char *)"evil\xff";
	check_has(&grant.base, "\"filter\":\"evil\\\\xff\"");
}

Test(json, tokens_are_never_shown)
{
	Postern__V1__GatewayAddReply reply = POSTERN__V1__GATEWAY_ADD_REPLY__INIT;
	Postern__V1__Gateway gateway = POSTERN__V1__GATEWAY__INIT;
	const struct json_extra extra[] = {
		{"token_file", "gw1.token"}, {"nothing", NULL}, {NULL, NULL}};
	char *labels[] = {(char *)"a", (char *)"b"};

	gateway.n_labels = 2;
	gateway.labels = labels;
	reply.gateway = &gateway;
	reply.token = (char *)"pst_agent_secret";
	char *text = print(&reply.base, extra);
	cr_assert_null(strstr(text, "secret"));
	cr_assert_null(strstr(text, "\"token\""));
	cr_assert_not_null(strstr(text, "\"labels\":[\"a\",\"b\"]"));
	cr_assert_not_null(strstr(text, ",\"token_file\":\"gw1.token\",\"nothing\":null}"));
	free(text);
}

Test(json, errors)
{
	const struct json_extra extra[] = {{"request_id", "r"}, {NULL, NULL}};
	struct error err;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	memset(&err, 0, sizeof(err));
	error_reason(&err, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES, "no rule \"x\"");
	snprintf(err.rule, sizeof(err.rule), "r1");
	cr_assert(json_print_error(out, &err, extra));
	error_field(&err, "to", "bad");
	cr_assert(json_print_error(out, &err, NULL));
	fclose(out);
	char *second = strchr(text, '\n') + 1;
	cr_assert_not_null(strstr(second, "\"status\":\"invalid-argument\",\"reason\":null,"));
	cr_assert_not_null(strstr(second, "\"field\":\"to\",\"revision\":0,\"text\":\"bad\"}}\n"));
	*second = '\0';
	cr_assert_str_eq(text,
		"{\"error\":{\"status\":\"permission-denied\",\"reason\":\"denied-protocol-rules\","
		"\"rule\":\"r1\",\"grant\":\"\","
		"\"field\":\"\",\"revision\":0,\"text\":\"no rule "
		"\\\"x\\\"\",\"request_id\":\"r\"}}\n");
	free(text);
}

Test(json, output_that_fails_is_told)
{
	Postern__V1__AuditVerifyReply reply = POSTERN__V1__AUDIT_VERIFY_REPLY__INIT;
	FILE *full = fopen("/dev/full", "w");

	setvbuf(full, NULL, _IONBF, 0);
	cr_assert_not(json_print(full, &reply.base, NULL));
	fclose(full);
}
